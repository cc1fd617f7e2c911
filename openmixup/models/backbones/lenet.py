"""LeNet-5, the smallest network there is to try a recipe on."""

from __future__ import annotations

from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.models.backbones.base import Backbone
from openmixup.registry import MODELS

__all__ = ['LeNet5']


@MODELS.register_module()
class LeNet5(Backbone):
    """LeNet-5 of "Gradient-Based Learning Applied to Document Recognition" (LeCun et al., 1998) in its modern form.

    Two 5x5 convolutions of 6 and 16 channels without padding, each followed by ReLU and 2x2 max pooling, then fully
    connected layers of 120 and 84 units with ReLU. The original has scaled tanh, trainable subsampling, a sparse
    connection table and radial basis outputs. At 32 px, one channel and 10 classes: 61,706 parameters.

    Args:
        in_channels: channels of the pictures.
        image_size: side of the (square) pictures, at least 16. 28 px pictures are taken as they are, not padded to 32.

    Shape:
        Images (N, in_channels, image_size, image_size); features (N, 16, S, S) with S = 5 for 32 px and 4 for 28 px;
        vectors (N, 84).

    Raises:
        InputError: ``image_size`` is too small, or pictures of another size are given.
    """

    num_features = 84
    stages = ('stage1', 'stage2')

    def __init__(self, in_channels: int = 1, image_size: int = 32) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        if side < 1:
            raise InputError(
                f'image_size={image_size} is too small for LeNet5, whose two 5x5 convolutions with pooling need 16 '
                'pixels; resize the pictures to 28 or 32 pixels.'
            )
        self.side, self.image_size = image_size, (image_size, image_size)
        self.stage1 = nn.Sequential(nn.Conv2d(in_channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2))
        self.stage2 = nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2))
        self.neck = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * side * side, 120), nn.ReLU(), nn.Linear(120, self.num_features), nn.ReLU()
        )

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, (N, 16, S, S)."""
        if images.shape[-2:] != self.image_size:
            size = 'x'.join(str(side) for side in images.shape[-2:])
            raise InputError(
                f'LeNet5 was built for image_size={self.side} but got pictures of {size} pixels; '
                'give it their side as image_size.'
            )
        return self.stage2(self.stage1(images))

    def pool(self, features: Tensor) -> Tensor:
        """The two fully connected layers: (N, 84)."""
        return self.neck(features)
