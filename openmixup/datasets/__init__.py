"""Data sets in memory and in files, batch samplers, loaders, and transforms of whole batches."""

from openmixup.datasets.ages import IMDBWIKI, AgeDB
from openmixup.datasets.aircraft import FGVCAircraft
from openmixup.datasets.cars import StanfordCars
from openmixup.datasets.cifar import CIFAR10, CIFAR100
from openmixup.datasets.cub import CUB200
from openmixup.datasets.digits import Digits
from openmixup.datasets.folder import ImageFolder, ImageList
from openmixup.datasets.idx import FashionMNIST
from openmixup.datasets.imagenet import ImageNet
from openmixup.datasets.inaturalist import INaturalist2017, INaturalist2018
from openmixup.datasets.label_noise import label_noise
from openmixup.datasets.loading import build_dataloader
from openmixup.datasets.memory import InMemoryDataset
from openmixup.datasets.places205 import Places205
from openmixup.datasets.rcfmnist import RCFMNIST
from openmixup.datasets.repeated import RepeatedBatchSampler
from openmixup.datasets.samplers import EpochBatchSampler, InfiniteBatchSampler
from openmixup.datasets.stl10 import STL10
from openmixup.datasets.subsets import class_balanced, long_tail, subset
from openmixup.datasets.tables import ImageTable
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
    'AgeDB', 'BatchTransform', 'CIFAR10', 'CIFAR100', 'CUB200', 'ColorJitter', 'Compose', 'Digits', 'EpochBatchSampler',
    'FGVCAircraft', 'FashionMNIST', 'IMDBWIKI', 'INaturalist2017', 'INaturalist2018', 'ImageFolder', 'ImageList',
    'ImageNet', 'ImageTable', 'InMemoryDataset', 'InfiniteBatchSampler', 'Normalize', 'Pad', 'Places205', 'RCFMNIST',
    'RandAugment', 'RandomCrop', 'RandomErasing', 'RandomFlip', 'RandomResizedCrop', 'RepeatedBatchSampler', 'Resize',
    'STL10', 'StanfordCars', 'TinyImageNet', 'build_dataloader', 'class_balanced', 'label_noise', 'long_tail', 'subset',
]  # fmt: skip
