"""RegMixup (Pinto et al., NeurIPS 2022)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Plan, View
from openmixup.policies.wrap.base import WrapPolicy
from openmixup.registry import POLICIES

__all__ = ['RegMixup']

REDUCTIONS = {'sum': 1.0, 'concat_mean': 0.5}


@POLICIES.register_module()
class RegMixup(WrapPolicy):
    """Learn the clean batch, and a mixed one beside it as a regulariser: loss = clean + eta * mixed.

    Auxiliary losses of the inner policy belong to the mixed part and are weighted alike. A step costs two passes. Where
    the inner policy leaves the batch as it is, there is the clean part only: as the inner policy has it, in one pass.

    Args:
        policy: what makes the mixed view; the paper blends by Mixup with a large alpha (20 on CIFAR-10, 10 on CIFAR-100
            and, from memory, on ImageNet).
        eta: weight of the mixed part, at least 0.
        reduction: 'sum' as in the formula above; 'concat_mean' halves both parts, which is the mean over the doubled
            batch that the authors' code takes, and halves the effective learning rate.
        join: both views in one pass, so that BatchNorm sees clean and mixed images together, as in the authors' code;
            not for policies that change hidden stages or the size of the images, or have heads of their own.
    """

    paper = 'https://arxiv.org/abs/2206.14502'
    own_operators = 4

    def __init__(
        self,
        policy: MixPolicy | dict[str, Any] = {'type': 'Mixup', 'alpha': 10.0},  # noqa: B006  (never changed)
        eta: float = 1.0,
        reduction: str = 'sum',
        join: bool = True,
    ) -> None:
        super().__init__(policy)
        if not is_number(eta, 0):
            raise InputError(f'RegMixup(eta={eta!r}): expected a number of at least 0, the weight of the mixed part.')
        if reduction not in tuple(REDUCTIONS):
            raise InputError(f'RegMixup(reduction={reduction!r}): expected one of {", ".join(REDUCTIONS)}.')
        if not isinstance(join, bool):
            raise InputError(f'RegMixup(join={join!r}): expected True or False.')
        if join and self.policy.heads:
            raise InputError(
                f'RegMixup(join=True) runs clean and mixed images in one pass by one head, but '
                f'{type(self.policy).__name__} has heads of its own ({", ".join(self.policy.heads)}): give join=False.'
            )
        if join and 'tap' in self.policy.needs:
            raise InputError(
                f'RegMixup(join=True) runs clean and mixed images in one pass, but {type(self.policy).__name__} '
                'changes a hidden stage of its own view only: give join=False.'
            )
        self.eta, self.reduction, self.join = eta, reduction, join

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The mixed views of the inner policy and the clean batch."""
        plan = super().plan(batch, ctx)
        if not self.join:
            return plan
        sizes = {tuple(view.inputs.shape[1:]) for view in plan.views}
        if len(sizes) > 1 or any(view.tap is not None for view in plan.views):
            raise InputError(
                f'RegMixup(join=True) runs all views in one pass, but {type(plan.chosen).__name__} changes a hidden '
                f'stage or the size of the images ({", ".join(map(str, sorted(sizes)))}): give join=False.'
            )
        return replace(plan, join=True)

    def kept(self, inner: Plan) -> Plan:
        """The inner views and losses with their weight: that of the mixed part, or of the clean part if unmixed."""
        scale = REDUCTIONS[self.reduction] * (1.0 if is_unmixed(inner) else self.eta)
        views = tuple(replace(view, share=view.share * scale) for view in inner.views)
        losses = {name: term * scale for name, term in inner.losses.items()}
        return replace(self.around(inner), views=views, losses=losses)

    def added(self, inner: Plan, ctx: Context) -> tuple[View, ...]:  # noqa: ARG002
        """The clean batch, with the labels that the inner policy left the sources, unless that is the inner view."""
        if is_unmixed(inner):
            return ()
        return (replace(self.unmixed(inner.batch).views[0], share=REDUCTIONS[self.reduction]),)


def is_unmixed(plan: Plan) -> bool:
    """Whether all that ``plan`` trains by is the batch as it is, by the head that learns it."""
    trained = [view for view in plan.views if view.share != 0]
    as_it_is = all(view.inputs is plan.batch.images and view.tap is None and view.head == 'main' for view in trained)
    return bool(trained) and as_it_is
