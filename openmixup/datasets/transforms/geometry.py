"""Batch transforms that move pixels: crops, flips, resizing, padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from openmixup.datasets.checks import check_choice
from openmixup.datasets.transforms.base import BatchTransform, check_range, pair
from openmixup.datasets.transforms.boxes import draw_boxes
from openmixup.errors import InputError
from openmixup.policies.transfer import to_device
from openmixup.registry import TRANSFORMS

__all__ = ['Pad', 'RandomCrop', 'RandomFlip', 'RandomResizedCrop', 'Resize']


def _pad(images: Tensor, padding: int, mode: str) -> Tensor:
    """Pad all four sides; also uint8, for which reflection is not implemented on every device."""
    n, c, h, w = images.shape
    if padding == 0:
        return images
    if mode == 'zero':
        padded = images.new_zeros(n, c, h + 2 * padding, w + 2 * padding)
        padded[:, :, padding : padding + h, padding : padding + w] = images
        return padded
    if padding >= min(h, w):
        raise InputError(f'padding={padding} cannot be reflected in images of {h}x{w} pixels; give less than a side.')
    if images.is_floating_point() or images.device.type == 'cpu':
        return F.pad(images, (padding,) * 4, mode='reflect')
    rows, columns = (
        (side - 1) - ((side - 1) - torch.arange(-padding, side + padding, device=images.device).abs()).abs()
        for side in (h, w)
    )
    return images.index_select(2, rows).index_select(3, columns)


@TRANSFORMS.register_module()
class Pad(BatchTransform):
    """Pad all four sides, for example Fashion-MNIST from 28 to 32 pixels with ``padding=2``.

    Args:
        padding: pixels on each side, 0 or more.
        mode: 'zero' or 'reflect' (without repeating the edge).
    """

    def __init__(self, padding: int, mode: str = 'zero') -> None:
        check_choice('mode', mode, ('zero', 'reflect'))
        if padding < 0:
            raise InputError(f'padding={padding}: give 0 or more pixels.')
        self.padding, self.mode = padding, mode

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Pad; (N, C, H, W) -> (N, C, H + 2p, W + 2p), same type."""
        return _pad(images, self.padding, self.mode)


@TRANSFORMS.register_module()
class RandomCrop(BatchTransform):
    """A window of fixed size at a random place of the padded image; every place is equally likely.

    Args:
        size: side, or (height, width), of the window in pixels.
        padding: pixels added to each side first, 0 or more.
        mode: what is added: 'zero' or 'reflect' (without repeating the edge).

    Raises:
        InputError: the window is larger than the padded image.
    """

    def __init__(self, size: int | Sequence[int], padding: int = 4, mode: str = 'zero') -> None:
        self.size = pair('size', size)
        self.pad = Pad(padding, mode)

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Crop; (N, C, H, W) -> (N, C, *size), same type."""
        padded = self.pad.apply(images, None).contiguous()  # reflection keeps the layout channels_last
        n, c, height, width = padded.shape
        h, w = self.size
        if h > height or w > width:
            raise InputError(
                f'size={self.size} is larger than the padded images of {height}x{width}; give a smaller size.'
            )
        rng = self.need(rng)
        places = torch.stack([torch.randint(0, side + 1, (n,), generator=rng) for side in (height - h, width - w)])
        top, left = to_device(images.device, *places)
        # every run of w values in the flat storage is a row of this view, so a window is h rows: copies of whole rows
        # are ten times faster than a gather of single pixels
        plane = torch.arange(n * c, device=images.device) * (height * width)
        first = plane.view(n, c) + (top * width + left)[:, None]
        rows = first[:, :, None] + torch.arange(h, device=images.device) * width
        runs = padded.view(-1).as_strided((max(padded.numel() - w + 1, 0), w), (1, 1))
        return runs.index_select(0, rows.view(-1)).view(n, c, h, w)


@TRANSFORMS.register_module()
class RandomFlip(BatchTransform):
    """Mirror some of the samples left to right.

    Args:
        prob: probability of a sample to be mirrored, 0 to 1.
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise InputError(f'prob={prob}: give a probability from 0 to 1.')
        self.prob = prob

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Flip; shape and type stay."""
        n = len(images)
        flipped = torch.rand(n, generator=self.need(rng)) < self.prob
        (source,) = to_device(images.device, torch.arange(n) + n * flipped)
        return torch.cat([images, images.flip(3)]).index_select(0, source)


@TRANSFORMS.register_module()
class RandomResizedCrop(BatchTransform):
    """A random box of each image, enlarged or reduced to one size, by one ``grid_sample`` for the batch.

    The box is drawn as torchvision's ``RandomResizedCrop`` draws it. There is no antialiasing: meant for images in
    memory that are enlarged or little reduced. At the border of the box the interpolation sees the image beyond it.

    Args:
        size: side, or (height, width), of the result in pixels.
        scale: least and greatest share of the image's area, 0 < low <= high <= 1.
        ratio: least and greatest width / height.
        interpolation: 'bilinear' or 'bicubic' (cubic with a = -0.75, limited to 0..255).
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = 'bilinear',
    ) -> None:
        check_choice('interpolation', interpolation, ('bilinear', 'bicubic'))
        self.size = pair('size', size)
        self.scale, self.ratio = check_range('scale', scale, 1), check_range('ratio', ratio)
        self.interpolation = interpolation

    def draw(self, count: int, height: int, width: int, rng: Generator) -> Tensor:
        """Boxes (count, 4) int64: top, left, height, width; where no try fits, the largest central box of the ratio."""
        boxes, found = draw_boxes(count, (height, width), self.scale, self.ratio, rng)
        low, high = self.ratio
        h = height if width >= low * height else max(1, round(width / low))
        w = width if width <= high * height else max(1, round(height * high))
        central = torch.tensor([(height - h) // 2, (width - w) // 2, h, w])
        return torch.where(found[:, None], boxes, central)

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Crop and resize; (N, C, H, W) -> (N, C, *size), floating point, in the units of the input."""
        height, width = images.shape[2:]
        boxes = self.draw(len(images), height, width, self.need(rng))
        pixels = images if images.is_floating_point() else images.float()
        top, left, h, w = to_device(images.device, *boxes.to(torch.float32)[:, :, None].unbind(1))
        # centres of the output pixels in units of the input's half sides, as align_corners=False reads them
        rows, columns = (
            (torch.arange(side, dtype=torch.float32, device=images.device) + 0.5) / side for side in self.size
        )
        y = (top + h * rows) * (2 / height) - 1
        x = (left + w * columns) * (2 / width) - 1
        grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1).to(pixels.dtype)
        result = F.grid_sample(pixels, grid, mode=self.interpolation, padding_mode='border', align_corners=False)
        return result.clamp_(0, 255) if self.interpolation == 'bicubic' else result


@TRANSFORMS.register_module()
class Resize(BatchTransform):
    """Resize whole images, antialiased.

    Args:
        size: side, or (height, width), of the result in pixels.
        interpolation: 'bilinear' or 'bicubic'.
    """

    def __init__(self, size: int | Sequence[int], interpolation: str = 'bilinear') -> None:
        check_choice('interpolation', interpolation, ('bilinear', 'bicubic'))
        self.size, self.interpolation = pair('size', size), interpolation

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Resize; (N, C, H, W) -> (N, C, *size), same type."""
        if images.shape[2:] == self.size:
            return images
        native = images.is_floating_point() or images.device.type == 'cpu'  # uint8 is done in whole numbers on the CPU
        result = F.interpolate(
            images if native else images.float(), size=self.size, mode=self.interpolation, antialias=True
        )
        if native and images.is_floating_point():
            return result.clamp_(0, 255)
        return result if native else result.round_().clamp_(0, 255).to(images.dtype)
