"""GuidedMixup (Kang and Kim, AAAI 2023)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.guided.greedy_cycle import DISTANCES, far_partners, groups
from openmixup.policies.masks import blended, own_masks
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import PAIRINGS, pair_index, pair_weights, partners
from openmixup.policies.saliency import blur, gradient_saliency, spectral_residual
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['GuidedMixup']

RATES = {'spectral': 0.5, 'gradient': 0.8}  # published probabilities of mixing a batch
LEAST_GROUP = 3
TINY = 1e-20  # added to each pixel: a map of zeros becomes an even one


@POLICIES.register_module()
class GuidedMixup(MixPolicy):
    r"""Blend each pixel by the saliency of both images, of pairs whose salient regions lie far apart.

    With :math:`s` the saliency of an image, blurred and scaled to the sum 1, a pixel shows the share :math:`s_a / (s_a
    + s_b)` of the own image; the labels follow the mean of that share. There is no lam. Where neither image has any
    saliency both show alike.

    Pairs are sought in the batch itself: from the two images whose maps are farthest apart a cycle goes on to the
    farthest image that it has not met yet, until it closes. Images and labels are gathered after that. The cycle needs
    one small step for each image of a group; larger batches are dealt into groups at random.

    The gradient is looked at in eval mode. Spectral maps are computed as :func:`~.saliency.spectral_residual` says.

    Args:
        saliency: 'spectral' for the spectral residual, or 'gradient' for the root mean square over the channels of the
            gradient of the network's loss by the pixels (a pass forward and back), under a Gaussian window of 7 x 7 px.
        prob: probability that a batch is mixed; None: the published one, 0.5 for 'spectral', 0.8 for 'gradient'.
        pairing: 'greedy' as above, or without a look at the maps 'permutation', 'derangement' or 'flip'.
        distance: of two maps: 'l2' (the paper), 'l1' or 'cosine'.
        group: most images in a group, at least 3.
        clean_lam: weight of the loss of the plain images beside that of the mixed ones, which costs a second pass; 0
            leaves it out. Published for 'gradient' on Tiny-ImageNet: 1.
    """

    paper = 'https://arxiv.org/abs/2306.16612'
    operators = 60  # of six images; each further image of a group takes three more

    def __init__(
        self,
        saliency: str = 'spectral',
        prob: float | None = None,
        pairing: str = 'greedy',
        distance: str = 'l2',
        group: int = 128,
        clean_lam: float = 0.0,
    ) -> None:
        super().__init__()
        known = {'saliency': tuple(RATES), 'pairing': ('greedy', *PAIRINGS), 'distance': DISTANCES}
        for name, value in (('saliency', saliency), ('pairing', pairing), ('distance', distance)):
            if value not in known[name]:
                hint = did_you_mean(value, known[name])
                raise InputError(f'GuidedMixup({name}={value!r}){hint}: expected one of {", ".join(known[name])}.')
        if prob is not None and not is_number(prob, 0, 1):
            raise InputError(f'GuidedMixup(prob={prob!r}): expected a probability from 0 to 1, or None.')
        if not is_whole(group, LEAST_GROUP):
            raise InputError(f'GuidedMixup(group={group!r}): expected a whole number of images, at least 3.')
        if not is_number(clean_lam, 0):
            raise InputError(f'GuidedMixup(clean_lam={clean_lam!r}): expected a weight of at least 0.')
        self.saliency, self.prob, self.pairing = saliency, prob, pairing
        self.distance, self.group, self.clean_lam = distance, group, clean_lam

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The input gradient, if that is the saliency."""
        return ('input_grad',) if self.saliency == 'gradient' else ()

    @property
    def rate(self) -> float:
        """Probability that a batch is mixed."""
        return RATES[self.saliency] if self.prob is None else float(self.prob)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Mixed, or as it is; the choice is the same on all ranks."""
        if float(torch.rand((), generator=ctx.shared_rng)) >= self.rate:
            return self.unmixed(batch)
        plan = Plan(batch, (self._view(batch, ctx),), self)
        if self.clean_lam == 0:
            return plan
        return replace(plan, views=(*plan.views, replace(self.unmixed(batch).views[0], share=float(self.clean_lam))))

    def _view(self, batch: Batch, ctx: Context) -> View:
        images, size = batch.images, len(batch)
        maps = self.maps(batch, ctx)
        if self.pairing == 'greedy':
            partner = far_partners(maps.flatten(1), groups(size, self.group, ctx.rng), self.distance)
            (own,) = to_device(images.device, torch.arange(size))
            index = torch.stack([own, partner], 1)
        else:
            (index,) = to_device(images.device, pair_index(partners(self.pairing, size, ctx.rng)))
            partner = index[:, 1]
        with torch.no_grad():
            share = (maps / (maps + maps.index_select(0, partner)))[:, None]
        weight = pair_weights(share.mean((1, 2, 3)), size)
        mixed = blended(images, images.index_select(0, partner), share.to(images.dtype))
        return View(mixed, Mixture(index, weight), lambda: own_masks(share, size))

    @torch.no_grad()
    def maps(self, batch: Batch, ctx: Context) -> Tensor:
        """(N, H, W) float32 saliency of the images, above 0 and summing to 1 each."""
        if self.saliency == 'gradient':
            maps = blur(gradient_saliency(ctx.probe.input_grad(batch.images, batch.labels)))
        else:
            maps = spectral_residual(batch.images, ctx.std)
        maps = maps + TINY
        return maps / maps.sum((1, 2), keepdim=True)
