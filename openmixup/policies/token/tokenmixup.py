"""TokenMixup (Choi et al., NeurIPS 2022), its horizontal part."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context, Network, unbound
from openmixup.policies.feature.sinkhorn import annealed_plan
from openmixup.policies.mixture import Batch, Mixture, Plan, Tap, View
from openmixup.policies.pairing import pair_weights
from openmixup.policies.precision import arithmetic
from openmixup.policies.tokens import enlarged
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['TokenMixup', 'assigned', 'difficulty', 'gains', 'mixed_tokens']

SALIENCY = ('rollout', 'attention', 'received')
TURNS, COLDEST = 30, 1e-4  # of the assignment; gains lie between 0 and 1
ROUNDS = 8  # of mutual choices, after which hardly any sample is left


@POLICIES.register_module()
class TokenMixup(MixPolicy):
    r"""Replace hidden tokens by those of another sample where that one is more salient, in samples that are easy.

    A sample is easy if :math:`\frac12 \|p - y\|_1 \le \tau`, with p the predicted probabilities and y the label: of a
    class, if the network gives it at least :math:`1 - \tau`. The others stay as they are and are nobody's partner. With
    :math:`S_i` the saliency of the patches of sample i, of the sum 1, partners are the permutation :math:`\sigma` of
    the easy samples with the greatest sum of the gains :math:`\sum_t \max(0, S_{\sigma(i)t} - S_{it} - \rho)`.
    Behind one block, token t of sample i becomes that of its partner where :math:`S_{\sigma(i)t} > S_{it} + \rho`;
    tokens before the patches stay. The weight of each of the two is the sum of the saliency of its tokens that are
    there, over that of both.

    Written from memory of the paper, not checked against the authors' code. Sure are the steps: only easy samples,
    saliency from attention, an optimal assignment, labels by saliency. Unsure are the forms of the difficulty and of
    the gain, and the defaults of tau, rho and stage are choices of this implementation. Deviations: difficulty and
    saliency come from a pass of the clean batch in eval mode without gradient, by the classifier itself and by
    attention up to the class token of the last block. The authors train a small network at the hidden layer to say what
    is easy, and look at attention on the way, so that they need no further pass. Their exact assignment is done on the
    host; here it is made on the device by Sinkhorn's algorithm with a falling temperature, whose plan is rounded by
    mutual choice. Vertical TokenMixup, by which attention also sees salient tokens of earlier blocks, is left out,
    since it changes the network rather than the batch. Nothing is drawn at random.

    Args:
        tau: greatest difficulty of a sample that is mixed, from 0 to 1; 1 mixes all.
        rho: by how much the partner's token must be more salient, at least 0; the mean saliency is one over the number
            of patches.
        stage: block behind which tokens are replaced, counted from 0; a negative one counts from the last.
        saliency: 'rollout' for the share of each patch in the class token by the attention of all blocks, 'attention'
            for the class token's attention in the last block, or 'received' for what a patch gets from all patches
            there.
    """

    needs = ('attention', 'tap')
    label = 'semantic'
    operators = 450
    paper = 'https://arxiv.org/abs/2210.07562'
    exempt = {
        'draws_come_from_the_generator': 'nothing is drawn: partners and tokens follow from the saliency',
        'mixes_at_its_rate': 'it mixes what the network finds easy, which is nothing for an untrained one',
    }

    def __init__(self, tau: float = 0.5, rho: float = 0.005, stage: int = 1, saliency: str = 'rollout') -> None:
        super().__init__()
        for name, value, most in (('tau', tau, 1), ('rho', rho, math.inf)):
            if not is_number(value, 0, most):
                span = 'from 0 to 1' if most == 1 else 'of at least 0'
                raise InputError(f'TokenMixup({name}={value!r}): expected a number {span}.')
        if not is_whole(stage):
            raise InputError(f'TokenMixup(stage={stage!r}): expected a whole number, -1 for the last block.')
        if saliency not in SALIENCY:
            hint = did_you_mean(saliency, SALIENCY)
            raise InputError(f'TokenMixup(saliency={saliency!r}){hint}: expected one of {", ".join(SALIENCY)}.')
        self.tau, self.rho, self.stage, self.saliency = tau, rho, stage, saliency
        self._tapped: int | None = None  # stage from 0 on

    def bind(self, network: Network) -> None:
        """Look up the block.

        Raises:
            InputError: the network has no such block or drops patches, or the labels are neither classes nor soft.
        """
        if network.target not in ('class', 'soft'):
            raise InputError(
                f'TokenMixup mixes what a network finds easy to classify, but the target is {network.target}: expected '
                'class indices or soft labels.'
            )
        network.check_patches('TokenMixup')
        self._tapped = network.stage(self.stage, 'TokenMixup')

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Look at the clean batch, assign partners, and say what becomes of the tokens."""
        if len(batch) < 2:
            return self.unmixed(batch)
        if self._tapped is None:
            raise unbound('TokenMixup')
        looked: Any = ctx.probe.look(batch.images, (self.saliency,))
        (own,) = to_device(batch.images.device, torch.arange(len(batch)))
        with torch.no_grad():
            maps = getattr(looked, self.saliency).float()
            maps = maps.mean(1) if maps.ndim == 4 else maps  # of the heads
            saliency = maps.flatten(1) / maps.sum((1, 2))[:, None]
            easy = difficulty(looked.logits, batch) <= self.tau
            partner = assigned(gains(saliency, self.rho), easy, own)
            theirs = saliency.index_select(0, partner)
            kept = (theirs <= saliency + self.rho).float()
            share = (saliency * kept).sum(1)
            share = share / (share + (theirs * (1 - kept)).sum(1))
        mixture = Mixture(torch.stack([own, partner], 1), pair_weights(share, len(batch)))
        function = partial(mixed_tokens, partner=partner, kept=kept.view(maps.shape))
        return Plan(batch, (View(batch.images, mixture, tap=Tap(self._tapped, function)),), self)


def difficulty(logits: Tensor, batch: Batch) -> Tensor:
    """(N,) float32 from 0 to 1: half the sum over the classes of how far prediction and label are apart.

    Args:
        logits: (N, C).
        batch: of N images with classes or soft labels.
    """
    predicted, labels = logits.float().softmax(1), batch.labels
    assert labels is not None
    if batch.target == 'class':
        return 1 - predicted.gather(1, labels.long()[:, None])[:, 0]
    return (predicted - labels).abs().sum(1) / 2


def gains(saliency: Tensor, rho: float) -> Tensor:
    """(N, N) float32, in row i and column j the sum over the patches of ``max(0, S[j] - S[i] - rho)``.

    As all rows of ``S`` have the sum 1, the sum of a difference follows from that of its absolute value, and so no
    (N, N, patches) tensor is made.

    Args:
        saliency: (N, patches) float32, each row of the sum 1.
        rho: at least 0.
    """
    with arithmetic(saliency.device):
        apart = torch.cdist(saliency + rho, saliency, 1.0)
    return (apart - rho * saliency.shape[1]).div_(2).clamp_(min=0)


def assigned(gain: Tensor, easy: Tensor, own: Tensor) -> Tensor:
    """(N,) int64 partner of each sample: a permutation, in which the easy ones are dealt to each other.

    On the device, without a read: the transport plan of Sinkhorn's algorithm at a low temperature is nearly a
    permutation. Its entries that are the greatest of their row and of their column are taken and their rows and columns
    struck, eight times; the few samples that are left get each other in order, and may get themselves. For random maps
    of 3 to 128 samples the sum of the gains was 98 to 100 % of the greatest possible in the mean, at worst 87 %, for 8.

    Args:
        gain: (N, N) float32 in [0, 1], of each sample in the rows by each partner.
        easy: (N,) bool; the others are their own partners.
        own: (N,) 0 to N - 1 on the same device.
    """
    apart = ~(easy[:, None] & easy) | (own[:, None] == own)
    plan = annealed_plan(gain.masked_fill(apart, -0.5)[None], COLDEST, TURNS)[0].masked_fill_(apart, -1.0)
    partner = own.clone()
    left_rows, left_columns = easy, easy
    for _ in range(ROUNDS):
        best, column = plan.max(1)
        chosen_by = plan.argmax(0)
        mutual = (chosen_by.gather(0, column) == own) & (best >= 0)
        partner = torch.where(mutual, column, partner)
        taken = torch.zeros_like(own).scatter_add_(0, column, mutual.long()) > 0
        left_rows, left_columns = left_rows & ~mutual, left_columns & ~taken
        plan = plan.masked_fill(mutual[:, None] | taken, -1.0)
    rows, columns = (left.to(torch.uint8).argsort(descending=True, stable=True) for left in (left_rows, left_columns))
    return torch.where(left_rows, torch.empty_like(own).scatter_(0, rows, columns), partner)


def mixed_tokens(hidden: Tensor, partner: Tensor, kept: Tensor) -> Tensor:
    """Hidden tokens (N, tokens, C), or a map (N, C, H, W), with those of the partners where ``kept`` is 0.

    Args:
        hidden: of each sample.
        partner: (N,) int64.
        kept: (N, h, w) 1 where the own token stays, else 0. Tokens before these patches stay.
    """
    if hidden.ndim == 4:
        stays = enlarged(kept, hidden)[:, None]
    else:
        stays = F.pad(kept.flatten(1), (hidden.shape[1] - kept[0].numel(), 0), value=1.0)[..., None]
    return torch.where(stays > 0, hidden, hidden.index_select(0, partner))
