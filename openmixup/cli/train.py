"""Train a model from a config."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openmixup.cli import whole

__all__ = ['main', 'work_dir']


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tools/train.py``."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument('config', help='config file, or name of a shipped one (digits/...)')
    made.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/CONFIG)')
    made.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT', help='continue the run of the work dir'
    )
    made.add_argument(
        '--allow-inexact-resume', action='store_true',
        help='continue with another config, batch size or number of processes; the result is not the undisturbed one',
    )  # fmt: skip
    made.add_argument('--load-from', metavar='CHECKPOINT', help='start a new run from these weights')
    made.add_argument('--data', metavar='DIR', help='root folder of the data, instead of the one of the config')
    made.add_argument('--policy', metavar='NAME', help='mixing policy, instead of the one of the config')
    made.add_argument('--amp', action='store_true', help='mixed precision (bfloat16), on CPU or GPU')
    made.add_argument('--seed', type=whole(0), help='seed of the run (default: that of the config)')
    made.add_argument('--deterministic', action='store_true', help='only deterministic kernels')
    made.add_argument('--launcher', default='none', choices=('none', 'pytorch', 'slurm'))
    made.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes of the config')
    made.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)  # given by old launchers
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit code."""
    args = parser().parse_args(argv)
    from openmixup.engine.config import load_config, validate
    from openmixup.errors import InputError

    config = load_config(args.config, args.cfg_options, args.policy, args.data)
    if config.get('train_cfg') is None:
        raise InputError(
            f'{args.config} has no train_dataloader, train_cfg and optim_wrapper: there is nothing to train.'
        )
    config['work_dir'] = work_dir(args, config)
    config['launcher'] = args.launcher
    config['resume'] = _resume(args.resume, config)
    config['load_from'] = args.load_from or config.get('load_from')
    config['allow_inexact_resume'] = args.allow_inexact_resume or config.get('allow_inexact_resume', False)
    randomness = dict(config.get('randomness') or {'seed': 0})
    if args.seed is not None:
        randomness['seed'] = args.seed
    randomness['deterministic'] = args.deterministic or randomness.get('deterministic', False)
    config['randomness'] = randomness
    if args.amp:
        config['optim_wrapper']['type'] = 'AutocastOptimWrapper'
    validate(config)  # with the arguments in it
    from openmixup.engine.launch import build_runner

    runner = build_runner(config)
    runner.train()
    if runner.rank == 0:
        report(runner)
    return 0


def _resume(given: str | None, config: Any) -> bool | str:
    """Whether to go on from the work dir, or from which file; restarted by torchrun or Slurm, a run goes on unasked."""
    restarts = [os.environ.get(name, '0') for name in ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')]
    if any(count.isdecimal() and int(count) > 0 for count in restarts):
        from openmixup.engine.checkpoint import checkpoint_files

        if checkpoint_files(Path(config['work_dir'])):
            return True
    if given is not None:
        return given if given != 'auto' else True
    return config.get('resume', False)


def work_dir(args: argparse.Namespace, config: Any) -> str:
    """Where a run writes: what is asked for, what the config says, or a folder named after config and policy."""
    from openmixup.engine.config import find_config

    suffix = f'-{args.policy.lower()}' if args.policy else ''
    name = find_config(args.config).stem + suffix
    return args.work_dir or config.get('work_dir') or os.path.join('work_dirs', name)


def report(runner: Any) -> None:
    """Say what came out and where it lies; a config may leave out any part of it."""
    import json

    from openmixup.evaluation.headline import TOP1, measured

    work_dir, log_dir = Path(runner.work_dir), Path(runner.log_dir)
    summary, path = {}, work_dir / 'summary.json'
    if path.exists() and any(type(hook).__name__ == 'SummaryHook' for hook in runner.hooks):  # not an older run's
        summary = json.loads(path.read_text())
    scores = [
        _score(summary.get('last'), 'after the last epoch'),
        _score(summary.get('median_last10'), 'median of the last {count} evaluations'),
        _score(summary.get('best'), 'best (epoch {epoch}, chosen on the evaluation data)'),
    ]
    if any(scores):
        print(f'{(measured(summary["last"]) or TOP1).label} ' + ', '.join(filter(None, scores)))
    if summary:
        energy = '' if summary['energy_wh'] is None else f'{summary["energy_wh"]:.4g} Wh of its GPUs, '
        size = f'{summary["parameters"] / 1e6:.2f} M parameters'
        print(f'{summary["seconds"]:.0f} s, {energy}{size}, {summary["hardware"]}')
    places = {
        'log': next(iter(log_dir.glob('*.log')), None),
        'checkpoint': getattr(runner, 'last_saved', None),
        'best': work_dir / 'best.pth' if runner.best else None,
        'TensorBoard': next(iter(log_dir.glob('**/events.out.*')), None),
        'mixed samples': work_dir / 'mix_gallery.png',
        'summary': path if summary else None,
    }
    for name, place in places.items():
        if place is not None and place.exists():
            print(f'{name + ":":15s}{os.path.relpath(place)}')


def _score(figures: dict[str, Any] | None, what: str) -> str:
    """``"97.50% after the last epoch"``, of a regression its mean absolute error, or an empty string."""
    from openmixup.evaluation.headline import measured

    headline = measured(figures or {})
    if not figures or headline is None:
        return ''
    score = f'{figures[headline.name]:{headline.form}}{headline.unit.strip()}'
    return f'{score} ' + what.format(count=figures.get('count', 'ten'), epoch=figures.get('epoch', '?'))
