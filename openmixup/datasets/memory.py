"""Data sets that live whole in memory, or whole on the accelerator, as one uint8 tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from openmixup.errors import InputError
from openmixup.randomness import keyed_generator
from openmixup.registry import DATASETS

__all__ = ['InMemoryDataset']


@DATASETS.register_module()
class InMemoryDataset(Dataset):
    """Images and class labels in two tensors; a batch is two ``index_select`` calls, with no object per sample.

    Args:
        images: uint8, (N, C, H, W).
        labels: whole numbers in [0, number of classes), (N,).
        classes: names of the classes in the order of their labels; by default the numbers '0', '1', ... as far as
            the largest label.
        per_class: keep this many images of each class (the low-data protocol), drawn at random but fixed by
            ``subset_seed``; None keeps all.
        subset_seed: seed of that draw. No global random state is read or changed.

    Attributes:
        images: uint8 tensor, (N, C, H, W).
        labels: int64 tensor, (N,).
        classes: names, a tuple of str.

    Raises:
        InputError: wrong shapes or types, a label outside the classes, or a class with fewer than ``per_class`` images.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        classes: Sequence[str] | None = None,
        per_class: int | None = None,
        subset_seed: int = 0,
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise InputError(
                f'images are {images.dtype} of shape {tuple(images.shape)}; give torch.uint8 of shape (N, C, H, W).'
            )
        if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.is_complex():
            raise InputError(
                f'labels are {labels.dtype} of shape {tuple(labels.shape)}; '
                f'give whole numbers of shape ({len(images)},), one for each image.'
            )
        if not len(images):
            raise InputError('the data set has 0 images; give at least one.')
        labels = labels.to(torch.int64)
        low, high = int(labels.min()), int(labels.max())
        if classes is None:
            classes = [str(i) for i in range(high + 1)]
        if low < 0 or high >= len(classes):
            raise InputError(
                f'labels run from {low} to {high} with {len(classes)} classes; give 0 to {len(classes) - 1}.'
            )
        self.classes: tuple[str, ...] = tuple(classes)
        if per_class is not None:
            keep = self._draw_subset(labels, per_class, subset_seed)
            images, labels = images.index_select(0, keep), labels.index_select(0, keep)
        self.images = images.contiguous()
        self.labels = labels

    def _draw_subset(self, labels: Tensor, per_class: int, seed: int) -> Tensor:
        """Indices, in rising order, of ``per_class`` images of each class."""
        if isinstance(per_class, bool) or not isinstance(per_class, int) or per_class < 1:
            raise InputError(f'per_class={per_class!r}: give a whole number of at least 1, or None for all images.')
        kept = []
        for label, name in enumerate(self.classes):
            members = (labels == label).nonzero()[:, 0]
            if len(members) < per_class:
                raise InputError(
                    f'per_class={per_class}, but class {name!r} has {len(members)} images; give a smaller number.'
                )
            order = torch.randperm(len(members), generator=keyed_generator(seed, 'subset', label))
            kept.append(members[order[:per_class]])
        return torch.cat(kept).sort().values

    @property
    def num_classes(self) -> int:
        """Number of classes, those without an image included."""
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image."""
        return tuple(self.images.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the storage lives."""
        return self.images.device

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample: inputs uint8 (C, H, W) and labels (). Views of the storage: do not write to them."""
        return {'inputs': self.images[index], 'labels': self.labels[index]}

    def __getitems__(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """A batch: inputs uint8 (B, C, H, W) and labels int64 (B,), both new tensors on the device of the storage."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        if index.device != self.device:
            if self.device.type == 'cuda':
                index = index.pin_memory()
            index = index.to(self.device, non_blocking=True)
        return {'inputs': self.images.index_select(0, index), 'labels': self.labels.index_select(0, index)}

    def to(self, device: torch.device | str) -> InMemoryDataset:
        """Move the storage; returns the data set itself. Batches are then made where the training runs."""
        self.images = self.images.to(device)
        self.labels = self.labels.to(device)
        return self

    def __repr__(self) -> str:
        shape = 'x'.join(str(s) for s in self.images.shape[1:])
        return f'{type(self).__name__}({len(self)} images {shape}, {self.num_classes} classes, on {self.device})'
