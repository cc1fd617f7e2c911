"""What a whole training step costs with each policy, as a multiple of the step without mixing.

Counted exactly, on tensors without values: floating point operations of forward, backward and mixing (matrix products
and convolutions), and operators launched on the device, the optimizer's and the teacher's included: once with an
optimizer that goes from parameter to parameter, as torch's do on a CPU, and once with one that takes all together
(foreach), which makes the vanilla step short. A run on such tensors also proves that no step reads a value from the
device: there is none. Timed, with --rounds: all policies take turns in each round in random order, and the ratio is to
the vanilla step of the same round; so is the share of mixing, which is the time in which the policy makes its plan,
without the passes of a network that it asks for (on a CPU only: a GPU works on while the policy waits).

ResNet-18 for CIFAR, 100 images of 32x32, 100 classes; for attention DeiT-tiny at 224 pixels, against its own vanilla.

    python benchmarks/speed/steps.py [--rounds 5] [--only automix samix] [--device cuda] [--amp]

With --device cuda every step also runs under torch.cuda.set_sync_debug_mode('error').
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from openmixup.errors import InputError
from openmixup.models.probe import Probe
from openmixup.policies import Context
from openmixup.registry import MODELS

CLASSES = 100
HEAD = {'type': 'LinearHead', 'num_classes': CLASSES}
TAUGHT = ('AdAutoMix', 'AutoMix', 'SAMix', 'AttentiveMix')  # they look at a momentum teacher
RESNET = {'type': 'TimmBackbone', 'model': 'resnet18', 'stem': 'cifar'}
DEIT = {'type': 'TimmBackbone', 'model': 'deit_tiny_patch16_224'}


class Case(NamedTuple):
    """A policy on a network, and the goals for its FLOPs, operators and mixing time as multiples of vanilla's step."""

    policy: dict[str, Any]
    flops: float | None = None
    operators: float | None = None
    mixing: float | None = None  # per cent
    backbone: dict[str, Any] = RESNET
    batch: tuple[int, int] = (100, 32)
    base: str = 'vanilla'


CASES = {
    'vanilla': Case({'type': 'Vanilla'}),
    'mixup': Case({'type': 'Mixup'}),
    'cutmix': Case({'type': 'CutMix'}),
    'manifoldmix': Case({'type': 'ManifoldMix'}, 1.02),
    'saliencymix': Case({'type': 'SaliencyMix'}, 1.02),
    'alignmix': Case({'type': 'AlignMix'}, 1.02),
    **{
        f'puzzlemix, grid {grid}': Case({'type': 'PuzzleMix', 'grids': (grid,)}, 1.70, None, share)
        for grid, share in {2: 0.25, 4: 0.25, 8: 0.25, 16: 2.6}.items()
    },
    'attentivemix, momentum teacher': Case({'type': 'AttentiveMix'}),
    'automix': Case({'type': 'AutoMix'}, 2.95, 2.4),
    'samix': Case({'type': 'SAMix'}, 2.95),
    'adautomix': Case({'type': 'AdAutoMix'}, 4.10),
    'automix, generator every 2nd': Case({'type': 'AutoMix', 'generator': {'every': 2}}),
    'regmixup': Case({'type': 'RegMixup'}),
    'deit-tiny vanilla': Case({'type': 'Vanilla'}, backbone=DEIT, batch=(16, 224), base='deit-tiny vanilla'),
    'deit-tiny transmix': Case({'type': 'TransMix'}, 1.02, None, None, DEIT, (16, 224), 'deit-tiny vanilla'),
}


class Counter(TorchDispatchMode):
    """Counts the operators that touch one device, views and copies from the host left out, and their FLOPs.

    By torch's own formulas; its FlopCounterMode follows modules by hooks that fail inside ``torch.autograd.grad``.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.count, self.flops = device, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.flops += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        is_copy = func._schema.name in ('aten::_to_copy', 'aten::copy_') and tensors[0].device.type == 'cpu'
        if any(x.device.type == self.device for x in tensors) and not is_view and not is_copy:
            self.count += 1
        return out


class Stopwatch:
    """CPU seconds in one function, without those in another that it calls."""

    def __init__(self) -> None:
        self.seconds, self._running = 0.0, False

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, counted."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.seconds, self._running = -time.process_time(), True
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds, self._running = self.seconds + time.process_time(), False

        return counted

    def without(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, left out while the counted one runs."""

        def left_out(*args: Any, **kwargs: Any) -> Any:
            if not self._running:
                return function(*args, **kwargs)
            self.seconds += time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds -= time.process_time()

        return left_out


class Trainer:
    """The training step of one case."""

    def __init__(self, case: Case, device: str, amp: bool = False, foreach: bool = True) -> None:
        torch.manual_seed(0)
        teacher = (
            {'decay': 0.999, 'end': 0.999999, 'hold': 0.1, 'bn': 'batch'} if case.policy['type'] in TAUGHT else None
        )
        model = {'backbone': case.backbone, 'head': HEAD, 'policy': case.policy, 'teacher': teacher}
        self.learner = MODELS.build({'type': 'MixClassifier', **model}).to(device).train()
        count, side = case.batch
        self.images = torch.randn(count, 3, side, side, device=device)
        self.labels = torch.arange(count, device=device) % CLASSES
        trained = [parameter for parameter in self.learner.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=1e-4, foreach=foreach)
        self.device, self.amp, self.steps = device, amp, 0
        self.mixing = Stopwatch()
        self.learner.policy.forward = self.mixing.around(self.learner.policy.forward)

    def step(self) -> None:
        """Forward, backward, update, teacher."""
        self.learner.context = Context(step=self.steps, progress=0.5)
        autocast = torch.autocast(self.device, torch.bfloat16) if self.amp else contextlib.nullcontext()
        with autocast, mock.patch.object(Probe, '_once', self.mixing.without(Probe._once)):
            total, _ = self.learner.parse_losses(self.learner.loss(self.images, self.labels))
        total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.learner.teacher is not None:
            self.learner.update_teacher()
        self.steps += 1


class Cost(NamedTuple):
    """What was counted in a step, as a mean of some."""

    flops: float
    operators: float
    reads: str


def count(case: Case, foreach: bool, steps: int = 2) -> Cost:
    """FLOPs, operators, and what reads there were."""
    trainer = Trainer(case, 'meta', foreach=foreach)
    trainer.step()  # the optimizer makes its state
    with Counter('meta') as counter:
        try:
            for _ in range(steps):
                trainer.step()
        except (RuntimeError, NotImplementedError) as error:  # there is no value to read
            return Cost(float('nan'), float('nan'), f'stopped: {str(error).splitlines()[0][:60]}')
    return Cost(counter.flops / steps, counter.count / steps, '0')


class Times(NamedTuple):
    """Seconds of a step in each round, and those of them in which the policy mixed."""

    steps: list[float]
    mixing: list[float]


def timed(names: Sequence[str], rounds: int, device: str, amp: bool) -> dict[str, Times]:
    """Times of each case."""
    trainers = {name: Trainer(CASES[name], device, amp) for name in names}
    times = {name: Times([], []) for name in names}
    for number in range(-1, rounds):  # the first round warms up
        for name in random.sample(list(names), len(names)):
            start = clock(device)
            with no_sync_allowed(device if number >= 0 else 'cpu'):
                trainers[name].step()
            if number >= 0:
                times[name].steps.append(clock(device) - start)
                times[name].mixing.append(trainers[name].mixing.seconds)
    return times


def clock(device: str) -> float:
    """CPU time of this process, or the time when the GPU has caught up."""
    if device == 'cpu':
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@contextlib.contextmanager
def no_sync_allowed(device: str) -> Any:
    """On a GPU a read of a value inside is an error."""
    if device == 'cpu':
        yield
        return
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def goal(value: float, most: float | None) -> str:
    """``value`` with its goal."""
    return f'{value:.3f}' if most is None else f'{value:.3f} ({"" if value <= most else "missed "}{most:g})'


def main() -> None:
    """Count, time, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=0, help='rounds of timing (default: none, only count)')
    parser.add_argument('--only', nargs='+', choices=CASES, default=list(CASES), metavar='CASE')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--amp', action='store_true', help='time under bfloat16 autocast')
    args = parser.parse_args()
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda: there is no GPU; leave it out to time on the CPU.')
    torch.set_num_threads(1)
    names = list(dict.fromkeys([*(CASES[name].base for name in args.only), *args.only]))
    counted = {name: [count(CASES[name], foreach) for foreach in (False, True)] for name in names}
    times = timed(names, args.rounds, args.device, args.amp) if args.rounds else {}
    where = platform.processor() or platform.machine() if args.device == 'cpu' else torch.cuda.get_device_name()
    print(
        f'| torch {torch.__version__}, {where} | FLOPs x vanilla (goal) | operators | x vanilla (goal) | '
        'foreach: operators | x vanilla | reads | time x vanilla (least to greatest) | mixing, % of vanilla (goal) |'
    )
    print('|---|---|---|---|---|---|---|---|---|')
    for name in names:
        case, (loop, foreach), (base, base_foreach) = CASES[name], counted[name], counted[CASES[name].base]
        took = mixing = 'not timed'
        if times:
            ours, vanilla = times[name], times[case.base].steps
            ratios = [a / b for a, b in zip(ours.steps, vanilla, strict=True)]
            took = f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})'
            shares = [100 * a / b for a, b in zip(ours.mixing, vanilla, strict=True)]
            mixing = goal(statistics.median(shares), case.mixing) if args.device == 'cpu' else 'only on a CPU'
        print(
            f'| {name} | {goal(loop.flops / base.flops, case.flops)} | {loop.operators:.0f} | '
            f'{goal(loop.operators / base.operators, case.operators)} | {foreach.operators:.0f} | '
            f'{foreach.operators / base_foreach.operators:.3f} | {loop.reads} | {took} | {mixing} |'
        )


if __name__ == '__main__':
    main()
