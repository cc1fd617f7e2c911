"""StackMix (Chen et al., UAI 2022)."""

from __future__ import annotations

import torch

from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import derangement, pair_index
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['StackMix']

LARGER = 'the picture has the size of two images; test_stackmix looks at it'


@POLICIES.register_module()
class StackMix(MixPolicy):
    """Put two whole images below or beside each other and average their labels.

    The picture has twice the height (or width), so a step costs about twice the time, and the network must take images
    of several sizes: a convolutional one that ends in a mean over all places does. There are no masks, which only exist
    for pictures of the size of the images.

    Deviations: the paper tests each image stacked with itself, a learner here tests images as they are, which such a
    network tells apart by the border only. Partners are a derangement of the batch. To augment each half by another
    mixing policy first is not offered. Described from memory but for the idea, not checked against the authors' code.

    Args:
        axis: 'height' puts the partner below the own image, 'width' to its right.
    """

    paper = 'https://arxiv.org/abs/2011.12618'
    exempt = {
        'inputs_are_not_touched': LARGER,
        'nothing_is_read_from_the_device': LARGER,
        'weights_are_sound': LARGER,
        'identical_images_stay_identical': 'an image stacked with itself is a larger one',
        'every_pixel_has_its_turn': 'the own image is the first half, the partner the second',
    }

    def __init__(self, axis: str = 'height') -> None:
        super().__init__()
        if axis not in ('height', 'width'):
            raise InputError(f"StackMix(axis={axis!r}): expected 'height' (below) or 'width' (beside).")
        self.axis = axis

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Draw partners on the CPU, then concatenate."""
        size = len(batch)
        index = pair_index(derangement(size, ctx.rng))
        index, weight = to_device(batch.images.device, index, torch.full((size, 2), 0.5))
        halves = [batch.images, batch.images.index_select(0, index[:, 1])]
        stacked = torch.cat(halves, 2 if self.axis == 'height' else 3)
        return Plan(batch, (View(stacked, Mixture(index, weight)),), self)
