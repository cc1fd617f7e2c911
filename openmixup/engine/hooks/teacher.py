"""The teacher follows the student."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from openmixup.engine.distributed import learner_of
from openmixup.registry import HOOKS

__all__ = ['TeacherHook']


@HOOKS.register_module()
class TeacherHook(Hook):
    """Updates the learner's teacher after each optimizer step.

    Not in between when gradients accumulate, and not where an update was left out.
    """

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """One step of the moving average."""
        if runner.optim_wrapper.should_update() and not getattr(runner.optim_wrapper, 'left_out', False):
            learner_of(runner).update_teacher()
