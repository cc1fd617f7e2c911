"""The value objects that policies, learners and losses share.

Every mixing method answers one question: who is mixed with whom, and with what weight. :class:`Mixture` is that
answer; the rest says which pictures it refers to (:class:`Batch`), what the network shall see (:class:`View`) and
everything that one training step needs (:class:`Plan`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from openmixup.errors import InputError

if TYPE_CHECKING:
    from openmixup.policies.base import MixPolicy

__all__ = ['Batch', 'Mixture', 'Plan', 'Tap', 'View', 'target_kind']

TARGETS = ('class', 'soft', 'multilabel', 'regression')
DIMENSIONS = {'class': 1, 'soft': 2, 'multilabel': 2}
FORMS = (
    'class indices (N,) of an integer type, soft or multi-hot targets (N, C) of a float type, '
    "or float values with target='regression'"
)


def target_kind(labels: Tensor, size: int, target: str | None = None) -> str:
    """The target kind of ``labels`` for a batch of ``size`` images: one of ``class soft multilabel regression``.

    Only dtype and shape are looked at, never a value, so that nothing is read from the device.

    Raises:
        InputError: the labels have none of the accepted forms.
    """
    if target is not None and target not in TARGETS:
        raise InputError(f'target={target!r} is not a target kind: expected one of {", ".join(TARGETS)}.')
    if not isinstance(labels, Tensor):
        raise InputError(f'labels are a {type(labels).__name__}: expected a tensor, {FORMS}.')
    dims, floating = labels.ndim, labels.is_floating_point()
    integer = not (floating or labels.is_complex() or labels.dtype == torch.bool)
    kind = target or ('soft' if floating else 'class')
    sized = dims > 0 and labels.shape[0] == size
    if sized and (integer if kind == 'class' else floating) and dims == DIMENSIONS.get(kind, dims):
        return kind
    found = f'labels of shape {tuple(labels.shape)} and type {labels.dtype} for {size} images'
    if not sized:
        raise InputError(f'{found}: expected one label per image, {FORMS}.')
    hint = ' Convert class indices with labels.long().' if floating and dims == 1 else ''
    hint = ' Convert multi-hot labels with labels.float().' if integer and dims == 2 else hint
    raise InputError(f'{found} are no {kind} targets: expected {FORMS}.{hint}')


@dataclass(frozen=True, eq=False)
class Batch:
    """Where pictures come from: sources 0 to N-1 are the batch itself, sources from N on its bank.

    Args:
        images: (N, C, H, W), normalised, floating point.
        labels: one per image, see :func:`target_kind`; None where a learner has none.
        bank: further sources: a second loader, the previous batch, another view.
        target: kind of the labels: 'class', 'soft', 'multilabel' or 'regression'.
    """

    images: Tensor
    labels: Tensor | None
    bank: Batch | None = None
    target: str = 'class'

    def __len__(self) -> int:
        """N, the number of images without the bank."""
        return self.images.shape[0]  # len() of a tensor takes longer than drawing a number

    @property
    def source_images(self) -> Tensor:
        """(S, C, H, W) images of all sources, the bank's behind the batch's own."""
        return self.images if self.bank is None else torch.cat([self.images, self.bank.source_images])

    @property
    def source_labels(self) -> Tensor:
        """(S, ...) labels of all sources, the bank's behind the batch's own."""
        assert self.labels is not None
        if self.bank is None:
            return self.labels
        return torch.cat([self.labels, self.bank.source_labels])


@dataclass(frozen=True, eq=False)
class Mixture:
    """Who is mixed with whom, and with what weight.

    Args:
        index: (N, K) int64 into the sources of a :class:`Batch`; column 0 is the sample itself by convention only.
        weight: (N, K) float weights of these sources; they need not sum to one.
    """

    index: Tensor
    weight: Tensor

    def __len__(self) -> int:
        """N, the number of mixed samples."""
        return self.index.shape[0]

    def of(self, values: Tensor) -> Tensor:
        """(N, ...) weighted sums of ``values`` (S, ...), floating point: images, features or regression targets.

        One fused kernel that gathers, scales and sums, so no gathered copy of the sources is made.
        """
        size, count = self.index.shape
        starts = torch.arange(0, size * count, count, device=self.index.device)
        rows, weight = values.reshape(values.shape[0], -1), self.weight.to(values.dtype).flatten()
        mixed = torch.embedding_bag(rows, self.index.flatten(), starts, per_sample_weights=weight)[0]
        return mixed.view(size, *values.shape[1:])

    def soft(self, labels: Tensor, num_classes: int | None = None) -> Tensor:
        """(N, C) dense targets, float.

        Args:
            labels: (S,) class indices or (S, C) float targets of the sources.
            num_classes: C; needed for class indices only.
        """
        if target_kind(labels, len(labels)) == 'soft':
            if num_classes not in (None, labels.shape[1]):
                raise InputError(f'num_classes={num_classes}, but the soft labels have {labels.shape[1]} columns.')
            return self.of(labels)
        if num_classes is None:
            raise InputError('num_classes is missing: class indices need it to become (N, num_classes) targets.')
        target = self.weight.new_zeros(len(self), num_classes)
        try:
            return target.scatter_add_(1, labels.long()[self.index], self.weight)
        except (IndexError, RuntimeError) as error:  # on a CPU; looking before would be a read from any other device
            if {labels.device.type, self.index.device.type} != {'cpu'} or not len(labels):
                raise
            least, most, source = int(labels.min()), int(labels.max()), int(self.index.max())
            if least >= 0 and most < num_classes and source < len(labels):
                raise
            raise InputError(
                f'{len(labels)} labels from {least} to {most} for sources up to {source} and '
                f'num_classes={num_classes}: expected a label from 0 to {num_classes - 1} for each source.'
            ) from error


@dataclass(frozen=True, eq=False)
class Tap:
    """A change of a hidden tensor during one forward pass.

    Args:
        stage: which of the backbone's stages; its output is replaced.
        function: maps the stage's output to the tensor that the next stage gets.
    """

    stage: int
    function: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class View:
    """One forward pass of the network.

    Args:
        inputs: (N, C, H, W) what the network sees.
        mixture: of what the inputs (or the tapped features) are made; gives the targets.
        lazy_masks: makes :attr:`masks`; only pictures and label methods ask for them.
        tap: a hidden stage to change on the way.
        read: what this forward pass must return beside logits: 'attention' (of the class token to the patches, in the
            last block), 'received' (what each patch gets of the attention of all patches, in the last block),
            'rollout' (shares of the patches in the class token, by the attention of all blocks), 'features' (the last
            map).
        head: name of the classifier head.
        share: weight of this view's loss; 0 means forward only.
    """

    inputs: Tensor
    mixture: Mixture
    lazy_masks: Callable[[], Tensor] | None = None
    tap: Tap | None = None
    read: tuple[str, ...] = ()
    head: str = 'main'
    share: float = 1.0

    @property
    def masks(self) -> Tensor | None:
        """(N, K, H, W) share of each source at each pixel, made when asked for; None if pixels are not mixed."""
        return None if self.lazy_masks is None else self.lazy_masks()


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that one training step needs from a policy.

    Args:
        batch: the sources.
        views: the forward passes.
        policy: the policy that made the plan.
        losses: auxiliary loss terms by name, already weighted.
        inner: of a policy around another one: the plan of that one, which its ``finish`` needs.
        join: all views go through the network in one pass, as one batch for its BatchNorm.
    """

    batch: Batch
    views: tuple[View, ...]
    policy: MixPolicy
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    inner: Plan | None = None
    join: bool = False

    @property
    def mixed(self) -> int:
        """Place of the first trained view of several sources; 0 if there is none. It is the one to log and to show.

        A policy around another one may leave the learner's loss out and train the views by a term of its own, so the
        inner plan, whose views come first, is asked before.
        """
        if self.inner is not None and self.views[self.inner.mixed].mixture.index.shape[1] > 1:
            return self.inner.mixed
        several = [view.share != 0 and view.mixture.index.shape[1] > 1 for view in self.views]
        return several.index(True) if True in several else 0

    @property
    def chosen(self) -> MixPolicy:
        """The innermost policy: of a composition, the member that made the mixture."""
        return self.policy if self.inner is None else self.inner.chosen
