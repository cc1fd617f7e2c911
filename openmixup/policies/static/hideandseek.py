"""Hide-and-Seek (Singh and Lee, ICCV 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch
from openmixup.policies.static.deletion import DeletePolicy
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['HideAndSeek']


@POLICIES.register_module()
class HideAndSeek(DeletePolicy):
    """Divide each image into a grid and delete each cell with a probability; labels stay.

    The grid is drawn anew for each image. Hidden cells become 0, the mean colour of normalised images, as the paper
    wants it so that activations keep their mean.

    Deviation: the authors' code gives the side of a cell in pixels (16, 32, 44, 56 of 224, or no grid; as reported, not
    checked against it); here it is the number of cells a side, to mean the same at all sizes, and all cells of an image
    are alike but for whole pixels.

    Args:
        cells: numbers of cells along each side, of which each image draws one, from 0 to 64; 0 leaves it whole.
        prob: probability that a cell is hidden.
    """

    paper = 'https://arxiv.org/abs/1811.02545'

    def __init__(self, cells: Sequence[int] = (0, 4, 5, 7, 14), prob: float = 0.5) -> None:
        super().__init__()
        if not isinstance(cells, tuple | list) or not cells or not all(is_whole(count, 0, 64) for count in cells):
            raise InputError(f'HideAndSeek(cells={cells!r}): expected a list of whole numbers from 0 to 64.')
        if not is_number(prob, 0, 1):
            raise InputError(f'HideAndSeek(prob={prob!r}): expected a probability from 0 to 1.')
        self.cells, self.prob = cells, prob

    def kept(self, batch: Batch, ctx: Context) -> Tensor:
        """(N, 1, H, W) 0 in the hidden cells; cells and their places are small and looked up on the device."""
        images, size = batch.images, len(batch)
        most = max(*self.cells, 1)
        count = torch.tensor(self.cells)[torch.randint(len(self.cells), (size,), generator=ctx.rng)]
        shown = torch.rand(size, most, most, generator=ctx.rng) >= self.prob
        shown |= (count == 0)[:, None, None]
        rows, columns = (torch.arange(length) * count[:, None] // length for length in images.shape[-2:])
        shown, rows, columns = to_device(images.device, shown.to(images.dtype), rows, columns)
        samples = torch.arange(size, device=images.device)[:, None, None]
        return shown[samples, rows[:, :, None], columns[:, None, :]][:, None]
