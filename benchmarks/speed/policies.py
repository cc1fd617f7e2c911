"""What mixing a batch costs, as a multiple of copying it: our policies beside those of timm and torchvision.

All candidates take turns in each round, in random order, on one thread and in CPU time, so that a busy machine hurts
all of them; the table shows medians and quartiles over the rounds. Only ratios of one run can be compared, and memory
lies elsewhere in each process, so look at several runs.

    python benchmarks/speed/policies.py [--rounds 60] [--policies mixup cutmix]
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import timm.data
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2

from openmixup.policies import CutMix, MixPolicy, Mixup, RandomChoice
from openmixup.testing import count_operators

SHAPES = (128, 3, 32, 32), (32, 3, 224, 224)
CLASSES = 100
MOST_OPERATORS = 12
TARGETS = {'Mixup()': (2.3, 2.1), 'CutMix()': (3.1, 3.1)}  # multiples of a clone, one for each shape
LEGEND = f"""
clone: one images.clone(). Brackets: quartiles of the rounds. Goals: the times given, at most {MOST_OPERATORS}
operators, no read.
Where the brackets of clone itself are wide, the ratios of that shape mean nothing: the allocator gave memory back.
Operators and reads of ours are those on the device of the images, without views and copies from the host; a run on the
meta device, where there is nothing to read, proves that there are no reads. Those of the peers are all that ran on the
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
    policies = Mixup(), Mixup(per='sample'), CutMix(), CutMix(per='sample')
    named: dict[str, MixPolicy] = {f'{type(p).__name__}({"sample" * (p.per == "sample")})': p for p in policies}
    return {**named, 'RandomChoice()': RandomChoice()}


def peers() -> dict[str, Callable[[Tensor, Tensor], Any]]:
    found: dict[str, Callable[[Tensor, Tensor], Any]] = {}
    for mode in ('batch', 'elem'):
        for name, alphas in (('mixup', (1.0, 0.0)), ('cutmix', (0.0, 1.0))):
            found[f'timm {name}, {mode}'] = timm.data.Mixup(*alphas, mode=mode, num_classes=CLASSES)
    found['torchvision MixUp'] = v2.MixUp(num_classes=CLASSES)
    found['torchvision CutMix'] = v2.CutMix(num_classes=CLASSES)
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


def measure(candidates: dict[str, Any], shape: tuple[int, ...], rounds: int) -> dict[str, Cost]:
    images, labels = torch.randn(shape), torch.arange(shape[0]) % CLASSES
    calls: dict[str, Callable[[], Any]] = {'clone': images.clone}
    costs = {'clone': Cost([], 1, 0)}
    for name, candidate in candidates.items():
        function, given = (candidate, images.clone()) if name in peers() else (candidate.mix, images)
        calls[name] = lambda function=function, given=given: function(given, labels)
        costs[name] = Cost([], *counts(candidate, images.clone(), labels))
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


def cells(name: str, cost: Cost, clone: float, place: int) -> str:
    low, middle, high = statistics.quantiles(cost.seconds, n=4)
    goal = f', goal {TARGETS[name][place]}' if name in TARGETS else ''
    ratio = f'{middle / clone:.2f} ({low / clone:.2f}-{high / clone:.2f}){goal}'
    return f'{ratio} | {1e3 * middle:.3f} | {cost.operators} | {cost.reads}'


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
    torch.set_num_threads(1)
    everyone = {**ours(), **peers()}
    chosen = {n: c for n, c in everyone.items() if any(part.lower() in n.lower() for part in args.policies)}
    columns = [measure(chosen, shape, args.rounds) for shape in SHAPES]
    print(f'torch {torch.__version__}, {processor()}, {torch.get_num_threads()} thread, {args.rounds} rounds\n')
    titles = ['x'.join(map(str, shape)) for shape in SHAPES]
    print('| policy |' + ''.join(f' {title}: x clone | ms | operators | reads |' for title in titles))
    print('|---' * (1 + 4 * len(SHAPES)) + '|')
    for name in ('clone', *chosen):
        row = [cells(name, c[name], statistics.median(c['clone'].seconds), at) for at, c in enumerate(columns)]
        print(f'| {name} | {" | ".join(row)} |')
    print(LEGEND)


if __name__ == '__main__':
    main()
