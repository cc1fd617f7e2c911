"""SaliencyMix (Uddin et al., ICLR 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch
from openmixup.policies.saliency import blur, fine_grained, gradient_saliency, peaks, spectral_residual
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['SaliencyMix']

SALIENCIES = ('fine_grained', 'spectral', 'gradient')


@POLICIES.register_module()
class SaliencyMix(MaskPolicy):
    """Paste a box around the most salient pixel of the partner, at the same place of the own image.

    The box is as large as that of CutMix and is clipped to the image; the labels follow its area after clipping. Each
    image has its own place, since the place is that of its own partner. Fine-grained saliency is the detector of the
    paper in a form of our own, see :func:`openmixup.policies.saliency.fine_grained`.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; the box has the area 1 - lam before it is clipped. Published tables
            use 0.2 for CIFAR and 1 for ImageNet.
        per: 'batch' for one lam and size of the box a batch, the habit of the papers, 'sample' for one each.
        pairing: 'permutation' (the habit of the papers), 'derangement' or 'flip'.
        saliency: 'fine_grained', 'spectral' for the spectral residual, or 'gradient' for the size of the gradient of
            the network's loss by the pixels, blurred by 7 x 7 px (not of the paper; a pass forward and back).
    """

    paper = 'https://arxiv.org/abs/2006.01791'
    operators = 24  # with fine-grained saliency of images up to 64 px; reducing larger ones takes 7 more
    exempt = {
        'every_pixel_has_its_turn': 'the place of a box follows the partner, and flat images have none',
        'weights_follow_lam': 'the place of a box follows the partner, so the same few images are always clipped alike',
    }

    def __init__(
        self,
        alpha: float = 1.0,
        per: str = 'batch',
        pairing: str = 'permutation',
        saliency: str = 'fine_grained',
    ) -> None:
        super().__init__(alpha, per, pairing)
        if saliency not in SALIENCIES:
            hint = did_you_mean(saliency, SALIENCIES)
            raise InputError(f'SaliencyMix(saliency={saliency!r}){hint}: expected one of {", ".join(SALIENCIES)}.')
        self.saliency = saliency

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The input gradient, if that is the saliency."""
        return ('input_grad',) if self.saliency == 'gradient' else ()

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Tensor:
        """(N, H, W) 0 in the box of each image, else 1."""
        height, width = size = batch.images.shape[-2:]
        # a pixel is in the box if its middle is less than half a side away from the upper left corner of the centre
        middle = torch.arange(max(size), dtype=torch.float32) + 0.5
        half = ((1 - lam).sqrt()[:, None] * torch.tensor(size)).long() // 2
        partner, middle, half = to_device(batch.images.device, partner, middle, half.float())
        centre = peaks(self.maps(batch, ctx), size).index_select(0, partner)
        outside = (middle - centre[:, :, None]).abs_().ge_(half[:, :, None])  # (N, 2, longer side)
        return torch.maximum(outside[:, 0, :height, None], outside[:, 1, None, :width])

    def maps(self, batch: Batch, ctx: Context) -> Tensor:
        """(S, h, w) saliency of all sources, on the images' device; it may be smaller than the images."""
        if self.saliency == 'gradient':
            return blur(gradient_saliency(ctx.probe.input_grad(batch.source_images, batch.source_labels)))
        saliency = fine_grained if self.saliency == 'fine_grained' else spectral_residual
        return saliency(batch.source_images, ctx.std, full=False)
