"""The classification models of torchvision as backbones."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openmixup.errors import InputError, did_you_mean
from openmixup.models.backbones.base import Backbone
from openmixup.models.backbones.cifar_stem import apply_stem
from openmixup.models.backbones.pretrained import check_cached, load_pretrained, only_weights
from openmixup.registry import MODELS

__all__ = ['TorchvisionBackbone']


def _relu(x: Tensor) -> Tensor:
    return torch.relu(x)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


def _first_token(x: Tensor) -> Tensor:
    return x[:, 0]


_Step = str | Callable[[Tensor], Tensor]
# Per class, by name: the steps to the last feature map, the steps to the vector, the module that ends in the classifier
# and the hidden stages (a name that ends in '*' stands for its children before each drop of the resolution). The steps
# repeat the forward of torchvision's classes, which is one function and cannot be asked for its middle.
_FAMILIES: dict[str, tuple[tuple[_Step, ...], tuple[_Step, ...], str, tuple[str, ...]]] = {
    'ResNet': (
        ('conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2', 'layer3', 'layer4'),
        ('avgpool', _flatten),
        'fc',
        ('layer1', 'layer2', 'layer3', 'layer4'),
    ),
    'ShuffleNetV2': (
        ('conv1', 'maxpool', 'stage2', 'stage3', 'stage4', 'conv5'),
        (_mean,),
        'fc',
        ('stage2', 'stage3', 'stage4'),
    ),
    'RegNet': (
        ('stem', 'trunk_output'),
        ('avgpool', _flatten),
        'fc',
        tuple(f'trunk_output.block{i}' for i in range(1, 5)),
    ),
    'DenseNet': (
        ('features', _relu),
        (_mean,),
        'classifier',
        tuple(f'features.denseblock{i}' for i in range(1, 5)),
    ),
    'VGG': (('features',), ('avgpool', _flatten, 'classifier'), 'classifier', ('features*',)),
    'AlexNet': (('features',), ('avgpool', _flatten, 'classifier'), 'classifier', ('features*',)),
    'MNASNet': (('layers',), (_mean, 'classifier'), 'classifier', ('layers*',)),
    'MobileNetV2': (('features',), (_mean, 'classifier'), 'classifier', ('features*',)),
    'MobileNetV3': (('features',), ('avgpool', _flatten, 'classifier'), 'classifier', ('features*',)),
    'EfficientNet': (('features',), ('avgpool', _flatten, 'classifier'), 'classifier', ('features*',)),
    'ConvNeXt': (('features',), ('avgpool', 'classifier'), 'classifier', ('features*',)),
    'SwinTransformer': (
        ('features', 'norm', 'permute'),
        ('avgpool', 'flatten'),
        'head',
        tuple(f'features.{i}' for i in (1, 3, 5, 7)),
    ),
    'VisionTransformer': (('encoder',), (_first_token, 'heads'), 'heads', ('encoder.layers.*',)),
    'MaxVit': (('stem', 'blocks'), ('classifier',), 'classifier', ('blocks.*',)),
    'SqueezeNet': (('features',), ('classifier', _flatten), 'classifier', ('features*',)),
    'GoogLeNet': (
        (
            '_transform_input', 'conv1', 'maxpool1', 'conv2', 'conv3', 'maxpool2', 'inception3a', 'inception3b',
            'maxpool3', *(f'inception4{i}' for i in 'abcde'), 'maxpool4', 'inception5a', 'inception5b',
        ),
        ('avgpool', _flatten, 'dropout'),
        'fc',
        ('inception3b', 'inception4e', 'inception5b'),
    ),
    'Inception3': (
        (
            '_transform_input', 'Conv2d_1a_3x3', 'Conv2d_2a_3x3', 'Conv2d_2b_3x3', 'maxpool1', 'Conv2d_3b_1x1',
            'Conv2d_4a_3x3', 'maxpool2', *(f'Mixed_5{i}' for i in 'bcd'), *(f'Mixed_6{i}' for i in 'abcde'),
            *(f'Mixed_7{i}' for i in 'abc'),
        ),
        ('avgpool', 'dropout', _flatten),
        'fc',
        ('Mixed_5d', 'Mixed_6e', 'Mixed_7c'),
    ),
}  # fmt: skip
# Options that the network would not choose by itself: no classifiers in its middle, which nothing here would train, and
# the initialisation of its authors, which torchvision is about to leave.
_OPTIONS: dict[str, dict[str, Any]] = {
    'googlenet': {'aux_logits': False, 'init_weights': True},
    'inception_v3': {'aux_logits': False, 'init_weights': True},
}
_MIDDLE = ('aux1', 'aux2', 'AuxLogits')  # the classifiers that files of these networks have


@MODELS.register_module()
class TorchvisionBackbone(Backbone):
    """A classification network of torchvision without its classifier.

    The bare torchvision network is the sub-module ``net``, the last linear layer (of SqueezeNet the last convolution)
    of which is taken out. All families are covered; GoogLeNet and Inception come without the classifiers in their
    middle, and torchvision's weights for them want ``options=dict(transform_input=True)`` if they come from a file.

    Args:
        model: a torchvision name such as ``'resnet50'`` or ``'vit_b_16'``.
        pretrained: the path of a local .safetensors or .pth file; its classifier is left out. True lets torchvision
            download its default weights.
        stem: ``'cifar'`` keeps the resolution of small pictures: ResNet family, DenseNet, ConvNeXt.
        in_channels: channels of the pictures.
        options: further arguments of the torchvision model, such as ``dict(image_size=32)`` for a ViT.

    Attributes:
        stages: ``layer1`` to ``layer4`` of a ResNet, the last module at each resolution of a network made of one
            sequence, the layers of a ViT.

    Shape:
        Images (N, in_channels, H, W); features (N, C, H', W'), or (N, tokens, C) for ViT; vectors (N, num_features).

    Raises:
        InputError: unknown model, option, stem or weights.
    """

    net: Any  # of a class that only torchvision knows

    def __init__(
        self,
        model: str,
        pretrained: str | Path | bool | None = None,
        stem: str = 'default',
        in_channels: int = 3,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pretrained is True and (stem != 'default' or in_channels != 3):
            raise InputError(
                'pretrained=True of TorchvisionBackbone has weights for the default stem and 3 channels only; '
                'leave stem and in_channels out or give a file.'
            )
        self.net = _create(model, pretrained is True, dict(options or {}))
        family = next((c.__name__ for c in type(self.net).__mro__ if c.__name__ in _FAMILIES), None)
        if family is None:
            raise InputError(
                f'model={model!r} of torchvision cannot be a backbone here (its class {type(self.net).__name__} is not '
                'covered); use TimmBackbone.'
            )
        self._to_features, self._to_vector, last, stages = _FAMILIES[family]
        self._tokens = family == 'VisionTransformer'
        classifier, self.num_features = _remove_classifier(self.net, last)
        if in_channels != 3:
            _set_in_channels(self.net, in_channels)
        apply_stem(self.net, stem, model)
        if pretrained is not None and not isinstance(pretrained, bool):
            load_pretrained(self.net, pretrained, classifier=(classifier, *_MIDDLE))
        self.stages = tuple(f'net.{name}' for stage in stages for name in _expand(self.net, stage))
        if self._tokens:
            self.prefix_tokens, self.image_size = 1, (self.net.image_size, self.net.image_size)
        elif family == 'SwinTransformer':  # its stages, unlike its last map, have the channels behind
            widths = [self.net.get_submodule(name.removeprefix('net.'))[-1].norm1 for name in self.stages]
            self.channels_behind = True
            self.expected_channels = tuple(norm.normalized_shape[0] for norm in widths)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map: (N, C, H', W'), or (N, tokens, C) with the class token first for ViT."""
        if self._tokens:
            patches = self.net._process_input(images)
            images = torch.cat([self.net.class_token.expand(len(patches), -1, -1), patches], 1)
        return self._run(self._to_features, images)

    def pool(self, features: Tensor) -> Tensor:
        """Vectors (N, num_features): all that lies between the last feature map and the classifier."""
        return self._run(self._to_vector, features)

    def _run(self, steps: tuple[_Step, ...], x: Tensor) -> Tensor:
        for step in steps:
            part = getattr(self.net, step) if isinstance(step, str) else step
            for module in part if isinstance(part, nn.ModuleList) else (part,):
                x = module(x)
        return x


def _create(model: str, download: bool, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    names = models.list_models(models)
    if model not in names:
        raise InputError(f'model={model!r} is not a torchvision classification model{did_you_mean(model, names)}.')
    for name in options:
        if name in ('weights', 'pretrained', 'num_classes', 'progress'):
            raise InputError(f'option {name!r} of TorchvisionBackbone cannot be set under options; leave it out.')
    options = {**_OPTIONS.get(model, {}), **options}
    try:
        net = models.get_model(model, weights=None, **options)
    except Exception as error:  # torchvision checks by TypeError and ValueError alike
        raise InputError(
            f'torchvision could not build model={model!r} with options {options}: {error}; check the options.'
        ) from error
    if not download:
        return net
    check_cached(models.get_model_weights(model).DEFAULT.url)
    try:
        with only_weights():
            return models.get_model(model, weights='DEFAULT', **options)
    except Exception as error:  # whatever the network, the cache or the hash check raise
        raise InputError(
            f'pretrained=True could not get the weights of {model!r} ({type(error).__name__}); '
            'fetch the file elsewhere and give its path as pretrained.'
        ) from error


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition('.')
    setattr(net.get_submodule(parent), child, module)


def _remove_classifier(net: nn.Module, last: str) -> tuple[str, int]:
    """Take the last layer with weights below ``last`` out; its name and the length of the vectors it was given."""
    kinds = (nn.Linear, nn.Conv2d)
    name, layer = [
        (name, m) for name, m in net.named_modules() if f'{name}.'.startswith(f'{last}.') and isinstance(m, kinds)
    ][-1]
    _replace(net, name, nn.Identity())
    return name, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _set_in_channels(net: nn.Module, in_channels: int) -> None:
    name, old = next((name, m) for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
    arguments = {k: getattr(old, k) for k in inspect.signature(nn.Conv2d).parameters if hasattr(old, k)}
    conv = nn.Conv2d(**arguments | {'in_channels': in_channels, 'bias': old.bias is not None})
    nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
    _replace(net, name, conv)


def _halves(module: nn.Module) -> bool:
    """Whether ``module`` has a convolution or pooling of stride above one."""
    for child in module.modules():
        stride = getattr(child, 'stride', 1)
        if isinstance(child, nn.Conv2d | nn.MaxPool2d) and max(stride if isinstance(stride, tuple) else (stride,)) > 1:
            return True
    return False


def _expand(net: nn.Module, stage: str) -> list[str]:
    if not stage.endswith('*'):
        return [stage]
    name = stage.rstrip('.*')
    children = list(net.get_submodule(name).named_children())
    if stage.endswith('.*'):
        return [f'{name}.{child}' for child, _ in children]
    ends = [i for i in range(len(children)) if i + 1 == len(children) or _halves(children[i + 1][1])]
    return [f'{name}.{children[i][0]}' for i in ends]
