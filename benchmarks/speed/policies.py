"""What mixing a batch costs, as a multiple of copying it and of the plainest code, beside what peers offer.

All policies that need no network, those of timm and torchvision, and of kornia if it is installed. All candidates take
turns in each round, in random order, on one thread and in CPU time, so that a busy machine hurts all of them; the table
shows medians and quartiles over the rounds. Only ratios of one run can be compared.

    python benchmarks/speed/policies.py [--rounds 60] [--policies mixup cutmix]
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm.data
import torch
from plain import PLAIN
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2

import openmixup.policies  # noqa: F401  (registers them)
from openmixup.errors import InputError
from openmixup.policies import MixPolicy
from openmixup.registry import POLICIES
from openmixup.testing import count_operators

SHAPES = (128, 3, 32, 32), (32, 3, 224, 224)
CLASSES = 100
MOST_PLAIN = 1.15
BUMPS = 3.0, 2.5
TARGETS = {  # multiples of a clone, one for each shape
    'Mixup()': (2.3, 2.1), 'CutMix()': (3.1, 3.1), 'FMix()': (3.4, 3.0), 'GridMix()': BUMPS, 'SmoothMix()': BUMPS,
    'HMix()': BUMPS, 'GMix()': BUMPS, 'ResizeMix()': (8, 5),
}  # fmt: skip
# Else the C library gives large blocks back to the system after each call, and what is timed is getting them again.
KEEP_MEMORY = {'MALLOC_MMAP_THRESHOLD_': str(1 << 30), 'MALLOC_TRIM_THRESHOLD_': str(1 << 32)}
LEGEND = f"""
clone: one images.clone(). plain: the same arithmetic as the plainest tensor code (benchmarks/speed/plain.py), goal
{MOST_PLAIN}. Brackets: quartiles of the rounds; where those of clone are wide, the ratios of that shape mean little.
Operators and reads of ours are those on the device of the images, without views and copies from the host; a run on the
meta device, where there is nothing to read, proves that there are no reads. Those of the others are all that ran on the
CPU without views, their draws included; reads are calls of _local_scalar_dense and is_nonzero.
The peers' calls also make dense targets of {CLASSES} classes, ours leave them to mixture.soft(); timm overwrites the
images."""


class Cost(NamedTuple):
    """Of one candidate at one shape."""

    seconds: list[float]
    operators: int
    reads: int


class Counter(TorchDispatchMode):
    """Notes the operators that are no views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returns = func._schema.returns
        if not any(r.alias_info is not None and not r.alias_info.is_write for r in returns):
            self.names.append(func._schema.name.removeprefix('aten::'))
        return func(*args, **(kwargs or {}))


def ours() -> dict[str, MixPolicy]:
    """All that mix classes without a network, with one lam a batch and with one a sample."""
    found: dict[str, MixPolicy] = {}
    images, labels = torch.zeros(2, 3, 8, 8), torch.arange(2)
    for name, kind in sorted(POLICIES.module_dict.items()):
        build: Any = kind
        try:
            policy = build()
            policy.mix(images, labels)
        except InputError:  # it needs more than images and classes, or makes several views
            continue
        found[f'{name}()'] = policy
        if 'per' in policy.arguments() and policy.per == 'batch':
            found[f'{name}(sample)'] = build(per='sample')
    return found


def peers() -> dict[str, Callable[[Tensor, Tensor], Any]]:
    """Those of other libraries, each a function of images and labels."""
    found: dict[str, Callable[[Tensor, Tensor], Any]] = {}
    for mode in ('batch', 'elem'):
        for name, alphas in (('mixup', (1.0, 0.0)), ('cutmix', (0.0, 1.0))):
            found[f'timm {name}, {mode}'] = timm.data.Mixup(*alphas, mode=mode, num_classes=CLASSES)
    found['torchvision MixUp'] = v2.MixUp(num_classes=CLASSES)
    found['torchvision CutMix'] = v2.CutMix(num_classes=CLASSES)
    try:
        from kornia.augmentation import RandomCutMixV2, RandomMixUpV2
    except ImportError:
        return found
    for name, kind in (('MixUp', RandomMixUpV2), ('CutMix', RandomCutMixV2)):
        found[f'kornia {name}'] = kind(p=1.0, data_keys=['input', 'class'])
    return found


def counts(candidate: Any, images: Tensor, labels: Tensor) -> tuple[int, int]:
    """Most operators and host reads of eight calls."""
    if isinstance(candidate, MixPolicy):
        images, labels = images.to('meta'), labels.to('meta')
        return max(count_operators(candidate, images, labels, seed) for seed in range(8)), 0
    operators = reads = 0
    for _ in range(8):
        with Counter() as counter:
            candidate(images, labels)
        found = sum(name in ('_local_scalar_dense', 'is_nonzero') for name in counter.names)
        operators, reads = max(operators, len(counter.names) - found), max(reads, found)
    return operators, reads


def measure(candidates: Mapping[str, Any], shape: tuple[int, ...], rounds: int) -> dict[str, Cost]:
    """The costs of a clone, of the candidates and, as ``plain NAME``, of the plainest code of those that have one."""
    images, labels = torch.randn(shape), torch.arange(shape[0]) % CLASSES
    calls: dict[str, Callable[[], Any]] = {'clone': images.clone}
    costs = {'clone': Cost([], 1, 0)}
    for name, candidate in candidates.items():
        ours = isinstance(candidate, MixPolicy)
        function, given = (candidate.mix, images) if ours else (candidate, images.clone())
        calls[name] = lambda function=function, given=given: function(given, labels)
        costs[name] = Cost([], *counts(candidate, images.clone(), labels))
        if name in PLAIN:
            calls[f'plain {name}'] = lambda function=PLAIN[name]: function(images)
            costs[f'plain {name}'] = Cost([], 0, 0)
    repeats = 4 if images.numel() < 1e6 else 1
    for _ in range(rounds):
        for name in random.sample(list(calls), len(calls)):
            call = calls[name]
            call()  # finds memory and caches as its neighbour left them, so it is not timed
            start = time.process_time()
            for _ in range(repeats):
                call()
            costs[name].seconds.append((time.process_time() - start) / repeats)
    return costs


def cells(name: str, costs: Mapping[str, Cost], place: int) -> str:
    """The cells of a candidate at one shape."""
    clone = statistics.median(costs['clone'].seconds)
    low, middle, high = statistics.quantiles(costs[name].seconds, n=4)
    goal = f', goal {TARGETS[name][place]}' if name in TARGETS else ''
    ratio = f'{middle / clone:.2f} ({low / clone:.2f}-{high / clone:.2f}){goal}'
    plain = costs.get(f'plain {name}')
    over = f'{middle / statistics.median(plain.seconds):.2f}' if plain else '-'
    return f'{ratio} | {over} | {1e3 * middle:.3f} | {costs[name].operators} | {costs[name].reads}'


def processor() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=40, help='at least 2')
    parser.add_argument('--policies', nargs='+', default=[''], help='show those whose names contain one of these')
    args = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in KEEP_MEMORY.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    torch.set_num_threads(1)
    everyone = {**ours(), **peers()}
    chosen = {n: c for n, c in everyone.items() if any(part.lower() in n.lower() for part in args.policies)}
    columns = [measure(chosen, shape, args.rounds) for shape in SHAPES]
    print(f'torch {torch.__version__}, {processor()}, {torch.get_num_threads()} thread, {args.rounds} rounds\n')
    titles = ['x'.join(map(str, shape)) for shape in SHAPES]
    print('| policy |' + ''.join(f' {title}: x clone | x plain | ms | operators | reads |' for title in titles))
    print('|---' * (1 + 5 * len(SHAPES)) + '|')
    for name in ('clone', *chosen):
        print(f'| {name} | {" | ".join(cells(name, costs, at) for at, costs in enumerate(columns))} |')
    print(LEGEND)


if __name__ == '__main__':
    main()
