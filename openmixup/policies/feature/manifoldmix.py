"""Manifold Mixup (Verma et al., ICML 2019)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from openmixup.checks import is_whole
from openmixup.errors import InputError
from openmixup.policies.context import Context, Network
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
        name = type(self).__name__
        whole = isinstance(layers, tuple | list) and all(is_whole(layer, 0) for layer in layers)
        if not whole or len(layers) != 2 or layers[0] >= layers[1]:
            raise InputError(
                f'{name}(layers={layers!r}): expected two whole numbers (first, end) with 0 <= first < end.'
            )
        self.layers = layers

    def bind(self, network: Network) -> None:
        """Check that the network has the stages."""
        count, last, name = len(network.stages), self.layers[1] - 1, type(self).__name__
        if last > count:
            raise InputError(
                f'{name}(layers={self.layers!r}) draws layers up to {last}, but {network.name} has {count} '
                f'hidden stages ({", ".join(network.stages) or "none"}): end the range at {count + 1} at most.'
            )

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """The blended images, or the batch and what to do with a hidden stage."""
        layer = int(torch.randint(*self.layers, (1,), generator=ctx.shared_rng))
        if layer == 0:
            return super().view(batch, partner, lam, ctx)
        mixture = Mixture(*to_device(batch.images.device, pair_index(partner), pair_weights(lam, len(batch))))
        return View(batch.images, mixture, tap=Tap(layer - 1, partial(blended, mixture)))


def blended(mixture: Mixture, hidden: Tensor) -> Tensor:
    """(N, ...) blend of a hidden tensor (N, ...) of any layout, in the memory format that it has."""
    if hidden.ndim == 4 and not hidden.is_contiguous() and hidden.is_contiguous(memory_format=torch.channels_last):
        return mixture.of(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return mixture.of(hidden)
