"""What a policy may know besides its batch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.utils.data import get_worker_info

from openmixup.checks import is_whole
from openmixup.errors import InputError
from openmixup.randomness import keyed_generator

__all__ = ['Context', 'Network', 'library_stream', 'unbound']


@dataclass(frozen=True)
class Network:
    """What a policy may know of the network when the model is built; :meth:`MixPolicy.bind` gets it.

    Args:
        num_classes: number of logits.
        num_features: length of the pooled vector that the heads get.
        stages: names of the hidden stages, in the order in which they run.
        channels: number of channels of each stage's output.
        channel_dims: where the channels of each stage's output are: 1 for (N, C, H, W), -1 for (N, H, W, C) and for
            (N, tokens, C).
        map_channels: channels of the last feature map, which a view may read.
        target: kind of the labels: 'class', 'soft', 'multilabel' or 'regression'.
        name: of the backbone, for messages.
        prefix_tokens: tokens in front of those of the patches, of a network of tokens.
        scattered: why the tokens of a training pass are not those of all patches, row by row, and what to do, as the
            end of a sentence; empty: they are.
    """

    num_classes: int
    num_features: int
    stages: tuple[str, ...]
    channels: tuple[int, ...]
    channel_dims: tuple[int, ...]
    map_channels: int = 0
    target: str = 'class'
    name: str = 'the network'
    prefix_tokens: int = 0
    scattered: str = ''

    def stage(self, index: int, policy: str) -> int:
        """``index`` counted from 0; a negative one counts from the last stage.

        Raises:
            InputError: there is no such stage.
        """
        count = len(self.stages)
        if not is_whole(index, -count, count - 1):
            known = ', '.join(f'{i} {name}' for i, name in enumerate(self.stages)) or 'none'
            raise InputError(
                f'{policy} asks for stage {index!r} of {self.name}, which has the stages {known}: choose one of these.'
            )
        return index % count

    def check_patches(self, policy: str) -> None:
        """Refuse a network whose tokens of a training pass are not those of all patches, row by row.

        Raises:
            InputError: it drops some of them, or has them in another order.
        """
        if self.scattered:
            raise InputError(f'{policy} goes by the place of each patch, but {self.scattered}.')


def unbound(policy: str) -> InputError:
    """The error of a policy that is to mix before :meth:`MixPolicy.bind` was called."""
    return InputError(
        f'{policy} does not know its network: use it as policy of a MixClassifier, or call bind(network) first.'
    )


@dataclass(frozen=True, eq=False)
class Context:
    """Random streams, position in the run, and the only ways to look at the network.

    Args:
        seed: seed of the run.
        step: global count of micro-batches; together with ``seed`` and ``rank`` it keys the random streams.
        rank: index of this process among all.
        epoch: epochs completed, for compositions that change over time.
        progress: share of the run that is done, in [0, 1]; schedules are closed forms of it.
        probe: read-only access to the network, for policies that ask for it in ``needs``.
        criterion: the learner's loss, for policies with terms of their own: (logits, labels, mixture) to (N,).
        mean: what was subtracted from the images, per channel, in units of the [0, 1] pixel range; () if not known.
        std: what they were divided by after that, in the same units; () if not known.
        generator: replaces the keyed streams, for use outside a run.
    """

    seed: int = 0
    step: int = 0
    rank: int = 0
    epoch: int = 0
    progress: float = 0.0
    probe: Any = None
    criterion: Any = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    generator: torch.Generator | None = None

    @cached_property
    def rng(self) -> torch.Generator:
        """CPU stream of this rank and step."""
        return self.generator or keyed_generator(self.seed, 'mix', self.step, self.rank)

    @cached_property
    def shared_rng(self) -> torch.Generator:
        """CPU stream of this step that all ranks share: choice of a policy, a layer, a grid."""
        return self.generator or keyed_generator(self.seed, 'shared', self.step)


class LibraryStream:
    """The stream for policies outside a run: one per process, so that no two policies or calls draw the same.

    Hashing a key for each call would cost as much as drawing, so the stream goes on until the seed
    (``torch.initial_seed()``) or the loader worker is another one.
    """

    def __init__(self) -> None:
        self._key: tuple[int, int] | None = None
        self._begun = 0
        self._generator = torch.Generator()

    def generator(self) -> torch.Generator:
        """The CPU generator to draw from."""
        worker = get_worker_info()
        key = (torch.initial_seed(), worker.id if worker else -1)
        if key != self._key:
            self._generator = keyed_generator('library', *key, int(os.environ.get('RANK', 0)), self._begun)
            self._key = key
            self._begun += 1  # so that a seed which comes back does not repeat its draws
        return self._generator


LIBRARY = LibraryStream()


def library_stream(rng: torch.Generator | None = None) -> torch.Generator:
    """``rng``, or of None the stream that all policies of the process share outside a run.

    Raises:
        InputError: it is no generator of the CPU.
    """
    if rng is None:
        return LIBRARY.generator()
    if not isinstance(rng, torch.Generator) or rng.device.type != 'cpu':
        raise InputError(
            f'rng={rng!r}: expected a torch.Generator of the CPU, as torch.Generator().manual_seed(0), or None for a '
            'stream that goes on from call to call.'
        )
    return rng
