"""TL-Align (Xiao et al., ICCV 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.mixture import Mixture, Plan, View
from openmixup.policies.token.transmix import has_regions, reading_regions
from openmixup.policies.wrap.base import WrapPolicy
from openmixup.registry import POLICIES

__all__ = ['TLAlign', 'aligned_shares']


@POLICIES.register_module()
class TLAlign(WrapPolicy):
    r"""Let the labels of another policy's patches flow through the attention of all blocks to the class token.

    Each patch of the mixed image begins with the label of its source, and the class token with that of the whole image.
    In each block the labels go the way of the tokens: :math:`Y \leftarrow (A Y + Y) / 2`, where :math:`A` is the
    attention, averaged over the heads, and the other half stands for the residual path. Behind the last block the label
    of the class token is the target. Rows of :math:`A` sum to one, and so the weights keep their sum; MLPs and layer
    scales are passed over, as in the authors' code.

    As all this is linear in the labels, only the weights of the sources are carried, not one number for each class, and
    what falls on the class token is read from the pass that is trained, without gradient. It takes no further pass, but
    the attention of all tokens in all blocks beside the fused one. Even attention, and that of each token to itself,
    leave the weights as they are.

    The authors cut boxes of CutMix (alpha 1) out of whole patches and use no other policy beside it. Here a box may cut
    a patch, which then has a label by area, and any policy with masks will do. Images whose sources are blended evenly,
    such as Mixup's, keep their weights, and so does what is mixed in a hidden stage. Networks without a class token,
    for which labels could be averaged over the patches, are refused. Prefer ``global_pool='token'`` where the network
    has a class token but averages the patches.

    Args:
        policy: what makes the images, as policy or dict(type=...): one that gives masks, or a choice of such.
    """

    label = 'semantic'
    paper = 'https://arxiv.org/abs/2210.06455'
    own_needs = ('attention',)
    own_operators = 4  # the masks

    def __init__(
        self,
        policy: MixPolicy | dict[str, Any] = {'type': 'CutMix', 'alpha': 1.0},  # noqa: B006  (never changed)
    ) -> None:
        super().__init__(policy)

    def bind(self, network: Network) -> None:
        """Refuse a network without attention to each patch."""
        network.check_patches('TLAlign')
        super().bind(network)

    def kept(self, inner: Plan) -> Plan:
        """The inner plan, whose passes return the rollout of the attention where there are regions."""
        return reading_regions(self, inner, 'rollout')

    def complete(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:  # noqa: ARG002
        """The label of the class token behind the last block of each pass."""
        views = tuple(
            self._aligned(view, output.rollout) if has_regions(view) else view
            for view, output in zip(plan.views, outputs, strict=True)
        )
        return replace(plan, views=views)

    def _aligned(self, view: View, rollout: Tensor) -> View:
        assert view.masks is not None
        weight = aligned_shares(rollout, view.masks, view.mixture.weight)
        return replace(view, mixture=Mixture(view.mixture.index, weight))


def aligned_shares(rollout: Tensor, masks: Tensor, weight: Tensor) -> Tensor:
    """(N, K) weights of the sources in the class token.

    Args:
        rollout: (N, h, w) share of each patch in the class token; the rest to 1 is of tokens before the patches.
        masks: (N, K, H, W) share of each source at each pixel.
        weight: (N, K) of the sources in the tokens before the patches.
    """
    height, width = rollout.shape[1:]
    shares = rollout.detach().to(weight.dtype)
    with torch.no_grad():
        patches = torch.nn.functional.adaptive_avg_pool2d(masks.to(weight.dtype), (height, width))
        gathered = torch.einsum('nkhw,nhw->nk', patches, shares)
    return gathered + weight * (1 - shares.sum((1, 2)))[:, None]
