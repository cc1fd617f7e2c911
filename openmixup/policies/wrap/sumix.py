"""SUMix (Qin et al., ECCV 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from openmixup.checks import is_number
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.wrap.base import WrapPolicy, add_loss
from openmixup.registry import POLICIES

__all__ = ['SUMix', 'distances']

SIGNS = {'published': -1.0, 'closeness': 1.0}
FAR = 1e4  # exp(-FAR) is 0 in float32


@POLICIES.register_module()
class SUMix(WrapPolicy):
    r"""Weigh the sources by what a network predicts of mixed and clean images, and learn its uncertainty.

    With p the softmax outputs of the mixed and :math:`p_k` of the clean image of source k, in which the classes of the
    sample's other sources are set to 0, both without gradient, the distance is the vector
    :math:`\alpha_k = s \cdot \mathrm{norm}(\mathrm{softmax}(p - p_k))` over the classes; norm makes its length one. The
    weights become :math:`w_k e^{\mp \alpha_k[y_k]}`, scaled to the sum that they had. A source without weight gets
    none. A second linear layer predicts :math:`u = \mathrm{norm}(\mathrm{softmax}(W h))` of the mean last feature map
    h, and :math:`\gamma \sum_k w_k \, CE(e^{-(u_k + u + \alpha_k)}, y_k)` is added, by the weights of the inner policy;
    the exponentials are its logits, as in the authors' code.

    Take care: the published sign, :math:`-`, moves weight to the class that the mixture resembles less, against the
    stated aim; ``direction='closeness'`` turns it. A step costs a further pass of the clean batch, which moves the
    running statistics of BatchNorm too.

    Deviations: in the authors' code s is the batch size, so that the weights depend on it; here it is a constant, by
    default their batch of CIFAR. Weights are those of each sample, not of the batch in the mean. Any number of sources
    is allowed. In a pair of one class its entry is not set to 0. The authors' ImageNet form without W is left out. Of
    soft labels the class of the largest share counts.

    Args:
        policy: what makes the images and the weights to start from.
        direction: 'published' or 'closeness'.
        gamma: weight of the uncertainty loss, at least 0; the authors' settings have 0.5, and 1 for Tiny-ImageNet. 0
            builds no second layer.
        scale: s, above 0.
    """

    label = 'semantic'
    losses_train = 'network'
    paper = 'https://arxiv.org/abs/2407.07805'
    own_needs = ('logits',)
    own_operators = 4

    def __init__(
        self,
        policy: MixPolicy | dict[str, Any] = {'type': 'CutMix', 'alpha': 0.2},  # noqa: B006  (never changed)
        direction: str = 'published',
        gamma: float = 0.5,
        scale: float = 100.0,
    ) -> None:
        super().__init__(policy)
        if direction not in tuple(SIGNS):
            hint = did_you_mean(direction, SIGNS)
            raise InputError(f'SUMix(direction={direction!r}): expected one of {", ".join(SIGNS)}{hint}.')
        if not is_number(gamma, 0):
            raise InputError(f'SUMix(gamma={gamma!r}): expected a number of at least 0, the weight of a loss.')
        if not is_number(scale) or not 0 < scale <= FAR / 10:
            raise InputError(
                f'SUMix(scale={scale!r}): expected a number above 0 and at most {FAR / 10:g}, such as 100.'
            )
        self.direction, self.gamma, self.scale = direction, gamma, scale
        self.uncertainty_head: nn.Linear | None = None

    @property
    def sometimes_unused(self) -> bool:
        """Steps in which the inner policy mixes nothing do not use the second layer."""
        return self.policy.sometimes_unused or (self.gamma > 0 and self.policy.rate < 1)

    def bind(self, network: Network) -> None:
        """Build the second layer; one that is there for as many features and classes is kept."""
        super().bind(network)
        if self.gamma > 0:
            self._build(network.map_channels, network.num_classes)

    def _build(self, features: int, classes: int) -> None:
        head = self.uncertainty_head
        if head is None or (head.in_features, head.out_features) != (features, classes):
            self.uncertainty_head = nn.Linear(features, classes)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Build the layer that the state was saved of, if none is there yet."""
        saved = state_dict.get(f'{prefix}uncertainty_head.weight')
        if self.uncertainty_head is None and saved is not None:
            self._build(saved.shape[1], saved.shape[0])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def kept(self, inner: Plan) -> Plan:
        """The inner views; those of several sources return their features too."""
        plan = self.around(inner)
        if not self.gamma:
            return plan
        views = (replace(view, read=(*view.read, 'features')) if is_mixed(view) else view for view in plan.views)
        return replace(plan, views=tuple(views))

    def added(self, inner: Plan, ctx: Context) -> tuple[View, ...]:  # noqa: ARG002
        """The clean images of all sources, for their outputs only."""
        if not any(is_mixed(view) for view in inner.views):
            return ()
        clean = self.unmixed(Batch(inner.batch.source_images, None)).views[0]
        return (replace(clean, share=0.0, read=('features',) if self.gamma else ()),)

    def complete(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:  # noqa: ARG002
        """New weights of every mixed view, and the uncertainty loss."""
        if not any(is_mixed(view) for view in plan.views):
            return plan
        if plan.batch.target not in ('class', 'soft'):
            raise InputError(
                f'SUMix compares the classes of the sources, but the target is {plan.batch.target}: expected class '
                'indices or soft labels.'
            )
        labels = plan.batch.source_labels
        classes = labels.argmax(1) if plan.batch.target == 'soft' else labels.long()
        *inner, clean = outputs
        views, done = [], plan
        for view, output in zip(plan.views, inner, strict=False):
            if not is_mixed(view):
                views.append(view)
                continue
            own = classes[view.mixture.index]
            apart = self.scale * distances(output.logits, clean.logits, view.mixture, own)
            views.append(replace(view, mixture=self._weighed(view.mixture, apart.gather(2, own[..., None])[..., 0])))
            if self.gamma:  # a view without a share too, so that the layer always has a gradient
                loss = self._uncertainty_loss(output, clean, view.mixture, apart, own)
                done = add_loss(done, 'sumix', view.share * self.gamma * loss)
        return replace(done, views=(*views, plan.views[-1]))

    def _weighed(self, mixture: Mixture, apart: Tensor) -> Mixture:
        """The mixture with the weights of the class distances ``apart`` (N, K)."""
        weight = mixture.weight
        listed = (weight > 0).to(weight.dtype)
        start = weight.clamp_min(torch.finfo(weight.dtype).tiny).log()
        shares = (start + SIGNS[self.direction] * apart + FAR * (listed - 1)).softmax(1)
        return Mixture(mixture.index, shares * weight.sum(1, keepdim=True))

    def _uncertainty_loss(self, output: Any, clean: Any, mixture: Mixture, apart: Tensor, own: Tensor) -> Tensor:
        """Mean over the batch of the cross-entropies by uncertainty and distance."""
        both = self.uncertainty(output.features)[:, None] + self.uncertainty(clean.features)[mixture.index]
        logp = (-(both + apart)).exp().log_softmax(2)
        return -(logp.gather(2, own[..., None])[..., 0] * mixture.weight).sum(1).mean()

    def uncertainty(self, features: Tensor) -> Tensor:
        """(N, num_classes) u of length one from the last feature map (N, C, h, w)."""
        assert self.uncertainty_head is not None
        pooled = features.mean((2, 3)).to(self.uncertainty_head.weight.dtype)
        return functional.normalize(self.uncertainty_head(pooled).float().softmax(1), dim=1)


@torch.no_grad()
def distances(mixed: Tensor, clean: Tensor, mixture: Mixture, classes: Tensor) -> Tensor:
    """(N, K, C) vectors of length one: how far the mixed output is above that of each source, by class.

    Args:
        mixed: (N, C) logits of the mixed images.
        clean: (S, C) logits of the sources.
        mixture: of N samples from K sources.
        classes: (N, K) class of each source.
    """
    clean = clean.float().softmax(1)[mixture.index]
    among = torch.zeros_like(clean[:, 0]).scatter_(1, classes, 1.0)  # the classes of the sample
    others = among[:, None].expand_as(clean).scatter(2, classes[..., None], 0.0)
    gap = mixed.float().softmax(1)[:, None] - clean * (1 - others)
    return functional.normalize(gap.softmax(2), dim=2)


def is_mixed(view: View) -> bool:
    """Whether the view is of several sources."""
    return view.mixture.index.shape[1] > 1
