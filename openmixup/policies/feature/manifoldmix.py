"""Manifold Mixup (Verma et al., ICML 2019)."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from openmixup.policies.context import Context, Network
from openmixup.policies.feature.layers import channels_last, check_depth, check_layers, draw_layer
from openmixup.policies.mixture import Batch, Mixture, Tap, View
from openmixup.policies.pairing import pair_index, pair_weights
from openmixup.policies.static.mixup import Mixup
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['ManifoldMix']


@POLICIES.register_module()
class ManifoldMix(Mixup):
    """Blend two samples at a hidden layer that is drawn for each batch, and their labels by the same lam.

    Layer 0 is the input, which is Mixup bit for bit; layer l is the output of the l-th hidden stage of the network, of
    a ViT that of its l-th block. Both samples get gradient. All processes draw the same layer.

    The authors train with binary cross-entropy on the softmax and alpha = 2 on CIFAR, 0.2 on Tiny-ImageNet; the loss is
    an argument of the learner here.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0.
        layers: (first, end): layers first to end - 1 are drawn alike. (0, 3) is the input and the first two stages.
        per: 'batch' for one lam a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
    """

    needs = ('tap',)
    paper = 'https://arxiv.org/abs/1806.05236'

    def __init__(
        self, alpha: float = 2.0, layers: tuple[int, int] = (0, 3), per: str = 'batch', pairing: str = 'permutation'
    ) -> None:
        super().__init__(alpha, per, pairing)
        check_layers(layers, type(self).__name__)
        self.layers = layers

    def bind(self, network: Network) -> None:
        """Check that the network has the stages."""
        check_depth(self.layers, network, type(self).__name__)

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """The blended images, or the batch and what to do with a hidden stage."""
        layer = draw_layer(self.layers, ctx.shared_rng)
        if layer == 0:
            return super().view(batch, partner, lam, ctx)
        mixture = Mixture(*to_device(batch.images.device, pair_index(partner), pair_weights(lam, len(batch))))
        return View(batch.images, mixture, tap=Tap(layer - 1, partial(blended, mixture)))


def blended(mixture: Mixture, hidden: Tensor) -> Tensor:
    """(N, ...) blend of a hidden tensor (N, ...) of any layout, in the memory format that it has."""
    if channels_last(hidden):
        return mixture.of(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return mixture.of(hidden)
