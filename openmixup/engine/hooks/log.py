"""What a person sees of a run."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from torch import Tensor

from openmixup.checks import is_whole
from openmixup.engine.distributed import accelerator, learner_of
from openmixup.engine.loops import IterLoop
from openmixup.errors import InputError
from openmixup.registry import HOOKS

__all__ = ['LogHook']

QUIET = 10.0  # seconds between two lines inside an epoch


@HOOKS.register_module()
class LogHook(Hook):
    """Averages what the steps report, and reads it from the device once per interval.

    On the screen: one line per epoch, and inside long epochs one every ten seconds. TensorBoard gets a point per
    interval. ``agree`` is the lam-weighted agreement: the mean weight, in the mixture, of the class that the network
    finds most likely; it is no accuracy on clean images.

    The losses of the single steps are read along with the averages; hooks get them, averaged over the processes, in
    ``after_read(runner, steps, losses)``. A step whose update was left out for its loss counts nowhere.

    Args:
        interval: steps between two reads.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 50) -> None:
        if not is_whole(interval, 1):
            raise InputError(f'LogHook(interval={interval!r}): expected a whole number of at least 1.')
        self.interval = interval
        self._sums: dict[str, Tensor] = {}  # of the interval
        self._counts: dict[str, int] = {}  # steps in which each was reported
        self._epoch: dict[str, tuple[float, int]] = {}  # sum and steps
        self._losses: list[tuple[int, Tensor]] = []  # of the single steps of the interval
        self._val: dict[str, Any] = {}
        self._done, self._lr, self._speed = 0, 0.0, 0.0

    def before_train(self, runner: Any) -> None:
        """Start the clocks."""
        self._start = self._shown = time.perf_counter()
        self._first_iter = self._done = runner.train_loop.iter
        self._window = self._epoch_window = (self._start, 0)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Add up, and read at the end of an interval."""
        guard = getattr(runner.optim_wrapper, 'guard', None)
        if guard is None or guard.found != 'loss':  # what was left out would spoil the sums
            self._add(batch_idx, outputs)
        self._done, self._lr = batch_idx + 1, learning_rate(runner)
        if self._done % self.interval == 0 or self._done == runner.train_loop.max_iters:
            means = self.read(runner)
            if means and time.perf_counter() - self._shown > QUIET:
                self._shown = time.perf_counter()
                line = f'{self._position(runner)}  {self._text(means)}  {self._speed:.0f} img/s  {self._eta(runner)}'
                runner.logger.info(line)

    def _add(self, step: int, outputs: dict[str, Tensor]) -> None:
        known = [name for name in outputs if name in self._sums]
        if known:
            torch._foreach_add_([self._sums[name] for name in known], [outputs[name] for name in known])
        self._sums |= {name: value.clone() for name, value in outputs.items() if name not in self._sums}
        for name in outputs:
            self._counts[name] = self._counts.get(name, 0) + 1
        self._losses.append((step, outputs['loss']))

    def read(self, runner: Any) -> dict[str, float]:
        """Means since the last read, over the steps and over the processes, which must ask together."""
        if not self._sums:
            return {}
        steps = [step for step, _ in self._losses]
        # the losses of the single steps come along, so that the first that is not finite can be named
        total = torch.stack([value.double() for value in (*self._sums.values(), *(loss for _, loss in self._losses))])
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(total)
            total /= dist.get_world_size()
        values, self._losses = total.tolist(), []
        means = {name: value / self._counts[name] for name, value in zip(self._sums, values, strict=False)}
        loop = runner.train_loop
        runner.call_hook('after_read', steps=steps, losses=values[len(self._sums) :])
        if not math.isfinite(means['loss']):
            first = self._done - max(self._counts.values())
            raise InputError(
                f'the loss became {means["loss"]} between step {first} and {self._done} '
                f'(policy {learner_name(runner)}): lower the learning rate, clip gradients or use full precision.'
            )
        for name, value in means.items():
            total_before, count = self._epoch.get(name, (0.0, 0))
            self._epoch[name] = total_before + value * self._counts[name], count + self._counts[name]
        self._sums, self._counts = {}, {}
        self._speed = self._images_per_second(runner, self._window)
        self._window = (time.perf_counter(), loop.images)
        scalars = {f'train/{name}': value for name, value in means.items()}
        runner.visualizer.add_scalars(
            {**scalars, 'train/lr': self._lr, 'train/images_per_second': self._speed}, step=self._done
        )
        return means

    def _images_per_second(self, runner: Any, since: tuple[float, int]) -> float:
        images = (runner.train_loop.images - since[1]) * runner.world_size
        return images / max(time.perf_counter() - since[0], 1e-9)

    def _position(self, runner: Any) -> str:
        loop = runner.train_loop
        if isinstance(loop, IterLoop):
            return f'step {self._done}/{loop.max_iters}'
        length = loop.max_iters // loop.max_epochs
        return f'epoch {loop.epoch + 1}/{loop.max_epochs} [{self._done - loop.epoch * length}/{length}]'

    def _text(self, means: dict[str, float]) -> str:
        if not means:
            return 'all updates left out'
        text = f'loss {means["loss"]:.4f}'
        return f'{text}  agree {100 * means["agreement"]:.1f}%' if 'agreement' in means else text

    def _eta(self, runner: Any) -> str:
        loop = runner.train_loop
        done = self._done - self._first_iter
        left = (time.perf_counter() - self._start) / max(done, 1) * (loop.max_iters - self._done)
        return f'eta {timedelta(seconds=round(left))}'

    def after_train_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Read what is left of the epoch."""
        self.read(runner)

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Remember the metrics for the epoch's line."""
        if metrics is None or runner.train_loop is None:
            return
        self._val = metrics
        loop = runner.train_loop
        scalars = {f'val/{key}': value for key, value in metrics.items() if isinstance(value, float)}
        runner.visualizer.add_scalars(scalars, step=loop.iter)
        for name in ('_window', '_epoch_window'):  # evaluation is no training time
            start, images = getattr(self, name)
            setattr(self, name, (start + metrics['seconds'], images))

    def after_step(self, runner: Any) -> None:
        """With a loop by steps, an evaluation ends a stretch as an epoch does."""
        if self._val and isinstance(runner.train_loop, IterLoop):
            self.read(runner)
            self.after_epoch(runner)

    def after_train(self, runner: Any) -> None:
        """What is left when a run by steps ends between two evaluations."""
        self.read(runner)
        if self._epoch:
            self.after_epoch(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:  # noqa: ARG002
        """Keep the sums of an epoch, and of an interval, that are not over."""
        checkpoint['log'] = {
            'epoch': dict(self._epoch), 'lr': self._lr, 'sums': self._mean_sums(), 'counts': dict(self._counts),
        }  # fmt: skip

    def _mean_sums(self) -> dict[str, Tensor]:
        """The sums of the interval; with several processes their mean, which each of them goes on with."""
        if not self._sums or not dist.is_initialized() or dist.get_world_size() == 1:
            return dict(self._sums)
        total = torch.stack([value.double() for value in self._sums.values()])
        dist.all_reduce(total)
        means = zip(total / dist.get_world_size(), self._sums.items(), strict=True)
        return {name: mean.to(value.dtype) for mean, (name, value) in means}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:  # noqa: ARG002
        """Go on with them, to the same bits as without the interruption."""
        self._sums, self._counts, self._losses, self._val = {}, {}, [], {}  # of steps that the run went back over
        log = checkpoint.get('log')
        if log is None or 'counts' not in log:  # of an earlier version
            return
        self._epoch, self._lr, self._counts = dict(log['epoch']), log['lr'], dict(log['counts'])
        self._sums = {name: value.to(accelerator()) for name, value in log['sums'].items()}

    def after_epoch(self, runner: Any) -> None:
        """One line, and one entry of the history."""
        loop = runner.train_loop
        speed = self._images_per_second(runner, self._epoch_window)
        means = {name: total / count for name, (total, count) in self._epoch.items()}
        entry = {
            'epoch': loop.epoch, 'iter': loop.iter, **means, 'lr': self._lr,
            'images_per_second': speed,
            **{f'val/{key}': value for key, value in self._val.items() if key != 'seconds'},
        }  # fmt: skip
        runner.history.append(entry)
        by_step = isinstance(loop, IterLoop)
        place = f'step {loop.iter}/{loop.max_iters}' if by_step else f'epoch {loop.epoch}/{loop.max_epochs}'
        parts = [place, self._text(means)]
        if self._val:
            shown = [f'{key} {value:.2f}%' for key, value in self._val.items() if key.endswith('top1')]
            shown += [f'{key} {value:.4g}' for key, value in self._val.items() if key.rpartition('/')[2] == 'mae']
            parts.append('val ' + '  '.join(shown))
        parts += [f'{speed:.0f} img/s', self._eta(runner)]
        runner.logger.info('  '.join(parts))
        self._shown = time.perf_counter()
        self._epoch_window = (self._shown, loop.images)
        self._epoch, self._val = {}, {}


def learning_rate(runner: Any) -> float:
    """The learning rate of the first parameter group."""
    return float(runner.optim_wrapper.param_groups[0]['lr'])


def learner_name(runner: Any) -> str:
    """The policy of the run, for messages."""
    return repr(learner_of(runner).policy)
