"""What a training step costs with a policy, counted on tensors without values: no clock, the same on each machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, MixPolicy
from openmixup.registry import MODELS, POLICIES
from openmixup.testing.stage import keeps_history

if TYPE_CHECKING:
    from openmixup.models import MixClassifier

__all__ = ['CONVNET', 'STEPS', 'TRANSFORMER', 'StepCost', 'cost_of', 'extra_passes']

CONVNET, TRANSFORMER = 'ResNet-18', 'DeiT-tiny'
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {  # and the side of its images
    CONVNET: ({'type': 'TimmBackbone', 'model': 'resnet18', 'stem': 'cifar'}, 32),
    TRANSFORMER: ({'type': 'TimmBackbone', 'model': 'deit_tiny_patch16_224'}, 224),
}
CLASSES, IMAGES = 100, 100
STEPS = 2  # some policies do something every second step
DIGITS = 2


@dataclass(frozen=True)
class StepCost:
    """What a training step with a policy takes, the optimizer's work left out.

    All but ``flops`` are in units of one forward pass of the whole network over the batch. A pass that ends early
    counts as its part, a backward pass as 1 down to the images and as 1 more to the weights.

    Attributes:
        network: that it was counted with.
        flops: floating point operations of matrix products and convolutions, as a multiple of those without mixing.
        forward: passes forward through the network that learns, beyond the one without mixing.
        teacher: through its momentum teacher.
        frozen: through frozen networks of the policy.
        backward: backward, beyond the one without mixing.
        own: what belongs to none of these networks, as that of a network that makes masks.
    """

    network: str
    flops: float
    forward: float = 0.0
    teacher: float = 0.0
    frozen: float = 0.0
    backward: float = 0.0
    own: float = 0.0

    def rounded(self) -> dict[str, Any]:
        """As plain data, without digits that depend on draws."""
        return {
            name: value if name == 'network' else round(value, DIGITS) + 0.0 for name, value in asdict(self).items()
        }


def cost_of(policy: str) -> StepCost | None:
    """The mean cost of some steps with a registered policy and its defaults.

    Args:
        policy: its name.

    Returns:
        None if it needs another learner, or reads values from the device: then nothing can be counted.
    """
    built = POLICIES.build({'type': policy})
    network = TRANSFORMER if 'attention' in built.needs else CONVNET
    try:
        work = _work(built, network)
    except (InputError, RuntimeError, TypeError):
        return None
    base = _vanilla(network)
    unit = base['forward']
    extra = {name: (work[name] - base[name]) / unit for name in work}
    return StepCost(network, sum(work.values()) / sum(base.values()), **extra)


def extra_passes(cost: StepCost) -> str:
    """In words, as short as a cell of a table."""
    names = {'forward': 'forward', 'teacher': 'teacher forward', 'frozen': 'frozen forward', 'backward': 'backward'}
    rounded = cost.rounded()
    parts = [f'{rounded[name]:g} {text}' for name, text in {**names, 'own': 'own parts'}.items() if rounded[name]]
    return ', '.join(parts) or 'none'


@cache
def _vanilla(network: str) -> dict[str, float]:
    return _work(POLICIES.build({'type': 'Vanilla'}), network)


def _work(policy: MixPolicy, network: str) -> dict[str, float]:
    """FLOPs of a step by what they were done for."""
    config, side = NETWORKS[network]
    teacher = {'decay': 0.999, 'bn': 'batch'} if 'teacher' in policy.needs else None
    model = {'backbone': config, 'head': {'type': 'LinearHead', 'num_classes': CLASSES}, 'teacher': teacher}
    learner = MODELS.build({'type': 'MixClassifier', 'policy': policy, **model}).to('meta').train()
    images = torch.empty(IMAGES, 3, side, side, device='meta')
    labels = torch.arange(IMAGES, device='meta')
    bank = Batch(images.clone(), labels.clone()) if 'bank' in policy.needs else None
    first = 1 if keeps_history(policy) else 0  # without a past there is less to do
    counter = Counter(learner)
    for step in range(first + STEPS):
        learner.context = Context(step=step, progress=0.5)
        with counter if step >= first else _nothing():
            total, _ = learner.parse_losses(learner.loss(images, labels, bank))
            total.backward()
    return {name: flops / STEPS for name, flops in counter.flops.items()}


@contextmanager
def _nothing() -> Iterator[None]:
    yield


class Counter(TorchDispatchMode):
    """Sums up FLOPs, by torch's formulas, by the network that they were done in.

    Its own FlopCounterMode follows modules by hooks that fail inside ``torch.autograd.grad``. A node of the backward
    pass belongs to the network in whose forward pass it was made, which its number tells.

    Args:
        learner: whose networks are watched.
    """

    def __init__(self, learner: MixClassifier) -> None:
        super().__init__()
        self.flops = dict.fromkeys(('forward', 'teacher', 'frozen', 'backward', 'own'), 0.0)
        self._inside: list[str] = []
        self._passes: list[tuple[int, int]] = []
        networks = [('forward', learner.student)]
        networks += [] if learner.teacher is None else [('teacher', learner.teacher.network)]
        networks += [('frozen', guide) for guide in learner._guides.values()]
        for name, network in networks:
            backbone: Any = network.backbone
            backbone.features = self._watched(backbone.features, name)

    def _watched(self, function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
        def watched(*args: Any, **options: Any) -> Tensor:
            first = torch._C._autograd._get_sequence_nr()
            self._inside.append(name)
            try:
                return function(*args, **options)
            finally:  # also where a pass ends early
                self._inside.pop()
                self._passes.append((first, torch._C._autograd._get_sequence_nr()))

        return watched

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops[self._place()] += formula(*args, **(kwargs or {}), out_val=out)
        return out

    def _place(self) -> str:
        node = torch._C._current_autograd_node()
        if node is None:
            return self._inside[-1] if self._inside else 'own'
        number = node._sequence_nr()
        return 'backward' if any(first <= number < end for first, end in self._passes) else 'own'
