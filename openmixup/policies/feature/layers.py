"""Layers that policies of hidden stages draw, 0 the input and l the output of the l-th stage, and their memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openmixup.checks import is_whole
from openmixup.errors import InputError
from openmixup.policies.context import Network

__all__ = ['channels_last', 'check_depth', 'check_layers', 'draw_layer']


def check_layers(layers: Any, policy: str) -> None:
    """Refuse what is no range of layers.

    Args:
        layers: (first, end), of which first to end - 1 are drawn.
        policy: name, for the message.

    Raises:
        InputError: not two whole numbers with 0 <= first < end.
    """
    whole = isinstance(layers, tuple | list) and len(layers) == 2 and all(is_whole(layer, 0) for layer in layers)
    if not whole or layers[0] >= layers[1]:
        raise InputError(f'{policy}(layers={layers!r}): expected two whole numbers (first, end) with 0 <= first < end.')


def check_depth(layers: tuple[int, int], network: Network, policy: str) -> None:
    """Refuse a network without the last of the layers.

    Raises:
        InputError: it has fewer stages.
    """
    count, last = len(network.stages), layers[1] - 1
    if last > count:
        raise InputError(
            f'{policy}(layers={layers!r}) draws layers up to {last}, but {network.name} has {count} '
            f'hidden stages ({", ".join(network.stages) or "none"}): end the range at {count + 1} at most.'
        )


def draw_layer(layers: tuple[int, int], rng: torch.Generator) -> int:
    """One of the layers, each as often as the others; ``rng`` is the stream that all processes share."""
    return int(torch.randint(*layers, (1,), generator=rng))


def channels_last(hidden: Tensor) -> bool:
    """Whether it is a map (N, C, h, w) whose channels of a cell lie together in memory."""
    return hidden.ndim == 4 and not hidden.is_contiguous() and hidden.is_contiguous(memory_format=torch.channels_last)
