"""Feature CutMix (Yun et al., ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.policies.context import Context, Network, unbound
from openmixup.policies.feature.layers import channels_last, check_depth, check_layers, draw_layer
from openmixup.policies.mixture import Batch, Mixture, Tap, View
from openmixup.policies.pairing import pair_index, pair_weights
from openmixup.policies.static.cutmix import CutMix
from openmixup.policies.tokens import patch_grid
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['FeatureCutMix']


@POLICIES.register_module()
class FeatureCutMix(CutMix):
    """Paste a box of the partner at a hidden layer that is drawn for each batch; the labels follow the area of the box.

    Layer 0 is the input, which is CutMix bit for bit; layer l is the output of the l-th hidden stage of the network, of
    a ViT that of its l-th block. All processes draw the same layer.

    The box is that of CutMix in the image and covers the same part of the map. A cell that it covers in part gets that
    share of the partner's cell, so what it takes of the map is what the labels say, however coarse the map is; where
    its edges meet those of the cells it is a plain box. On a network of tokens the box lies in the grid of the patches,
    and tokens in front of them, as the class token, are blended by the labels' weights; the paper has convolutional
    networks only. Tokens must be all patches, row by row: networks that order them in another way (Hiera) or drop some
    in training (``patch_drop_rate``) are refused, unless the input is the only layer.

    The paper gives the variant as the same operation on a feature map, 78.20 % top-1 on ImageNet-1k with ResNet-50 to
    the 78.60 % of CutMix. Layers and their range are those of ManifoldMix; what the authors of CutMix do, and whether
    they round the box to cells, is not checked against their code.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0; the box has the area 1 - lam before it is clipped to the image.
        layers: (first, end): layers first to end - 1 are drawn alike. (0, 3) is the input and the first two stages.
        per: 'batch' for one lam and box a batch (the authors' code), 'sample' for one each.
        pairing: 'derangement' (no image is cut into itself), 'permutation' (the authors' code) or 'flip'.
        minmax: (least, most) side of the box as a share of the image's, as in CutMix; None: the box follows lam.
    """

    needs = ('tap',)

    def __init__(
        self,
        alpha: float = 1.0,
        layers: tuple[int, int] = (0, 3),
        per: str = 'batch',
        pairing: str = 'derangement',
        minmax: Sequence[float] | None = None,
    ) -> None:
        super().__init__(alpha, per, pairing, minmax)
        check_layers(layers, type(self).__name__)
        self.layers = layers
        self._network: Network | None = None

    def bind(self, network: Network) -> None:
        """Check that the network has the stages, with all patches at their places, and keep the layout."""
        check_depth(self.layers, network, type(self).__name__)
        if self.layers[1] > 1:
            network.check_patches(type(self).__name__)
        self._network = network

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """The images with a box, or the batch and what to do with a hidden stage."""
        network, layer = self._network, draw_layer(self.layers, ctx.shared_rng)
        if layer == 0:
            return super().view(batch, partner, lam, ctx)
        if network is None:
            raise unbound('FeatureCutMix')
        boxes = self.mask(batch, partner, lam, ctx)
        weight = pair_weights(boxes.kept(), len(batch))
        edges = torch.stack([boxes.low, boxes.high]).float()
        index, weight, edges = to_device(batch.images.device, pair_index(partner), weight, edges)
        function = partial(
            pasted, partner=index[:, 1], edges=edges, channel_dim=network.channel_dims[layer - 1],
            prefix=network.prefix_tokens, image_size=boxes.size,
        )  # fmt: skip
        return View(batch.images, Mixture(index, weight), tap=Tap(layer - 1, function))


def pasted(
    hidden: Tensor, partner: Tensor, edges: Tensor, channel_dim: int, prefix: int, image_size: tuple[int, int]
) -> Tensor:
    """A hidden tensor with boxes of those of the partners in it, of the same shape, type and memory format.

    Args:
        hidden: (N, C, h, w), (N, h, w, C) or (N, tokens, C), floating point.
        partner: (N,) int64, whose tensor each sample's box is cut from.
        edges: (2, 1 or N, 2) float, first rows and columns in the boxes and first behind, in pixels of the image.
        channel_dim: where the channels are, 1 or -1.
        prefix: tokens in front of those of the patches, where they are there already.
        image_size: (H, W) of the images.

    Raises:
        InputError: the hidden tensor has no rows and columns, or its tokens form no grid.
    """
    if hidden.ndim not in (3, 4):
        raise InputError(
            f'FeatureCutMix got a hidden stage of shape {tuple(hidden.shape)}: expected a feature map or tokens. Let '
            'its layers end before that stage.'
        )
    if hidden.ndim == 3:
        prefix, grid = patch_grid(hidden.shape[1], prefix, image_size)
        inside = covered(edges, image_size, grid).flatten(1)
        inside = torch.cat([inside.mean(1, keepdim=True).expand(-1, prefix), inside], 1)[..., None]
    else:
        first = 2 if channel_dim == 1 else 1
        grid = hidden.shape[first], hidden.shape[first + 1]
        inside = covered(edges, image_size, grid).unsqueeze(channel_dim)
    if channels_last(hidden):  # else the partners' maps would be gathered in another order of memory
        donors = hidden.permute(0, 2, 3, 1).index_select(0, partner).permute(0, 3, 1, 2)
    else:
        donors = hidden.index_select(0, partner)
    return torch.lerp(hidden, donors, inside.to(hidden.dtype))


def covered(edges: Tensor, image_size: Sequence[int], grid: Sequence[int]) -> Tensor:
    """(b, h, w) share of each cell of a ``grid`` (h, w) on an image (H, W) that lies in a box; their mean is its area.

    Args:
        edges: (2, b, 2) float, first row and column in the box and first behind, in pixels.
        image_size: (H, W).
        grid: (h, w).
    """
    rows, columns = (_line(edges[..., side], image_size[side], grid[side]) for side in (0, 1))
    return rows[:, :, None] * columns[:, None]


def _line(edges: Tensor, length: int, count: int) -> Tensor:
    """(b, count) share of each cell of a side between two ``edges`` (2, b)."""
    begin, end = (edges * count / length)[..., None]
    cells = torch.arange(count, device=edges.device)
    return (torch.minimum(end, cells + 1) - torch.maximum(begin, cells)).clamp_(min=0)
