"""MixupE (Zou et al., UAI 2023)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MixPolicy, PairPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Plan, View
from openmixup.policies.wrap.base import WrapPolicy, add_loss
from openmixup.registry import POLICIES

__all__ = ['MixupE']

SIGNS = {'jvp': 1, 'jvp_abs': 1, 'fast': -1, 'fast_nothreshold': -1}
MEAN_IMAGES = ('batch', 'zero')


@POLICIES.register_module()
class MixupE(WrapPolicy):
    r"""Give the first-order term of Mixup's Taylor expansion further weight.

    With L the loss of the inner policy and R the term of the clean batch, which takes a further pass, the loss is
    :math:`|L| / |L'| \cdot L'` with :math:`L' = L + \mathrm{sign}\,\eta R`; the fraction has no gradient. So the value
    of L stays and the direction of its gradient turns. R is :math:`c / N \sum_i q_i`, :math:`c = \alpha / (2 \alpha +
    1)`, with q by the variants of the authors' code (z logits, p - y the gradient of the loss by z, m the mean image):

    =================== ============================================================ ========= ====
    variant             q                                                            threshold sign
    =================== ============================================================ ========= ====
    'jvp'               gradient by x of z (p - y), times (m - x); p - y is constant yes       +1
    'jvp_abs'           its absolute value                                           no        +1
    'fast'              z (y - p)                                                    yes       -1
    'fast_nothreshold'  z (y - p); y - p is constant                                 no        -1
    =================== ============================================================ ========= ====

    The authors' signs contradict each other: for a network that is linear in x, and m = 0, 'jvp' and 'fast' have the
    same q, but one adds it and the other subtracts it. ``sign`` overrides it. The 'jvp' variants differentiate twice,
    which compiled networks cannot; attention is not fused in their passes of the clean batch. Put rules for labels
    (LUMix) inside MixupE, not around it, so that L is what is learned.

    Deviations: p - y is taken from the learner's own loss, so that label smoothing and multi-label losses work; the
    mean image is not computed by a pass over the data. As in the authors' code, the clean pass moves the running
    statistics of BatchNorm too.

    Take care: BatchNorm behind a first convolution does not notice if a whole batch is scaled, so that with m = 0 the q
    of 'jvp' add up to 0 over a batch, and but for the threshold nothing is left of R.

    Args:
        policy: the inner policy.
        eta: weight of R; the authors' 0.001 for CIFAR-100.
        variant: 'jvp', 'jvp_abs', 'fast' (the authors' README) or 'fast_nothreshold'.
        threshold: samples whose q is not below it are left out where the table says so.
        sign: +1 or -1; None: that of the table.
        mean_image: m of the 'jvp' variants: 'batch', the mean of the batch, an estimate of the mean image, or 'zero',
            about right for images whose channel means were subtracted.
        constant: c; None: computed from the alpha of an inner policy that draws lam from Beta(alpha, alpha).
    """

    paper = 'https://arxiv.org/abs/2212.13381'
    own_operators = 4
    losses_train = 'network'

    def __init__(
        self,
        policy: MixPolicy | dict[str, Any] = {'type': 'Mixup', 'alpha': 2.0},  # noqa: B006  (never changed)
        eta: float = 1e-3,
        variant: str = 'fast',
        threshold: float = 1.0,
        sign: int | None = None,
        mean_image: str = 'batch',
        constant: float | None = None,
    ) -> None:
        super().__init__(policy)
        if variant not in tuple(SIGNS):
            hint = did_you_mean(variant, SIGNS)
            raise InputError(f'MixupE(variant={variant!r}) is unknown{hint}: expected one of {", ".join(SIGNS)}.')
        if mean_image not in MEAN_IMAGES:
            raise InputError(f"MixupE(mean_image={mean_image!r}): expected 'batch' or 'zero'.")
        if sign not in (None, 1, -1):
            raise InputError(f'MixupE(sign={sign!r}): expected 1, -1 or None for the sign of the authors.')
        for name, value in (('eta', eta), ('threshold', threshold)):
            if not is_number(value) and not (isinstance(value, float) and value == math.inf):
                raise InputError(f'MixupE({name}={value!r}): expected a number.')
        if not 0 <= eta < math.inf:
            raise InputError(f'MixupE(eta={eta!r}): expected a number of at least 0; to turn the term use sign.')
        if not is_number(constant) and (constant is not None or _alpha_of(self.policy) is None):
            raise InputError(
                f'MixupE(constant={constant!r}) around {type(self.policy).__name__}: expected a number, or None for an '
                'inner policy with lam from Beta(alpha, alpha); give alpha / (2 * alpha + 1), such as 0.33.'
            )
        self.eta, self.variant, self.threshold = eta, variant, threshold
        self.sign, self.mean_image, self.constant = sign, mean_image, constant

    @property
    def c(self) -> float:
        """Weight of R beside eta: by default one minus the mean of Beta(alpha + 1, alpha)."""
        if self.constant is not None:
            return self.constant
        alpha = _alpha_of(self.policy)
        assert alpha is not None
        return alpha / (2 * alpha + 1)

    def added(self, inner: Plan, ctx: Context) -> tuple[View, ...]:  # noqa: ARG002
        """The clean batch, for its logits only."""
        clean = self.unmixed(inner.batch).views[0]
        if self.variant.startswith('jvp'):  # a leaf of its own, that the logits are differentiated by
            clean = replace(clean, inputs=clean.inputs.detach().requires_grad_())
        return (replace(clean, share=0.0),)

    def complete(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:
        """Add what turns the loss of the inner policy into MixupE's."""
        if ctx.criterion is None:
            raise InputError("MixupE works on the learner's loss, which is missing here: use it in a MixClassifier.")
        *inner, clean = zip(plan.views, outputs, strict=True)
        labels = plan.batch.source_labels
        loss = sum((term for term in plan.losses.values()), torch.zeros((), device=plan.batch.images.device))
        for view, output in inner:
            if view.share != 0:
                loss = loss + view.share * ctx.criterion(output.logits, labels, view.mixture).mean()
        turned = loss + self._sign() * self.eta * self.c * self.first_order(plan, *clean, ctx).mean()
        scale = loss.detach().abs() / turned.detach().abs().clamp_min(torch.finfo(turned.dtype).tiny)
        return add_loss(plan, 'mixupe', scale * turned - loss)

    def _sign(self) -> int:
        return SIGNS[self.variant] if self.sign is None else self.sign

    def first_order(self, plan: Plan, clean: View, output: Any, ctx: Context) -> Tensor:
        """(N,) q of each sample, 0 where the threshold leaves it out."""
        labels, mixture = plan.batch.source_labels, clean.mixture
        logits = output.logits.to(torch.promote_types(output.logits.dtype, torch.float32))
        through = self.variant == 'fast'  # only there y - p has a gradient
        at = logits if through else logits.detach().requires_grad_()
        (slope,) = torch.autograd.grad(ctx.criterion(at, labels, mixture).sum(), at, create_graph=through)
        if self.variant.startswith('jvp'):
            images = clean.inputs
            (gradient,) = torch.autograd.grad((logits * slope).sum(), images, create_graph=True)
            mean = images.detach().mean(0, keepdim=True) if self.mean_image == 'batch' else 0.0
            q = (gradient * (mean - images.detach())).flatten(1).sum(1)
        else:
            q = -(logits * slope).sum(1)
        if self.variant == 'jvp_abs':
            return q.abs()
        return q if self.variant == 'fast_nothreshold' else q * (q.detach() < self.threshold).to(q.dtype)


def _alpha_of(policy: MixPolicy) -> float | None:
    """The alpha of a policy that draws lam from Beta(alpha, alpha); None of another."""
    law = policy.lam_beta if isinstance(policy, PairPolicy) else None
    return law[0] if law is not None and law[0] == law[1] else None
