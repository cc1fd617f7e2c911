"""AugMix (Hendrycks et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError
from openmixup.policies.augment_ops import LEAST_LEVEL, TOP_LEVEL, Layer, drawn_operations
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.levels import check_normalisation, level_range
from openmixup.policies.mixture import Batch, Mixture, Plan
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['AugMix', 'jensen_shannon']

RANDOM_DEPTH = 3
LEAST_MEAN = 1e-7  # of the mean prediction, before its logarithm


@POLICIES.register_module()
class AugMix(MixPolicy):
    r"""Mix each image with chains of simple operations on it, and keep predictions alike: cross-entropy + JSD.

    Of an image x, ``width`` chains of operations each make a picture, and :math:`(1 - m) x + m \sum_i w_i
    \mathrm{chain}_i(x)` with w ~ Dirichlet(alpha), m ~ Beta(alpha, alpha) is a view of it; labels stay. With ``jsd``
    the network sees two such views and the clean image in one pass. The clean one is learned, and
    ``jsd_weight`` times the Jensen-Shannon divergence of the three predictions is added; of multi-label predictions
    its mean over the classes, each of which is a distribution of yes and no.

    An operation is drawn evenly from autocontrast, equalize, posterize, solarize, rotate, and shear and translate along
    both sides; colour, contrast, brightness and sharpness, which the test sets ImageNet-C and CIFAR-C contain, are left
    out as in the paper. Its level is uniform in [0.1, severity]; level 10 would be 0 bits (of 4 at level 0), inversion
    from 0, 30 degrees, a shear of 0.3, a third of the side. As in the authors' code but for shears, these are whole
    numbers, posterize leaves 4 bits at most, and shears leave the upper or left border where it is.

    Operations work on levels of 0 to 255, so the normalisation is undone, the result cut to that range, and normalised
    again. Where it is not known (a loop of others, without ``mean`` and ``std``), the lowest and the highest value of
    each image take the places of 0 and 255.

    Deviations: all runs on the batch. Levels are rounded before autocontrast, equalize, posterize and solarize, not
    behind each operation; what is warped in fades into the black beside it within a pixel. The divergence is computed
    from logarithms, which has the same value and no infinite slope where a prediction is 0. No gradient passes the
    chains to the image. A batch of one stays as it is, but for one with a bank.

    Args:
        severity: highest level, from 0.1 to 10; the authors' 3 for CIFAR, for ImageNet they have 1.
        width: number of chains, at least 1.
        depth: operations in each chain, at least 1; -1 draws 1 to 3 for each.
        alpha: of both laws, from 0.01 to 10000.
        jsd: whether to train with the divergence; without it one augmented view takes the place of the batch, which
            ``mix()`` and regression targets need.
        jsd_weight: weight of the divergence, at least 0.
        mean: of the normalisation, per channel in units of 0..1; None: what the learner's preprocessor says.
        std: the same, above 0.
    """

    label = 'semantic'
    losses_train = 'network'
    paper = 'https://arxiv.org/abs/1912.02781'
    exempt = {
        'identical_images_stay_identical': 'each image is augmented by itself',
        'every_pixel_has_its_turn': 'shears leave the upper and the left border where they are',
    }

    def __init__(
        self,
        severity: float = 3.0,
        width: int = 3,
        depth: int = -1,
        alpha: float = 1.0,
        jsd: bool = True,
        jsd_weight: float = 12.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not is_number(severity, LEAST_LEVEL, TOP_LEVEL):
            raise InputError(f'AugMix(severity={severity!r}): expected a number from 0.1 to 10; the paper has 3.')
        if not is_whole(width, 1):
            raise InputError(f'AugMix(width={width!r}): expected a whole number of at least 1, the number of chains.')
        if not is_whole(depth, 1) and depth != -1:
            raise InputError(f'AugMix(depth={depth!r}): expected a whole number of at least 1, or -1 for 1 to 3.')
        if not is_number(alpha) or not 0.01 <= alpha < 1e4:
            raise InputError(f'AugMix(alpha={alpha!r}): expected a number from 0.01 to 10000, as of Dirichlet(alpha).')
        if not isinstance(jsd, bool):
            raise InputError(f'AugMix(jsd={jsd!r}): expected True or False; its weight is jsd_weight.')
        if not is_number(jsd_weight, 0):
            raise InputError(f'AugMix(jsd_weight={jsd_weight!r}): expected a number of at least 0; the paper has 12.')
        check_normalisation('AugMix', mean, std)
        self.severity, self.width, self.depth, self.alpha = severity, width, depth, alpha
        self.jsd, self.jsd_weight, self.mean, self.std = jsd, jsd_weight, mean, std

    @property
    def rate(self) -> float:
        """Nothing is mixed with another image."""
        return 0.0

    @property
    def operators(self) -> int:  # type: ignore[override]
        """Some for each operation of a chain, and those before and behind."""
        return 17 + 40 * self._longest

    @property
    def _longest(self) -> int:
        return RANDOM_DEPTH if self.depth == -1 else self.depth

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Two augmented views, for their predictions only, and the clean batch; or one augmented view."""
        if self.jsd and batch.target == 'regression':
            raise InputError(
                'AugMix(jsd=True) compares predicted distributions of classes, but the targets are those of a '
                'regression: give jsd=False.'
            )
        clean = self.unmixed(batch).views[0]
        pictures = self.augmented(batch.images, 2 if self.jsd else 1, ctx)
        share = 0.0 if self.jsd else 1.0
        views = tuple(replace(clean, inputs=each, lazy_masks=None, share=share) for each in pictures)
        return Plan(batch, (*views, clean) if self.jsd else views, self, join=self.jsd)

    def augmented(self, images: Tensor, views: int, ctx: Context) -> Tensor:
        """(views, N, C, H, W) mixtures of the images (N, C, H, W) with their chains."""
        size, total = len(images), views * len(images)
        weight, share = self.draw_weights(total, ctx.rng)
        layers = self.draw_layers(total * self.width, (images.shape[2], images.shape[3]), ctx.rng)
        index = torch.arange(total * self.width).view(total, self.width)
        owner = index.flatten() // self.width % size
        drawn = (owner, index, weight.float(), share.view(views, size, 1, 1, 1).to(images.dtype))
        parts = [part for layer in layers for part in layer.parts()]
        low, spread = level_range('AugMix', images, self.mean, self.std, ctx)
        low, spread, owner, index, weight, share, *parts = to_device(images.device, low, spread, *drawn, *parts)
        # a level becomes an index, which a NaN must not
        levels = (images.detach().float() - low).div_(spread).mul_(255).nan_to_num_().clamp_(0, 255)
        chains = levels.contiguous().index_select(0, owner)
        for place, layer in enumerate(layers):
            layer.apply(chains, *parts[4 * place : 4 * place + 4])
        mixed = Mixture(index, weight).of(chains).view(views, *images.shape)
        return torch.lerp(images, torch.addcmul(low, mixed, spread / 255).to(images.dtype), share)

    def draw_weights(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(count, width) float64 weights of the chains, which sum to 1, and (count,) float64 share m of all of them."""
        both = []
        for length in (self.width, 2):
            law = torch.full((count, length), float(self.alpha), dtype=torch.float64)
            both.append(torch._sample_dirichlet(law, generator=rng))
        return both[0], both[1][:, 0]

    def draw_layers(self, count: int, size: tuple[int, int], rng: torch.Generator) -> list[Layer]:
        """The operations of ``count`` chains on images of ``size`` (H, W), one layer for each place in a chain."""
        steps = self._longest
        length = (
            torch.randint(1, steps + 1, (count,), generator=rng) if self.depth == -1 else torch.full((count,), steps)
        )
        kind, amount = drawn_operations((steps, count), self.severity, size, rng)
        layers = []
        for step in range(steps):
            places = (length > step).nonzero()[:, 0]
            layers.append(Layer.drawn(places, kind[step, places], amount[step, places], size))
        return layers

    def finish(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:  # noqa: ARG002
        """Add the divergence of the predictions."""
        if not plan.join:  # one view, or nothing was augmented
            return plan
        logits = torch.stack([output.logits for output in outputs])
        term = self.jsd_weight * jensen_shannon(logits, plan.batch.target == 'multilabel')
        return replace(plan, losses={**plan.losses, 'jsd': term})


def jensen_shannon(logits: Tensor, multilabel: bool = False) -> Tensor:
    """() mean over the samples of the Jensen-Shannon divergence of the predictions of several views.

    Args:
        logits: (V, N, C).
        multilabel: each class is a distribution of its own, over which the mean is taken too.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_p = F.logsigmoid(torch.stack([logits, -logits], -1)) if multilabel else logits.log_softmax(-1)
    p = log_p.exp()
    log_mean = p.mean(0).clamp(LEAST_MEAN, 1).log()
    return (p * (log_p - log_mean)).sum(-1).mean()
