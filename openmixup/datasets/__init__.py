"""Data sets in memory and in files, batch samplers, loaders, and transforms of whole batches."""

from openmixup.datasets.cifar import CIFAR10, CIFAR100
from openmixup.datasets.digits import Digits
from openmixup.datasets.folder import ImageFolder, ImageList
from openmixup.datasets.idx import FashionMNIST
from openmixup.datasets.label_noise import label_noise
from openmixup.datasets.loading import build_dataloader
from openmixup.datasets.memory import InMemoryDataset
from openmixup.datasets.rcfmnist import RCFMNIST
from openmixup.datasets.repeated import RepeatedBatchSampler
from openmixup.datasets.samplers import EpochBatchSampler, InfiniteBatchSampler
from openmixup.datasets.subsets import class_balanced, long_tail, subset
from openmixup.datasets.tiny_imagenet import TinyImageNet
from openmixup.datasets.transforms import (
    BatchTransform,
    ColorJitter,
    Compose,
    Normalize,
    Pad,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Resize,
)

__all__ = [
    'CIFAR10', 'CIFAR100', 'RCFMNIST', 'BatchTransform', 'ColorJitter', 'Compose', 'Digits', 'EpochBatchSampler',
    'FashionMNIST', 'ImageFolder', 'ImageList', 'InMemoryDataset', 'InfiniteBatchSampler', 'Normalize', 'Pad',
    'RandAugment', 'RandomCrop', 'RandomErasing', 'RandomFlip', 'RandomResizedCrop', 'RepeatedBatchSampler', 'Resize',
    'TinyImageNet', 'build_dataloader', 'class_balanced', 'label_noise', 'long_tail', 'subset',
]  # fmt: skip
