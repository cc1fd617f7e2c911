"""Data sets that live whole in memory, or whole on the accelerator, as one uint8 tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from openmixup.checks import is_whole
from openmixup.datasets.checks import check_choice
from openmixup.datasets.selection import Selectable, per_class_index
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['InMemoryDataset']


@DATASETS.register_module()
class InMemoryDataset(Selectable, Dataset):
    """Images and labels in two tensors; a batch is two ``index_select`` calls, with no object per sample.

    Args:
        images: uint8, (N, C, H, W).
        labels: whole numbers in [0, number of classes), (N,); for a regression finite floats, (N,) or (N, D).
        classes: names of the classes in the order of their labels; by default the numbers '0', '1', ... as far as
            the largest label. A regression has none.
        per_class: keep this many images of each class (the low-data protocol), drawn at random but fixed by
            ``subset_seed``; None keeps all.
        subset_seed: seed of that draw. No global random state is read or changed.
        target: 'class' or 'regression'.

    Attributes:
        images: uint8 tensor, (N, C, H, W).
        labels: int64 tensor, (N,); for a regression float32, (N,) or (N, D).
        classes: names, a tuple of str.

    Raises:
        InputError: wrong shapes or types, a label outside the classes, or a class with fewer than ``per_class`` images.
    """

    images: Tensor

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        classes: Sequence[str] | None = None,
        per_class: int | None = None,
        subset_seed: int = 0,
        target: str = 'class',
    ) -> None:
        check_choice('target', target, ('class', 'regression'))
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise InputError(
                f'images are {images.dtype} of shape {tuple(images.shape)}; give torch.uint8 of shape (N, C, H, W).'
            )
        if not len(images):
            raise InputError('the data set has 0 images; give at least one.')
        self.images = images.contiguous()
        if target == 'regression':
            self._set_values(labels, classes, per_class)
        else:
            self._set_classes(labels, classes)
        if per_class is not None:
            index = self._draw_subset(per_class, subset_seed)
            self.labels = self.labels[index]
            self._keep(index)

    def _set_classes(self, labels: Tensor, classes: Sequence[str] | None) -> None:
        """Take class numbers and names, or refuse them."""
        if labels.shape != self.images.shape[:1] or labels.is_floating_point() or labels.is_complex():
            raise InputError(
                f'labels are {labels.dtype} of shape {tuple(labels.shape)}; '
                f'give whole numbers of shape ({len(self.images)},), one for each image.'
            )
        labels = labels.to(torch.int64)
        low, high = int(labels.min()), int(labels.max())
        if classes is None:
            classes = [str(i) for i in range(high + 1)]
        if low < 0 or high >= len(classes):
            raise InputError(
                f'labels run from {low} to {high} with {len(classes)} classes; give 0 to {len(classes) - 1}.'
            )
        self.labels, self.classes = labels, tuple(classes)

    def _set_values(self, labels: Tensor, classes: Sequence[str] | None, per_class: int | None) -> None:
        """Take the targets of a regression, or refuse them."""
        if classes is not None or per_class is not None:
            raise InputError("target='regression' has no classes: leave classes and per_class out.")
        count = len(self.images)
        if not labels.is_floating_point() or labels.ndim not in (1, 2) or len(labels) != count or not labels.numel():
            raise InputError(
                f'labels are {labels.dtype} of shape {tuple(labels.shape)}; give floats of shape ({count},) or '
                f"({count}, D) with target='regression'."
            )
        if not bool(labels.isfinite().all()):
            raise InputError('labels of a regression are infinite or NaN: leave these images out.')
        self.labels, self.classes = labels.to(torch.float32), ()

    def _draw_subset(self, per_class: int, seed: int) -> Tensor:
        """Indices, in rising order, of ``per_class`` images of each class."""
        if not is_whole(per_class, 1):
            raise InputError(f'per_class={per_class!r}: give a whole number of at least 1, or None for all images.')
        sizes = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        for name, size in zip(self.classes, sizes, strict=True):
            if size < per_class:
                raise InputError(f'per_class={per_class}, but class {name!r} has {size} images; give a smaller number.')
        return per_class_index(self.labels, [per_class] * len(sizes), seed)

    def _keep(self, index: Tensor) -> None:
        self.images = self.images.index_select(0, index.to(self.images.device))

    @property
    def num_classes(self) -> int | None:
        """Number of classes, those without an image included; None for a regression."""
        return len(self.classes) or None

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
        """One sample: inputs uint8 (C, H, W) and its label. Views of the storage: do not write to them."""
        return {'inputs': self.images[index], 'labels': self.labels[index]}

    def __getitems__(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """A batch: inputs uint8 (B, C, H, W) and labels (B, ...), both new tensors on the device of the storage."""
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
        if self.clean_labels is not None:
            self.clean_labels = self.clean_labels.to(device)
        return self

    def __repr__(self) -> str:
        shape = 'x'.join(str(s) for s in self.images.shape[1:])
        kind = f'{self.num_classes} classes' if self.classes else 'regression'
        return f'{type(self).__name__}({len(self)} images {shape}, {kind}, on {self.device})'
