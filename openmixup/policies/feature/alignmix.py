"""AlignMixup (Venkataramanan et al., CVPR 2022)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError
from openmixup.policies.context import Context, Network, unbound
from openmixup.policies.feature.sinkhorn import annealed_plan, plain_plan, similarity
from openmixup.policies.mixture import Batch, Mixture, Tap, View
from openmixup.policies.pairing import pair_index, pair_weights
from openmixup.policies.precision import arithmetic
from openmixup.policies.static.mixup import Mixup
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['AlignMix']


@POLICIES.register_module()
class AlignMix(Mixup):
    """Blend the last feature maps of two samples after one is rearranged to fit the other; labels follow lam.

    The cells of both maps are matched by optimal transport with squared Euclidean cost and an entropy term. A coin for
    each batch says whether the partner's cells move to those of the own map or the other way round. The plan is made
    from the features as they are, not normalised, and carries no gradient; the features do. As in the authors' code,
    another coin says whether the batch is aligned at all or gets Mixup of the pixels. All processes see the same coins.

    Where the mean over all cells follows, as in a ResNet, a plan with exact marginals leaves that mean as it is: then
    alignment of the last stage does the same as a plain blend of it, but for the error of the plan. The plan of the
    authors' code has a large one, since 100 turns at eps = 0.1 are few for distances of hundreds: on features of
    ResNets, untrained and briefly trained, it moved the mean by 0.2 to 0.7 of the distance between the two images. It
    is the default, with all its turns, where the authors stop as soon as a turn changes little: on features of an
    untrained ResNet-18 that was after 10 of 100. With ``annealing=True, iterations=50`` the turns come close to the
    marginals, see :func:`openmixup.policies.feature.sinkhorn.annealed_plan`; behind such a plan a network should not
    take the mean.

    In both cases the shares of the cells that move sum to one in each cell, which the authors' plan does in one of the
    directions. The variant of the paper with an auto-encoder is not here. On a network of tokens all tokens take part,
    the class token among them; the paper has convolutional networks only.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0.
        eps: weight of the entropy, above 0, in units of the squared distance of features.
        iterations: turns of the Sinkhorn algorithm, from 1 on.
        stage: hidden stage that is aligned; -1 is the last one. The plan has as many rows as the map has cells.
        align_prob: probability that a batch is aligned, from 0 to 1.
        annealing: let the temperature of the turns fall to eps; False: eps from the beginning (the authors' code).
        per: 'batch' for one lam a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
    """

    needs = ('tap',)
    paper = 'https://arxiv.org/abs/2103.15375'
    exempt = {'identical_images_stay_identical': 'the entropy blurs cells whose squared distance is below eps'}

    def __init__(
        self,
        alpha: float = 2.0,
        eps: float = 0.1,
        iterations: int = 100,
        stage: int = -1,
        align_prob: float = 0.5,
        annealing: bool = False,
        per: str = 'batch',
        pairing: str = 'permutation',
    ) -> None:
        super().__init__(alpha, per, pairing)
        if not is_number(eps) or eps <= 0:
            raise InputError(f'AlignMix(eps={eps!r}): expected a number above 0; the authors use 0.1.')
        if not is_whole(iterations, 1):
            raise InputError(f'AlignMix(iterations={iterations!r}): expected a whole number from 1 on.')
        if not is_whole(stage):
            raise InputError(f'AlignMix(stage={stage!r}): expected a whole number, -1 for the last hidden stage.')
        if not is_number(align_prob, 0, 1):
            raise InputError(f'AlignMix(align_prob={align_prob!r}): expected a probability from 0 to 1.')
        if not isinstance(annealing, bool):
            raise InputError(f'AlignMix(annealing={annealing!r}): expected True or False.')
        self.eps, self.iterations, self.stage, self.align_prob = eps, iterations, stage, align_prob
        self.annealing = annealing
        self._tapped: tuple[int, int] | None = None  # stage from 0 on, dimension of its channels

    def bind(self, network: Network) -> None:
        """Look up the stage and the layout of its output."""
        stage = network.stage(self.stage, 'AlignMix')
        self._tapped = stage, network.channel_dims[stage]

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """The blended images, or the batch and what to do with the stage."""
        if self._tapped is None:
            raise unbound('AlignMix')
        align, direction = torch.rand(2, generator=ctx.shared_rng).tolist()
        if align >= self.align_prob:
            return super().view(batch, partner, lam, ctx)
        mixture = Mixture(*to_device(batch.images.device, pair_index(partner), pair_weights(lam, len(batch))))
        stage, channel_dim = self._tapped
        function = partial(self.aligned, mixture=mixture, onto_own=direction < 0.5, channel_dim=channel_dim)
        return View(batch.images, mixture, tap=Tap(stage, function))

    def aligned(self, features: Tensor, mixture: Mixture, onto_own: bool, channel_dim: int) -> Tensor:
        """The blend of features with those of their partners, of the same shape.

        Args:
            features: (N, C, H, W), (N, H, W, C) or (N, tokens, C).
            mixture: of two sources a sample.
            onto_own: True if the partner's cells move, False if the own ones do.
            channel_dim: where the channels are, 1 or -1.
        """
        with arithmetic(features.device):
            partner = features.index_select(0, mixture.index[:, 1])
            still, moving = (features, partner) if onto_own else (partner, features)
            share = mixture.weight[:, 0 if onto_own else 1].to(features.dtype)
            here, there = (cells(x.detach(), channel_dim) for x in (still, moving))
            if self.annealing:
                plan = annealed_plan(similarity(here, there, whole=False), self.eps, self.iterations)
            else:  # a turn begins with the own cells
                plan = plain_plan(similarity(here, there), self.eps, self.iterations, rows_first=onto_own)
            plan = plan.to(features.dtype)
            if channel_dim == 1:
                mixed = torch.bmm(moving.flatten(2), plan.mT).lerp_(still.flatten(2), share[:, None, None])
            else:
                mixed = torch.bmm(plan, moving.flatten(1, -2)).lerp_(still.flatten(1, -2), share[:, None, None])
            return mixed.view(features.shape)


def cells(features: Tensor, channel_dim: int) -> Tensor:
    """(N, n, C) cells of a feature map whose channels are in dimension 1 or -1."""
    return features.flatten(2).mT if channel_dim == 1 else features.flatten(1, -2)
