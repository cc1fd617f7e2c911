"""The wide residual network for small pictures, which neither timm nor torchvision has."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.models.backbones.base import Backbone
from openmixup.registry import MODELS

__all__ = ['WideResNet']


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
    return conv


class _PreActivationBlock(nn.Module):
    """Norm, activation and 3x3 convolution, twice, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float, slope: float, norm: dict) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs, **norm)
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.norm2 = nn.BatchNorm2d(outputs, **norm)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = _conv(outputs, outputs, 3)
        self.shortcut = _conv(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else None
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        y = functional.leaky_relu(self.norm1(x), self.slope)
        # A projection starts from the activated input, the identity from the plain one.
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = functional.leaky_relu(self.norm2(self.conv1(y)), self.slope)
        return shortcut + self.conv2(self.dropout(y))


@MODELS.register_module()
class WideResNet(Backbone):
    """The pre-activation network WRN-depth-widen_factor of "Wide Residual Networks" (Zagoruyko and Komodakis, 2016).

    Three stages of 16, 32 and 64 channels, each times ``widen_factor``, at strides 1, 2 and 2 behind a 3x3
    convolution. With a linear head for 10 classes WRN-28-10 has 36.5 M parameters and WRN-28-2 has 1.47 M.

    Args:
        depth: number of layers, 6n + 4: 10, 16, 22, 28, 40.
        widen_factor: channels relative to the plain network, at least 1.
        dropout: share dropped between the convolutions of a block, in [0, 1).
        negative_slope: slope of the activation below zero; 0 is ReLU, semi-supervised recipes take 0.1.
        in_channels: channels of the pictures.
        bn_momentum: momentum of the batch norms as torch counts it; semi-supervised recipes take 0.001.
        bn_eps: epsilon of the batch norms; semi-supervised recipes take 0.001.

    Shape:
        Images (N, in_channels, H, W); features (N, 64 * widen_factor, H / 4, W / 4), normalised and activated; vectors
        (N, 64 * widen_factor).

    Raises:
        InputError: an argument is out of its range.
    """

    stages = ('stage1', 'stage2', 'stage3')

    def __init__(
        self,
        depth: int = 28,
        widen_factor: int = 10,
        dropout: float = 0.0,
        negative_slope: float = 0.0,
        in_channels: int = 3,
        bn_momentum: float = 0.1,
        bn_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise InputError(f'depth={depth} of WideResNet is not of the form 6n + 4 (10, 16, 22, 28, 34, 40, ...).')
        if widen_factor < 1:
            raise InputError(f'widen_factor={widen_factor} of WideResNet is below 1.')
        if not 0 <= dropout < 1:
            raise InputError(f'dropout={dropout} of WideResNet is not in [0, 1).')
        blocks = (depth - 4) // 6
        norm: dict[str, Any] = {'momentum': bn_momentum, 'eps': bn_eps}
        widths = [16, *(round(base * widen_factor) for base in (16, 32, 64))]
        self.num_features = widths[-1]
        self.negative_slope = negative_slope
        self.stem = _conv(in_channels, widths[0], 3)
        for stage, stride in enumerate((1, 2, 2), start=1):
            shapes = [(widths[stage - 1], stride)] + [(widths[stage], 1)] * (blocks - 1)
            layers = (_PreActivationBlock(i, widths[stage], s, dropout, negative_slope, norm) for i, s in shapes)
            self.add_module(f'stage{stage}', nn.Sequential(*layers))
        self.norm = nn.BatchNorm2d(self.num_features, **norm)

    def features(self, images: Tensor) -> Tensor:
        """The last feature map (N, num_features, H / 4, W / 4), normalised and activated."""
        x = self.stem(images)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return functional.leaky_relu(self.norm(x), self.negative_slope)

    def pool(self, features: Tensor) -> Tensor:
        """Mean over the places: (N, num_features)."""
        return features.mean((2, 3))
