"""Image files with labels, decoded sample by sample, in worker processes if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from openmixup.datasets.bad_images import BadImages
from openmixup.datasets.checks import check_choice
from openmixup.datasets.decode import read_image
from openmixup.datasets.sample_crop import SampleCrop
from openmixup.datasets.selection import Selectable
from openmixup.errors import InputError, did_you_mean
from openmixup.randomness import keyed_generator
from openmixup.registry import accepted_arguments

__all__ = ['ImageFiles']


class ImageFiles(Selectable, Dataset):
    """Paths and labels; the base of :class:`ImageFolder`, :class:`ImageList` and the published sets.

    A sample depends on (seed, epoch, index) alone, whatever the number of workers. The epoch comes from
    :meth:`set_epoch` (shared with running workers) or inside the index: ``index + epoch * length``.

    Args:
        paths: image files.
        labels: class numbers, or for regression any finite numbers, one for each path.
        classes: names of the classes; None: the labels are targets of a regression.
        size: side, or (height, width), of the samples in pixels.
        train: random crops, and ``on_error='skip'`` by default; else central crops and 'raise'.
        crop: further arguments of :class:`SampleCrop`.
        seed: seed of the crops.
        on_error: 'raise' at an unreadable image, or 'skip': the next readable file in the order of ``paths`` takes its
            place, with the label of that file and the crop of the sample, so that the number of samples is the same on
            every process and the choice depends on the index alone.
        bad_image_budget: different unreadable images that are skipped before one raises: a number, or a share of all
            images below 1; see :class:`openmixup.datasets.bad_images.BadImages` for who counts together.

    Attributes:
        bad_images: the unreadable images so far.

    Raises:
        InputError: no image, a class without any, or a value out of its range.
    """

    reads_epoch = True

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[float],
        classes: Sequence[str] | None,
        size: int | Sequence[int] = 224,
        train: bool = True,
        crop: dict | None = None,
        seed: int = 0,
        on_error: str | None = None,
        bad_image_budget: float = 10,
    ) -> None:
        import PIL.Image  # noqa: F401  imported here, so that forked workers need not
        import torchvision.transforms.v2  # noqa: F401

        self.paths = list(paths)
        self.labels = torch.as_tensor(labels, dtype=torch.float32 if classes is None else torch.int64)
        if classes is None:
            self.labels = self.labels.reshape(len(self.paths), -1)
        self.classes: tuple[str, ...] = tuple(classes or ())
        on_error = on_error or ('skip' if train else 'raise')
        check_choice('on_error', on_error, ('raise', 'skip'))
        crop = dict(crop or {})
        accepted = (accepted_arguments(SampleCrop) or set()) - {'size'}
        for key in crop:
            if key not in accepted:
                hint = did_you_mean(key, accepted)
                raise InputError(f'crop has no argument {key!r}{hint} (it takes {", ".join(sorted(accepted))}).')
        self.crop = SampleCrop(size, **{'random': train, **crop})
        self.train, self.seed = train, seed
        self.on_error, self.bad_images = on_error, BadImages(bad_image_budget, len(self.paths))
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def _keep(self, index: Tensor) -> None:
        self.paths = [self.paths[i] for i in index.tolist()]
        self.bad_images = BadImages(self.bad_images.given, len(self.paths))
        self._epoch = self._epoch.clone().share_memory_()

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for regression."""
        return len(self.classes) or None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image of a batch."""
        return (3, *self.crop.size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the crops of an epoch, in running workers too. Call it before the epoch's first batch is asked for."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """The samples of the current epoch, once each; by index there is no end, since an index may carry an epoch."""
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample: inputs uint8 (3, *size), labels int64 (), or float32 (1,) for regression.

        Raises:
            InputError: an unreadable image, by ``on_error`` and ``bad_image_budget``.
        """
        if index < -len(self):
            raise IndexError(f'index {index} with {len(self)} images')
        carried, index = divmod(int(index), len(self)) if index >= 0 else (0, int(index) % len(self))
        epoch = int(self._epoch) + carried
        for step in range(len(self)):
            place = (index + step) % len(self)
            try:
                image = read_image(self.paths[place])
            except InputError as error:
                if self.on_error == 'raise':
                    raise
                self.bad_images.add(self.paths[place], error)
                continue
            rng = keyed_generator(self.seed, 'crop', epoch, index)
            return {'inputs': self.crop(image, rng), 'labels': self.labels[place]}
        raise InputError(
            f'none of the {len(self)} images can be decoded; the first is {self.paths[0]}: check the files.'
        )

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """A batch: inputs uint8 (B, 3, *size), labels int64 (B,), or float32 (B, 1) for regression."""
        samples = [self[int(i)] for i in indices]
        return {key: torch.stack([s[key] for s in samples]) for key in ('inputs', 'labels')}

    def __repr__(self) -> str:
        kind = f'{self.num_classes} classes' if self.classes else 'regression'
        return f'{type(self).__name__}({len(self)} files, {kind})'
