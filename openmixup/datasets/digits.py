"""The 1,797 handwritten digits inside scikit-learn: real data without a download."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from openmixup.datasets.checks import check_choice
from openmixup.datasets.memory import InMemoryDataset
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['Digits']

_TRAIN = 1000


@DATASETS.register_module()
class Digits(InMemoryDataset):
    """8x8 grey digits: the first 1,000 images for training, the last 797 (mostly of other writers) for the test.

    The values 0..16 of the source are scaled to 0..255.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), as packed by scikit-learn.

    Args:
        split: 'train' or 'test'.
        size: side of the square images in pixels, enlarged bilinearly; None keeps 8.
        per_class: see :class:`InMemoryDataset`; for split='train' only.
        subset_seed: seed of that draw.

    Raises:
        InputError: unknown split, a size below 1, or scikit-learn is not installed.
    """

    def __init__(
        self, split: str = 'train', size: int | None = None, per_class: int | None = None, subset_seed: int = 0
    ) -> None:
        check_choice('split', split, ('train', 'test'))
        if size is not None and size < 1:
            raise InputError(f'size={size}: give a side of at least 1 pixel, or None for 8.')
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise InputError('Digits needs scikit-learn; install it with `pip install scikit-learn`.') from error
        source = load_digits()
        part = slice(None, _TRAIN) if split == 'train' else slice(_TRAIN, None)
        images = torch.tensor(source.images[part], dtype=torch.float32)[:, None] * (255 / 16)
        if size is not None and size != images.shape[-1]:
            images = F.interpolate(images, size=(size, size), mode='bilinear', antialias=True)
        super().__init__(
            images.round().clamp(0, 255).to(torch.uint8),
            torch.tensor(source.target[part], dtype=torch.int64),
            [str(i) for i in range(10)],
            per_class=per_class if split == 'train' else None,
            subset_seed=subset_seed,
        )
