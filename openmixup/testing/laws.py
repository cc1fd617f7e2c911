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
from openmixup.testing.report import check, require
from openmixup.testing.scenes import (
    SIGMAS,
    draws,
    has_partner,
    meets_another,
    mixed_view,
    origin_images,
    random_images,
    scattered,
    shares,
)

DRAWS = 600
PAIRING_DRAWS = 400
AREA_SLACK = 0.1  # whole rows and columns of 32 pixels, and the cut of the border where a mask hardly ever fits
KS_BOUND = 2.75  # exceeded by sqrt(n) times the Kolmogorov-Smirnov distance once in two million: 5 sigma


def _agrees(hits: int, count: int, rate: float) -> bool:
    """Whether ``hits`` of ``count`` are within 5 sigma of ``rate``, one hit more for what never or always happens."""
    return abs(hits - rate * count) <= SIGMAS * math.sqrt(rate * (1 - rate) * count) + 1


@check
def mixes_at_its_rate(policy: MixPolicy) -> str | None:
    """The share of batches in which any sample has a partner other than itself is ``policy.rate``."""
    images = random_images(8, 6, 6)
    hits = sum(any(has_partner(view) for view in plan.views) for plan in draws(policy, images, DRAWS))
    require(
        _agrees(hits, DRAWS, policy.rate),
        f'{hits} of {DRAWS} batches were mixed ({hits / DRAWS:.3f}), but its rate is {policy.rate:.3f}',
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
    for epoch in sorted({edge for window in windows for edge in window if edge is not None} | {0}):
        active = [first <= epoch and (end is None or epoch < end) for first, end in windows]
        total = sum(prob for prob, is_on in zip(given, active, strict=True) if is_on)
        chosen: Counter[int] = Counter()
        for plan in draws(policy, random_images(4, 6, 6), DRAWS, seed=epoch, epoch=epoch):
            chosen.update(place for place, member in enumerate(members) if plan.chosen in set(member.modules()))
        for place, (prob, is_on) in enumerate(zip(given, active, strict=True)):
            expected = prob / total if is_on and total > 0 else 0.0
            require(
                _agrees(chosen[place], DRAWS, expected),
                f'member {place}, {members[place]!r}, was chosen in {chosen[place]} of {DRAWS} batches of epoch '
                f'{epoch} ({chosen[place] / DRAWS:.3f}), but its probability is {expected:.3f}',
            )
    return None


@check
def lam_follows_its_law(policy: MixPolicy) -> str | None:
    """Lam is drawn from Beta(alpha, alpha), seen from the weights, or from ``draw_lam`` where they are measured."""
    if 'alpha' not in policy.arguments() or not (policy.label == 'drawn' or isinstance(policy, PairPolicy)):
        return 'not run: it has no alpha, or draws no lam'
    images = random_images(8, 6, 6)
    own: Any = policy.alpha
    for alpha in dict.fromkeys((own, 0.25)):  # Beta(alpha, 1) and others are the same at alpha = 1
        drawn: list[Tensor] = []
        other = type(policy)(**{**policy.arguments(), 'alpha': alpha})
        if other.label == 'drawn':
            rows = 8 if getattr(other, 'per', 'batch') == 'sample' else 1
            views = [mixed_view(plan) for plan in draws(other, images, DRAWS)]
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
        distance = float((_ecdf(lam) - _beta_cdf(lam, float(alpha))).abs().max())
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
    images, fixed, means = random_images(4, 32, 32), (0.1, 0.5, 0.9), []
    for lam in fixed:
        vars(policy)['draw_lam'] = lambda count, rng, lam=lam: torch.full((count,), lam, dtype=torch.float64)
        views = [view for plan in draws(policy, images, DRAWS) for view in plan.views]
        own = torch.cat([scattered(view, 4).diagonal()[meets_another(view)] for view in views])
        if not len(own):
            return 'not run: it never mixes'
        means.append(float(own.mean()))
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
    own, images = torch.arange(size), random_images(size, 8, 8)
    for kind in PAIRINGS:
        try:
            other: MixPolicy = cls(**{**policy.arguments(), 'pairing': kind})
        except InputError:
            continue
        views = [mixed_view(plan) for plan in draws(other, images, PAIRING_DRAWS)]
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


def _ecdf(ordered: Tensor) -> Tensor:
    """Share of values not above each: of ties the last one counts, since rounding makes ties."""
    return torch.searchsorted(ordered, ordered, right=True).double() / len(ordered)


def _beta_cdf(x: Tensor, alpha: float, points: int = 100_001) -> Tensor:
    """Distribution function of Beta(alpha, alpha), by the trapezium rule."""
    if alpha >= 1:
        grid = torch.linspace(0, 1, points, dtype=torch.float64)
        log_density = (alpha - 1) * (grid.log() + (-grid).log1p()).clamp_min(-1e6)
        return _integral(grid, (log_density - log_density.max()).exp(), x)
    # Below alpha = 1 the density has poles: u = x^alpha takes away the one at 0, and symmetry the one at 1.
    grid = torch.linspace(0, 0.5**alpha, points, dtype=torch.float64)
    lower = _integral(grid, (1 - grid ** (1 / alpha)) ** (alpha - 1), torch.minimum(x, 1 - x) ** alpha) / 2
    return torch.where(x <= 0.5, lower, 1 - lower)


def _integral(grid: Tensor, density: Tensor, at: Tensor) -> Tensor:
    """Integral of ``density`` from the start of the grid to ``at``, scaled to 1 for the whole of it."""
    total = torch.cat([torch.zeros(1), (density[1:] + density[:-1]).cumsum(0)]).double()
    step = (grid[-1] - grid[0]) / (len(grid) - 1)
    place = ((at - grid[0]) / step).clamp(0, len(grid) - 1)
    left = place.long().clamp(max=len(grid) - 2)
    return torch.lerp(total[left], total[left + 1], place - left) / total[-1]


@check
def every_pixel_has_its_turn(policy: MixPolicy) -> str | None:
    """The partner shows at each pixel, at mirrored ones alike, and at the border nearly as often as beside it."""
    size, height, width = 3, 12, 20
    images = origin_images(size, height, width)
    own = torch.arange(size)
    taken = torch.stack(  # what is not the own image, one picture a draw: samples of a draw may share their mask
        [1 - shares(mixed_view(plan))[own, own].mean(0) for plan in draws(policy, images, DRAWS)]
    )
    if float((taken.amax((1, 2)) - taken.amin((1, 2))).max()) <= 1e-5:
        return 'not run: its masks are even'
    reached = (taken > 1e-4).any(0)
    missed = (~reached).nonzero().tolist()
    require(
        not missed,
        f'{len(missed)} of {height * width} pixels never show the partner in {DRAWS} draws of {height}x{width}, the '
        f'first at row {missed[0][0] if missed else 0}, column {missed[0][1] if missed else 0}',
    )
    for axis, names in ((1, ('top', 'bottom')), (2, ('left', 'right'))):
        _mirrored_alike(taken, axis, names)
        lines = taken.mean(3 - axis)  # (draws, lines): share of the partner in each row or column
        for name, border, beside in ((names[0], 0, 1), (names[1], -1, -2)):
            gap = 0.25 * lines[:, beside] - lines[:, border]
            require(
                float(gap.mean()) <= SIGMAS * float(gap.std()) / math.sqrt(DRAWS),
                f'the partner shows at the {name} border at {float(lines[:, border].mean()):.4f} of the rate, but at '
                f'{float(lines[:, beside].mean()):.4f} one pixel further in',
            )
    return None


def _mirrored_alike(taken: Tensor, axis: int, names: tuple[str, str]) -> None:
    """The rate at a pixel is that at its mirror image, give or take the pixel that an even box has no centre for."""
    mirrored = taken.flip(axis)
    length = mirrored.shape[axis]
    first, second, last, last_but_one = (mirrored.narrow(axis, at, 1) for at in (0, 1, length - 1, length - 2))
    # Behind the border the rates go on in a straight line: the boxes of CutMix's authors are off by one to one side.
    padded = torch.cat([2 * first - second, mirrored, 2 * last - last_but_one], axis)
    gaps = torch.stack([taken - padded.narrow(axis, shift, length) for shift in range(3)])
    gap, noise = gaps.mean(1), SIGMAS * gaps.std(1) / math.sqrt(len(taken))
    between = (gap.amin(0) <= 0) & (gap.amax(0) >= 0)
    worst = float(((gap.abs() - noise).amin(0) * ~between).max())
    require(
        worst <= 1e-6,
        f'the partner does not show at {names[0]} and {names[1]} alike: the rates of a pixel and its mirror image '
        f'differ by {worst:.4f} more than 5 sigma',
    )


@check
def per_means_what_it_says(policy: MixPolicy) -> str | None:
    """With per='sample' the samples of a call differ in lam and in where their masks are; with 'batch' they agree."""
    per = getattr(policy, 'per', None)
    if per not in ('batch', 'sample'):
        return 'not run: it has no per'
    size, height, width, calls = 8, 16, 20, 60
    own = torch.arange(size)
    weights, places = [], []
    for plan in draws(policy, origin_images(size, height, width), calls):
        view = mixed_view(plan)
        met_itself = view.mixture.index[:, 1:].eq(own[:, None]).any(1)
        taken = 1 - shares(view)[own, own]
        weights.append(view.mixture.weight[:, 0].double())
        if per == 'batch':
            gap = float((taken[~met_itself] - taken[~met_itself][:1]).abs().max()) if (~met_itself).any() else 0.0
            require(gap <= 1e-5, f"per='batch', but masks of one call differ by {gap:.4f}")
            require(float(weights[-1].std()) <= 1e-6, "per='batch', but weights of one call differ")
        places.append(_centres(taken))
    if per == 'batch':
        return None
    within = float(torch.stack(weights).var(1).mean() / torch.cat(weights).var())
    require(within >= 0.7, f"per='sample', but weights of one call vary by {within:.2f} of what they do over calls")
    spread = torch.stack(places)
    if not bool(spread.isnan().all()):
        _places_differ(spread)
    return None


def _centres(taken: Tensor) -> Tensor:
    """(N, 2) centre of mass of what is taken from the partner; NaN where nothing is, or where it is even."""
    mass = taken.sum((1, 2))
    uneven = (taken.amax((1, 2)) - taken.amin((1, 2)) > 1e-4) & (mass > 1e-4)
    scale = torch.where(uneven, mass, torch.nan)
    rows, columns = torch.arange(taken.shape[1]).double(), torch.arange(taken.shape[2]).double()
    return torch.stack([taken.sum(2) @ rows / scale, taken.sum(1) @ columns / scale], 1)


def _places_differ(places: Tensor) -> None:
    """Centres (calls, N, 2) vary within a call as they do over calls: clipping alone varies them a little."""
    centred = places - places.nanmean(1, keepdim=True)
    valid = (~places.isnan()).sum(1, keepdim=True)
    centred, valid = centred[(valid[:, 0, 0] > 1)], valid[valid[:, 0, 0] > 1]
    within = (centred.square().nansum(1) / (valid[:, 0] - 1)).mean(0)
    overall = (places - places.nanmean((0, 1))).square().nanmean((0, 1))
    ratio = float((within / overall).min())
    require(
        ratio >= 0.7,
        f"per='sample', but the masks of one call share their place: centres vary by {ratio:.2f} of what they do over "
        'calls',
    )
