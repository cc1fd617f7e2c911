"""Compositions are policies too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.mixture import Batch, Plan
from openmixup.registry import POLICIES

__all__ = ['RandomChoice', 'Vanilla']


@POLICIES.register_module()
class Vanilla(MixPolicy):
    """No mixing: the batch with its own labels."""

    @property
    def rate(self) -> float:
        """Nothing is mixed."""
        return 0.0

    def plan(self, batch: Batch, ctx: Context) -> Plan:  # noqa: ARG002
        """The batch as it is."""
        return self.unmixed(batch)


@POLICIES.register_module()
class RandomChoice(MixPolicy):
    """One of several policies for each batch, the same on all ranks.

    With learned members, some parameters get no gradient while another member is chosen or none takes part, so DDP then
    needs ``find_unused_parameters=True``.

    Args:
        policies: members, as policies or as dict(type=...); each with its own arguments. "Do nothing" is ``Vanilla``.
        probs: probability of each member, summing to 1; None: all alike.
        epochs: (first, end) for each member: it takes part while first <= epoch < end, end None for ever; None: all
            always. The probabilities of the members that take part are scaled to sum to 1; if none does, nothing is
            mixed.
    """

    def __init__(
        self,
        policies: Sequence[MixPolicy | dict[str, Any]] = ({'type': 'Mixup'}, {'type': 'CutMix'}),
        probs: Sequence[float] | None = None,
        epochs: Sequence[tuple[int, int | None]] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(policies, Sequence | nn.ModuleList) or isinstance(policies, str):
            raise InputError(
                f'RandomChoice(policies={policies!r}): expected a list of policies, as [Mixup(), CutMix()].'
            )
        if not policies:
            raise InputError('RandomChoice(policies=()) has nothing to choose from: give at least one policy.')
        self.policies = nn.ModuleList(POLICIES.build(policy) for policy in policies)
        self.probs, self.epochs = probs, epochs
        self._shares = _checked_shares(probs, len(self.policies))
        _check_epochs(epochs, len(self.policies))

    @property
    def rate(self) -> float:
        """Probability that a batch is mixed in epoch 0."""
        shares = self.shares(0)
        if shares is None:
            return 0.0
        rates = [policy.rate for policy in self._members()]
        return sum(share * rate for share, rate in zip(shares.tolist(), rates, strict=True))

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """What any member needs."""
        return tuple(dict.fromkeys(need for policy in self._members() for need in policy.needs))

    @property
    def normalised(self) -> bool:  # type: ignore[override]
        """Whether the weights of every member sum to one."""
        return all(policy.normalised for policy in self._members())

    @property
    def heads(self) -> tuple[str, ...]:  # type: ignore[override]
        """The heads that any member wants."""
        return tuple(dict.fromkeys(head for policy in self._members() for head in policy.heads))

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """The frozen networks of all members; equal ones are shared."""
        found: dict[str, dict[str, Any]] = {}
        for policy in self._members():
            for name, config in policy.networks.items():
                if found.setdefault(name, config) != config:
                    raise InputError(
                        f'two members of RandomChoice want different networks by the name {name!r} ({found[name]} and '
                        f'{config}): give both the same one.'
                    )
        return found

    @property
    def attention_of(self) -> tuple[str, ...]:
        """The networks whose attention any member reads."""
        return tuple(dict.fromkeys(name for policy in self._members() for name in policy.attention_of))

    @property
    def sometimes_unused(self) -> bool:
        """Learned parts get no gradient while another member is chosen, or while the only one takes no part."""
        learned = any(parameter.requires_grad for parameter in self.parameters()) or bool(self.heads)
        pauses = any(tuple(window) != (0, None) for window in self.epochs or ())
        several = len(self.policies) > 1
        return learned and (several or pauses or any(policy.sometimes_unused for policy in self._members()))

    def bind(self, network: Network) -> None:
        """Let each member look at the network."""
        for policy in self._members():
            policy.bind(network)

    def rank_state(self) -> dict[str, Tensor]:
        """The members' histories, by their places."""
        states = enumerate(policy.rank_state() for policy in self._members())
        return {f'{place}.{name}': value for place, state in states for name, value in state.items()}

    def load_rank_state(self, state: dict[str, Tensor]) -> None:
        """Give each member its history back."""
        for place, policy in enumerate(self._members()):
            start = f'{place}.'
            policy.load_rank_state(
                {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
            )

    def _members(self) -> list[MixPolicy]:
        return [policy for policy in self.policies if isinstance(policy, MixPolicy)]

    def shares(self, epoch: int) -> torch.Tensor | None:
        """(members,) probabilities in ``epoch``; None if no member takes part."""
        shares = self._shares
        if self.epochs is not None:
            active = [first <= epoch and (end is None or epoch < end) for first, end in self.epochs]
            shares = shares * torch.tensor(active)
        total = float(shares.sum())
        return shares / total if total > 0 else None

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The plan of the chosen member."""
        shares = self.shares(ctx.epoch)
        if shares is None:
            return self.unmixed(batch)
        chosen = int(torch.multinomial(shares, 1, generator=ctx.shared_rng))
        return self.around(self.policies[chosen](batch, ctx))

    def finish(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:
        """Left to the member that made the plan."""
        return plan if plan.inner is None else self.around(plan.inner.policy.finish(plan.inner, outputs, ctx))

    def arguments(self) -> dict[str, Any]:
        """Constructor arguments, the members as a list."""
        return {'policies': list(self.policies), 'probs': self.probs, 'epochs': self.epochs}


def _checked_shares(probs: Any, count: int) -> Tensor:
    """(count,) float64 probabilities from ``probs``, which must be such, or None."""
    if probs is None:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    given = list(probs) if isinstance(probs, Iterable) else []
    if given and len(given) != count:
        raise InputError(f'RandomChoice got {len(given)} probs for {count} policies: give one for each.')
    numbers = [is_number(prob, 0) for prob in given]
    if not given or not all(numbers) or not abs(sum(given) - 1) <= 1e-6:
        raise InputError(
            f'RandomChoice(probs={probs!r}): expected numbers of at least 0 that sum to 1; a share of batches without '
            'mixing is a Vanilla member.'
        )
    return torch.tensor([float(prob) for prob in given], dtype=torch.float64)


def _check_epochs(epochs: Any, count: int) -> None:
    """Refuse what is no list of ``count`` windows, nor None."""
    if epochs is None:
        return
    if not isinstance(epochs, Sequence) or isinstance(epochs, str):
        raise InputError(f'RandomChoice(epochs={epochs!r}): expected a list of (first, end), one for each policy.')
    if len(epochs) != count:
        raise InputError(f'RandomChoice got {len(epochs)} epochs for {count} policies: give (first, end) for each.')
    for window in epochs:
        first, end = window if isinstance(window, tuple | list) and len(window) == 2 else (-1, None)
        if not is_whole(first, 0) or not (end is None or is_whole(end, first + 1)):
            raise InputError(
                f'RandomChoice(epochs=...) has {window!r}: expected (first, end) with 0 <= first < end, or end None.'
            )
