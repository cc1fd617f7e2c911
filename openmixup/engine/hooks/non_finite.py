"""What is done about a loss, gradient or weight that is not finite."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from torch import Tensor

from openmixup.checks import is_whole
from openmixup.datasets.checks import check_choice
from openmixup.engine.checkpoint import latest_checkpoint
from openmixup.engine.distributed import check_same_step, learner_of
from openmixup.engine.failures import Rollback
from openmixup.engine.guard import StepGuard
from openmixup.engine.hooks.log import LogHook
from openmixup.engine.loops import TrainLoop
from openmixup.engine.optim import PlainOptimWrapper
from openmixup.engine.replay import (
    Findings,
    bad_gradients,
    bad_weights,
    inspect_step,
    newest_weights,
    rebuild_batch,
    shown,
    step_context,
)
from openmixup.engine.resume import finite, restore
from openmixup.engine.step_report import Seen, report_folder, write_step_report
from openmixup.errors import InputError
from openmixup.registry import HOOKS

__all__ = ['NonFiniteHook']

KEPT = 512  # steps whose mixtures are remembered between two reads


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Ends the run at a loss that is not finite, leaves its update out, or goes back to a checkpoint.

    A run has one, with its defaults, unless its config says something else in ``default_hooks.non_finite``. All
    processes do the same, also if only one of them saw the value. Whatever is done, a folder ``non_finite_step_N`` in
    the work dir says which step it was, counted from 0, on which samples, and which tensor was the first that was not
    finite (images, weights, masks, mixed images, logits, loss terms or gradients), and keeps the batch.

    - 'raise' reads nothing of its own: the losses of the single steps come with the averages that :class:`LogHook`
      reads at the end of each interval, so that the run ends up to an interval behind the step. Only losses and
      mixtures of the interval are kept. The batch is made again from its keys (seed, step, process), and so is the
      step, with the weights of the newest checkpoint if those of the run are no longer finite. Gradients are not looked
      at; what they spoil is seen in the next loss, and where weights are evaluated or saved.
    - 'skip' looks before each update, which costs one read from the device for each micro-batch, and a copy of the
      BatchNorm statistics and of the policy's history. The update is left out: with accumulated gradients that of all
      its micro-batches. Weights, momentum, teacher and statistics stay as they were; the schedules go on. If the
      weights themselves are not finite, leaving out cannot help, and the run ends.
    - 'rollback' reads as 'raise' does. It then goes back to the newest checkpoint in the work dir and goes on as with
      'skip' until it is past the step that was found, so that the update at fault is left out. Without a checkpoint it
      does as 'raise'.

    Args:
        action: 'raise', 'skip' or 'rollback'.
        max_skips: updates that are left out in the whole run before it ends.
        max_rollbacks: times that the run goes back before it ends.

    Attributes:
        left_out: the steps whose updates were left out.
        rollbacks: how often the run went back.
    """

    priority = 'NORMAL'

    def __init__(self, action: str = 'raise', max_skips: int = 10, max_rollbacks: int = 3) -> None:
        check_choice('NonFiniteHook.action', action, ('raise', 'skip', 'rollback'))
        for name, value in (('max_skips', max_skips), ('max_rollbacks', max_rollbacks)):
            if not is_whole(value, 1):
                raise InputError(f'NonFiniteHook({name}={value!r}): expected a whole number of at least 1.')
        self.action, self.max_skips, self.max_rollbacks = action, max_skips, max_rollbacks
        self.left_out: list[int] = []
        self.rollbacks = 0
        self._until, self._open = -1, False
        self._guard: StepGuard | None = None
        self._steps: deque[tuple[int, dict[str, Tensor], tuple[Seen, ...]]] = deque(maxlen=KEPT)

    def before_train(self, runner: Any) -> None:
        """Get ready; an optimizer wrapper that cannot leave updates out is refused."""
        if self.action == 'raise':
            return
        if not isinstance(runner.optim_wrapper, PlainOptimWrapper):
            raise InputError(
                f'{type(runner.optim_wrapper).__name__} cannot leave updates out, as '
                f'default_hooks.non_finite.action={self.action!r} asks: use OptimWrapper or AutocastOptimWrapper.'
            )
        if not any(isinstance(hook, LogHook) for hook in runner.hooks) and self.action == 'rollback':
            raise InputError(
                "default_hooks.non_finite.action='rollback' needs the LogHook, which reads the losses: add it, or use "
                "'skip'."
            )
        self._guard = StepGuard(learner_of(runner))
        self._guard.open = self._open

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Watch the step, if it is to be watched."""
        guard = self._guard
        if guard is None:
            return
        whole = runner.optim_wrapper._accumulative_counts  # an update is watched with all of its micro-batches
        watched = self.action == 'skip' or batch_idx // whole <= self._until // whole or guard.open
        runner.optim_wrapper.guard = guard if watched else None
        if watched:
            guard.snapshot.take()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Tell of an update that is left out, or remember the little that a later report needs."""
        guard = getattr(runner.optim_wrapper, 'guard', None)
        plan = getattr(learner_of(runner), 'last_plan', None)
        seen = () if plan is None else tuple(Seen.of(view) for view in plan.views)
        if guard is None:
            self._steps.append((batch_idx, outputs, seen))
        elif guard.first:
            self._leave_out(runner, guard, batch_idx, data_batch, outputs, seen)

    def _leave_out(
        self, runner: Any, guard: StepGuard, step: int, batch: Any, outputs: dict[str, Tensor], seen: tuple[Seen, ...]
    ) -> None:
        """Report an update that is left out, and end the run if it is one too many or in vain."""
        learner = learner_of(runner)
        findings = inspect_step(learner, runner.optim_wrapper, batch, step_context(runner, step))
        guard.snapshot.restore()
        found = str(guard.found)
        first = findings.names[0] if findings.names else f'the {found}, for which no tensor before it was to blame'
        if guard.own:
            write_step_report(
                runner, step, found, first, findings, batch, outputs, seen, 'the weights of the step itself'
            )
        what = (
            f'the {found} became not finite at step {step}, counted from 0 (first: {first}; policy {learner.policy!r})'
        )
        where = f'see {report_folder(runner, step)}'
        if findings.weights:
            raise InputError(
                f'{what}, and so are the weights {shown(findings.weights)}, so that leaving updates out cannot help: '
                f'{where}, then start from finite weights.'
            )
        self.left_out.append(step)
        if len(self.left_out) > self.max_skips:
            raise InputError(
                f'{what}, after max_skips={self.max_skips} updates were left out (at steps '
                f'{", ".join(map(str, self.left_out[:-1]))}): {where}, then lower the learning rate, clip gradients or '
                'use full precision.'
            )
        runner.logger.warning(
            f'{what}: its update is left out ({len(self.left_out)} of at most {self.max_skips}); {where}'
        )

    def after_read(self, runner: Any, steps: Sequence[int], losses: Sequence[float]) -> None:
        """Look at the losses of single steps, averaged over the processes."""
        for step, loss in zip(steps, losses, strict=True):
            if not math.isfinite(loss):
                self._stop(runner, step, 'loss', f'the loss became {loss} at step {step}, counted from 0')
        self._steps.clear()

    def before_val(self, runner: Any) -> None:
        """Evaluate no weights that are not finite."""
        loop = runner._train_loop
        if isinstance(loop, TrainLoop) and loop.iter and not finite(learner_of(runner)):
            self.on_bad_weights(runner)

    def on_bad_weights(self, runner: Any) -> None:
        """Weights or gradients to be saved or evaluated are not finite: name the loss that was not, or them."""
        for hook in runner.hooks:
            if isinstance(hook, LogHook):
                hook.read(runner)  # stops the run if a loss since the last read was not finite
        step = runner.train_loop.iter - 1
        learner = learner_of(runner)
        weights, gradients = bad_weights(learner), bad_gradients(learner)
        found, names = ('gradients', gradients) if gradients and not weights else ('weights', weights)
        self._stop(runner, step, found, f'the {found} are not finite behind step {step} ({shown(names)})')

    def _stop(self, runner: Any, step: int, found: str, what: str) -> None:
        """Go back, or report and end the run."""
        if self.action == 'rollback' and self.rollbacks < self.max_rollbacks:
            if latest_checkpoint(Path(runner.work_dir)) is not None:
                self._until = max(step, self._until)
                raise Rollback(f'{what}: the run goes back to its newest checkpoint.')
            what += ', and there is no checkpoint to go back to'
        first = self._post_mortem(runner, step, found)
        done = f' after {self.rollbacks} rollbacks' if self.rollbacks else ''
        remedy = '' if self.action != 'raise' else ', or set default_hooks.non_finite.action=skip'
        raise InputError(
            f'{what}{done} (first not finite: {first}; policy {learner_of(runner).policy!r}): see '
            f'{report_folder(runner, step)}, then lower the learning rate, clip gradients or use full precision'
            f'{remedy}.'
        )

    def _post_mortem(self, runner: Any, step: int, found: str) -> str:
        """Make a step again that is past, write the report, and say what was not finite first."""
        learner, state = learner_of(runner), 'the weights of the step itself or later'
        lost = bad_weights(learner)
        if lost:
            newest = latest_checkpoint(Path(runner.work_dir))
            state = 'the weights behind the step' if newest is None else f'the weights of {newest[0].name}'
            if newest is not None:
                newest_weights(runner, newest[1])
        try:
            batch = rebuild_batch(runner.train_loop.dataloader, step, runner.train_loop.origin)
            findings = inspect_step(learner, runner.optim_wrapper, batch, step_context(runner, step))
        except Exception as error:  # the loss is to be told, not this
            batch, findings = {}, Findings(error=f'the batch cannot be made again: {error}')
        names, findings.weights = findings.names, lost or findings.weights
        losses, seen = next(((out, there) for at, out, there in self._steps if at == step), ({}, ()))
        terms = [name for name, value in losses.items() if not bool(torch.as_tensor(value).isfinite().all())]
        images = [name for name in names if name.startswith(('loaded', 'inputs', 'bank'))]
        if lost and state == 'the weights behind the step':  # all behind the images would be a consequence of them
            names = images or [f'loss term {name}' for name in terms if name != 'loss'] or [f'weights {shown(lost)}']
        elif not names:
            names = [f'{found}, which is finite when made again with {state}']
        own = found != 'loss' or bool(terms) or not losses
        if own:
            write_step_report(runner, step, found, names[0], findings, batch, losses, seen, state)
        return names[0]

    def go_back(self, runner: Any) -> None:
        """Restore the newest checkpoint of the work dir, and go on from it under watch."""
        path, content = latest_checkpoint(Path(runner.work_dir)) or (None, {})
        if path is None:
            raise InputError(f'the checkpoint to go back to is no longer in {runner.work_dir}: start the run again.')
        assert self._guard is not None
        loop, seconds, until = runner.train_loop, runner.seconds, self._until
        at = loop.iter
        loop.dataloader.close()
        runner.optim_wrapper.zero_grad()
        restore(runner, path, content)
        check_same_step(loop.iter, runner.work_dir)
        runner.continue_clock(seconds - (runner.seconds - content['progress']['seconds']))  # lost time counts
        runner.optim_wrapper._inner_count = loop.iter
        self._until, self.rollbacks = until, self.rollbacks + 1
        self._guard.open = self._open
        self._steps.clear()
        runner.model.train()
        runner.logger.warning(
            f'step {self._until} was not finite: back from step {at} to step {loop.iter} ({path.name}), rollback '
            f'{self.rollbacks} of at most {self.max_rollbacks}; the update at fault will be left out'
        )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep what was left out, and whether an update that is half accumulated will be."""
        guard = self._guard
        checkpoint['non_finite'] = {
            'left_out': self.left_out, 'rollbacks': self.rollbacks, 'until': self._until,
            'open': guard is not None and guard.open,
        }  # fmt: skip

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Go on with it; how often the run went back is never forgotten."""
        kept = checkpoint.get('non_finite', {})
        self.left_out = list(kept.get('left_out', []))
        self.rollbacks = max(self.rollbacks, kept.get('rollbacks', 0))
        self._until, self._open = kept.get('until', -1), kept.get('open', False)
