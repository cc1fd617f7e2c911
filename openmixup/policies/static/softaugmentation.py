"""Soft Augmentation (Liu et al., CVPR 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['SoftAugmentation']


@POLICIES.register_module()
class SoftAugmentation(MixPolicy):
    r"""Shift each image partly out of sight, and trust its label the less, the less of it is left.

    Shifts along both sides are normal draws, without those of more than a side, cut to whole pixels. Of the visible
    share v follows the confidence :math:`p = 1 - (1 - p_{min}) (1 - v)^k`, which is the weight of the label.

    The weights of a sample sum to p, since no source is of the other classes. With ``ConfidenceCrossEntropy`` the
    remainder 1 - p goes to these, and the loss is weighed by p: the authors' default. With ``SoftCrossEntropy`` it is p
    times the loss of the hard label, their variant 'weight'. With a sigmoid loss the target is p and that of all other
    classes 0. Regression targets keep the weight 1.

    What comes into sight is 0, the mean colour of normalised images; the authors add one normal draw of deviation 0.01
    for the image. The defaults are their CIFAR-100 setting, in which the last 20 of 500 epochs are without shifts:
    ``RandomChoice([SoftAugmentation()], epochs=[(0, 480)])``.

    Args:
        sigma: deviation of the shifts as a share of the side, at least 0; 12 of 32 pixels are 0.375.
        power: k, above 0; the larger, the longer the label is trusted.
        chance: p_min, confidence of an image that is out of sight, in [0, 1); one over the number of classes.
    """

    label = 'semantic'
    normalised = False
    paper = 'https://arxiv.org/abs/2211.04625'
    exempt = {
        'identical_images_stay_identical': 'each image is shifted by itself',
        'pixels_stay_in_place': 'images are shifted',
    }

    def __init__(self, sigma: float = 0.375, power: float = 2.0, chance: float = 0.01) -> None:
        super().__init__()
        if not is_number(sigma, 0):
            raise InputError(
                f'SoftAugmentation(sigma={sigma!r}): expected a number of at least 0, a share of the side; 12 of 32 '
                'pixels are 0.375.'
            )
        if not is_number(power) or power <= 0:
            raise InputError(f'SoftAugmentation(power={power!r}): expected a number above 0; the paper has 2.')
        if not is_number(chance) or not 0 <= chance < 1:
            raise InputError(
                f'SoftAugmentation(chance={chance!r}): expected a number from 0 to below 1, one over the number of '
                'classes.'
            )
        self.sigma, self.power, self.chance = sigma, power, chance

    @property
    def rate(self) -> float:
        """Nothing is mixed."""
        return 0.0

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The shifted images, with one row and one column index for each output pixel."""
        images, size = batch.images, batch.images.shape[-2:]
        shifts = self.shifts(len(batch), size, ctx.rng)
        weight = torch.ones(len(batch), 1) if batch.target == 'regression' else self.confidence(shifts, size)
        places, seen = zip(*(_side(shifts[:, side], size[side], images.dtype) for side in (0, 1)), strict=True)
        index, weight, down, across, rows, columns = to_device(
            images.device, torch.arange(len(batch))[:, None], weight, *places, *seen
        )
        kept = rows[:, None, :, None] * columns[:, None, None, :]
        pixels = torch.add(across[:, None, :], down[:, :, None], alpha=size[1]).flatten(1)[:, None]
        moved = images.flatten(2).gather(2, pixels.expand(-1, images.shape[1], -1)).view(images.shape) * kept
        return Plan(batch, (View(moved, Mixture(index, weight), lambda: kept),), self)

    def shifts(self, count: int, size: Sequence[int], rng: torch.Generator) -> Tensor:
        """(count, 2) int64 shifts down and across, of normal draws between minus and plus a side."""
        draw = torch.rand(count, 2, generator=rng, dtype=torch.float64)
        if self.sigma == 0:
            return torch.zeros(count, 2, dtype=torch.int64)
        tail = math.erfc(1 / (self.sigma * math.sqrt(2))) / 2  # what is left out on each side of the normal law
        share = torch.special.ndtri(tail + (1 - 2 * tail) * draw) * self.sigma
        return (share.clamp(-1, 1) * torch.tensor(size)).long()

    def confidence(self, shifts: Tensor, size: Sequence[int]) -> Tensor:
        """(N, 1) float32 p of ``shifts`` (N, 2) of images of ``size`` (H, W)."""
        visible = (1 - shifts.abs() / torch.tensor(size, dtype=torch.float64)).prod(1, keepdim=True)
        return (1 - (1 - self.chance) * (1 - visible) ** self.power).float()


def _side(shift: Tensor, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(N, length) pixel of the image that each output pixel shows, and 1 where there is one, else 0."""
    at = torch.arange(length) + shift[:, None]
    place = at.clamp(0, length - 1)
    return place, (place == at).to(dtype)
