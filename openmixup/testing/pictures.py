"""Checks of what is shown: labels, masks and pixels tell the same story (M1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.mixture import Batch, Plan, View
from openmixup.testing.report import check, require
from openmixup.testing.scenes import (
    amount,
    draw,
    draws,
    expected_shares,
    has_partner,
    label_of,
    meets_another,
    noise,
    normalised,
    origins,
    own_weights,
    pooled,
    random_images,
    scattered,
    shares,
    shown,
    targets,
    tolerance,
)
from openmixup.testing.stage import is_staged, learns_masks

SIZES = ((8, 8), (7, 11), (32, 32), (16, 24))
FEWEST = 30  # draws for a comparison in the mean
MEAN_GAP = 0.25  # CutMix with alpha = 1 has 0.18 by the cut of the border
TARGET_DRAWS = 8
LEAST_SPREAD = 0.1  # below it the cut of the border hides how the area follows lam


def _cases(policy: MixPolicy) -> Iterator[tuple[str, torch.dtype, Plan, View]]:
    """Views of origin images over sizes, batch sizes, types and seeds."""
    counts, repeats = ((2, 5), 1) if is_staged(policy) else ((2, 3, 5, 8), 2)
    cases = itertools.product(SIZES, counts, (torch.float32, torch.bfloat16), range(repeats))
    for seed, ((height, width), size, dtype, _) in enumerate(cases):
        plan = draw(policy, origins(policy, size, height, width, dtype), seed, final=True)
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
    compared one by one; others must agree over many draws, and so must the rules of ``label = 'semantic'``. Masks that
    are learned follow lam after training only, but even before it they show no source that has no weight.
    """
    over_draws: dict[MixPolicy, list[tuple[bool, float, str]]] = {}
    for case, dtype, plan, view in _cases(policy):
        label, atol = label_of(plan), tolerance(plan.chosen, dtype)
        measured = shares(view).mean((2, 3))
        gap = (measured - expected_shares(plan, view)).abs().amax(1)
        worst = int(gap.argmax())
        message = (
            f'label and pixels differ by {float(gap[worst]):.4f} in sample {worst} of {case}: sources '
            f'{view.mixture.index[worst].tolist()} have the weights {_rounded(view.mixture.weight[worst])}, but the '
            f'pixels show {_rounded(measured[worst])} of the sources 0 to {measured.shape[1] - 1}'
        )
        if label == 'pixels':
            require(gap[worst] <= atol, message)
            continue
        listed = _listed(plan, view)
        foreign = float((measured * (1 - listed)).max())
        exact = label == 'drawn' and bool(_flat(view, atol).all()) and not learns_masks(plan.chosen)
        require(exact or foreign <= atol, f'the pixels show {foreign:.4f} of a source that has no weight ({case})')
        over_draws.setdefault(plan.chosen, []).append((exact, float(gap[worst]) - atol, message))
    for chosen, found in over_draws.items():
        if all(exact for exact, _, _ in found):
            _, over, message = max(found, key=lambda entry: entry[1])
            require(over <= 0, message)
        else:
            _agree_over_draws(policy, chosen)
    return None


def _listed(plan: Plan, view: View) -> Tensor:
    """(N, S) 1 where a sample has a source in its index that shows some of origin S, else 0."""
    sources = plan.batch.source_images.detach().double().mean((2, 3))
    return (sources[view.mixture.index].sum(1) > 0).double()


def _agree_over_draws(policy: MixPolicy, chosen: MixPolicy) -> None:
    """Own weights and own shares of the pixels are alike in the mean, and rise and fall together."""
    pairs, semantic = [], False
    for plan in draws(policy, origins(policy, 4, 16, 24), max(amount(policy, 400), FEWEST), final=True):
        for view in plan.views if plan.chosen is chosen else ():
            semantic = label_of(plan) == 'semantic'
            own = shares(view).mean((2, 3)).diagonal()
            pairs.append(torch.stack([own_weights(plan, view), own])[:, meets_another(view)])
    weight, pixels = torch.cat(pairs, 1) if pairs else torch.zeros(2, 0)
    if len(pairs) < FEWEST or len(weight) < FEWEST:
        return
    gap = float((weight - pixels).mean().abs())
    require(
        gap <= MEAN_GAP,
        f'the own weight is {float(weight.mean()):.3f} in the mean, but the pixels show {float(pixels.mean()):.3f}',
    )
    # a rule of the paper may keep weights nearly the same by mistake; a drawn one has a law of its own
    spread = pixels if semantic else weight
    if float(spread.std()) >= LEAST_SPREAD and not learns_masks(chosen):
        both = torch.stack([weight, pixels])
        rho = float(torch.corrcoef(both)[0, 1]) if float(both.std(1).min()) > 0 else 0.0
        require(rho >= 0.3, f'weights and pixels do not rise and fall together: their correlation is {rho:.2f}')


@check
def masks_equal_the_picture(policy: MixPolicy) -> str | None:
    """Masks say what share of each source a pixel shows, and their means are the weights."""
    applies = False
    for case, dtype, plan, view in _cases(policy):
        masks, index = view.masks, view.mixture.index
        if masks is None or view.tap is not None:
            continue
        applies = True
        expected = (*index.shape, *view.inputs.shape[-2:])
        require(masks.shape == expected, f'masks are {tuple(masks.shape)}, expected {expected} ({case})')
        again = (masks.double()[:, :, None] * plan.batch.source_images.double()[index]).sum(1)
        gap = float((again - shares(view)).abs().max())
        atol = max(1e-4, 2 * torch.finfo(dtype).eps)
        require(gap <= atol, f'masks differ from what the picture shows by {gap:.4f} ({case})')
        _masks_are_shares(plan, masks, view.mixture.weight, dtype, case)
    return None if applies else 'not run: it has no masks'


@check
def pixels_stay_in_place(policy: MixPolicy) -> str | None:
    """The sources blended by the masks give the picture, so each pixel of a source shows at its own place.

    A policy that resizes or moves what it shows is exempt.
    """
    applies = False
    for seed, (height, width) in enumerate((*SIZES, *SIZES)):
        plan = draw(policy, noise(policy, 5, height, width, seed=seed), seed, final=True)
        for view in plan.views:
            if view.masks is None or view.tap is not None:
                continue
            applies = True
            images = plan.batch.source_images[view.mixture.index]
            gap = float(((view.masks[:, :, None] * images).sum(1) - view.inputs.detach()).abs().max())
            case = f'{height}x{width}, seed {seed}'
            require(gap <= 1e-4, f'the sources blended by the masks differ from the picture by {gap:.4f} ({case})')
    return None if applies else 'not run: it has no masks'


def _masks_are_shares(plan: Plan, masks: Tensor, weight: Tensor, dtype: torch.dtype, case: str) -> None:
    low, high = float(masks.min()), float(masks.max())
    require(low >= -1e-5 and high <= 1 + 1e-5, f'masks have values from {low:.4f} to {high:.4f}, outside [0, 1]')
    if normalised(plan):
        gap = float((masks.double().sum(1) - 1).abs().max())
        require(
            gap <= max(1e-4, torch.finfo(dtype).eps), f'the masks of a pixel sum to 1 only within {gap:.4f} ({case})'
        )
    if label_of(plan) == 'pixels':
        gap = float((masks.double().mean((2, 3)) - weight).abs().max())
        atol = tolerance(plan.chosen, dtype)
        require(gap <= atol, f'means of the masks differ from the weights by {gap:.4f} ({case})')


@check
def identical_images_stay_identical(policy: MixPolicy) -> str | None:
    """Mixing an image with itself gives the image, and its label."""
    one = random_images(1, 9, 12)
    images = one.expand(5, -1, -1, -1).contiguous()
    bank = noise(policy, 5, 9, 12).bank
    past = None if bank is None else Batch(one.repeat(len(bank), 1, 1, 1), torch.full((len(bank),), 3))
    for seed in range(amount(policy, 8)):
        plan = draw(policy, Batch(images, torch.full((5,), 3), past), seed, final=True)
        for view in plan.views:
            expected = images if view.tap is None else pooled(images)
            found = shown(view).detach()
            require(found.shape == expected.shape, f'the picture has the shape {tuple(found.shape)}')
            gap = float((found - expected).abs().max())
            require(gap <= 1e-4, f'five times the same image became something else, by {gap:.4f}')
            if normalised(plan):
                target = targets(plan, view)
                gap = float((target - torch.eye(target.shape[1])[3]).abs().max())
                require(gap <= 1e-5, f'all labels are 3, but the target differs from it by {gap:.4f}')
    return None


@check
def weights_are_sound(policy: MixPolicy) -> str | None:
    """Weights are finite, at least 0 and sum to 1; indices are int64 and point to sources."""
    for case, _, plan, view in _cases(policy):
        index, weight, size = view.mixture.index, view.mixture.weight, len(plan.batch)
        sources = len(plan.batch.source_images)
        require(
            index.ndim == 2 and index.shape == weight.shape and len(index) == size,
            f'index {tuple(index.shape)} and weight {tuple(weight.shape)} must both be (N, K) with N = {size}',
        )
        require(index.dtype == torch.int64, f'index is {index.dtype}, expected torch.int64')
        require(weight.is_floating_point(), f'weight is {weight.dtype}, expected a floating point type')
        require(int(index.min()) >= 0 and int(index.max()) < sources, f'index leaves 0 to {sources - 1} ({case})')
        require(bool(weight.isfinite().all()), f'a weight is not finite ({case})')
        require(float(weight.min()) >= 0, f'a weight is {float(weight.min()):.4f}, below 0 ({case})')
        require(view.inputs.shape == plan.batch.images.shape, f'the picture has the shape {tuple(view.inputs.shape)}')
        if normalised(plan):
            gap = float((weight.double().sum(1) - 1).abs().max())
            require(gap <= 1e-5, f'weights sum to 1 only within {gap:.5f} ({case})')
    return None


@check
def all_target_kinds_mix_alike(policy: MixPolicy) -> str | None:
    """Soft, multi-hot and regression targets are mixed by the shares of the sources that the pixels show.

    A policy of a network may refuse a kind by an InputError when it is bound; the learner knows no regression.
    """
    batch = origins(policy, 6, 8, 10)
    total, refused = len(batch.source_images), []
    soft = torch.rand(total, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    kinds = {'soft': soft, 'multilabel': (soft > 0.25).float()}
    if not is_staged(policy):
        kinds['regression'] = random_images(total, 1, 1, channels=2)[:, :, 0, 0]
    for target, labels in kinds.items():
        bank = None if batch.bank is None else Batch(batch.bank.images, labels[6:], target=target)
        given = Batch(batch.images, labels[:6], bank, target)
        try:
            plans = [draw(policy, given, seed, final=True) for seed in range(amount(policy, TARGET_DRAWS))]
        except InputError as error:
            require(is_staged(policy), f'{target} targets are refused: {error}')
            refused.append(target)
            continue
        _targets_follow_the_pixels(plans, target)
        mixed = any(has_partner(view) for plan in plans for view in plan.views)
        require(mixed or policy.rate < 1, f'{target} targets are not mixed')
    return f'it refuses {" and ".join(refused)} targets' if refused else None


def _targets_follow_the_pixels(plans: list[Plan], target: str) -> None:
    uneven = {plan.chosen for plan in plans for view in plan.views if not _flat(view, 1e-5).all()}
    for plan, view in [(each, view) for each in plans for view in each.views]:
        labels = plan.batch.source_labels
        bound = len(plan.batch) * float(labels.abs().max())
        label, atol = label_of(plan), bound * tolerance(plan.chosen, torch.float32)
        exact = label == 'drawn' and plan.chosen not in uneven and not learns_masks(plan.chosen)
        by_pixels = label == 'pixels' or exact
        # of sources that are mixtures themselves, the shares of the pixels do not say how they add up
        pure = bool((plan.batch.source_images.flatten(1).amax(1) == 1).all())
        weight = scattered(view, len(labels))
        if by_pixels and pure:
            weight = shares(view).mean((2, 3))[:, : len(labels)]
        got = view.mixture.of(labels) if target == 'regression' else view.mixture.soft(labels)
        gap = float((got - weight @ labels.double()).abs().max())
        source = 'that the pixels show' if by_pixels and pure else 'that have weights'
        require(gap <= atol, f'{target} targets differ from those of the sources {source} by {gap:.4f}')


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
