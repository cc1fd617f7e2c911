"""Saving the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from openmixup.engine.checkpoint import checkpoint_files, read_checkpoint, write_checkpoint
from openmixup.engine.loops import IterLoop, learner_of
from openmixup.errors import InputError
from openmixup.registry import HOOKS

__all__ = ['CheckpointHook']


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Saves the whole run at intervals, and the weights of the best evaluation.

    An older checkpoint is removed only after the new one was read back. "Best" is chosen on the evaluation data: where
    these are the test set, its score is not an honest estimate, which is why the last epochs are the headline figures.

    Args:
        interval: epochs (with an IterLoop, or with ``by_epoch=False``: steps) between checkpoints; the end of the run
            is always saved.
        keep: number of periodic checkpoints that stay.
        save_best: metric whose largest value is the best; None: no best checkpoint.
        by_epoch: unit of ``interval``.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1, keep: int = 1, save_best: str | None = 'top1', by_epoch: bool = True) -> None:
        for name, value in (('interval', interval), ('keep', keep)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f'CheckpointHook({name}={value!r}): expected a whole number of at least 1.')
        self.interval, self.keep, self.save_best, self.by_epoch = interval, keep, save_best, by_epoch

    def _by_epoch(self, runner: Any) -> bool:
        return self.by_epoch and not isinstance(runner.train_loop, IterLoop)

    def after_step(self, runner: Any) -> None:
        """Save by steps."""
        loop = runner.train_loop
        if not self._by_epoch(runner) and (loop.iter % self.interval == 0 or loop.iter == loop.max_iters):
            self._save(runner, f'iter_{loop.iter}.pth')

    def after_epoch(self, runner: Any) -> None:
        """Save by epochs, after the evaluation."""
        loop = runner.train_loop
        if self._by_epoch(runner):
            if loop.epoch % self.interval == 0 or loop.epoch == loop.max_epochs:
                self._save(runner, f'epoch_{loop.epoch}.pth')
        elif loop.iter % self.interval == 0 or loop.epoch == loop.max_epochs:
            self._save(runner, f'iter_{loop.iter}.pth')

    def _save(self, runner: Any, name: str) -> None:
        path = runner.save(name)
        if runner.rank == 0:
            read_checkpoint(path)
            for old in checkpoint_files(Path(runner.work_dir))[self.keep :]:
                old.unlink()

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Keep the weights if they are the best so far."""
        if self.save_best is None or runner.train_loop is None or not metrics:
            return
        if self.save_best not in metrics:
            names = ', '.join(key for key, value in metrics.items() if isinstance(value, float))
            raise InputError(f'CheckpointHook(save_best={self.save_best!r}): no such metric; expected one of {names}.')
        score = metrics[self.save_best]
        if runner.best and score <= runner.best[self.save_best]:
            return
        loop = runner.train_loop
        plain = {key: value for key, value in metrics.items() if isinstance(value, float) and key != 'seconds'}
        runner.best = {**plain, 'epoch': loop.epoch, 'iter': loop.iter}
        if runner.rank == 0:
            content = {'state_dict': learner_of(runner).state_dict(), 'best': runner.best, 'meta': runner.meta()}
            write_checkpoint(content, Path(runner.work_dir, 'best.pth'))
