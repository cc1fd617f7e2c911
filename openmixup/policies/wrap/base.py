"""The base of policies that stand around one other policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.mixture import Batch, Plan, View
from openmixup.registry import POLICIES

__all__ = ['WrapPolicy', 'add_loss']


class WrapPolicy(MixPolicy):
    """A policy that works on the plan of another one, which may itself be a choice or a wrapper.

    A subclass writes what it needs of: :meth:`kept` to change the inner views, :meth:`added` for views of its own,
    :meth:`complete` for what is left to do after the forward passes. The inner views always come first, and the inner
    policy sees the outputs of these only.

    Class tags:
        own_needs: what the wrapper itself asks of the learner, beside what its inner policy asks.
        own_operators: most operators that it adds to those of its inner policy.

    Args:
        policy: the inner policy, or ``dict(type=...)`` with its arguments.
    """

    own_needs: ClassVar[tuple[str, ...]] = ()
    own_operators: ClassVar[int] = 0

    def __init__(self, policy: MixPolicy | dict[str, Any]) -> None:
        super().__init__()
        built = POLICIES.build(policy)
        if not isinstance(built, MixPolicy):
            raise InputError(
                f'{type(self).__name__}(policy=...) is a {type(built).__name__}: expected a mixing policy, or '
                'dict(type=...) with the name of one.'
            )
        self.policy: MixPolicy = built

    @property
    def rate(self) -> float:
        """That of the inner policy."""
        return self.policy.rate

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the inner policy needs, and the wrapper's own."""
        return tuple(dict.fromkeys((*self.policy.needs, *self.own_needs)))

    @property
    def label(self) -> str:  # type: ignore[override]
        """That of the inner policy."""
        return self.policy.label

    @property
    def normalised(self) -> bool:  # type: ignore[override]
        """That of the inner policy."""
        return self.policy.normalised

    @property
    def heads(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the inner policy."""
        return self.policy.heads

    @property
    def operators(self) -> int:  # type: ignore[override]
        """Those of the inner policy, and the wrapper's own."""
        return self.policy.operators + self.own_operators

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Those of the inner policy."""
        return self.policy.networks

    @property
    def attention_of(self) -> tuple[str, ...]:
        """That of the inner policy."""
        return self.policy.attention_of

    @property
    def sometimes_unused(self) -> bool:
        """That of the inner policy."""
        return self.policy.sometimes_unused

    def bind(self, network: Network) -> None:
        """Let the inner policy look at the network."""
        self.policy.bind(network)

    def rank_state(self) -> dict[str, Tensor]:
        """The history of the inner policy."""
        return self.policy.rank_state()

    def load_rank_state(self, state: dict[str, Tensor]) -> None:
        """Give the inner policy its history back."""
        self.policy.load_rank_state(state)

    def forward(self, batch: Batch, ctx: Context) -> Plan:
        """In eval mode the batch as it is; the inner policy knows by itself what cannot be mixed."""
        return self.plan(batch, ctx) if self.training else self.unmixed(batch)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The inner views, then those of the wrapper."""
        inner = self.policy(batch, ctx)
        plan = self.kept(inner)
        return replace(plan, views=(*plan.views, *self.added(inner, ctx)))

    def finish(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:
        """First the inner policy, with the outputs of its own views; then what is left to do here."""
        inner = plan.inner
        if inner is None:  # eval mode
            return plan
        count = len(inner.views)
        done = self.kept(inner.policy.finish(inner, outputs[:count], ctx))
        done = replace(done, views=(*done.views, *plan.views[count:]), join=plan.join)
        return self.complete(done, outputs, ctx)

    def kept(self, inner: Plan) -> Plan:
        """``inner`` as a plan of this policy, with as many views; called before and after the inner ``finish``."""
        return self.around(inner)

    def added(self, inner: Plan, ctx: Context) -> tuple[View, ...]:  # noqa: ARG002
        """Further views, none by default."""
        return ()

    def complete(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:  # noqa: ARG002
        """The plan with new weights or losses; ``outputs`` holds one entry for each of ``plan.views``."""
        return plan


def add_loss(plan: Plan, name: str, term: Tensor) -> Plan:
    """``plan`` with another term (a scalar), added to one of the same name that a nested policy may have left."""
    losses = dict(plan.losses)
    losses[name] = losses[name] + term if name in losses else term
    return replace(plan, losses=losses)
