"""The contract of every backbone."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.policies.tokens import patch_grid

__all__ = ['Backbone']

SIZES = (64, 224, 32, 28)  # tried in turn to measure the stages of a network that names no size


class Backbone(nn.Module):
    """A network without its classifier: pictures in, one vector per picture out.

    A subclass sets :attr:`num_features` and :attr:`stages` and defines :meth:`features` and :meth:`pool`.
    ``backbone(x)`` is always ``backbone.pool(backbone.features(x))``.

    Attributes:
        num_features: length of the vectors that :meth:`pool` gives, which is the input width of a head.
        stages: dotted names of the sub-modules (for ``get_submodule``) whose outputs are the hidden stages, in the
            order in which they run; the stem is none of them.
        prefix_tokens: tokens before those of the patches, of a network on tokens.
        class_token: whether the first of these is a class token; registers alone are none.
        image_size: (H, W) that the network is made for; None: any.
        input_channels: channels of the images; None: those of its first convolution.
        usual_size: (H, W) that it was published with, tried last when its stages are measured.
        expected_channels: channels of the stages where they are known beforehand; they tell (N, C, H, W) from
            (N, H, W, C).
        channels_behind: whether its maps are (N, H, W, C) where the shape fits both: H = W = C.
        scattered: why the tokens of a training pass are not those of all patches, row by row, and what to do, as the
            end of a sentence; empty: they are.
    """

    num_features: int
    stages: tuple[str, ...]
    prefix_tokens: int = 0
    class_token: bool = True
    image_size: tuple[int, int] | None = None
    input_channels: int | None = None
    usual_size: tuple[int, int] | None = None
    expected_channels: tuple[int, ...] = ()
    channels_behind: bool = False
    scattered: str = ''
    _shapes: tuple[tuple[torch.Size, ...], torch.Size] | None = None

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, (N, C, H', W') for most networks, of ``images`` (N, C, H, W)."""
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """Vectors (N, num_features) from the ``features`` of :meth:`features`."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Vectors (N, num_features) of ``images`` (N, C, H, W)."""
        return self.pool(self.features(images))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each stage's output."""
        return tuple(shape[dim] for shape, dim in zip(self.shapes(), self.channel_dims, strict=True))

    @property
    def channel_dims(self) -> tuple[int, ...]:
        """Where the channels of each stage's output are: 1 for (N, C, H, W), -1 for (N, H, W, C) and (N, tokens, C)."""
        expected = self.expected_channels or (0,) * len(self.stages)
        return tuple(
            channel_dim(shape, count, self.channels_behind)
            for shape, count in zip(self.shapes(), expected, strict=True)
        )

    @property
    def map_channels(self) -> int:
        """Channels of the last feature map."""
        shape = self._measured()[1]
        return shape[channel_dim(shape, (self.expected_channels or (0,))[-1], self.channels_behind)]

    def shapes(self) -> tuple[torch.Size, ...]:
        """Shape of each stage's output, measured once by a pass of a copy without values.

        Raises:
            InputError: the network runs with none of the usual image sizes.
        """
        return self._measured()[0]

    def _measured(self) -> tuple[tuple[torch.Size, ...], torch.Size]:
        if self._shapes is None:
            self._shapes = _measure(self)
        return self._shapes

    def to_map(self, output: Tensor, channel_dim: int, image_size: Sequence[int]) -> Tensor:
        """(N, C, h, w) of what a stage gave: channels in front, tokens of the patches on their grid.

        Args:
            output: (N, C, h, w), (N, h, w, C) or (N, tokens, C).
            channel_dim: where its channels are, 1 or -1.
            image_size: (H, W) of the images, for the form of a grid of tokens.
        """
        if output.ndim == 4:
            return output if channel_dim == 1 else output.movedim(-1, 1)
        prefix, grid = patch_grid(output.shape[1], self.prefix_tokens, image_size)
        return output[:, prefix:].transpose(1, 2).unflatten(2, grid)


def channel_dim(shape: torch.Size, channels: int, behind: bool = False) -> int:
    """Where a stage's output of ``shape`` has its ``channels``: 1 or -1."""
    if len(shape) != 4:
        return -1
    return -1 if shape[-1] == channels and (behind or shape[1] != channels) else 1


def _shape(output: object) -> torch.Size:
    if not isinstance(output, Tensor):
        raise TypeError('a stage or the last map is not one tensor but several')
    return output.shape


def _measure(backbone: Backbone) -> tuple[tuple[torch.Size, ...], torch.Size]:
    """Shapes of the stages' outputs and of the last map."""
    sizes = [backbone.image_size] if backbone.image_size else [(side, side) for side in SIZES]
    if backbone.image_size is None and backbone.usual_size is not None:  # what it says of its own size is told
        sizes = [size for size in sizes if size != backbone.usual_size] + [backbone.usual_size]
    hollow = copy.deepcopy(backbone).to('meta').eval()
    inputs = backbone.input_channels or next((m.in_channels for m in hollow.modules() if isinstance(m, nn.Conv2d)), 3)
    reason = ''
    shapes: list[torch.Size] = []
    for name in backbone.stages:
        hollow.get_submodule(name).register_forward_hook(lambda module, args, out: shapes.append(_shape(out)))
    for size in sizes:
        shapes.clear()
        try:
            with torch.no_grad():
                last = _shape(hollow.features(torch.empty(2, inputs, *size, device='meta')))
        except (RuntimeError, AssertionError, ValueError, AttributeError, TypeError) as error:  # of a strange size
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            continue
        if len(shapes) == len(backbone.stages):
            return tuple(shapes), last
        reason = f'{len(shapes)} of its {len(backbone.stages)} stages ran'
    raise InputError(
        f'the hidden stages of {type(backbone).__name__} could not be measured ({reason}): choose a policy that looks '
        'at no hidden stage, or another backbone.'
    )
