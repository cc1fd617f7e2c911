"""RCF-MNIST: Fashion-MNIST rotated by an angle that is to be told, with a colour that misleads."""

from __future__ import annotations

import math
import os

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.datasets.idx import FashionMNIST
from openmixup.datasets.memory import InMemoryDataset
from openmixup.errors import InputError
from openmixup.randomness import keyed_generator
from openmixup.registry import DATASETS

__all__ = ['RCFMNIST', 'rotated']

CHUNK = 4096  # images that are turned at once


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Images turned counter-clockwise around their centre, bilinearly, with black where nothing was.

    Args:
        images: (N, C, H, W) float.
        degrees: (N,) angles.

    Returns:
        (N, C, H, W).
    """
    angle = degrees.to(images.dtype) * (math.pi / 180)
    height, width = images.shape[-2:]
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # the grid is in units of half a side, so that a turn of an oblong image needs the ratio of its sides
    rows = [torch.stack([cos, -sin * (height / width), zero], 1), torch.stack([sin * (width / height), cos, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode='bilinear', padding_mode='zeros', align_corners=False)


@DATASETS.register_module()
class RCFMNIST(InMemoryDataset):
    """28x28 coloured clothes, turned by an angle that is the target: 60,000 for training, 10,000 for the test.

    The target g is the angle divided by ``max_angle``, in [0, 1). The garment has the colour (g, 0, 1 - g), or for a
    part of the images (1 - g, 0, g). In training the first colour has the share ``spurious``, in the test the second
    one, so that a network that reads the angle off the colour fails there. It is made in memory, in seconds, from the
    files of Fashion-MNIST, and depends on ``seed`` and the split alone.

    Deviations: the paper does not say the range of the angles; up to 60 degrees is our reading. Angles are continuous,
    and the shares of the colours are exact.

    Source: Yao et al., "C-Mixup: Improving Generalization in Regression", NeurIPS 2022.

    Args:
        root: folder of the files of Fashion-MNIST, see :class:`FashionMNIST`.
        split: 'train' or 'test'.
        max_angle: in degrees, above 0 to 360. Near 360 the two ends of the target look alike.
        spurious: share of the colour that goes with the split, from 0 to 1.
        seed: seed of angles and colours.
        download: let torchvision fetch missing files of Fashion-MNIST into ``root``.
        allow_subset: take files with fewer images than were published.

    Attributes:
        angles: degrees, (N,) float32.
        swapped: whether the colour is (1 - g, 0, g), (N,) bool.

    Raises:
        InputError: an argument out of its range, or what :class:`FashionMNIST` refuses.
    """

    def __init__(
        self,
        root: str | os.PathLike | None = None,
        split: str = 'train',
        max_angle: float = 60.0,
        spurious: float = 0.8,
        seed: int = 0,
        download: bool = False,
        allow_subset: bool = False,
    ) -> None:
        if not 0 < max_angle <= 360:
            raise InputError(f'RCFMNIST(max_angle={max_angle!r}): expected degrees above 0, up to 360.')
        if not 0 <= spurious <= 1:
            raise InputError(f'RCFMNIST(spurious={spurious!r}): expected a share from 0 to 1.')
        grey = FashionMNIST(root, split, download=download, allow_subset=allow_subset).images
        rng = keyed_generator(seed, 'rcfmnist', split)
        share = torch.rand(len(grey), generator=rng)
        with_split = torch.randperm(len(grey), generator=rng) < math.floor(spurious * len(grey) + 0.5)
        self.swapped = with_split if split == 'test' else ~with_split
        self.angles = share * max_angle
        red = torch.where(self.swapped, 1 - share, share)
        colour = torch.stack([red, torch.zeros_like(red), 1 - red], 1)[..., None, None]
        images = grey.new_empty(len(grey), 3, *grey.shape[2:])
        for part in torch.arange(len(grey)).split(CHUNK):
            turned = rotated(grey[part].float(), self.angles[part])
            images[part] = (turned * colour[part]).round_().clamp_(0, 255).to(torch.uint8)
        super().__init__(images, share, target='regression')

    def _keep(self, index: Tensor) -> None:
        super()._keep(index)
        self.angles, self.swapped = self.angles[index], self.swapped[index]
