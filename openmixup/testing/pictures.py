"""Checks of what is shown: labels, masks and pixels tell the same story (M1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from openmixup.policies.base import MixPolicy
from openmixup.policies.mixture import Plan, View
from openmixup.testing.report import check, require
from openmixup.testing.scenes import (
    draw,
    draws,
    has_partner,
    meets_another,
    origin_images,
    random_images,
    scattered,
    shares,
    tolerance,
)

SIZES = ((8, 8), (7, 11), (32, 32), (16, 24))
FEWEST = 30  # draws for a comparison in the mean
MEAN_GAP = 0.25  # CutMix with alpha = 1 has 0.18 by the cut of the border
TARGET_DRAWS = 8
LEAST_SPREAD = 0.1  # below it the cut of the border hides how the area follows lam


def _cases(policy: MixPolicy) -> Iterator[tuple[str, torch.dtype, Plan, View]]:
    """Views of origin images over sizes, batch sizes, types and seeds."""
    cases = itertools.product(SIZES, (2, 3, 5, 8), (torch.float32, torch.bfloat16), range(2))
    for seed, ((height, width), size, dtype, _) in enumerate(cases):
        plan = draw(policy, origin_images(size, height, width, dtype), seed=seed)
        for view in plan.views:
            yield f'{size} images of {height}x{width}, {dtype}, seed {seed}', dtype, plan, view


def _flat(view: View, atol: float) -> Tensor:
    """(N,) whether each sample has the same shares at all its pixels."""
    measured = shares(view)
    return (measured.amax((2, 3)) - measured.amin((2, 3))).amax(1) <= atol


@check
def label_equals_pixels(policy: MixPolicy) -> str | None:
    """The weights of each sample are the shares of the sources that its pixels show.

    A mask need not have the area of a drawn lam, so with ``label = 'drawn'`` only blends that are even in all views are
    compared one by one; others must agree over many draws.
    """
    drawn: dict[MixPolicy, list[tuple[bool, float, str]]] = {}
    applies = False
    for case, dtype, plan, view in _cases(policy):
        label, atol = plan.chosen.label, tolerance(plan.chosen, dtype)
        if label == 'semantic':
            continue
        applies = True
        measured = shares(view).mean((2, 3))
        gap = (measured - scattered(view, len(plan.batch))).abs().amax(1)
        worst = int(gap.argmax())
        message = (
            f'label and pixels differ by {float(gap[worst]):.4f} in sample {worst} of {case}: sources '
            f'{view.mixture.index[worst].tolist()} have the weights {_rounded(view.mixture.weight[worst])}, but the '
            f'pixels show {_rounded(measured[worst])} of the sources 0 to {len(plan.batch) - 1}'
        )
        if label == 'pixels':
            require(gap[worst] <= atol, message)
            continue
        listed = torch.zeros_like(measured).scatter_(1, view.mixture.index, 1.0)
        foreign = float((measured * (1 - listed)).max())
        even = bool(_flat(view, atol).all())
        require(even or foreign <= atol, f'the pixels show {foreign:.4f} of a source that has no weight ({case})')
        drawn.setdefault(plan.chosen, []).append((even, float(gap[worst]) - atol, message))
    for chosen, found in drawn.items():
        if all(even for even, _, _ in found):
            _, over, message = max(found, key=lambda entry: entry[1])
            require(over <= 0, message)
        else:
            _agree_over_draws(policy, chosen)
    return None if applies else "not run: label = 'semantic'"


def _agree_over_draws(policy: MixPolicy, chosen: MixPolicy) -> None:
    """Own weights and own shares of the pixels are alike in the mean, and rise and fall together."""
    pairs = []
    for plan in draws(policy, origin_images(4, 16, 24), 400):
        for view in plan.views if plan.chosen is chosen else ():
            both = torch.stack([scattered(view, 4).diagonal(), shares(view).mean((2, 3)).diagonal()])
            pairs.append(both[:, meets_another(view)])
    weight, shown = torch.cat(pairs, 1) if pairs else torch.zeros(2, 0)
    if len(pairs) < FEWEST or len(weight) < FEWEST:
        return
    gap = float((weight - shown).mean().abs())
    require(
        gap <= MEAN_GAP,
        f'the own weight is {float(weight.mean()):.3f} in the mean, but the pixels show {float(shown.mean()):.3f}',
    )
    if float(weight.std()) >= LEAST_SPREAD:
        rho = float(torch.corrcoef(torch.stack([weight, shown]))[0, 1]) if float(shown.std()) > 0 else 0.0
        require(rho >= 0.3, f'weights and pixels do not rise and fall together: their correlation is {rho:.2f}')


@check
def masks_equal_the_picture(policy: MixPolicy) -> str | None:
    """Sources blended by the masks give the picture; masks are shares, and their means are the weights."""
    applies = False
    for seed, (height, width) in enumerate((*SIZES, *SIZES)):
        images = random_images(5, height, width, seed=seed)
        plan = draw(policy, images, seed=seed)
        for view in plan.views:
            masks, index = view.masks, view.mixture.index
            if masks is None:
                continue
            applies = True
            case = f'{height}x{width}, seed {seed}'
            expected = (*index.shape, height, width)
            require(masks.shape == expected, f'masks are {tuple(masks.shape)}, expected {expected} ({case})')
            again = (masks[:, :, None] * images[index]).sum(1)
            gap = float((again - view.inputs).abs().max())
            require(gap <= 1e-4, f'the sources blended by the masks differ from the picture by {gap:.4f} ({case})')
            _masks_are_shares(plan.chosen, masks, view.mixture.weight, case)
    return None if applies else 'not run: it has no masks'


def _masks_are_shares(policy: MixPolicy, masks: Tensor, weight: Tensor, case: str) -> None:
    low, high = float(masks.min()), float(masks.max())
    require(low >= -1e-5 and high <= 1 + 1e-5, f'masks have values from {low:.4f} to {high:.4f}, outside [0, 1]')
    if policy.normalised:
        gap = float((masks.sum(1) - 1).abs().max())
        require(gap <= 1e-4, f'the masks of a pixel sum to 1 only within {gap:.4f} ({case})')
    if policy.label == 'pixels':
        gap = float((masks.mean((2, 3)) - weight).abs().max())
        atol = tolerance(policy, torch.float32)
        require(gap <= atol, f'means of the masks differ from the weights by {gap:.4f} ({case})')


@check
def identical_images_stay_identical(policy: MixPolicy) -> str | None:
    """Mixing an image with itself gives the image, and its label."""
    one = random_images(1, 9, 12)
    images, labels = one.expand(5, -1, -1, -1).contiguous(), torch.full((5,), 3)
    for seed in range(8):
        plan = draw(policy, images, labels, seed)
        for view in plan.views:
            gap = float((view.inputs - one).abs().max())
            require(gap <= 1e-4, f'five times the same image became something else, by {gap:.4f}')
            if plan.chosen.normalised:
                target = view.mixture.soft(labels, 4)
                gap = float((target - torch.eye(4)[3]).abs().max())
                require(gap <= 1e-5, f'all labels are 3, but the target differs from it by {gap:.4f}')
    return None


@check
def weights_are_sound(policy: MixPolicy) -> str | None:
    """Weights are finite, at least 0 and sum to 1; indices are int64 and point to sources."""
    for case, _, plan, view in _cases(policy):
        index, weight, size = view.mixture.index, view.mixture.weight, len(plan.batch)
        require(
            index.ndim == 2 and index.shape == weight.shape and len(index) == size,
            f'index {tuple(index.shape)} and weight {tuple(weight.shape)} must both be (N, K) with N = {size}',
        )
        require(index.dtype == torch.int64, f'index is {index.dtype}, expected torch.int64')
        require(weight.is_floating_point(), f'weight is {weight.dtype}, expected a floating point type')
        require(int(index.min()) >= 0 and int(index.max()) < size, f'index leaves 0 to {size - 1} ({case})')
        require(bool(weight.isfinite().all()), f'a weight is not finite ({case})')
        require(float(weight.min()) >= 0, f'a weight is {float(weight.min()):.4f}, below 0 ({case})')
        require(view.inputs.shape == plan.batch.images.shape, f'the picture has the shape {tuple(view.inputs.shape)}')
        if plan.chosen.normalised:
            gap = float((weight.double().sum(1) - 1).abs().max())
            require(gap <= 1e-5, f'weights sum to 1 only within {gap:.5f} ({case})')
    return None


@check
def all_target_kinds_mix_alike(policy: MixPolicy) -> str | None:
    """Soft, multi-hot and regression targets are mixed by the shares of the sources that the pixels show."""
    size = 6
    images = origin_images(size, 8, 10)
    soft = torch.rand(size, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    values = random_images(size, 1, 1, channels=2)[:, :, 0, 0]
    for target, labels in (('soft', soft), ('multilabel', (soft > 0.25).float()), ('regression', values)):
        plans = [draw(policy, images, labels, seed, target) for seed in range(TARGET_DRAWS)]
        uneven = {plan.chosen for plan in plans for view in plan.views if not _flat(view, 1e-5).all()}
        bound = size * float(labels.abs().max())
        for plan, view in [(each, view) for each in plans for view in each.views]:
            label, atol = plan.chosen.label, bound * tolerance(plan.chosen, torch.float32)
            by_pixels = label == 'pixels' or (label == 'drawn' and plan.chosen not in uneven)
            weight = shares(view).mean((2, 3)) if by_pixels else scattered(view, size)
            got = view.mixture.of(labels) if target == 'regression' else view.mixture.soft(labels)
            gap = float((got - weight @ labels.double()).abs().max())
            source = 'that the pixels show' if by_pixels else 'that have weights'
            require(gap <= atol, f'{target} targets differ from those of the sources {source} by {gap:.4f}')
        mixed = any(has_partner(view) for plan in plans for view in plan.views)
        require(mixed or policy.rate < 1, f'{target} targets are not mixed')
    return None


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
