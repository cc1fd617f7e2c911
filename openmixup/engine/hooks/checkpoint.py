"""Saving the run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from openmixup.checks import is_whole
from openmixup.engine.checkpoint import checkpoint_files, write_checkpoint
from openmixup.engine.disk import check_space
from openmixup.engine.distributed import learner_of
from openmixup.engine.loops import IterLoop
from openmixup.engine.manifest import check_file
from openmixup.errors import InputError
from openmixup.registry import HOOKS

__all__ = ['CheckpointHook']

ERRORS = ('mae', 'mse', 'rmse', 'mape')


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Saves the whole run at intervals, and the weights of the best evaluation.

    An older checkpoint is removed only after the new one was read back and is what was written. "Best" is chosen on the
    evaluation data: where these are the test set, its score is not an honest estimate, which is why the last epochs are
    the headline figures.

    Args:
        interval: epochs, or steps, between checkpoints; the end of the run is always saved.
        keep: number of periodic checkpoints that stay.
        save_best: metric that says what is best: an accuracy, whose largest value it is, or an error of a regression,
            whose smallest one it is; None: no best checkpoint.
        by_epoch: whether ``interval`` counts epochs (with an IterLoop: passes over the data) or steps.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1, keep: int = 1, save_best: str | None = 'top1', by_epoch: bool = True) -> None:
        for name, value in (('interval', interval), ('keep', keep)):
            if not is_whole(value, 1):
                raise InputError(f'CheckpointHook({name}={value!r}): expected a whole number of at least 1.')
        self.interval, self.keep, self.save_best, self.by_epoch = interval, keep, save_best, by_epoch

    def before_train(self, runner: Any) -> None:
        """Check ``save_best`` where the metrics say their names; a continued run goes on pruning what it wrote."""
        names = getattr(runner.val_loop, 'names', None)
        if names is not None:
            self._check_best(names)
        self._written = checkpoint_files(Path(runner.work_dir))[::-1] if runner.train_loop.iter else []
        there = sum(path.stat().st_size for path in self._written)
        check_space(runner, learner_of(runner), self.keep, self.save_best is not None, there)

    def after_step(self, runner: Any) -> None:
        """Save by steps; in a run counted in steps an epoch is one pass over the data."""
        loop = runner.train_loop
        if self.by_epoch and not isinstance(loop, IterLoop):
            return
        unit = len(loop.dataloader) if self.by_epoch else 1
        if loop.iter % (self.interval * unit) == 0 or loop.iter == loop.max_iters:
            self._save(runner, f'iter_{loop.iter}.pth')

    def after_epoch(self, runner: Any) -> None:
        """Save by epochs, after the evaluation."""
        loop = runner.train_loop
        if isinstance(loop, IterLoop):
            return
        place, name = (loop.epoch, f'epoch_{loop.epoch}') if self.by_epoch else (loop.iter, f'iter_{loop.iter}')
        if place % self.interval == 0 or loop.epoch == loop.max_epochs or loop.stop_training:
            self._save(runner, f'{name}.pth')

    def _save(self, runner: Any, name: str) -> None:
        path = runner.save(name)
        if runner.rank == 0:
            check_file(path)
            self._written = [*(old for old in self._written if old != path), path]
            for old in self._written[: -self.keep]:
                old.unlink(missing_ok=True)
            self._written = self._written[-self.keep :]

    def _check_best(self, names: Iterable[str]) -> None:
        known = [name for name in names if 'top' in name or _is_error(name)]
        if self.save_best is not None and self.save_best not in known:
            raise InputError(
                f'CheckpointHook(save_best={self.save_best!r}): expected None or an accuracy or error that is '
                f'measured ({", ".join(known) or "there is none"}).'
            )

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Keep the weights if they are the best so far."""
        if self.save_best is None or runner.train_loop is None or not metrics:
            return
        self._check_best(metrics)
        score = metrics[self.save_best]
        if score is None:
            raise InputError(
                f'CheckpointHook(save_best={self.save_best!r}): it has no value on this data; choose another metric.'
            )
        if runner.best:
            gain = score - runner.best[self.save_best]
            if (-gain if _is_error(self.save_best) else gain) <= 0:
                return
        loop = runner.train_loop
        plain = {key: value for key, value in metrics.items() if isinstance(value, float) and key != 'seconds'}
        runner.best = {**plain, 'epoch': loop.epoch, 'iter': loop.iter}
        if runner.rank == 0:
            content = {'state_dict': learner_of(runner).state_dict(), 'best': runner.best, 'meta': runner.meta()}
            write_checkpoint(content, Path(runner.work_dir, 'best.pth'))


def _is_error(name: str) -> bool:
    """Whether a metric is an error of a regression, of any branch, which is best when it is small."""
    return name.rpartition('/')[2] in ERRORS
