"""Transforms of whole batches: one call per batch, on the device where the batch lives."""

from openmixup.datasets.transforms.augment import RandAugment
from openmixup.datasets.transforms.base import BatchTransform, Compose
from openmixup.datasets.transforms.colour import ColorJitter, Normalize, RandomErasing
from openmixup.datasets.transforms.geometry import Pad, RandomCrop, RandomFlip, RandomResizedCrop, Resize

__all__ = [
    'BatchTransform', 'ColorJitter', 'Compose', 'Normalize', 'Pad', 'RandAugment', 'RandomCrop', 'RandomErasing',
    'RandomFlip', 'RandomResizedCrop', 'Resize',
]  # fmt: skip
