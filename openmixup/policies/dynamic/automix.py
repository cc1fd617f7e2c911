"""AutoMix (Liu et al., ECCV 2022)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import PairPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.dynamic.mask_loss import MaskLoss
from openmixup.policies.dynamic.mix_block import MixBlock, Projections
from openmixup.policies.masks import own_masks
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import pair_index, pair_weights, partners
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['AutoMix']


class _Branch(NamedTuple):
    """What was drawn for the generator branch or for the classifier branch, on the device of the images."""

    mixture: Mixture
    code: Tensor  # (N, 2) or (1, 2), what the block is told of lam
    mode: str  # how masks are enlarged


class _Draws(NamedTuple):
    """What one step drew."""

    generator: _Branch
    classifier: _Branch
    learned: Tensor | None  # (N,) 1 where the classifier sees a learned mask, 0 where a constant one; None: all alike
    constant: bool  # the classifier sees constant masks only
    adjust: bool  # its learned masks are scaled


@POLICIES.register_module()
class AutoMix(PairPolicy):
    """A small network learns the masks, so that the momentum teacher recognises both images in the mixture.

    One step draws lam and partners twice. The *generator branch* mixes by masks of the first draw; its loss is that of
    the teacher's head 'mix', whose gradient goes through the frozen teacher into the block and nowhere else. The
    *classifier branch* mixes by masks of the second draw, without a gradient; the student learns from it by its head
    'mix', and from the plain images by its head 'main'. Masks are made of the teacher's features. Labels follow the
    drawn lam, so a mask loss holds the masks to it.

    Published settings: CIFAR-100 and Tiny-ImageNet as by default; at 224 pixels ``block=dict(embedding='concat')`` and
    ``mask_loss=dict(schedule='cosine')``, with ``kind='l1_variance'`` for ResNeXt-50 on fine-grained data; for CIFAR-10
    none were published. Left out: mixed instead of plain images for the head 'main', and another way of enlarging masks
    in the generator branch than in the classifier's.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0.
        per: 'batch' for one lam a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
        stage: stage of the teacher whose features the block sees, counted from 0; 2 is the third of a ResNet.
        block: arguments of :class:`MixBlock`; ``channels`` is filled from the network.
        mask_loss: arguments of :class:`MaskLoss`, which acts on the masks of the generator branch.
        classifier: ``clean`` and ``mixed`` (1 and 1), weights of the student's two losses, above 0. ``lam_margin``
            (0.08): where lam or 1 - lam is not above it, the mask is the constant lam. ``mask_adjust`` (0): probability
            that a batch has its masks scaled to a mean of lam each, by making the image smaller that shows too much.
            Scaling comes first, but the order does not matter: a constant mask has the mean lam already.
        generator: when the block is trained: in each step (micro-batch) whose number is a multiple of ``every`` (1),
            unless skipped with probability ``skip`` (0; published runs of DeiT and Swin on ImageNet have 0.2), until
            the share ``until`` (1) of the run is done. Other steps cost no pass of the generator branch.
            ``loss_weight`` (1) is the weight of its loss, above 0. ``pretrained`` (None): a checkpoint of an earlier
            run, or what ``publish_model --branch generator`` wrote of it, whose block and teacher stay as they are.
            Only the classifier learns then; the other entries and the teacher's decay do nothing. Network, ``stage``
            and ``block`` must be those of that run, of which only shapes can be checked; the classes may be others.

    Raises:
        InputError: an argument is out of its range, or the network lacks what is asked for.
    """

    label = 'drawn'
    needs = ('teacher', 'pixels')
    heads = ('mix',)
    operators = 60
    paper = 'https://arxiv.org/abs/2103.13027'

    RANGES: ClassVar[tuple[tuple[str, str, str, Callable[[float], bool]], ...]] = (
        ('classifier', 'clean', 'above 0', lambda x: x > 0),
        ('classifier', 'mixed', 'above 0', lambda x: x > 0),
        ('classifier', 'lam_margin', 'in [0, 0.5)', lambda x: 0 <= x < 0.5),
        ('classifier', 'mask_adjust', 'in [0, 1]', lambda x: 0 <= x <= 1),
        ('generator', 'every', 'that is whole and at least 1', lambda x: x >= 1 and x % 1 == 0),
        ('generator', 'until', 'in [0, 1]', lambda x: 0 <= x <= 1),
        ('generator', 'skip', 'in [0, 1)', lambda x: 0 <= x < 1),
        ('generator', 'loss_weight', 'above 0 (until=0 leaves the block as it is)', lambda x: x > 0),
    )
    BLOCK_TYPE: ClassVar[type[MixBlock]] = MixBlock
    BLOCK: ClassVar[dict[str, Any]] = {
        'channels': None, 'embedding': 'none', 'remap': -1.0, 'value': 'linear', 'dropout': 0.0, 'joint': False,
        'norm': False, 'upsample': 'nearest',
    }  # fmt: skip
    MASK_LOSS: ClassVar[dict[str, Any]] = {
        'kind': 'l1', 'weight': 0.1, 'margin': 0.1, 'per': 'batch', 'schedule': 'constant',
    }  # fmt: skip
    CLASSIFIER: ClassVar[dict[str, Any]] = {'clean': 1.0, 'mixed': 1.0, 'lam_margin': 0.08, 'mask_adjust': 0.0}
    GENERATOR: ClassVar[dict[str, Any]] = {
        'every': 1, 'until': 1.0, 'skip': 0.0, 'loss_weight': 1.0, 'pretrained': None,
    }  # fmt: skip

    def __init__(
        self,
        alpha: float = 2.0,
        per: str = 'batch',
        pairing: str = 'permutation',
        stage: int = 2,
        block: dict[str, Any] | None = None,
        mask_loss: dict[str, Any] | None = None,
        classifier: dict[str, Any] | None = None,
        generator: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(alpha, per, pairing)
        self.stage, self.block, self.mask_loss = stage, block, mask_loss
        self.classifier, self.generator = classifier, generator
        self._block = self._merged('block', block, self.BLOCK)
        self._mask_loss = MaskLoss(**self._merged('mask_loss', mask_loss, self.MASK_LOSS))
        self._classifier = self._merged('classifier', classifier, self.CLASSIFIER)
        self._generator = self._merged('generator', generator, self.GENERATOR)
        self._check()
        with torch.device('meta'):  # mistakes are told before there is a network, and no random stream is advanced
            self._built(1)
        self.mix_block: MixBlock | None = None
        self._network: Network | None = None

    def _merged(self, argument: str, given: Any, defaults: dict[str, Any]) -> dict[str, Any]:
        name = type(self).__name__
        if given is not None and not isinstance(given, Mapping):
            raise InputError(f'{name}({argument}={given!r}): expected a dict or None.')
        for key in given or ():
            if key not in defaults:
                raise InputError(
                    f'{name}({argument}=...) has no entry {key!r}{did_you_mean(key, defaults)} '
                    f'(it takes {", ".join(defaults)}).'
                )
        return {**defaults, **(given or {})}

    def _built(self, channels: int) -> MixBlock:
        block = self.BLOCK_TYPE(**{**self._block, 'channels': channels})
        return block if self.frozen_from is None else block.keep()

    def _check(self) -> None:
        if not is_whole(self.stage):
            raise InputError(f'{type(self).__name__}(stage={self.stage!r}): expected a whole number.')
        for argument, key, expected, holds in self.RANGES:
            value = getattr(self, f'_{argument}')[key]
            if not is_number(value) or not holds(value):
                name = f'{type(self).__name__}({argument}=dict({key}={value!r}))'
                raise InputError(f'{name}: expected a number {expected}.')
        pretrained = self._generator['pretrained']
        if pretrained is not None and not (isinstance(pretrained, str | os.PathLike) and os.fspath(pretrained)):
            name = f'{type(self).__name__}(generator=dict(pretrained={pretrained!r}))'
            raise InputError(f'{name}: expected the path of a checkpoint, or None.')

    @property
    def frozen_from(self) -> str | None:
        """The checkpoint of an earlier run whose block and teacher are kept."""
        pretrained = self._generator['pretrained']
        return None if pretrained is None else os.fspath(pretrained)

    @property
    def sometimes_unused(self) -> bool:
        """Whether the block gets no gradient in some steps, though it has some in others."""
        every, until, skip = (self._generator[key] for key in ('every', 'until', 'skip'))
        return self.frozen_from is None and (every > 1 or until < 1 or skip > 0)

    def bind(self, network: Network) -> None:
        """Build the block for the features of ``stage``; one that is there for an equal network is kept.

        Raises:
            InputError: no such stage, or ``block['channels']`` differs from its channels.
        """
        name = type(self).__name__
        channels = network.channels[network.stage(self.stage, name)]
        wanted = self._block['channels']
        if wanted not in (None, channels):
            raise InputError(
                f'{name}(block=dict(channels={wanted!r})), but stage {self.stage} of {network.name} has {channels} '
                'channels: leave channels out, or choose another stage.'
            )
        known = self._network in (None, network)  # None: loaded before it was bound
        if self.mix_block is None or self.mix_block.channels != channels or not known:
            self.mix_block = self._built(channels)
        self._network = network

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Build the block that the state was saved of, if none is there yet."""
        channels = self.BLOCK_TYPE.channels_of(state_dict, f'{prefix}mix_block.', self._block)
        if self.mix_block is None and channels is not None:
            self.mix_block = self._built(channels)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """A view of the plain images, one of the mixture, and the losses of the block if it is trained now."""
        block = self._bound_block()
        images, size = batch.images, len(batch)
        trained, draws = self._trained(ctx), self._draw(batch, block, ctx)
        losses: dict[str, Tensor] = {}
        mixture = draws.classifier.mixture
        own = mixture.weight[:, :1, None, None]  # lam as a mask
        if trained or not draws.constant:
            features = ctx.probe.features(images, stage=self.stage, of='teacher')
            with nullcontext() if trained else torch.no_grad():
                shared = block.project(features)
            if trained:
                masks = _masks(block, features, draws.generator, images, shared)
                losses = self._losses(masks, batch, draws.generator.mixture, ctx)
            if not draws.constant:
                with torch.no_grad():
                    own = _corrected(_masks(block, features, draws.classifier, images, shared), own, draws)
        mixed = _blend(images, own, mixture)
        clean = replace(self.unmixed(batch).views[0], share=self._classifier['clean'])
        height, width = images.shape[-2:]
        view = View(
            mixed, mixture, lambda: own_masks(own.expand(-1, -1, height, width), size),
            head='mix', share=self._classifier['mixed'],
        )  # fmt: skip
        return Plan(batch, (clean, view), self, losses)

    def _bound_block(self) -> MixBlock:
        if self.mix_block is None:
            raise InputError(
                f'{type(self).__name__} has no mix block yet: use it as policy of a MixClassifier, or call bind().'
            )
        return self.mix_block

    def _trained(self, ctx: Context) -> bool:
        """Whether the block is trained in this step; the same on all ranks."""
        if self.frozen_from is not None:
            return False
        every, until, skip = (self._generator[key] for key in ('every', 'until', 'skip'))
        skipped = skip > 0 and float(torch.rand(1, generator=ctx.shared_rng)) < skip
        return not skipped and ctx.step % every == 0 and (until == 1 or ctx.progress < until)

    def _draw(self, batch: Batch, block: MixBlock, ctx: Context) -> _Draws:
        """All draws of both branches, whether or not the block is trained."""
        size, chance = len(batch), self._classifier['mask_adjust']
        lams = [self.draw_lam(size if self.per == 'sample' else 1, ctx.rng) for _ in range(2)]
        pairs = [pair_index(partners(self.pairing, size, ctx.rng)) for _ in range(2)]
        modes = [block.draw_mode(ctx.rng) for _ in range(2)]
        adjust = chance > 0 and float(torch.rand(1, generator=ctx.rng)) < chance
        learned = torch.minimum(lams[1], 1 - lams[1]) > self._classifier['lam_margin']
        count = int(learned.sum())  # known on the CPU, so nothing is read from the device
        weights, codes = [pair_weights(lam, size) for lam in lams], [block.encode(lam) for lam in lams]
        some = [learned.float()] if 0 < count < len(learned) else []
        there = to_device(batch.images.device, *pairs, *weights, *codes, *some)
        branches = [_Branch(Mixture(there[i], there[2 + i]), there[4 + i], modes[i]) for i in range(2)]
        return _Draws(branches[0], branches[1], there[6] if some else None, count == 0, adjust)

    def _losses(self, own: Tensor, batch: Batch, mixture: Mixture, ctx: Context) -> dict[str, Tensor]:
        """The weighted losses of the block from its masks (N, 1, H, W)."""
        logits = ctx.probe.logits(_blend(batch.images, own, mixture), head='mix', of='teacher')
        losses = {'generator': self._generator['loss_weight'] * self.generator_loss(logits, batch, mixture, ctx).mean()}
        if self._mask_loss.weight:
            weight = self._mask_loss.weight_at(ctx.progress, ctx.step)
            losses['mask'] = weight * self._mask_loss(own, mixture.weight[:, 0])
        return losses

    def generator_loss(self, logits: Tensor, batch: Batch, mixture: Mixture, ctx: Context) -> Tensor:
        """(N,) loss of the teacher's logits (N, num_classes) on the mixtures that train the block."""
        return ctx.criterion(logits, batch.labels, mixture)


def _masks(block: MixBlock, features: Tensor, branch: _Branch, images: Tensor, shared: Projections) -> Tensor:
    height, width = images.shape[-2:]
    return block(features, branch.mixture.index[:, 1], branch.code, (height, width), branch.mode, shared)


def _blend(images: Tensor, own: Tensor, mixture: Mixture) -> Tensor:
    """(N, C, H, W) images of the batch and their partners, blended by own shares (N, 1, H or 1, W or 1)."""
    return torch.lerp(images.index_select(0, mixture.index[:, 1]), images, own.to(images.dtype))


def _corrected(own: Tensor, lam: Tensor, draws: _Draws) -> Tensor:
    """The classifier's masks: adjusted if the coin says so, and constant where lam is near 0 or 1.

    Args:
        own: (N, 1, H, W) learned share of the own image.
        lam: (N, 1, 1, 1) drawn share.
        draws: of the step.
    """
    lam = lam.to(own.dtype)
    if draws.adjust:
        # One of the two factors is 1: the image that shows more than it should becomes smaller.
        mean, tiny = own.mean((2, 3), keepdim=True), torch.finfo(own.dtype).tiny
        own = own * (lam / mean.clamp(min=tiny)).clamp(max=1)
        own = 1 - (1 - own) * ((1 - lam) / (1 - mean).clamp(min=tiny)).clamp(max=1)
    return own if draws.learned is None else torch.lerp(lam, own, draws.learned.to(own.dtype)[:, None, None, None])
