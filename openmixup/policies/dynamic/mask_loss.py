"""The term that keeps learned masks true to the drawn lam."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError, did_you_mean

__all__ = ['MaskLoss']

KINDS = ('l1', 'l1_variance', 'l2_variance', 'sparsity')
SCHEDULES = ('constant', 'cosine', 'early')


@dataclass(frozen=True)
class MaskLoss:
    """A loss of masks, with a weight that may fall over the run.

    With mu the mean of the mask and var its variance over the pixels:

    * 'l1': max(abs(mu - lam) - margin, 0);
    * 'l1_variance': the same - 2 var, which rewards contrast;
    * 'l2_variance': max((mu - lam)^2 - margin^2, 0) - 2 var (the place of the margin is a reconstruction);
    * 'sparsity': max(mean(m (1 - m)) - margin, 0), which rewards values near 0 and 1 and does not look at lam.

    The weight is a closed form of the position in the run:

    * 'constant': the same throughout;
    * 'cosine': falls from the weight to 0 by half a cosine wave;
    * 'early': emulates a fault of an older toolbox, whose scheduler took the weight of the last step for the base of
      the next one. The factors (1 + cos(pi t / T)) / 2 of the cosine wave then multiply up to the product of
      cos(pi s / 2T)^2 over all steps s up to t, which is next to 0 after a few percent of a run: after 2 of 100 epochs
      on ImageNet. Figures published for 224 pixels were probably reached with it. The sum of the logarithms is
      computed by its series, to about 0.001 of the weight from 100 steps on.

    Args:
        kind: which of the four losses.
        weight: its weight at the start, at least 0; 0 leaves it out.
        margin: deviation that costs nothing, in [0, 1).
        per: 'batch' for mu, lam and var of the whole batch (the authors' code: single samples may deviate freely);
            'sample' for each sample, then the mean.
        schedule: 'constant', 'cosine' or 'early'.

    Raises:
        InputError: an argument is out of its range.
    """

    kind: str = 'l1'
    weight: float = 0.1
    margin: float = 0.1
    per: str = 'batch'
    schedule: str = 'constant'

    def __post_init__(self) -> None:
        choices = (('kind', KINDS), ('per', ('batch', 'sample')), ('schedule', SCHEDULES))
        for name, known in choices:
            value = getattr(self, name)
            if value not in known:
                hint = did_you_mean(value, known)
                raise InputError(f'mask_loss=dict({name}={value!r}): expected one of {", ".join(known)}{hint}.')
        for name, limit in (('weight', math.inf), ('margin', 1)):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < limit:
                raise InputError(f'mask_loss=dict({name}={value!r}): expected a number in [0, {limit}).')

    def __call__(self, own: Tensor, lam: Tensor) -> Tensor:
        """() the loss without its weight.

        Args:
            own: (N, 1, H, W) share of the own image.
            lam: (N,) drawn share of the own image.
        """
        if self.per == 'batch':
            pixels, lam = own.reshape(1, -1), lam.mean(0, keepdim=True)
        else:
            pixels = own.flatten(1)
        if self.kind == 'sparsity':
            return ((pixels * (1 - pixels)).mean(1) - self.margin).relu().mean()
        if self.kind == 'l1':
            return ((pixels.mean(1) - lam).abs() - self.margin).relu().mean()
        variance, mean = torch.var_mean(pixels, 1, correction=0)
        gap = mean - lam
        kept = gap.square() - self.margin**2 if self.kind == 'l2_variance' else gap.abs() - self.margin
        return (kept.relu() - 2 * variance).mean()

    def weight_at(self, progress: float, step: int) -> float:
        """The weight at a position in the run.

        Args:
            progress: share of the run that is done, in [0, 1].
            step: steps done; together with ``progress`` it tells the length of the run.
        """
        if self.schedule == 'constant':
            return self.weight
        if self.schedule == 'cosine':
            return self.weight * (1 + math.cos(math.pi * progress)) / 2
        x = math.pi * progress / 2
        # 2 log cos(u) = -u^2 - u^4/6 - 2u^6/45 - ..., summed over the steps up to this one, as the integral over u and
        # half of the last term (trapezium)
        total = step * (x**2 / 3 + x**4 / 30 + 2 * x**6 / 315) + (x**2 + x**4 / 6 + 2 * x**6 / 45) / 2
        return self.weight * math.exp(-total)
