"""SamplePairing (Inoue, 2018)."""

from __future__ import annotations

from typing import Any

import torch

from openmixup.checks import is_whole
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import derangement, pair_index
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['SamplePairing']


@POLICIES.register_module()
class SamplePairing(MixPolicy):
    """Average two images and keep the label of the own one: mixed = (own + partner) / 2.

    The partner counts with weight 0, so labels are wrong on purpose, and training error stays high while it is on. The
    paper therefore trains without it first, then switches it on and off, and ends without it: from memory, of 1000
    epochs for CIFAR the first 100 and the last 200 are plain, and in between 8 of every 10 epochs are paired, which is
    ``SamplePairing(window=(100, 800), cycle=(8, 2))``. The default pairs in every epoch.

    Partners are a derangement of the batch, so that none is averaged with itself; the paper draws from the whole set.

    Args:
        window: (first, end): it pairs in epochs from first up to but not including end; end None for ever.
        cycle: (on, off): in the window, so many epochs with and then so many without, again and again.
    """

    label = 'semantic'
    paper = 'https://arxiv.org/abs/1801.02929'
    exempt = {'label_equals_pixels': 'half of what is shown is the partner, whose label is left out on purpose'}

    def __init__(self, window: tuple[int, int | None] = (0, None), cycle: tuple[int, int] = (1, 0)) -> None:
        super().__init__()
        first, end = window if _is_pair(window) else (-1, None)
        if not is_whole(first, 0) or not (end is None or is_whole(end, first + 1)):
            raise InputError(
                f'SamplePairing(window={window!r}): expected (first, end) with 0 <= first < end, or end None.'
            )
        if not _is_pair(cycle) or not is_whole(cycle[0], 1) or not is_whole(cycle[1], 0):
            raise InputError(
                f'SamplePairing(cycle={cycle!r}): expected (on, off), one epoch with it or more and any number without.'
            )
        self.window, self.cycle = window, cycle

    @property
    def rate(self) -> float:
        """1 if it pairs in epoch 0, else 0."""
        return float(self._is_on(0))

    def _is_on(self, epoch: int) -> bool:
        (first, end), (on, off) = self.window, self.cycle
        return first <= epoch and (end is None or epoch < end) and (epoch - first) % (on + off) < on

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Draw partners on the CPU, then average; one kernel gathers, scales and sums."""
        if not self._is_on(ctx.epoch):
            return self.unmixed(batch)
        images, size = batch.images, len(batch)
        weight = torch.tensor([1.0, 0.0]).repeat(size, 1)
        index = pair_index(derangement(size, ctx.rng))
        index, weight, half = to_device(images.device, index, weight, torch.full((size, 2), 0.5))
        mixed = Mixture(index, half).of(batch.source_images)
        view = View(mixed, Mixture(index, weight), lambda: half[..., None, None].expand(-1, -1, *images.shape[-2:]))
        return Plan(batch, (view,), self)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2
