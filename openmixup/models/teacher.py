"""The momentum teacher: a moving average of the student."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.models.student import Student

__all__ = ['Teacher', 'scheduled_decay']


class Teacher(nn.Module):
    """A frozen copy of the student that follows it: ``teacher = decay * teacher + (1 - decay) * student``.

    Floating point buffers (BatchNorm statistics) are averaged like the weights that they belong to; counters are
    copied. In evaluation the teacher normalises by these averages.

    Args:
        student: the network to copy and to follow.
        decay: share that the teacher keeps at each step, in [0, 1].
        end: decay at the end of the run; it rises along half a cosine. None: ``decay`` all the time.
        hold: share of the run, in [0, 1), in which the decay stays at ``decay`` before it follows the cosine of the
            whole run (so there is a small jump).
        bn: what BatchNorm normalises by when a policy looks at the teacher in training: 'running' the teacher's
            averages, 'batch' the statistics of the batch that it looks at, as the authors of AutoMix do. Neither
            changes the averages.

    Attributes:
        frozen: True once a policy has brought its own weights: it follows nobody then, and no decay counts.
        missing: why these weights did not come from their file, where they did not, till a state is loaded.

    Raises:
        InputError: a number out of its range, or an unknown ``bn``.
    """

    def __init__(
        self, student: Student, decay: float = 0.999, end: float | None = None, hold: float = 0.0, bn: str = 'running'
    ) -> None:
        super().__init__()
        for name, value in (('decay', decay), ('end', decay if end is None else end)):
            if not is_number(value, 0, 1):
                raise InputError(f'teacher=dict({name}={value!r}): expected a number from 0 to 1.')
        if not is_number(hold) or not 0 <= hold < 1:
            raise InputError(f'teacher=dict(hold={hold!r}): expected a share of the run, from 0 to below 1.')
        if bn not in ('running', 'batch'):
            raise InputError(f"teacher=dict(bn={bn!r}): expected 'running' or 'batch'.")
        self.decay, self.end, self.hold, self.bn = decay, end, hold, bn
        self.frozen = False
        self.missing: str | None = None
        self.network: Student = copy.deepcopy(student).requires_grad_(False).eval()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Note that the weights came by another way than their file."""
        if any(name.startswith(prefix) for name in state_dict):
            self.missing = None
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def update(self, student: Student, progress: float) -> None:
        """One step towards the student, unless it is frozen.

        Args:
            student: the network to follow.
            progress: share of the run that is done, in [0, 1].
        """
        if self.frozen:
            return
        keep = self.decay if self.end is None else scheduled_decay(progress, self.decay, self.end, self.hold)
        pairs = list(zip(self.network.buffers(), student.buffers(), strict=True))
        there = [*self.network.parameters(), *(ours for ours, _ in pairs if ours.is_floating_point())]
        here = [*student.parameters(), *(theirs for _, theirs in pairs if theirs.is_floating_point())]
        torch._foreach_lerp_(there, here, 1 - keep)
        counters: list[tuple[Tensor, Tensor]] = [pair for pair in pairs if not pair[0].is_floating_point()]
        if counters:
            torch._foreach_copy_([ours for ours, _ in counters], [theirs for _, theirs in counters])


def scheduled_decay(progress: float, start: float, end: float, hold: float) -> float:
    """The decay at ``progress`` in [0, 1]: ``start`` while it is below ``hold``, then half a cosine over the whole run.

    Example:
        >>> round(scheduled_decay(0.5, 0.99, 1.0, 0.1), 6)
        0.995
    """
    if progress < hold:
        return start
    return end - (end - start) * (1 + math.cos(math.pi * progress)) / 2
