"""The report on a training step that was not finite: one JSON and the batch, for each process that saw it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from openmixup.engine.checkpoint import write_checkpoint
from openmixup.engine.disk import write_text
from openmixup.engine.distributed import learner_of
from openmixup.engine.replay import Findings, sample_ids, step_context
from openmixup.policies import View

__all__ = ['Seen', 'report_folder', 'write_step_report']


class Seen(NamedTuple):
    """What is kept of a view of a step: no images, no masks and no graph, so that many can be kept."""

    head: str
    share: float
    sources: Tensor
    weight: Tensor

    @classmethod
    def of(cls, view: View) -> Seen:
        """The little of ``view`` that is kept."""
        weight = view.mixture.weight
        return cls(view.head, view.share, view.mixture.index, weight.detach() if weight.requires_grad else weight)

    def plain(self) -> dict[str, Any]:
        """Head, share, partners and weights; column 0 of both is the sample itself by convention."""
        weight = [[_plain(value) for value in row] for row in self.weight.tolist()]
        return {'head': self.head, 'share': self.share, 'index': self.sources.tolist(), 'weight': weight}


def report_folder(runner: Any, step: int) -> Path:
    """Where the report on a step lies."""
    return Path(runner.work_dir, f'non_finite_step_{step}')


def write_step_report(
    runner: Any,
    step: int,
    found: str,
    first: str,
    findings: Findings,
    batch: Mapping[str, Any] | None,
    losses: Mapping[str, Any],
    seen: tuple[Seen, ...],
    state: str,
) -> None:
    """Write ``report_rankR.json`` and ``batch_rankR.pth`` into the folder of the step.

    What keeps it from being written is logged only: a report of a failure must not fail in its turn.

    Args:
        runner: the runner.
        step: the micro-batch, counted from 0.
        found: 'loss', 'gradients' or 'weights'.
        first: what was not finite first.
        findings: of the step, made again.
        batch: as the loader made it.
        losses: what the step itself reported, by name; () each.
        seen: the policy's views of the step itself; empty: those of the step made again.
        state: which weights the step was made again with.
    """
    try:
        folder = report_folder(runner, step)
        folder.mkdir(exist_ok=True)
        made = () if findings.plan is None else findings.plan.views
        content = {
            **_position(runner, step), 'found': found, 'first_non_finite': first, 'non_finite': findings.names,
            'made_again_with': state, 'error': findings.error, 'policy': repr(learner_of(runner).policy),
            'losses': _numbers(losses), 'losses_made_again': _numbers(findings.terms),
            'non_finite_weights': findings.weights, **_samples(runner, step, findings),
            'views': [view.plain() for view in seen or map(Seen.of, made)], 'batch': f'batch_rank{runner.rank}.pth',
        }  # fmt: skip
        if findings.plan is not None:
            content['chosen_policy'] = repr(findings.plan.chosen)
        write_text(folder / f'report_rank{runner.rank}.json', json.dumps(content, indent=1, allow_nan=False) + '\n')
        tensors = {'batch': dict(batch or {}), 'views': [_tensors(view) for view in made]}
        write_checkpoint(tensors, folder / f'batch_rank{runner.rank}.pth')
    except Exception as error:
        runner.logger.warning(f'the report on step {step} is not complete: {error}')


def _position(runner: Any, step: int) -> dict[str, int]:
    context = step_context(runner, step)
    return {
        'step': step, 'epoch': context.epoch, 'rank': runner.rank, 'world_size': runner.world_size, 'seed': runner.seed,
    }  # fmt: skip


def _samples(runner: Any, step: int, findings: Findings) -> dict[str, Any]:
    """Numbers of the samples in the data set, of those that are not finite, and the files where samples are files."""
    loader = runner.train_loop.dataloader
    samples, bank = sample_ids(loader, step, origin=runner.train_loop.origin)
    paths = getattr(loader.dataset, 'paths', None)
    files = [] if paths is None else [str(paths[sample]) for sample in samples]
    bad = [samples[row] for row in findings.rows]
    return {'samples': samples, 'bank_samples': bank, 'bad_samples': bad, 'files': files}


def _tensors(view: View) -> dict[str, Any]:
    """Whole tensors: one that repeats a row would be refused when it is read back, as any that grows."""
    tensors = {'inputs': view.inputs, 'index': view.mixture.index, 'weight': view.mixture.weight}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """A number as JSON knows it; 'nan', 'inf' and '-inf' are texts."""
    number = float(value)
    return number if math.isfinite(number) else str(number)
