"""Checks of where the partner shows, and of what the samples of a call share (M2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from openmixup.policies.base import MixPolicy
from openmixup.testing.report import check, require
from openmixup.testing.scenes import DRAWS, SIGMAS, amount, draws, mixed_view, origins, shares
from openmixup.testing.stage import looks


@check
def every_pixel_has_its_turn(policy: MixPolicy) -> str | None:
    """The partner shows at each pixel, at mirrored ones alike, and at the border nearly as often as beside it."""
    if looks(policy):
        return 'not run: where it mixes may follow from what a network makes of the images'
    if 'tap' in policy.needs:
        return 'not run: it mixes hidden stages'
    size, height, width = 3, 12, 20
    own = torch.arange(size)
    count = amount(policy, DRAWS, places=True)
    plans = draws(policy, origins(policy, size, height, width), count)
    taken = torch.stack(  # what is not the own image, one picture a draw: samples of a draw may share their mask
        [1 - shares(mixed_view(plan))[own, own].mean(0) for plan in plans]
    )
    if float((taken.amax((1, 2)) - taken.amin((1, 2))).max()) <= 1e-5:
        return 'not run: its masks are even'
    reached = (taken > 1e-4).any(0)
    missed = (~reached).nonzero().tolist()
    require(
        not missed,
        f'{len(missed)} of {height * width} pixels never show the partner in {count} draws of {height}x{width}, the '
        f'first at row {missed[0][0] if missed else 0}, column {missed[0][1] if missed else 0}',
    )
    for axis, names in ((1, ('top', 'bottom')), (2, ('left', 'right'))):
        _mirrored_alike(taken, axis, names)
        lines = taken.mean(3 - axis)  # (draws, lines): share of the partner in each row or column
        for name, border, beside in ((names[0], 0, 1), (names[1], -1, -2)):
            gap = 0.25 * lines[:, beside] - lines[:, border]
            require(
                float(gap.mean()) <= SIGMAS * float(gap.std()) / math.sqrt(count),
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
    size, height, width, calls = 8, 16, 20, max(amount(policy, 60), 20)
    own = torch.arange(size)
    weights, places = [], []
    for plan in draws(policy, origins(policy, size, height, width), calls):
        view = mixed_view(plan)
        met_itself = view.mixture.index[:, 1:].eq(own[:, None]).any(1)
        taken = 1 - shares(view)[own, own]
        weights.append(view.mixture.weight[:, 0].double())
        alike = per == 'batch' and not looks(policy)  # else each sample has the mask that suits it
        if alike:
            gap = float((taken[~met_itself] - taken[~met_itself][:1]).abs().max()) if (~met_itself).any() else 0.0
            require(gap <= 1e-5, f"per='batch', but masks of one call differ by {gap:.4f}")
        if alike or (per == 'batch' and plan.chosen.label == 'drawn'):
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
    """(N, 2) centre of mass of what is taken from the partner, as shares of height and width: what a tap makes is of
    another size. NaN where nothing is, or where it is even.
    """
    mass = taken.sum((1, 2))
    uneven = (taken.amax((1, 2)) - taken.amin((1, 2)) > 1e-4) & (mass > 1e-4)
    scale = torch.where(uneven, mass, torch.nan)
    rows, columns = ((torch.arange(length).double() + 0.5) / length for length in taken.shape[1:])
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
