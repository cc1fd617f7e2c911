"""What must fit between the policy, the loaders and the processes, before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from openmixup.errors import InputError

__all__ = ['check_needs', 'check_unused']


def check_needs(learner: Any, train_dataloader: Mapping[str, Any] | None) -> Any:
    """The learner, unless its policy draws from a second loader where there is none; without training it needs none.

    Raises:
        InputError: the policy needs 'bank', and the training loader has no ``bank``.
    """
    policy = getattr(learner, 'policy', None)
    missing = train_dataloader is not None and train_dataloader.get('bank') is None
    if missing and 'bank' in getattr(policy, 'needs', ()):
        raise InputError(
            f'{type(policy).__name__} takes images from a second loader, which train_dataloader does not have: add '
            "bank=dict(weights='inverse') to it, or choose another policy."
        )
    return learner


def check_unused(learner: Any, find_unused_parameters: bool) -> None:
    """Refuse a policy that leaves parameters without a gradient in some steps, unless DDP looks for them.

    DDP would else wait in vain for these gradients and end the run in its second step.

    Raises:
        InputError: such a policy without ``find_unused_parameters``.
    """
    policy = getattr(learner, 'policy', None)
    if find_unused_parameters or not isinstance(policy, nn.Module):
        return
    for module in policy.modules():
        if getattr(module, 'sometimes_unused', False):
            raise InputError(
                f'{type(module).__name__} leaves learned parameters without a gradient in some steps, which the '
                'processes must know: set find_unused_parameters=True in the config.'
            )
