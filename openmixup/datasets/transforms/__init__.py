"""Transforms of whole batches: one call per batch, on the device where the batch lives."""

from openmixup.datasets.transforms.base import BatchTransform, Compose
from openmixup.datasets.transforms.colour import Normalize, RandomErasing
from openmixup.datasets.transforms.geometry import Pad, RandomCrop, RandomFlip, RandomResizedCrop, Resize

__all__ = [
    'BatchTransform', 'Compose', 'Normalize', 'Pad', 'RandomCrop', 'RandomErasing', 'RandomFlip', 'RandomResizedCrop',
    'Resize',
]  # fmt: skip
