"""Checks of what is shown: labels, masks and pixels tell the same story (M1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from openmixup.policies.base import MixPolicy
from openmixup.policies.mixture import Plan, View
from openmixup.testing.report import check, require
from openmixup.testing.scenes import draw, has_partner, origin_images, random_images, scattered, shares, tolerance

SIZES = ((8, 8), (7, 11), (32, 32), (16, 24))


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
    """The weights of each sample are the shares of the sources that its pixels show."""
    applies = False
    for case, dtype, plan, view in _cases(policy):
        label, atol = plan.chosen.label, tolerance(plan.chosen, dtype)
        if label == 'semantic':
            continue
        gap = (shares(view).mean((2, 3)) - scattered(view, len(plan.batch))).abs().amax(1)
        if label == 'drawn':  # a mask of a network need not have the area of lam, an even blend must
            gap = gap * _flat(view, atol)
        applies = True
        worst = int(gap.argmax())
        require(
            gap[worst] <= atol,
            f'label and pixels differ by {float(gap[worst]):.4f} in sample {worst} of {case}: sources '
            f'{view.mixture.index[worst].tolist()} have the weights {_rounded(view.mixture.weight[worst])}, but the '
            f'pixels show {_rounded(shares(view)[worst].mean((1, 2)))} of the sources 0 to {len(plan.batch) - 1}',
        )
    return None if applies else "not run: label = 'semantic'"


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
    """Soft, multi-hot and regression targets become the weighted sum of their sources'."""
    images = random_images(6, 8, 10)
    soft = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    values = random_images(6, 1, 1, channels=2)[:, :, 0, 0]
    for target, labels in (('soft', soft), ('multilabel', (soft > 0.25).float()), ('regression', values)):
        for seed in range(4):
            rng = torch.Generator().manual_seed(seed)
            view = policy.mix(images, labels, rng, target=target)
            got = view.mixture.of(labels) if target == 'regression' else view.mixture.soft(labels)
            expected = (view.mixture.weight[..., None] * labels[view.mixture.index]).sum(1)
            gap = float((got - expected).abs().max())
            require(gap <= 1e-5, f'{target} targets differ from the weighted sum of the sources by {gap:.4f}')
            require(has_partner(view) or policy.rate < 1, f'{target} targets are not mixed')
    return None


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
