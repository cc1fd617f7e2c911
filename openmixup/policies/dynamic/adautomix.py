"""AdAutoMix (Qin et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.context import Context, Network
from openmixup.policies.dynamic.automix import AutoMix
from openmixup.policies.dynamic.k_mix_block import KMixBlock
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import pair_index, partners
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['AdAutoMix', 'mixed_similarity']

COSINES = ('published', 'preserve')


class _Draws(NamedTuple):
    """What one step drew, on the device of the images."""

    mixtures: list[Mixture]  # of the generator branch and of the classifier branch
    modes: list[str]  # how masks are enlarged
    learned: Tensor | None  # (N, 1, 1, 1) 1 where the classifier sees learned masks, else 0; None: all alike
    constant: bool  # the classifier sees constant masks only


@POLICIES.register_module()
class AdAutoMix(AutoMix):
    """A network learns masks for K images and is trained, every second step, against the momentum teacher.

    Two branches as in :class:`AutoMix`. Each sample is made of K images, itself and K - 1 others, with weights that are
    K draws of Beta(alpha, alpha) divided by their sum (K = 2: lam and 1 - lam). :class:`KMixBlock` makes K masks that
    sum to 1. The student learns from the mixture by masks (head 'mix'), and from the plain images and, for K > 2, from
    the linear blend of the same images with the same weights (head 'main').

    With CE the teacher's loss on the mixture and cos = sum_k w_k cos(z_mix, z_k), its logits z_mix on the mixture and
    z_k on the plain images, the loss of the block is in adversarial steps

        -beta CE + (1 - beta) cos   ('published': drives the mixture away from its images)
        -beta CE + (1 - beta) (1 - cos)   ('preserve': holds it near them)

    and CE in the others. The sign of 'published' is that of the code that published the figures; what the paper says it
    is for calls for 'preserve'. The equation of the paper was not checked. One optimizer step holds all of it.

    Deviations: the sample itself is always one of the K, which only reorders the batch; logits of plain images come
    from the head 'mix', in the pass that gives the features; masks are constant where the least of the K weights is not
    above the margin, where the authors look at the first weight and a port of their code trained on constant masks
    almost always. Left out: a number of images that is drawn anew each step.

    Published settings: CIFAR-100 as by default; Tiny-ImageNet beta 0.4; ImageNet ``k=2``, beta 0.1 and
    ``block=dict(embedding='concat', norm=True)``; CUB and Aircraft beta 0.3 (Aircraft lam_margin 0), Cars 0.5; for
    CIFAR-10 none were published.

    Args:
        alpha: of Beta(alpha, alpha), above 0.
        k: K, number of images of a sample, itself included, at least 2.
        per: 'batch' for one draw of weights a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' for K - 1 of them, so that an image may meet itself (the authors' code); 'derangement'
            for K different images, as far as the batch has so many; 'flip' for K = 2 only.
        stage: stage of the teacher whose features the block sees, as of :class:`AutoMix`.
        block: arguments of :class:`KMixBlock`; ``channels`` is filled from the network.
        classifier: ``mixed`` (1, above 0), weight of the loss on the mixture by masks; ``linear`` in [0, 1) (0.5, for
            K = 2 it is 0), share of the linear blend in the loss of the head 'main', the rest is that of plain images;
            ``lam_margin`` (0.03, in [0, 1/K)).
        generator: as of AutoMix, and ``adversarial`` (2): of so many steps that train the block the first is an
            adversarial one, 0 for none; ``beta`` (0.3, in [0, 1]); ``cosine`` 'published' or 'preserve'.

    Raises:
        InputError: an argument is out of its range, or the network lacks what is asked for.
    """

    operators = 90  # of up to four images
    paper = 'https://arxiv.org/abs/2312.11954'

    RANGES: ClassVar[tuple[tuple[str, str, str, Callable[[float], bool]], ...]] = (
        *(row for row in AutoMix.RANGES if row[1] not in ('clean', 'mask_adjust')),
        ('generator', 'adversarial', 'that is whole and at least 0', lambda x: x >= 0 and x % 1 == 0),
        ('generator', 'beta', 'in [0, 1]', lambda x: 0 <= x <= 1),
    )
    BLOCK_TYPE: ClassVar[type[KMixBlock]] = KMixBlock
    BLOCK: ClassVar[dict[str, Any]] = {'channels': None, 'embedding': 'none', 'norm': False, 'upsample': 'bilinear'}
    MASK_LOSS: ClassVar[dict[str, Any]] = {**AutoMix.MASK_LOSS, 'weight': 0.0}
    CLASSIFIER: ClassVar[dict[str, Any]] = {'mixed': 1.0, 'linear': None, 'lam_margin': 0.03}
    GENERATOR: ClassVar[dict[str, Any]] = {**AutoMix.GENERATOR, 'adversarial': 2, 'beta': 0.3, 'cosine': 'published'}

    def __init__(
        self,
        alpha: float = 1.0,
        k: int = 3,
        per: str = 'batch',
        pairing: str = 'permutation',
        stage: int = 2,
        block: dict[str, Any] | None = None,
        classifier: dict[str, Any] | None = None,
        generator: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(alpha, per, pairing, stage, block, None, classifier, generator)
        if not is_whole(k, 2):
            raise InputError(f'AdAutoMix(k={k!r}): expected a whole number of at least 2, the images of a sample.')
        if pairing == 'flip' and k > 2:
            raise InputError(f"AdAutoMix(pairing='flip', k={k}): flip pairs two images; use another pairing or k=2.")
        self.k = k
        margin, linear = (self._classifier[key] for key in ('lam_margin', 'linear'))
        if margin >= 1 / k:
            raise InputError(f'AdAutoMix(classifier=dict(lam_margin={margin})): expected a number in [0, 1/{k}).')
        linear = (0.5 if k > 2 else 0.0) if linear is None else linear
        if not is_number(linear) or not 0 <= linear < 1:
            raise InputError(f'AdAutoMix(classifier=dict(linear={linear!r})): expected a number in [0, 1) or None.')
        self._classifier['linear'] = linear
        cosine = self._generator['cosine']
        if cosine not in COSINES:
            hint = did_you_mean(str(cosine), COSINES)
            raise InputError(
                f'AdAutoMix(generator=dict(cosine={cosine!r})): expected one of {", ".join(COSINES)}{hint}.'
            )

    @property
    def lam_beta(self) -> tuple[float, float] | None:
        """The law of the weights of two images; of more there is none of one lam."""
        return super().lam_beta if self.k == 2 else None

    def bind(self, network: Network) -> None:
        """As AutoMix; adversarial steps need logits of classes, whose cosines are told apart."""
        if network.target == 'regression' and self._generator['adversarial'] and self.frozen_from is None:
            raise InputError(
                'AdAutoMix compares logits of classes by their cosine in adversarial steps, but the target is '
                'regression: give generator=dict(adversarial=0).'
            )
        super().bind(network)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Views of the plain images, the mixture by masks and the linear blend, and the losses of the block."""
        block, images, size = self._bound_block(), batch.images, batch.images.shape[-2:]
        trained, draws = self._trained(ctx), self._drawn(batch, ctx)
        losses: dict[str, Tensor] = {}
        mixture = draws.mixtures[1]
        masks = mixture.weight[..., None, None]
        if trained or not draws.constant:
            features, clean = self._look(images, trained and self._adversarial(ctx), ctx)
            with nullcontext() if trained else torch.no_grad():
                shared = block.project(features)
            if trained:
                first, mode = draws.mixtures[0], draws.modes[0]
                shares = block(features, first.index, first.weight, size, mode, shared)
                losses = self._terms(blend(images, shares, first), clean, batch, first, ctx)
            if not draws.constant:
                with torch.no_grad():
                    shares = block(features, mixture.index, mixture.weight, size, draws.modes[1], shared)
                    if draws.learned is not None:
                        shares = torch.lerp(masks.to(shares.dtype), shares, draws.learned.to(shares.dtype))
                masks = shares
        linear = self._classifier['linear']
        plain = replace(self.unmixed(batch).views[0], share=1 - linear)
        views = [plain, self._view(blend(images, masks, mixture), masks, mixture, 'mix', self._classifier['mixed'])]
        if linear:
            weights = mixture.weight[..., None, None]
            views.append(self._view(mixture.of(images), weights, mixture, 'main', linear))
        return Plan(batch, tuple(views), self, losses)

    def _view(self, inputs: Tensor, masks: Tensor, mixture: Mixture, head: str, share: float) -> View:
        size = inputs.shape[-2:]
        return View(inputs, mixture, lambda: masks.expand(-1, -1, *size), head=head, share=share)

    def _look(self, images: Tensor, adversarial: bool, ctx: Context) -> tuple[Tensor, Tensor | None]:
        """The teacher's features, and its logits on the plain images if they are needed, from the same pass."""
        if adversarial:
            return ctx.probe.features_and_logits(images, stage=self.stage, head='mix', of='teacher')
        return ctx.probe.features(images, stage=self.stage, of='teacher'), None

    def _adversarial(self, ctx: Context) -> bool:
        """Whether a step that trains the block is an adversarial one: the first of each ``adversarial``."""
        interval = self._generator['adversarial']
        return interval > 0 and ctx.step // self._generator['every'] % interval == 0

    def _drawn(self, batch: Batch, ctx: Context) -> _Draws:
        """All draws of both branches, whether or not the block is trained. More than two images share the weights."""
        size, block = len(batch), self._bound_block()
        rows = size if self.per == 'sample' else 1
        weights = [self._weights(rows, ctx.rng)]
        weights.append(self._weights(rows, ctx.rng) if self.k == 2 else weights[0])
        index = [self._sources(size, ctx.rng) for _ in range(2)]
        modes = [block.draw_mode(ctx.rng) for _ in range(2)]
        learned = weights[1].amin(1) > self._classifier['lam_margin']
        count = int(learned.sum())  # known on the CPU, so nothing is read from the device
        some = [learned.float()[:, None, None, None]] if 0 < count < len(learned) else []
        whole = [weight.float().expand(size, self.k).contiguous() for weight in weights]
        there = to_device(batch.images.device, *index, *whole, *some)
        mixtures = [Mixture(there[i], there[2 + i]) for i in range(2)]
        return _Draws(mixtures, modes, there[4] if some else None, count == 0)

    def _weights(self, rows: int, rng: torch.Generator) -> Tensor:
        """(rows, K) float64 on the CPU; the rows sum to 1."""
        if self.k == 2:
            lam = self.draw_lam(rows, rng)
            return torch.stack([lam, 1 - lam], 1)
        drawn = self.draw_lam(rows * self.k, rng).view(rows, self.k)
        drawn = drawn.clamp(min=torch.finfo(drawn.dtype).tiny)  # all may be 0 if alpha is small
        return drawn / drawn.sum(1, keepdim=True)

    def _sources(self, size: int, rng: torch.Generator) -> Tensor:
        """(N, K) int64 on the CPU, the sample itself first."""
        if self.k == 2:
            return pair_index(partners(self.pairing, size, rng))
        if self.pairing == 'permutation':
            own = torch.arange(size)
            return torch.stack([own, *(partners('permutation', size, rng) for _ in range(self.k - 1))], 1)
        order = torch.randperm(size, generator=rng)
        place = torch.empty_like(order).index_copy_(0, order, torch.arange(size))
        return order[(place[:, None] + torch.arange(self.k)) % size]  # the sample, then those behind it in the order

    def _terms(
        self, mixed: Tensor, clean: Tensor | None, batch: Batch, mixture: Mixture, ctx: Context
    ) -> dict[str, Tensor]:
        """The weighted losses of the block; ``clean`` are the teacher's logits on the plain images, None: no attack."""
        logits = ctx.probe.logits(mixed, head='mix', of='teacher')
        weight, beta = self._generator['loss_weight'], self._generator['beta']
        loss = self.generator_loss(logits, batch, mixture, ctx).mean()
        if clean is None:
            return {'generator': weight * loss}
        near = mixed_similarity(logits, clean, mixture).mean()
        term = near if self._generator['cosine'] == 'published' else 1 - near
        return {'generator': -weight * beta * loss, 'cosine': weight * (1 - beta) * term}


def mixed_similarity(logits: Tensor, clean: Tensor, mixture: Mixture) -> Tensor:
    """(N,) weighted mean of the cosines between logits of a mixture and those of its images, in float32 at least.

    Args:
        logits: (N, num_classes) of the mixtures.
        clean: (S, num_classes) of the sources.
        mixture: of what they are made.
    """
    logits, clean = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (logits, clean))
    cosines = functional.cosine_similarity(logits[:, None], clean[mixture.index], dim=-1)
    return (cosines * mixture.weight).sum(1)


def blend(images: Tensor, masks: Tensor, mixture: Mixture) -> Tensor:
    """(N, C, H, W) images of the batch, of which column 0 is the own one, by masks (N, K, H or 1, W or 1)."""
    parts = masks.to(images.dtype).split(1, 1)
    mixed = images * parts[0]
    for share, index in zip(parts[1:], mixture.index.unbind(1)[1:], strict=True):
        mixed = torch.addcmul(mixed, images.index_select(0, index), share)
    return mixed
