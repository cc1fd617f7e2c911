"""Checks of how often and by which law: probabilities mean what they say (M2)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.policies.base import MaskPolicy, MixPolicy, PairPolicy
from openmixup.policies.pairing import PAIRINGS
from openmixup.testing.beta import beta_cdf, ecdf
from openmixup.testing.report import check, require
from openmixup.testing.scenes import (
    DRAWS,
    SIGMAS,
    amount,
    draws,
    has_partner,
    label_of,
    meets_another,
    mixed_view,
    noise,
    own_weights,
)
from openmixup.testing.stage import is_staged

PAIRING_DRAWS = 300
FIXED_DRAWS = 400  # at each lam
AREA_SLACK = 0.1  # whole rows and columns of 32 pixels, and the cut of the border where a mask hardly ever fits
OTHER_LAW = 'not from Beta(alpha, alpha)'
KS_BOUND = 2.75  # exceeded by sqrt(n) times the Kolmogorov-Smirnov distance once in two million: 5 sigma


def _agrees(hits: int, count: int, rate: float) -> bool:
    """Whether ``hits`` of ``count`` are within 5 sigma of ``rate``, one hit more for what never or always happens."""
    return abs(hits - rate * count) <= SIGMAS * math.sqrt(rate * (1 - rate) * count) + 1


@check
def mixes_at_its_rate(policy: MixPolicy) -> str | None:
    """The share of batches in which any sample has a partner other than itself is ``policy.rate``."""
    count = amount(policy, DRAWS)
    hits = sum(any(has_partner(view) for view in plan.views) for plan in draws(policy, noise(policy, 8, 6, 6), count))
    require(
        _agrees(hits, count, policy.rate),
        f'{hits} of {count} batches were mixed ({hits / count:.3f}), but its rate is {policy.rate:.3f}',
    )
    return None


@check
def members_are_chosen_by_their_probs(policy: MixPolicy) -> str | None:
    """Each member of a composition gets its probability, in each epoch window."""
    members, probs = getattr(policy, 'policies', None), getattr(policy, 'probs', None)
    if members is None or not hasattr(policy, 'probs'):
        return 'not run: it is no choice of policies'
    given = [1 / len(members)] * len(members) if probs is None else list(probs)
    windows = getattr(policy, 'epochs', None) or [(0, None)] * len(members)
    batch, count = noise(policy, 4, 6, 6), amount(policy, DRAWS)
    for epoch in sorted({edge for window in windows for edge in window if edge is not None} | {0}):
        active = [first <= epoch and (end is None or epoch < end) for first, end in windows]
        total = sum(prob for prob, is_on in zip(given, active, strict=True) if is_on)
        chosen: Counter[int] = Counter()
        for plan in draws(policy, batch, count, seed=epoch, epoch=epoch):
            chosen.update(place for place, member in enumerate(members) if plan.chosen in set(member.modules()))
        for place, (prob, is_on) in enumerate(zip(given, active, strict=True)):
            expected = prob / total if is_on and total > 0 else 0.0
            require(
                _agrees(chosen[place], count, expected),
                f'member {place}, {members[place]!r}, was chosen in {chosen[place]} of {count} batches of epoch '
                f'{epoch} ({chosen[place] / count:.3f}), but its probability is {expected:.3f}',
            )
    return None


@check
def lam_follows_its_law(policy: MixPolicy) -> str | None:
    """Lam is drawn from Beta(alpha, alpha), seen from the weights, or from ``draw_lam`` where they are measured.

    A network is not run for it: that the weights follow ``draw_lam`` is another check.
    """
    if 'alpha' not in policy.arguments() or not (policy.label == 'drawn' or isinstance(policy, PairPolicy)):
        return 'not run: it has no alpha, or draws no lam'
    own: Any = policy.alpha
    law = policy.lam_beta if isinstance(policy, PairPolicy) else (own, own)
    if law != (own, own):
        return 'not run: it uses no lam' if law is None else f'not run: lam is drawn from Beta{law}, {OTHER_LAW}'
    for alpha in dict.fromkeys((own, 0.25)):  # Beta(alpha, 1) and others are the same at alpha = 1
        drawn: list[Tensor] = []
        other = type(policy)(**{**policy.arguments(), 'alpha': alpha})
        if other.label == 'drawn' and not (is_staged(other) and isinstance(other, PairPolicy)):
            rows = 8 if getattr(other, 'per', 'batch') == 'sample' else 1
            views = [mixed_view(plan) for plan in draws(other, noise(other, 8, 6, 6), amount(other, DRAWS))]
            drawn = [view.mixture.weight[:rows, 0] for view in views if view.mixture.weight.shape[1] > 1]
            if not drawn:
                return 'not run: it never mixes'
        else:
            assert isinstance(other, PairPolicy)
            generator = torch.Generator().manual_seed(0)
            drawn = [other.draw_lam(8, generator) for _ in range(DRAWS // 8)]
        lam = torch.cat(drawn)
        # A lam too small for the type of the weights is 0 there, but anything down to half the least number in fact.
        eps = torch.finfo(lam.dtype).eps
        least = torch.finfo(lam.dtype).tiny * eps / 2
        lam = lam.double().clamp_min(least).sort().values
        lam[lam >= 1 - eps] = 1.0  # and the greatest number below 1 is anything up to it
        distance = float((ecdf(lam) - beta_cdf(lam, float(alpha))).abs().max())
        bound = KS_BOUND / math.sqrt(len(lam))
        require(
            distance <= bound,
            f'lam is not drawn from Beta({alpha}, {alpha}): Kolmogorov-Smirnov distance {distance:.3f} of {len(lam)} '
            f'draws, at most {bound:.3f} by chance; mean {float(lam.mean()):.3f} instead of 0.5',
        )
    return None


@check
def weights_follow_lam(policy: MixPolicy) -> str | None:
    """With ``draw_lam`` fixed, the own weight rises with lam, and a mask's least own weight is about lam.

    A border that cuts off a part of the mask raises the own weight, so it is the least of many that shows the law.
    """
    if not isinstance(policy, PairPolicy):
        return 'not run: it draws no lam by draw_lam'
    if policy.lam_beta is None:
        return 'not run: it uses no lam'
    batch, fixed, means = noise(policy, 4, 32, 32), (0.1, 0.5, 0.9), []
    for lam in fixed:
        vars(policy)['draw_lam'] = lambda count, rng, lam=lam: torch.full((count,), lam, dtype=torch.float64)
        plans = list(draws(policy, batch, amount(policy, FIXED_DRAWS, places=True), final=True))
        own = torch.cat([own_weights(plan, view)[meets_another(view)] for plan in plans for view in plan.views])
        if not len(own):
            return 'not run: it never mixes'
        means.append(float(own.mean()))
        if label_of(plans[0]) == 'drawn':
            gap = float((own - lam).abs().max())
            require(gap <= 1e-3, f"label = 'drawn', but with lam = {lam} an own weight is off by {gap:.4f}")
        if isinstance(policy, MaskPolicy) and policy.label == 'pixels':
            least = float(own.min())
            require(
                abs(least - lam) <= AREA_SLACK,
                f'with lam = {lam} the own image keeps at least {least:.3f} of the pixels, expected about {lam}',
            )
    require(
        means[0] + 0.02 < means[1] < means[2] - 0.02,
        f'with lam fixed at {", ".join(map(str, fixed))} the own weights are {_rounded(means)} in the mean: they do '
        'not rise with it',
    )
    return None


@check
def partners_follow_the_pairing(policy: MixPolicy) -> str | None:
    """Pairing 'flip' reverses the batch, 'derangement' has no fixed point, and what is drawn is drawn evenly."""
    if 'pairing' not in policy.arguments():
        return 'not run: it has no pairing'
    size, cls = 4, type(policy)
    own = torch.arange(size)
    for kind in PAIRINGS:
        try:
            other: MixPolicy = cls(**{**policy.arguments(), 'pairing': kind})
        except InputError:
            continue
        plans = draws(other, noise(other, size, 8, 8), amount(other, PAIRING_DRAWS))
        views = [mixed_view(plan) for plan in plans]
        index = [view.mixture.index for view in views if view.mixture.index.shape[1] == 2]
        found = [pair.sum(1) - own for pair in index if bool(pair.eq(own[:, None]).any(1).all())]
        if not found:
            return 'not run: its samples are no pairs of themselves and another'
        partner = torch.stack(found)
        if kind == 'flip':
            odd = (partner != own.flip(0)).any(1).nonzero()
            first = partner[odd[0, 0]].tolist() if len(odd) else []
            require(not len(odd), f"pairing='flip', but the partners of {size} samples are {first}")
            continue
        met = torch.nn.functional.one_hot(partner, size).sum(0)  # (sample, partner)
        for sample in range(size):
            for other_sample in range(size):
                hits, alone = int(met[sample, other_sample]), sample == other_sample
                rate = 1 / size if kind == 'permutation' else (0 if alone else 1 / (size - 1))
                require(
                    hits == 0 if rate == 0 else _agrees(hits, len(found), rate),
                    f'pairing={kind!r}, but in {hits} of {len(found)} draws the partner of sample {sample} of {size} '
                    f'is {other_sample}, expected {rate * len(found):.0f}',
                )
    return None


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]
