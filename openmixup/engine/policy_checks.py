"""What must fit between the policy, the loaders and the processes, before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from openmixup.datasets.samplers import BankSampler, InfiniteBatchSampler
from openmixup.errors import InputError
from openmixup.policies import MixPolicy
from openmixup.policies.wrap.base import WrapPolicy

__all__ = ['check_last_batch', 'check_needs', 'check_unused']


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


def check_last_batch(loader: Any, model: Any) -> Any:
    """The training loader, unless a batch of one leaves parameters without a gradient that DDP waits for.

    A batch of one has no partner, unless it comes with a bank or the policy mixes it all the same with a history, so
    that learned parts and further heads have no part in its loss.

    Args:
        loader: of the training batches.
        model: the learner, in DDP if there are several processes.

    Raises:
        InputError: the last batch of an epoch has one sample.
    """
    sampler = loader.batch_sampler
    if getattr(model, 'find_unused_parameters', True) or isinstance(sampler, BankSampler):
        return loader
    size = sampler.batch_size
    last = size if isinstance(sampler, InfiniteBatchSampler) else (sampler.num_samples - 1) % size + 1
    policy = getattr(model.module, 'policy', None)
    waits = [part for part in policy.modules() if _needs_a_partner(part)] if isinstance(policy, nn.Module) else []
    if last > 1 or not waits:
        return loader
    found = 'a batch' if size == 1 else 'the last batch of an epoch'
    count = '' if size == 1 else f' ({sampler.num_samples} samples of a process in batches of {size})'
    remedy = 'batch_size above 1' if size == 1 else 'drop_last=True or another batch_size'
    raise InputError(
        f'{type(waits[0]).__name__} has parts that get no gradient from a single image, which the processes wait for, '
        f'but {found} has one sample{count}: set train_dataloader.{remedy}.'
    )


def _needs_a_partner(policy: nn.Module) -> bool:
    """Whether ``policy`` leaves a batch of one as it is, and with it learned parts or heads of its own untrained."""
    if isinstance(policy, WrapPolicy):
        below, inner = {id(parameter) for parameter in policy.policy.parameters()}, policy.policy
        own = any(parameter.requires_grad and id(parameter) not in below for parameter in policy.parameters())
        while isinstance(inner, WrapPolicy):
            inner = inner.policy
        return own and type(inner).forward is MixPolicy.forward
    if not isinstance(policy, MixPolicy) or type(policy).forward is not MixPolicy.forward:
        return False
    return bool(policy.heads) or any(parameter.requires_grad for parameter in policy.parameters())
