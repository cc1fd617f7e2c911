"""The thin residual network for CIFAR of the original paper."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.models.backbones.base import Backbone
from openmixup.registry import MODELS

__all__ = ['CifarResNet']


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, activated after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(inputs, outputs, 3, stride)
        self.conv2 = _conv_norm(outputs, outputs, 3)
        plain = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if plain else _conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(functional.relu(self.conv1(x)))
        return functional.relu(y + self.shortcut(x))


@MODELS.register_module()
class CifarResNet(Backbone):
    """The CIFAR network of "Deep Residual Learning for Image Recognition" (He et al., 2016), section 4.2.

    6n + 2 layers: a 3x3 convolution, then three stages of n basic blocks with ``width``, ``2 * width`` and
    ``4 * width`` channels at strides 1, 2 and 2. Where the shape changes the shortcut is a 1x1 projection (option B);
    the paper's CIFAR tables use the parameter-free option A, which has about 2,700 parameters fewer at width 16.
    ResNet-20 has 0.27 M parameters.

    This is not the "CIFAR ResNet-18" of the mixup papers, which is
    ``TimmBackbone(model='resnet18', stem='cifar')``.

    Args:
        depth: number of layers, 6n + 2: 8, 14, 20, 32, 44, 56, 110.
        width: channels of the first stage.
        in_channels: channels of the pictures.

    Shape:
        Images (N, in_channels, H, W); features (N, 4 * width, H / 4, W / 4); vectors (N, 4 * width).

    Raises:
        InputError: an argument is out of its range.
    """

    stages = ('stage1', 'stage2', 'stage3')

    def __init__(self, depth: int = 8, width: int = 16, in_channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise InputError(f'depth={depth} of CifarResNet is not of the form 6n + 2 (8, 14, 20, 32, 56, 110, ...).')
        if width < 1:
            raise InputError(f'width={width} of CifarResNet is below 1.')
        self.num_features = 4 * width
        self.stem = _conv_norm(in_channels, width, 3)
        inputs = width
        for stage, (outputs, stride) in enumerate([(width, 1), (2 * width, 2), (4 * width, 2)], start=1):
            blocks = []
            for block in range((depth - 2) // 6):
                blocks.append(_BasicBlock(inputs, outputs, stride if block == 0 else 1))
                inputs = outputs
            self.add_module(f'stage{stage}', nn.Sequential(*blocks))

    def features(self, images: Tensor) -> Tensor:
        """The last feature map (N, 4 * width, H / 4, W / 4)."""
        x = functional.relu(self.stem(images))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return x

    def pool(self, features: Tensor) -> Tensor:
        """Mean over the places: (N, 4 * width)."""
        return features.mean((2, 3))
