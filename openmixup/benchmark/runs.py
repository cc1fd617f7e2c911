"""Which runs a table still lacks, and the state of each."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from openmixup.benchmark.leaves import leaves_of, recipe_numbers
from openmixup.benchmark.results import key_of, read_rows, same_config
from openmixup.benchmark.table import Table
from openmixup.errors import InputError, did_you_mean
from openmixup.evaluation.headline import measured

# the beginnings of the lines of progress: "epoch 3/20 [7/40]  ...", "epoch 3/20  ...", "step 70/400  ..."
_POSITION = re.compile(r'^(?:epoch|step) (\d+)/(\d+)(?: \[(\d+)/(\d+)\])?  ', re.MULTILINE)

__all__ = ['Run', 'missing_runs', 'planned_runs', 'results_file']


@dataclass(frozen=True)
class Run:
    """One training: a row that is to be.

    Attributes:
        table: name of the table.
        policy: name of the policy in the table.
        seed: seed of the run.
        epochs: length of the training.
        config: the leaf.
        work_dir: folder of the run; its log lies beside it.
        options: ``key=value`` for ``--cfg-options``.
        processes: number of processes that train it together; its batch size is that of one.
    """

    table: str
    policy: str
    seed: int
    epochs: int
    config: Path
    work_dir: Path
    options: tuple[str, ...] = ()
    processes: int = 1

    @property
    def name(self) -> str:
        """How the run is called in messages."""
        return f'{self.policy}, {self.epochs} epochs, seed {self.seed}'

    @property
    def row(self) -> str:
        """How it is called on the command line, and the name of its work folder: ``cutmix-100e-seed0``."""
        return self.work_dir.name

    @property
    def key(self) -> tuple[str, int, int]:
        """The key of its row."""
        return self.policy, self.epochs, self.seed

    @property
    def log(self) -> Path:
        """File for what the run prints; while it is locked the run is going on."""
        return self.work_dir.with_name(f'{self.work_dir.name}.log')

    @property
    def failure(self) -> Path:
        """File that tells of its last failure, apart from the logs."""
        return self.work_dir.parent / 'failures' / f'{self.work_dir.name}.txt'

    @property
    def share(self) -> float | None:
        """How much of the training is done, between 0 and 1, by the last line of its log that tells; None if none."""
        try:
            with open(self.log, 'rb') as stream:
                stream.seek(max(0, stream.seek(0, 2) - 2**14))
                text = stream.read().decode('utf-8', 'replace')
        except FileNotFoundError:
            return None
        told = list(_POSITION.finditer(text.rpartition('\n$ ')[2]))  # of the last attempt
        if not told:
            return None
        done, of, batch, batches = (int(number or 0) for number in told[-1].groups())
        inside = (1 - batch / batches) if batches else 0.0
        return min(1.0, max(0.0, (done - inside) / max(1, of)))

    @cached_property
    def _loaded(self) -> Any:
        """The config as the trainer makes it."""
        from openmixup.engine.config import load_config

        config = load_config(self.config, self.options)
        config['randomness'] = {'deterministic': False, **(config.get('randomness') or {})}
        return config

    @cached_property
    def config_hash(self) -> str:
        """What its summary and its row have as ``config_hash``."""
        from openmixup.engine.resume import config_hash

        return config_hash(self._loaded)

    @property
    def begun(self) -> bool:
        """There is a checkpoint of this config to continue from."""
        from openmixup.engine.checkpoint import latest_checkpoint
        from openmixup.engine.resume import settings

        found = latest_checkpoint(self.work_dir)
        return found is not None and found[1].get('settings') == settings(self._loaded)

    def summary(self) -> dict[str, Any] | None:
        """The summary of the finished run; None if it has not finished, or was one of another config."""
        try:
            summary = json.loads((self.work_dir / 'summary.json').read_text(encoding='utf-8'))
            same = (int(summary['epochs']), int(summary['seed'])) == (self.epochs, self.seed)
            same = same and summary['config_hash'] == self.config_hash
            return summary if same and measured(summary['last']) is not None else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def arguments(self, data: str | None = None) -> list[str]:
        """What the trainer is told: it continues if there is a checkpoint of this config.

        Args:
            data: root folder of the data; None: that of the config.
        """
        words = [str(self.config), '--work-dir', str(self.work_dir), '--seed', str(self.seed)]
        words += ['--resume'] * self.begun
        words += ['--data', data] if data is not None else []
        return words + (['--cfg-options', *self.options] if self.options else [])

    def command(self, trainer: Sequence[str], data: str | None = None) -> list[str]:
        """The command line of the run on this machine.

        Args:
            trainer: command that trains: an interpreter of Python and its arguments.
            data: root folder of the data; None: that of the config.
        """
        if self.processes == 1:
            return [*trainer, *self.arguments(data)]
        torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={self.processes}']
        return [trainer[0], *torchrun, *trainer[1:], *self.arguments(data), '--launcher', 'pytorch']


def _chosen(name: str, wanted: Sequence | None, known: Sequence) -> list:
    strange = [item for item in wanted or () if item not in known]
    if strange:
        raise InputError(
            f'the table has no {name} {strange[0]!r}{did_you_mean(strange[0], known)} '
            f'(it has {", ".join(map(str, known))}).'
        )
    return [item for item in known if wanted is None or item in wanted]


def _trial_options(recipe: Path, epochs: int) -> tuple[str, ...]:
    """Config options that shorten a recipe: its length, its schedules in proportion, and its first evaluation."""
    config = Config.fromfile(recipe)
    share = epochs / config.train_cfg.max_epochs

    def shorter(value: int) -> int:
        return max(1, round(value * share)) if value else 0

    options = [f'train_cfg.max_epochs={epochs}']
    for place, entry in enumerate(config.param_scheduler):
        begin = shorter(entry.get('begin', 0))
        end = epochs
        if 'end' in entry:
            end = max(begin + 1, shorter(entry.end))
            options += [f'param_scheduler.{place}.begin={begin}'] if 'begin' in entry else []
            options.append(f'param_scheduler.{place}.end={end}')
        if 'T_max' in entry:
            options.append(f'param_scheduler.{place}.T_max={end - begin}')
    if recipe_numbers(recipe)['val_begin'] is not None:
        options.append(f'train_cfg.val_begin={max(1, epochs - 9)}')
    return tuple(options)


def results_file(
    table: Table, work_dir: str | Path, results: str | Path | None = None, epochs: int | None = None
) -> Path:
    """Where rows go: benchmarks/results/ beside the table, or for a trial of other epochs into the work folder."""
    if epochs is not None:
        return Path(work_dir) / table.name / f'trial-{epochs}e' / 'results.csv'
    folder = table.path.parent / 'results' if results is None else Path(results)
    return folder / f'{table.name}.csv'


def planned_runs(
    table: Table,
    work_dir: str | Path = 'work_dirs/benchmarks',
    configs: str | Path = 'configs',
    policies: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    epochs: int | None = None,
    names: Sequence[str] | None = None,
) -> list[Run]:
    """The runs of a table, seed by seed so that an early stop leaves whole comparisons.

    Args:
        table: the table.
        work_dir: folder for the work folders of all tables.
        configs: folder of the recipes and leaves.
        policies: only these; None: all.
        seeds: only these; None: all.
        epochs: for a trial: another length than the recipe's.
        names: only these rows, by the names of their work folders; None: all.

    Raises:
        InputError: a policy, seed or row that the table has not, or a leaf that has not been written.
    """
    leaves = leaves_of(table, configs)
    wanted = _chosen('policy', policies, list(table.policies))
    base = Path(work_dir) / table.name
    if epochs is not None:
        base /= f'trial-{epochs}e'
        leaves = leaves[: len(table.policies)]  # a trial of one recipe: the lengths of the others do not matter
    runs = []
    for seed in _chosen('seed', seeds, table.seeds):
        for leaf in leaves:
            if leaf.policy not in wanted:
                continue
            if not leaf.written:
                raise InputError(
                    f'{leaf.path} is missing or stale; run tools/make_configs.py {shlex.quote(str(table.path))}.'
                )
            length = leaf.epochs if epochs is None else epochs
            folder = base / f'{leaf.policy}-{length}e-seed{seed}'
            options = () if epochs is None else _trial_options(Path(configs) / table.recipes[0], epochs)
            runs.append(Run(table.name, leaf.policy, seed, length, leaf.path, folder, options, leaf.processes))
    chosen = _chosen('row', names, [run.row for run in runs])
    return [run for run in runs if run.row in chosen]


def missing_runs(table: Table, rows: str | Path, *arguments: Any, **options: Any) -> list[Run]:
    """The runs whose rows are not in the results yet; rows of another config do not count.

    Args:
        table: the table.
        rows: CSV file of the results.
        *arguments: as for :func:`planned_runs`.
        **options: as for :func:`planned_runs`.
    """
    known: dict[tuple[str, int, int], list[dict[str, str]]] = {}
    for row in read_rows(rows):
        known.setdefault(key_of(row), []).append(row)
    return [
        run
        for run in planned_runs(table, *arguments, **options)
        if not any(same_config(row, run.config_hash) for row in known.get(run.key, ()))
    ]
