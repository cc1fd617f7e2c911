"""TransMix (Chen et al., CVPR 2022)."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.mixture import Mixture, Plan, View
from openmixup.policies.wrap.base import WrapPolicy
from openmixup.registry import POLICIES

__all__ = ['TransMix', 'attention_shares', 'has_regions', 'reading_regions']


@POLICIES.register_module()
class TransMix(WrapPolicy):
    """Weigh the labels of another policy's images by where the network looks.

    The attention of the class token to the patches of the mixed image, in the last block, is summed over the region of
    each source; the weights become the mean of that share and of the policy's own. It takes no further pass: the
    attention is that of the pass which is trained, without gradient. Pairs stay as they are. Images whose sources are
    blended evenly, such as Mixup's, keep their weights, and so does what is mixed in a hidden stage.

    The network must have a class token. If its vector is the mean of the patches all the same (``global_pool='avg'``),
    the loss does not see what the class token gathers in the last block: that row of the attention changes with the
    weights that it shares with the patches, but nothing teaches it to look at what decides. Prefer
    ``global_pool='token'`` there.

    The published recipe for DeiT is ``RandomChoice`` of ``Mixup(alpha=0.8)`` and ``TransMix`` around
    ``CutMix(alpha=1.0)`` with probabilities 0.2 and 0.8; the authors pair by reversing the batch (``pairing='flip'``).

    Args:
        policy: what makes the images, as policy or dict(type=...): one that gives masks, or a choice of such.
        ratio: share of the attention in the weights, from 0 to 1.
    """

    label = 'semantic'
    paper = 'https://arxiv.org/abs/2111.09833'
    own_needs = ('attention',)
    own_operators = 4  # the masks

    def __init__(
        self,
        policy: MixPolicy | dict[str, Any] = {'type': 'CutMix', 'alpha': 1.0},  # noqa: B006  (never changed)
        ratio: float = 0.5,
    ) -> None:
        super().__init__(policy)
        if not is_number(ratio, 0, 1):
            raise InputError(f'TransMix(ratio={ratio!r}): expected a number from 0 to 1; the authors use 0.5.')
        self.ratio = ratio

    def bind(self, network: Network) -> None:
        """Refuse a network without attention to each patch."""
        network.check_patches('TransMix')
        super().bind(network)

    def kept(self, inner: Plan) -> Plan:
        """The inner plan, whose passes return the attention where regions are to be weighed."""
        return reading_regions(self, inner, 'attention')

    def complete(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:  # noqa: ARG002
        """New weights from the attention of each pass."""
        views = tuple(
            self._weighed(view, output.attention) if has_regions(view) else view
            for view, output in zip(plan.views, outputs, strict=True)
        )
        return replace(plan, views=views)

    def _weighed(self, view: View, attention: Tensor) -> View:
        assert view.masks is not None
        shares = attention_shares(attention, view.masks)
        weight = torch.lerp(view.mixture.weight, shares.to(view.mixture.weight.dtype), self.ratio)
        return replace(view, mixture=Mixture(view.mixture.index, weight))


def reading_regions(policy: WrapPolicy, inner: Plan, name: str) -> Plan:
    """``inner`` as a plan of ``policy``, whose passes return ``name`` besides where there are regions to be weighed."""
    views = tuple(
        view if view.lazy_masks is None else replace(view, lazy_masks=functools.cache(view.lazy_masks))
        for view in inner.views
    )  # masks are looked at before and after the passes
    reading = tuple(
        replace(view, read=(*view.read, name)) if has_regions(view) and name not in view.read else view
        for view in views
    )
    return replace(policy.around(replace(inner, views=views)), views=reading)


def has_regions(view: View) -> bool:
    """Whether the sources of a view lie at different places; masks of one number for each image have no strides."""
    masks = view.masks if view.mixture.index.shape[1] > 1 else None
    return masks is not None and masks.stride()[2:] != (0, 0)


@torch.no_grad()
def attention_shares(attention: Tensor, masks: Tensor, by_area: bool = False) -> Tensor:
    """(N, K) float32 share of the attention that falls on each source.

    Args:
        attention: (N, heads, h, w) of the class token to the patches, at least 0; the heads are averaged.
        masks: (N, K, H, W) share of each source at each pixel. Each patch counts as its first pixel, top left (nearest
            neighbour, as in the authors' code).
        by_area: each patch counts by the mean of its pixels instead.
    """
    looked = attention.float().mean(1)
    (height, width), (rows, columns) = masks.shape[2:], looked.shape[1:]
    if by_area:
        small = torch.nn.functional.adaptive_avg_pool2d(masks.float(), (rows, columns))
    elif height % rows or width % columns:
        small = torch.nn.functional.interpolate(masks, (rows, columns), mode='nearest')
    else:
        small = masks[:, :, :: height // rows, :: width // columns]
    return (small * looked[:, None]).sum((2, 3)) / looked.sum((1, 2))[:, None]
