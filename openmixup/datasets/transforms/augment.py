"""RandAugment of a whole batch on its device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from openmixup.checks import is_whole
from openmixup.datasets.checks import check_choice
from openmixup.datasets.transforms import operations as op
from openmixup.datasets.transforms.base import BatchTransform
from openmixup.errors import InputError
from openmixup.policies.transfer import to_device
from openmixup.registry import TRANSFORMS

__all__ = ['RandAugment']

_FIXMATCH = (
    'AutoContrast', 'Brightness', 'Color', 'Contrast', 'Equalize', 'Identity', 'Posterize', 'Rotate', 'Sharpness',
    'ShearX', 'ShearY', 'Solarize', 'TranslateX', 'TranslateY',
)  # fmt: skip
_TIMM = (*(name for name in _FIXMATCH if name != 'Identity'), 'Invert', 'SolarizeAdd')
_WARPS = ('Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY')
_TABLES = ('Brightness', 'Invert', 'Posterize', 'Solarize', 'SolarizeAdd')
_BLENDS = {'Color': op.color, 'Contrast': op.contrast, 'Sharpness': op.sharpness}
_PLAIN = {'AutoContrast': op.autocontrast, 'Equalize': op.equalize}
_TOP = 10.0  # magnitudes run from 0 to this


@TRANSFORMS.register_module()
class RandAugment(BatchTransform):
    """A few random image operations for each sample, all with about one strength.

    Source: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", NeurIPS
    2020. Strengths and probabilities are those of timm's ``rand-...-inc1``, where each operation grows stronger with
    the magnitude m of 0..10: rotation by 3 m degrees, shear by 0.03 m, shift by 4.5 m percent of a side (these three
    to either side), colour, contrast, brightness and sharpness by a factor 1 - 0.09 m or 1 + 0.09 m of at least 0.1,
    posterizing to 4 - [0.4 m] bits (at least 1), solarizing from 256 - [25.6 m], and 11 m added below 128.

    Images of (N, C, H, W) with one or three channels are handled as PIL handles them one by one; samples that drew
    related operations are computed together. Floating-point images are rounded to whole values first. For image files,
    ``SampleCrop(augment=...)`` has timm's own in the worker processes instead.

    Args:
        num_ops: operations one after the other, 0 or more; the same one may be drawn again.
        magnitude: mean magnitude, 0 to 10.
        magnitude_std: standard deviation of the magnitude, drawn for each sample and operation and cut to 0..10.
        prob: probability of each operation to be applied, 0 to 1.
        operations: 'timm' (15 operations), 'fixmatch' (the 14 of FixMatch, Sohn et al. 2020, which are those of the
            paper: with Identity, without Invert and SolarizeAdd), or their names.
        fill: value beyond the image after a rotation, shear or shift, in units of 0..255: one, or one per channel.
        interpolation: 'bilinear' or 'bicubic' (cubic with a = -0.75), for these.

    Raises:
        InputError: a value out of its range, or an unknown operation.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: float = 9,
        magnitude_std: float = 0.5,
        prob: float = 0.5,
        operations: str | Sequence[str] = 'timm',
        fill: float | Sequence[float] = 128,
        interpolation: str = 'bilinear',
    ) -> None:
        check_choice('interpolation', interpolation, ('bilinear', 'bicubic'))
        if not is_whole(num_ops, 0):
            raise InputError(f'num_ops={num_ops!r}: give a whole number of at least 0.')
        if not 0 <= magnitude <= _TOP or not 0 <= magnitude_std < math.inf:
            raise InputError(
                f'magnitude={magnitude}, magnitude_std={magnitude_std}: give a magnitude from 0 to 10 and a deviation '
                'of at least 0.'
            )
        if not 0 <= prob <= 1:
            raise InputError(f'prob={prob}: give a probability from 0 to 1.')
        if isinstance(operations, str):
            check_choice('operations', operations, ('timm', 'fixmatch'))
            operations = _TIMM if operations == 'timm' else _FIXMATCH
        if not operations:
            raise InputError('operations=() leaves nothing to draw from: name at least one, or use num_ops=0.')
        for name in operations:
            check_choice('operations', name, tuple(sorted({*_TIMM, *_FIXMATCH})))
        values = tuple(fill) if isinstance(fill, Sequence) else (fill,)
        if not values or any(not 0 <= value <= 255 for value in values):
            raise InputError(f'fill={fill!r}: give a value of 0..255, or one per channel.')
        self.num_ops, self.magnitude, self.magnitude_std, self.prob = num_ops, magnitude, magnitude_std, prob
        self.operations, self.interpolation = tuple(operations), interpolation
        self._fill = torch.tensor(values, dtype=torch.float32)

    def apply(self, images: Tensor, rng: Generator | None) -> Tensor:
        """Augment; shape and type stay."""
        rng = self.need(rng)
        if len(self._fill) not in (1, images.shape[1]):
            raise InputError(
                f'fill has {len(self._fill)} values and the images have {images.shape[1]} channels; give one, or one '
                'per channel.'
            )
        draws = [self._draw(len(images), rng) for _ in range(self.num_ops)]
        if not draws:
            return images
        pixels = images if images.dtype == torch.uint8 else images.round().clamp_(0, 255).to(torch.uint8)
        for chosen, level, sign in draws:
            pixels = self._layer(pixels, chosen, level, sign)
        return pixels.to(images.dtype)

    def _draw(self, count: int, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """One operation for each sample: its number (-1: none), its magnitude, and the side it goes to, -1 or 1."""
        chosen = torch.randint(0, len(self.operations), (count,), generator=rng)
        skipped = torch.rand(count, generator=rng) >= self.prob
        spread = torch.randn(count, generator=rng, dtype=torch.float64) * self.magnitude_std
        sign = torch.randint(0, 2, (count,), generator=rng) * 2 - 1
        return chosen.masked_fill(skipped, -1), (self.magnitude + spread).clamp_(0, _TOP), sign

    def _layer(self, images: Tensor, chosen: Tensor, level: Tensor, sign: Tensor) -> Tensor:
        """Apply one drawn operation to each sample of a uint8 batch."""
        drawn = {name: (chosen == number).nonzero()[:, 0] for number, name in enumerate(self.operations)}
        drawn = {name: members for name, members in drawn.items() if len(members) and name != 'Identity'}
        # (function, samples, further arguments), all still on the CPU
        jobs: list[tuple[Callable[..., Tensor], Tensor, tuple[Tensor, ...]]] = []
        size = (images.shape[2], images.shape[3])
        moves = [(m, _matrices(name, level[m], sign[m], *size)) for name, m in drawn.items() if name in _WARPS]
        if moves:
            samples, matrices = (torch.cat(part) for part in zip(*moves, strict=True))
            jobs.append((self._warp, samples, (matrices, self._fill)))
        points = [(m, _tables(name, level[m], sign[m])) for name, m in drawn.items() if name in _TABLES]
        if points:
            samples, tables = (torch.cat(part) for part in zip(*points, strict=True))
            jobs.append((op.apply_tables, samples, (tables,)))
        for name, members in drawn.items():
            if name in _BLENDS:
                jobs.append((_BLENDS[name], members, (_factors(level[members], sign[members]),)))
            elif name in _PLAIN:
                jobs.append((_PLAIN[name], members, ()))
        if not jobs:
            return images
        placed = iter(to_device(images.device, *(tensor for _, samples, more in jobs for tensor in (samples, *more))))
        result = images.clone(memory_format=torch.contiguous_format)
        for function, _, more in jobs:
            samples = next(placed)
            part = images.index_select(0, samples).contiguous()
            result.index_copy_(0, samples, function(part, *(next(placed) for _ in more)))
        return result

    def _warp(self, images: Tensor, matrices: Tensor, fill: Tensor) -> Tensor:
        return op.warp(images, matrices, fill, self.interpolation)


def _factors(level: Tensor, sign: Tensor) -> Tensor:
    """(N,) float32: how much of the image a blend keeps; 1 changes nothing."""
    return (1 + 0.09 * level * sign).clamp_(min=0.1).float()


def _tables(name: str, level: Tensor, sign: Tensor) -> Tensor:
    """(N, 256) uint8 of the samples that drew ``name``."""
    if name == 'Brightness':
        return op.brightness_tables(_factors(level, sign))
    if name == 'Posterize':
        return op.posterize_tables((4 - (level * 0.4).long()).clamp_(min=1))
    if name == 'Solarize':
        return op.solarize_tables(256 - (level * 25.6).long())
    if name == 'SolarizeAdd':
        return op.solarize_add_tables((level * 11).long())
    return op.invert_tables(len(level))


def _matrices(name: str, level: Tensor, sign: Tensor, height: int, width: int) -> Tensor:
    """(N, 2, 3) float32 of the samples that drew ``name``; see :func:`operations.warp`."""
    matrix = torch.eye(2, 3, dtype=torch.float64).repeat(len(level), 1, 1)
    strength = level * sign
    if name == 'ShearX':
        matrix[:, 0, 1] = strength * 0.03
    elif name == 'ShearY':
        matrix[:, 1, 0] = strength * 0.03
    elif name == 'TranslateX':
        matrix[:, 0, 2] = strength * (0.045 * width)
    elif name == 'TranslateY':
        matrix[:, 1, 2] = strength * (0.045 * height)
    else:
        cosine, sine = torch.cos(torch.deg2rad(3 * strength)), torch.sin(torch.deg2rad(3 * strength))
        matrix[:, 0] = torch.stack([cosine, -sine, (width - cosine * width + sine * height) / 2], 1)
        matrix[:, 1] = torch.stack([sine, cosine, (height - sine * width - cosine * height) / 2], 1)
    return matrix.float()
