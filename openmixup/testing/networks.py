"""Tiny networks for the checks: they take any number of channels and any size, and have the same weights each time."""

from __future__ import annotations

import copy
import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from openmixup.models import Backbone

__all__ = ['TinyConvNet', 'TinyTransformer', 'tiny_network']

MOST_CHANNELS = 64
FEWEST_PATCHES = 3  # along the shorter side


class _Tiny(Backbone):
    """Fixed weights bring the channels of the images down to three, and their type to that of the network."""

    colours: Tensor

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(MOST_CHANNELS)[None, :] * 1.7 + torch.arange(3)[:, None] * 2.1
        self.register_buffer('colours', place.cos(), persistent=False)

    def seen(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) of ``images`` (N, C, H, W) with up to 64 channels."""
        weight = self.colours[:, : images.shape[1], None, None]
        return functional.conv2d(images.to(weight.dtype), weight)


class TinyConvNet(_Tiny):
    """Four stages of convolution, BatchNorm and ReLU, with strides 1, 2, 1, 2; dropout tells training from evaluation.

    The map of the last stage has a quarter of the image's side, and the vector is its mean.

    Args:
        fine: all strides are 1, so that the map has as many cells as the image has pixels.
    """

    def __init__(self, fine: bool = False) -> None:
        super().__init__()
        widths = (6, 8, 10, 12)
        self.stem = nn.Conv2d(3, 6, 1)
        for place, (inputs, outputs) in enumerate(zip((6, *widths), widths, strict=False)):
            layers: list[nn.Module] = [
                nn.Conv2d(inputs, outputs, 3, stride=1 if fine else 1 + place % 2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
            self.add_module(f'stage{place}', nn.Sequential(*layers, *([nn.Dropout(0.1)] if place == 2 else [])))
        for module in self.modules():
            if isinstance(
                module, nn.Conv2d
            ):  # so that values keep their size while the statistics are those of a start
                nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
        self.num_features = widths[-1]
        self.stages = tuple(f'stage{place}' for place in range(len(widths)))

    def features(self, images: Tensor) -> Tensor:
        """(N, 12, H / 4, W / 4)."""
        hidden = self.stem(self.seen(images))
        for name in self.stages:
            hidden = self.get_submodule(name)(hidden)
        return hidden

    def pool(self, features: Tensor) -> Tensor:
        """(N, 12)."""
        return features.mean((2, 3))


class TinyTransformer(_Tiny):
    """Three blocks of attention on a class token and square patches; the vector is the class token.

    The side of a patch is the greatest that divides height and width and leaves three patches along each.

    Args:
        width: of a token.
        depth: number of blocks.
        fine: each pixel is a patch.
    """

    def __init__(self, width: int = 8, depth: int = 3, fine: bool = False) -> None:
        super().__init__()
        self.fine = fine
        self.embed = nn.Conv2d(3, width, 1)
        self.place = nn.Linear(2, width)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.num_features = width
        self.stages = tuple(f'blocks.{place}' for place in range(depth))
        self.prefix_tokens = 1

    def features(self, images: Tensor) -> Tensor:
        """(N, 1 + patches, 8)."""
        height, width = images.shape[-2:]
        common = math.gcd(height, width)
        sides = [side for side in range(1, common + 1) if common % side == 0]
        fits = [side for side in sides if side == 1 or min(height, width) >= FEWEST_PATCHES * side]
        side = 1 if self.fine else max(fits)
        hidden = self.embed(functional.avg_pool2d(self.seen(images), side))
        rows, columns = hidden.shape[-2:]
        down = torch.linspace(-1, 1, rows, device=images.device).repeat_interleave(columns)
        across = torch.linspace(-1, 1, columns, device=images.device).repeat(rows)
        tokens = hidden.flatten(2).transpose(1, 2) + self.place(torch.stack([down, across], 1))
        tokens = torch.cat([self.token.expand(len(images), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def pool(self, features: Tensor) -> Tensor:
        """(N, 8)."""
        return features[:, 0]


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norms[0](tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return tokens + self.mlp(self.norms[1](tokens))


def tiny_network(attention: bool = False, fine: bool = False) -> Backbone:
    """A network of its own with always the same weights: a transformer where attention is looked at.

    Args:
        attention: a transformer.
        fine: the last map has as many cells as the image has pixels.
    """
    return copy.deepcopy(_built(attention, fine))


@functools.cache
def _built(attention: bool, fine: bool) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # not torch.manual_seed, which sets the devices' generators too
        network = TinyTransformer(fine=fine) if attention else TinyConvNet(fine)
    network.shapes()  # measured once for all copies
    return network
