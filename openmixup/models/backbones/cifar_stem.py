"""The stem for small pictures: keep the resolution where the ImageNet stem would divide it by four."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from openmixup.errors import InputError

__all__ = ['apply_stem']


def _conv3x3(inputs: int, outputs: int, bias: bool = False) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3, stride=1, padding=1, bias=bias)
    nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _first_conv(module: nn.Module) -> nn.Conv2d:
    return next(m for m in module.modules() if isinstance(m, nn.Conv2d))


def _resnet(net: Any) -> None:
    # A deep stem (resnet50d) is three convolutions in a row; the norm behind them knows the width.
    net.conv1 = _conv3x3(_first_conv(net.conv1).in_channels, net.bn1.num_features)
    net.maxpool = nn.Identity()


def _densenet(net: Any) -> None:
    conv = net.features.conv0
    net.features.conv0 = _conv3x3(conv.in_channels, conv.out_channels)
    net.features.pool0 = nn.Identity()


def _convnext(net: Any) -> None:
    stem = net.stem if hasattr(net, 'stem') else net.features[0]  # timm has the first, torchvision the second
    if sum(isinstance(m, nn.Conv2d) for m in stem.modules()) != 1:
        raise InputError("stem='cifar' needs a ConvNeXt with a patch stem; leave stem_type out of options.")
    conv = stem[0]
    stem[0] = _conv3x3(conv.in_channels, conv.out_channels, bias=conv.bias is not None)


# By class name, because timm and torchvision call these alike and neither should be imported here.
_SURGERY: dict[str, Callable[[Any], None]] = {'ResNet': _resnet, 'DenseNet': _densenet, 'ConvNeXt': _convnext}


def apply_stem(net: nn.Module, stem: str, model: str) -> None:
    """Change the stem of ``net`` in place.

    ``'default'`` changes nothing. ``'cifar'`` is the usual surgery for 32 to 64 px pictures: ResNet and DenseNet get a
    3x3 convolution of stride 1 without bias and lose the max pooling, ConvNeXt gets a 3x3 convolution of stride 1 for
    its 4x4 patches. The new convolution starts from He's normal initialisation.

    Args:
        net: a timm or torchvision network.
        stem: ``'default'`` or ``'cifar'``.
        model: the name of the network, for the error.

    Raises:
        InputError: there is no such stem, or the family has no CIFAR form.
    """
    if stem == 'default':
        return
    if stem != 'cifar':
        raise InputError(f"stem={stem!r} is neither 'default' nor 'cifar'.")
    family = next((cls.__name__ for cls in type(net).__mro__ if cls.__name__ in _SURGERY), None)
    if family is None:
        raise InputError(
            f"stem='cifar' exists for the ResNet family (ResNeXt and SE-ResNet too), DenseNet and ConvNeXt, not for "
            f'model={model!r}; a ViT or Swin takes a smaller patch_size in options instead.'
        )
    _SURGERY[family](net)
