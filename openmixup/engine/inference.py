"""A trained model for new images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from openmixup.datasets.decode import read_image
from openmixup.datasets.sample_crop import SampleCrop
from openmixup.datasets.selection import innermost
from openmixup.engine.checkpoint import load_weights, read_checkpoint
from openmixup.engine.config import load_config
from openmixup.engine.published import data_of
from openmixup.errors import InputError
from openmixup.registry import DATASETS, MODELS, accepted_arguments

__all__ = ['Classifier', 'Regressor', 'init_model', 'trained_learner', 'without_downloads']

LUMA = 0.299, 0.587, 0.114  # of red, green and blue in grey (ITU-R BT.601)


class Predictor:
    """A trained network with what it needs to look at image files.

    Args:
        learner: the trained learner, in eval mode.
        crop: brings a decoded image to the network's size.
        channels: 1 or 3.
    """

    def __init__(self, learner: Any, crop: SampleCrop, channels: int) -> None:
        self.learner, self.crop, self.channels = learner, crop, channels

    def read(self, path: str | os.PathLike) -> Tensor:
        """uint8 (C, H, W) of an image file, at the size and with the channels of the training data."""
        image = self.crop(read_image(path), torch.Generator())
        if self.channels == 1:  # rounded, unlike torchvision's, so that grey files keep their values
            image = (image * torch.tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True).round().to(torch.uint8)
        return image

    @torch.no_grad()
    def outputs(self, images: Tensor) -> Tensor:
        """(N, outputs) float32 outputs of the network for raw uint8 images (N, C, H, W), on its device."""
        batch = self.learner.data_preprocessor({'inputs': images}, training=False)
        return self.learner(batch['inputs']).float()

    def __call__(self, paths: Sequence[str | os.PathLike]) -> list[dict[str, Any]]:
        """What is told of each image file, with its ``path``.

        Raises:
            InputError: anything but a list of paths, or a file that is no image.
        """
        if isinstance(paths, str | os.PathLike):
            raise InputError(f"{os.fspath(paths)!r} is one path: give a list of them, as model(['image.jpg']).")
        found = next((type(path).__name__ for path in paths if not isinstance(path, str | os.PathLike)), None)
        if found is not None:
            raise InputError(f'an image is given as {found}: expected the paths of image files.')
        if not len(paths):
            return []
        return self.told(paths, self.outputs(torch.stack([self.read(path) for path in paths])))

    def told(self, paths: Sequence[str | os.PathLike], outputs: Tensor) -> list[dict[str, Any]]:
        """A dict for each of the paths from the outputs (N, outputs)."""
        raise NotImplementedError(f'{type(self).__name__} must write told(paths, outputs)')


class Classifier(Predictor):
    """Tells classes.

    Args:
        learner: the trained learner, in eval mode.
        classes: class names.
        crop: brings a decoded image to the network's size.
        channels: 1 or 3.
    """

    def __init__(self, learner: Any, classes: Sequence[str], crop: SampleCrop, channels: int) -> None:
        super().__init__(learner, crop, channels)
        self.classes = tuple(classes)

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, num_classes) class probabilities of raw uint8 images (N, C, H, W), on the CPU."""
        return self.outputs(images).softmax(1).cpu()

    def told(self, paths: Sequence[str | os.PathLike], outputs: Tensor) -> list[dict[str, Any]]:
        """The most probable class of each image: ``path``, ``label``, ``class`` and ``probability``."""
        best = outputs.softmax(1).cpu().max(1)
        return [
            {'path': str(path), 'label': label, 'class': self.classes[label], 'probability': probability}
            for path, label, probability in zip(paths, best.indices.tolist(), best.values.tolist(), strict=True)
        ]


class Regressor(Predictor):
    """Tells the values of a regression."""

    def told(self, paths: Sequence[str | os.PathLike], outputs: Tensor) -> list[dict[str, Any]]:
        """The values of each image, in the units and the order of the training labels: ``path`` and ``values``."""
        return [{'path': str(path), 'values': row} for path, row in zip(paths, outputs.tolist(), strict=True)]


def init_model(
    config: str | Path | Config, checkpoint: str | Path, device: str | None = None
) -> Classifier | Regressor:
    """The model of a config with the weights of a checkpoint, ready to predict; no data set is needed.

    Args:
        config: file, name of a shipped config, or loaded config. Those in Python are code: use only what you trust.
        checkpoint: file written by training or published; read as tensors and plain data, nothing in it is run.
        device: 'cpu', 'cuda' ...; None: the GPU if there is one.

    Raises:
        InputError: the files are missing, damaged or do not fit each other, or there is no such device.
    """
    loaded = config if isinstance(config, Config) else load_config(config)
    if loaded.get('test_dataloader') is None:
        raise InputError('the config has no test_dataloader: use the config that the model was trained with.')
    learner, meta = trained_learner({**loaded, 'model': without_downloads(loaded['model'])}, checkpoint)
    channels, *size = meta['image_shape']
    crop = _crop(loaded['test_dataloader']['dataset'], size)
    if not meta['classes']:
        return Regressor(learner.to(_device(device)), crop, channels)
    return Classifier(learner.to(_device(device)), meta['classes'], crop, channels)


def trained_learner(config: Mapping[str, Any], checkpoint: str | Path) -> tuple[Any, dict[str, Any]]:
    """The learner of a config with the weights of a checkpoint, in eval mode, and what the checkpoint says of the data.

    Args:
        config: a loaded config.
        checkpoint: file written by training or published.

    Returns:
        The learner, and a dict with ``classes`` (names) and ``image_shape`` (C, H, W).

    Raises:
        InputError: the files are missing, damaged or do not fit each other.
    """
    for name in ('data_preprocessor', 'backbone', 'head'):
        if (config if name == 'data_preprocessor' else config['model']).get(name) is None:
            raise InputError(f'the config has no {name}: use the config that the model was trained with.')
    content = read_checkpoint(checkpoint)
    classes, shape = data_of(content, checkpoint)
    if not shape or (not classes and config['model'].get('target') != 'regression'):
        raise InputError(f'{checkpoint} does not say which images it was trained on: use a checkpoint of a run.')
    model = {**config['model'], 'data_preprocessor': config['data_preprocessor']}
    model['backbone'] = {**model['backbone'], 'pretrained': None}  # the checkpoint has the weights
    if 'pretrained' not in (accepted_arguments(MODELS.get(model['backbone']['type'])) or ()):
        model['backbone'].pop('pretrained')
    if model['head'].get('num_classes') is None:
        model['head'] = {**model['head'], 'num_classes': len(classes) or _values(content, checkpoint)}
    learner = MODELS.build(model)
    load_weights(learner, checkpoint, strict=True)
    return learner.eval(), {'classes': classes, 'image_shape': shape}


def _values(content: Mapping[str, Any], checkpoint: str | Path) -> int:
    """Number of values that a regression tells, from the last bias of its head."""
    state = content.get('state_dict') or {}
    biases = [
        value for name, value in state.items() if name.startswith('student.heads.main.') and name.endswith('bias')
    ]
    if not biases:
        raise InputError(f'{checkpoint} does not show how many values it predicts: set model.head.num_classes.')
    return len(biases[-1])


def without_downloads(model: Mapping[str, Any]) -> dict[str, Any]:
    """``model`` whose policy asks for no pretrained weights: what it looks at in training is not needed elsewhere."""

    def stripped(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: None if key == 'pretrained' else stripped(item) for key, item in value.items()}
        return [stripped(item) for item in value] if isinstance(value, list | tuple) else value

    return {**model, **({'policy': stripped(model['policy'])} if model.get('policy') else {})}


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].rstrip('.')
        raise InputError(f'device {name!r} cannot be used ({reason}): choose another, such as cpu.') from error
    return device


def _crop(dataset: dict, size: list[int]) -> SampleCrop:
    """What the test set of the config does to an image, or a plain resize where images come at their size."""
    dataset = innermost(dataset)
    if 'crop' in (accepted_arguments(DATASETS.get(dataset['type'])) or ()):
        return SampleCrop(size, **{**dataset.get('crop', {}), 'random': False})
    return SampleCrop(size, random=False, resize=max(size))
