"""Leaving out an update whose loss or gradients are not finite, as if its batch had not been seen."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ['Snapshot', 'StepGuard']


class Snapshot:
    """What a forward pass changes: buffers (BatchNorm statistics) and the policy's history of this process.

    The teacher's buffers are left out, since they follow an update only.

    Args:
        learner: the learner without a wrapper.
    """

    def __init__(self, learner: Any) -> None:
        self.learner = learner
        self._live = [buffer for name, buffer in learner.named_buffers() if not name.startswith('teacher.')]
        self._kept = [buffer.clone() for buffer in self._live]
        self._history: dict[str, Tensor] = {}

    @torch.no_grad()
    def take(self) -> None:
        """Keep the state as it is now."""
        if self._live:
            torch._foreach_copy_(self._kept, self._live)
        policy = getattr(self.learner, 'policy', None)
        self._history = {} if policy is None else {key: value.clone() for key, value in policy.rank_state().items()}

    @torch.no_grad()
    def restore(self) -> None:
        """Bring the kept state back; it stays kept."""
        if self._live:
            torch._foreach_copy_(self._live, self._kept)
        policy = getattr(self.learner, 'policy', None)
        if policy is not None and policy.rank_state():
            policy.load_rank_state({key: value.clone() for key, value in self._history.items()})


class StepGuard:
    """Looks at the loss of each micro-batch and at the gradients of each update before the optimizer does.

    If either is not finite on any process, all processes leave out the whole update: what the micro-batches before and
    behind it in the same accumulation gave is dropped, weights, momentum and teacher stay, and what the forward pass
    did to BatchNorm statistics and to the policy's history is taken back. One value is read from the device for each
    micro-batch. With a loss scaler (float16) the gradients are left to it, which has its own way of leaving steps out.

    Args:
        learner: the learner without a wrapper.

    Attributes:
        open: the update that the last micro-batch belongs to is left out, and further micro-batches belong to it.
        found: 'loss' or 'gradients': what was not finite on any process at the last micro-batch; None: nothing.
        own: whether this process found it.
        first: the last micro-batch is the one for which its update is left out.
    """

    def __init__(self, learner: Any) -> None:
        self.snapshot = Snapshot(learner)
        self.open = self.own = self.first = False
        self.found: str | None = None

    def update(self, wrapper: Any, loss: Tensor) -> bool:
        """Backward pass and, where it is due, the update; returns whether one that was due was left out.

        Args:
            wrapper: the optimizer wrapper.
            loss: () of the micro-batch, not scaled.
        """
        if self.open:
            wrapper._inner_count += 1
        else:
            wrapper.backward(wrapper.scale_loss(loss))
        due = wrapper.should_update()
        fine = [loss.detach().isfinite()]
        if due and not self.open and not wrapper.scales:
            fine.append(finite_gradients(wrapper.param_groups, loss.device))
        mine, everyone = _agreed(torch.stack(fine))
        self.found = None if all(everyone) else 'gradients' if everyone[0] else 'loss'
        self.own = not mine[0] if self.found == 'loss' else not all(mine)  # gradients are everyone's
        self.first = self.found is not None and not self.open
        if self.found is not None:
            self.snapshot.restore()
            self.open = True
        left_out = due and self.open
        if self.open:
            wrapper.zero_grad()
        elif due:
            wrapper.step()
            wrapper.zero_grad()
        self.open = self.open and not due
        return left_out


def finite_gradients(groups: list[dict[str, Any]], device: torch.device) -> Tensor:
    """() whether all gradients of parameter groups are finite, on ``device`` and without reading it."""
    gradients = [p.grad for group in groups for p in group['params'] if p.grad is not None]
    if not gradients:
        return torch.ones((), dtype=torch.bool, device=device)
    largest = torch._foreach_norm(gradients, float('inf'))  # of squares the sum might overflow
    return torch.stack([value.float() for value in largest]).isfinite().all()


def _agreed(fine: Tensor) -> tuple[list[bool], list[bool]]:
    """Flags (n,) of this process, and whether they hold on all processes; one read from the device."""
    several = dist.is_initialized() and dist.get_world_size() > 1
    both = torch.stack([fine, fine]).to(torch.int32)
    if several:
        dist.all_reduce(both[1], dist.ReduceOp.MIN)
    mine, everyone = both.bool().tolist()
    return mine, everyone
