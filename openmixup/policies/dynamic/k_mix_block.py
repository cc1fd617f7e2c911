"""The network that makes the masks of AdAutoMix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from openmixup.errors import InputError, did_you_mean
from openmixup.policies.dynamic.mix_block import MixBlock, Projections, attend, projection
from openmixup.policies.precision import arithmetic

__all__ = ['KMixBlock']

EMBEDDINGS = ('none', 'concat')


class KMixBlock(MixBlock):
    """Attention from each of K images to all others; at each place the K images share the pixel by a softmax.

    The logit of image i is softmax(q(i) k / sqrt(C/2)) v(i), where k is the sum of the keys of the other images: each
    place of i asks where the others look like it, and takes the values of i from there. The K maps are enlarged, and
    a softmax over the images makes the masks, which start near 1/K. Precision and start as of :class:`MixBlock`.

    Args:
        channels: C, channels of the features.
        embedding: how it learns the weights: 'none', or 'concat' for a further channel of each image's own weight.
        norm: BatchNorm behind queries and keys.
        upsample: 'nearest', 'bilinear', or a list of them to draw from.

    Raises:
        InputError: an argument is out of its range.

    Source: Qin et al., AdAutoMix, ICLR 2024; not checked against the authors' code.
    """

    def __init__(
        self, channels: int, embedding: str = 'none', norm: bool = False, upsample: str | Sequence[str] = 'bilinear'
    ) -> None:
        if embedding not in EMBEDDINGS:
            raise InputError(
                f'KMixBlock(embedding={embedding!r}): expected one of {", ".join(EMBEDDINGS)}'
                f'{did_you_mean(str(embedding), EMBEDDINGS)}.'
            )
        super().__init__(channels, embedding, norm=norm, upsample=upsample)
        self.key = projection(channels + (embedding == 'concat'), max(channels // 2, 1), norm)

    def project(self, features: Tensor) -> Projections:
        """What several calls with the same features (N, C, h, w) can share: all, unless the weights are embedded."""
        if self.embedding != 'none':
            return Projections(None, None)
        query, value, key = self._projected(features)
        return Projections(query, value, key)

    def _projected(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, values and keys."""
        assert self.key is not None
        return self.query(features), self.value(features), self.key(features)

    def forward(
        self,
        features: Tensor,
        index: Tensor,
        weight: Tensor,
        size: tuple[int, int],
        mode: str = 'bilinear',
        shared: Projections | None = None,
    ) -> Tensor:
        """(N, K, H, W) shares of the images, which sum to 1; float32 (float64 for float64 features).

        Args:
            features: (N, C, h, w).
            index: (N, K) int64 images of each sample.
            weight: (N, K) their wanted shares.
            size: (H, W) of the images.
            mode: how to enlarge, see :meth:`draw_mode`.
            shared: of :meth:`project` for the same features.
        """
        count, rows = index.shape[1], index.t().flatten()  # all first images, then all second ones
        if self.embedding == 'none':
            given = self.project(features) if shared is None else shared
            query, value, key = (
                x.index_select(0, rows) for x in (given.query, given.value, given.key) if x is not None
            )
        else:
            told = weight.t().to(features.dtype).reshape(-1, 1, 1, 1).expand(-1, 1, *features.shape[2:])
            query, value, key = self._projected(torch.cat([features.index_select(0, rows), told], 1))
        with arithmetic(features.device):
            keys = key.to(torch.promote_types(key.dtype, torch.float32)).unflatten(0, (count, -1))
            logits = attend(query, (keys.sum(0) - keys).flatten(0, 1), value)
            logits = logits.unflatten(0, (count, -1)).squeeze(2).transpose(0, 1)  # (N, K, h, w)
            aligned = None if mode == 'nearest' else False
            return functional.interpolate(logits, size, mode=mode, align_corners=aligned).softmax(1)
