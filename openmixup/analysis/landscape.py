"""The loss around trained weights, along random directions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openmixup.analysis.figures import figure, write_csv, write_figure
from openmixup.analysis.trained import Trained
from openmixup.errors import InputError
from openmixup.randomness import keyed_generator

__all__ = ['Landscape', 'direction', 'draw_landscape', 'landscape', 'moved']

TINY = 1e-10


@dataclass(frozen=True, eq=False)
class Landscape:
    """Loss and accuracy at steps along one direction or two.

    Attributes:
        steps: (n,) in units of the norms of the filters.
        loss: (n,) or (n, n) mean cross entropy in nats; rows follow the first direction. Not finite where it overflows.
        top1: (n,) or (n, n) accuracy in percent.
    """

    steps: Tensor
    loss: Tensor
    top1: Tensor


def direction(network: nn.Module, seed: int, number: int = 0) -> list[Tensor]:
    """A random direction of all weights whose filters have the norms of the network's own.

    Drawn from a normal law, then each filter (all that leads to one output) is scaled to the norm of that of the
    weights; biases, parameters of norms and other vectors do not move. Without this the same step would mean nothing in
    two networks, as one can scale a layer up and the next one down (Li et al., NeurIPS 2018, section 4).

    Args:
        network: on any device.
        seed: of the draw.
        number: of the direction; draws of different numbers are apart.

    Returns:
        One tensor for each parameter, in their order.
    """
    rng = keyed_generator(seed, 'landscape', number)
    found = []
    for weight in network.parameters():
        if weight.ndim < 2:
            found.append(torch.zeros_like(weight))
            continue
        drawn = torch.randn(weight.shape, generator=rng).to(weight)
        scale = weight.detach().flatten(1).norm(dim=1) / (drawn.flatten(1).norm(dim=1) + TINY)
        found.append(drawn * scale.view(-1, *[1] * (weight.ndim - 1)))
    return found


@contextmanager
def moved(network: nn.Module, *steps: tuple[float, Sequence[Tensor]]) -> Iterator[None]:
    """The network with its weights moved by a sum of multiples of directions; afterwards exactly as before."""
    kept = [weight.detach().clone() for weight in network.parameters()]
    try:
        with torch.no_grad():
            for size, along in steps:
                for weight, part in zip(network.parameters(), along, strict=True):
                    weight.add_(part, alpha=size)
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(network.parameters(), kept, strict=True):
                weight.copy_(before)


def landscape(
    network: Trained, least: float, most: float, points: int, plane: bool = False, seed: int = 0
) -> Landscape:
    """Loss and accuracy of a network whose weights are moved.

    The statistics of BatchNorm stay those of training. Equal seeds give equal directions to networks of one
    architecture.

    Args:
        network: whose student or teacher is moved; it is as before afterwards.
        least: first step, in units of the norms of the filters; 0 is the trained network.
        most: last step, above it.
        points: steps along a direction, at least 2.
        plane: along two directions, points x points.
        seed: of the directions.

    Raises:
        InputError: the range or the number of points cannot be used, or no loss is finite.
    """
    if not (math.isfinite(least) and math.isfinite(most) and least < most):
        raise InputError(f'the range from {least:g} to {most:g} is empty: give two ascending numbers, as -1 1.')
    if points < 2:
        raise InputError(f'{points} points along a direction: expected at least 2.')
    kept = list(network.batches())
    of_teacher = network.branch.partition('/')[0] == 'teacher'
    moving = network.learner.teacher.network if of_teacher else network.learner.student
    along = direction(moving, seed), direction(moving, seed, 1)
    steps = torch.linspace(least, most, points, dtype=torch.float64)
    others = steps.tolist() if plane else [0.0]
    measured = []
    for first in steps.tolist():
        for second in others:
            with moved(moving, (first, along[0]), (second, along[1])):
                measured.append(_loss(network, kept))
    shape = (points, points) if plane else (points,)
    loss, top1 = (torch.tensor(values, dtype=torch.float64).view(shape) for values in zip(*measured, strict=True))
    if not loss.isfinite().any():
        raise InputError('no loss is finite on this data: training diverged, or the weights are damaged.')
    return Landscape(steps, loss, top1)


@torch.no_grad()
def _loss(network: Trained, batches: Sequence[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean cross entropy in nats, and accuracy in percent."""
    sums = torch.zeros(3, dtype=torch.float64)
    for inputs, labels in batches:
        logits = network.learner.predict(inputs)[network.branch].float()
        loss = F.cross_entropy(logits, labels, reduction='sum').double()
        right = (logits.argmax(1) == labels).sum().double()
        sums += torch.stack([loss, right, right.new_tensor(len(labels))]).cpu()
    loss, right, count = sums.tolist()
    return loss / count, 100 * right / count


def draw_landscape(found: Mapping[str, Landscape], path: str | Path) -> tuple[Path, Path]:
    """Curves of all networks in one pair of axes, or contours of each, and the numbers beside them as CSV.

    Args:
        found: landscapes by name, all along one direction or all over a plane.
        path: .svg, .png or .pdf file to write; the table has the same name and ends in .csv.

    Returns:
        Both files.
    """
    plane = next(iter(found.values())).loss.ndim == 2
    drawn, names, lines = (_contours if plane else _curves)(found)
    return write_figure(drawn, path), write_csv(path, names, lines)


def _curves(found: Mapping[str, Landscape]) -> tuple[Any, tuple[str, ...], list[tuple[Any, ...]]]:
    """Figure, names of the columns and lines of the table of landscapes along one direction."""
    drawn, ((left, right),) = figure(2, 4.2, 3.2)
    lines = []
    for name, each in found.items():
        left.plot(each.steps.numpy(), each.loss.numpy(), label=name)
        right.plot(each.steps.numpy(), each.top1.numpy(), label=name)
        lines += [(name, *row) for row in zip(*(values.tolist() for values in vars(each).values()), strict=True)]
    left.set(xlabel='step', ylabel='loss [nats]', yscale='log')
    right.set(xlabel='step', ylabel='top-1 [%]')
    left.legend(fontsize=8)
    return drawn, ('name', 'step', 'loss', 'top1'), lines


def _contours(found: Mapping[str, Landscape]) -> tuple[Any, tuple[str, ...], list[tuple[Any, ...]]]:
    """As :func:`_curves`, over planes; all share one scale of colours."""
    drawn, (axes,) = figure(len(found), 4.0, 3.6)
    heights = {name: each.loss.log10() for name, each in found.items()}
    values = torch.cat([height.flatten() for height in heights.values()]).tolist()
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    levels = np.linspace(min(finite), max(finite) + 1e-6, 21)
    lines = []
    for axis, (name, each) in zip(axes, found.items(), strict=True):
        steps = each.steps.numpy()
        height = heights[name].T.nan_to_num(levels[-1], levels[-1], levels[0]).numpy()  # columns run along x
        filled = axis.contourf(steps, steps, height, levels, extend='max')
        axis.contour(steps, steps, height, levels, colors='k', linewidths=0.2)
        axis.plot(0, 0, '+', color='white')
        axis.set(title=name, xlabel='first direction', ylabel='second direction', aspect='equal')
        lines += [
            (name, first, second, float(each.loss[i, j]), float(each.top1[i, j]))
            for i, first in enumerate(steps.tolist())
            for j, second in enumerate(steps.tolist())
        ]
    drawn.colorbar(filled, ax=list(axes), label='log10 of the loss [nats]', format='%.1f')
    return drawn, ('name', 'first', 'second', 'loss', 'top1'), lines
