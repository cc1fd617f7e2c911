"""Batches from which one can tell where each pixel came from, and a way to draw from a policy."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.randomness import keyed_generator
from openmixup.testing.stage import CLASSES, is_staged, keeps_history, looks, most_operators, play

__all__ = [
    'DEAR', 'DRAWS', 'SIGMAS', 'amount', 'draw', 'draws', 'expected_shares', 'has_partner', 'label_of', 'meets_another',
    'mixed_view', 'noise', 'normalised', 'origins', 'own_weights', 'pooled', 'random_images', 'scattered', 'shares',
    'shown', 'targets', 'tolerance',
]  # fmt: skip

DRAWS = 600
SIGMAS = 5.0  # a fair policy is blamed once in a million draws of the seeds, and the seeds are fixed
DEAR = 200  # operators of a policy from which on a draw is dear


def amount(policy: MixPolicy, cheap: int, places: bool = False) -> int:
    """Number of draws: ``cheap`` of a policy of pixels, less where each draw runs a network or solves a puzzle.

    Args:
        policy: the policy.
        cheap: the number for policies of pixels.
        places: whether the check looks at where boxes lie that are drawn at random, which takes many draws.
    """
    if not is_staged(policy):
        return cheap
    if places:
        return cheap if not looks(policy) and most_operators(policy) < DEAR else max(cheap // 30, 8)
    return max(cheap // (40 if most_operators(policy) >= DEAR else 10), 8)


def origins(policy: MixPolicy, size: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> Batch:
    """A batch of N images, and a bank behind it if the policy takes partners from elsewhere.

    Source i of all S is 1 in channel i and 0 elsewhere, so a mixed pixel shows the share of each source, and is of
    class i.
    """
    total = size + _banked(policy, size)
    images = torch.eye(total, dtype=dtype)[:, :, None, None].expand(-1, -1, height, width).contiguous()
    return _split(images, size)


def noise(
    policy: MixPolicy,
    size: int,
    height: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    channels: int = 3,
    seed: int = 0,
) -> Batch:
    """The same with :func:`random_images`."""
    return _split(random_images(size + _banked(policy, size), height, width, dtype, channels, seed), size)


def random_images(
    size: int, height: int, width: int, dtype: torch.dtype = torch.float32, channels: int = 3, seed: int = 0
) -> Tensor:
    """(N, C, H, W) of standard normal noise, the same each time."""
    values = torch.randn(size, channels, height, width, generator=keyed_generator('images', seed))
    return values.to(dtype)


def _banked(policy: MixPolicy, size: int) -> int:
    """Images beyond the batch: of a second loader one more than the batch has, of a past batch as many."""
    return size if keeps_history(policy) else size + 1 if 'bank' in policy.needs else 0


def _split(images: Tensor, size: int) -> Batch:
    labels = torch.arange(len(images))
    bank = None if size == len(images) else Batch(images[size:], labels[size:])
    return Batch(images[:size], labels[:size], bank)


def draw(policy: MixPolicy, batch: Batch, seed: int = 0, final: bool = False) -> Plan:
    """One plan from a stream of its own.

    Args:
        policy: the policy.
        batch: the sources.
        seed: of the stream.
        final: the plan as it is behind the forward passes.
    """
    return _drawn(policy, batch, Context(generator=keyed_generator('check', seed)), final)


def draws(
    policy: MixPolicy, batch: Batch, count: int, seed: int = 0, epoch: int = 0, final: bool = False
) -> Iterator[Plan]:
    """``count`` plans from one stream."""
    generator = keyed_generator('checks', seed)
    for _ in range(count):
        yield _drawn(policy, batch, Context(epoch=epoch, generator=generator), final)


def _drawn(policy: MixPolicy, batch: Batch, context: Context, final: bool) -> Plan:
    if not is_staged(policy):
        return policy(batch, context)
    columns = batch.labels.shape[1] if batch.labels is not None and batch.labels.ndim == 2 else CLASSES
    return play(policy, batch, context, final, columns)


def meets_another(view: View) -> Tensor:
    """(N,) whether a sample has a source other than itself."""
    own = torch.arange(len(view.mixture), device=view.mixture.index.device)
    return (view.mixture.index != own[:, None]).any(1)


def has_partner(view: View) -> bool:
    """Whether any sample has a source other than itself."""
    return bool(meets_another(view).any())


def mixed_view(plan: Plan) -> View:
    """The first view of several sources; the first one if there is none."""
    return next((view for view in plan.views if view.mixture.index.shape[1] > 1), plan.views[0])


def shown(view: View) -> Tensor:
    """(N, C, h, w) what the network goes on with: the picture, or of it, at half the size, what a tap makes."""
    if view.tap is None:
        return view.inputs
    return view.tap.function(pooled(view.inputs))


def pooled(images: Tensor) -> Tensor:
    """(N, C, H / 2, W / 2) of ``images`` (N, C, H, W), in the place of a hidden stage."""
    height, width = images.shape[-2:]
    return functional.adaptive_avg_pool2d(images, (max(height // 2, 1), max(width // 2, 1)))


def shares(view: View) -> Tensor:
    """(N, S, h, w) float64 share of each source at each place of a view of :func:`origins`."""
    return shown(view).detach().double()


def scattered(view: View, sources: int) -> Tensor:
    """(N, S) float64 weight of each source for each sample."""
    weight = view.mixture.weight.detach().double()
    return torch.zeros(len(weight), sources, dtype=torch.float64).scatter_add_(1, view.mixture.index, weight)


def own_weights(plan: Plan, view: View) -> Tensor:
    """(N,) float64 weight of each sample for itself."""
    return scattered(view, len(plan.batch.source_images)).diagonal()


def expected_shares(plan: Plan, view: View) -> Tensor:
    """(N, S) float64 shares of the pixels of :func:`origins` that the weights of a view promise."""
    sources = plan.batch.source_images.detach().double().mean((2, 3))
    return scattered(view, len(sources)) @ sources


def targets(plan: Plan, view: View) -> Tensor:
    """(N, C) what the network shall say."""
    labels, mixture = plan.batch.source_labels, Mixture(view.mixture.index, view.mixture.weight.detach())
    return mixture.soft(labels, CLASSES if plan.batch.target == 'class' else None)


def label_of(plan: Plan) -> str:
    """What the weights of a plan equal: what the policy that mixed says, unless one around it sets them by a rule."""
    found, semantic = plan, plan.policy.label == 'semantic'
    while found.inner is not None:
        found = found.inner
        semantic = semantic or found.policy.label == 'semantic'
    return 'semantic' if semantic else found.policy.label


def normalised(plan: Plan) -> bool:
    """Whether the weights of a sample sum to one."""
    return plan.policy.normalised and (plan.inner is None or normalised(plan.inner))


def tolerance(policy: MixPolicy, dtype: torch.dtype) -> float:
    """Allowed gap between a label and the pixels: as declared by the class, but not below rounding."""
    rounding = max(2 * torch.finfo(dtype).eps, 1e-5)
    return max(rounding, float(getattr(type(policy), 'tolerance', 0.0)))
