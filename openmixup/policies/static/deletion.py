"""The base of policies that delete pixels and mix nothing."""

from __future__ import annotations

from torch import Tensor

from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Plan, View

__all__ = ['DeletePolicy']


class DeletePolicy(MixPolicy):
    """Sets pixels of each image to 0, the mean colour of normalised images; labels stay. A subclass says which.

    Nothing is mixed, so ``rate`` is 0, and each sample has one source, itself, with weight 1. Each image gets holes of
    its own. As of any policy, a batch of one without a bank stays as it is.
    """

    label = 'semantic'
    exempt = {
        'identical_images_stay_identical': 'what is deleted is no longer there',
        'masks_equal_the_picture': 'a deleted pixel shows no source, so its masks do not sum to one',
    }

    @property
    def rate(self) -> float:
        """Nothing is mixed."""
        return 0.0

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The batch without the deleted pixels."""
        kept = self.kept(batch, ctx)
        own = self.unmixed(batch).views[0].mixture
        view = View(batch.images * kept, own, lambda: kept.expand(len(batch), -1, -1, -1))
        return Plan(batch, (view,), self)

    def kept(self, batch: Batch, ctx: Context) -> Tensor:
        """(1 or N, 1, H, W) of the images' type and device: 1 where pixels stay, 0 where they are deleted."""
        raise NotImplementedError(f'{type(self).__name__} must write kept(batch, ctx)')
