"""What must fit between the images of the data and the network, before the first step."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.models.backbones import Backbone
from openmixup.models.mix_classifier import MixClassifier
from openmixup.models.preprocessor import BatchPreprocessor
from openmixup.models.probe import frozen

__all__ = ['check_images']


def check_images(learner: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Pass one black image of each data set through the preprocessor and the backbone.

    That takes less time than to build the network, and leaves weights, statistics, modes and random state as they are.
    Backbones of others may need an accelerator or half precision: of these only channels and size are told.

    Args:
        learner: the model; of another class than ``MixClassifier`` with a ``BatchPreprocessor`` it is not checked.
        shapes: (C, H, W) of the images, by the part of the run that they serve: 'train', 'val', 'test'.

    Raises:
        InputError: the network cannot take the images.
    """
    if not isinstance(learner, MixClassifier) or not isinstance(learner.data_preprocessor, BatchPreprocessor):
        return
    preprocessor = copy.copy(learner.data_preprocessor)  # which counts its calls
    backbone, seen = learner.student.backbone, set()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), frozen(backbone, weights=False):
        for part, shape in shapes.items():
            raw = torch.zeros(1, *shape, dtype=torch.uint8)
            images = preprocessor({'inputs': raw}, training=part == 'train')['inputs']
            if images.shape in seen:
                continue
            seen.add(images.shape)
            try:
                backbone(images)
            except InputError:
                raise
            except (RuntimeError, AssertionError, ValueError, IndexError) as error:  # whatever a network checks by
                reason = _misfit(backbone, images, part, error)
                if reason:
                    raise InputError(reason) from error


def _misfit(backbone: Backbone, images: Tensor, part: str, error: Exception) -> str:
    """Why ``backbone`` cannot take ``images`` (1, C, H, W); empty if that is not known."""
    name = type(backbone).__name__
    channels, size = images.shape[1], tuple(images.shape[2:])
    first = next((module for module in backbone.modules() if isinstance(module, nn.Conv2d)), None)
    if first is not None and first.in_channels != channels:
        return (
            f'{name} was built for in_channels={first.in_channels}, but the {part} images have {channels}: '
            f'set model.backbone.in_channels={channels}.'
        )
    if backbone.image_size not in (None, size):
        made, found = ('x'.join(map(str, sides)) for sides in (backbone.image_size, size))
        return (
            f'{name} is made for images of {made}, but the {part} images reach it as {found}: resize them, or build it '
            'for them (model.backbone.options has img_size for timm, image_size for torchvision).'
        )
    if not type(backbone).__module__.startswith('openmixup.'):
        return ''
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')
    shape = tuple(images.shape[1:])
    return f'{name} cannot take the {part} images, which reach it as {shape} ({reason}): use another size or backbone.'
