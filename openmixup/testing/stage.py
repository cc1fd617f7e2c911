"""A learner around a policy that needs one, so that its plans can be checked like those of any other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from openmixup.policies.base import MixPolicy
from openmixup.policies.compose import RandomChoice
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Plan

if TYPE_CHECKING:
    from openmixup.models import MixClassifier

__all__ = [
    'CLASSES', 'asked', 'bound', 'fine_maps', 'finishes', 'full_step', 'is_staged', 'keeps_history', 'learner_of',
    'learns_masks', 'looking', 'looks', 'members', 'most_operators', 'outputs_of', 'play', 'unknown_needs',
]  # fmt: skip

CLASSES = 24  # of the learner; no scene has so many sources
PATIENCE = 30
LOOKS = ('features', 'attention', 'cam', 'input_grad', 'teacher')
DELEGATES = {name: {getattr(MixPolicy, name), getattr(RandomChoice, name)} for name in ('bind', 'finish')}

_looks_open = 0
_fine_maps = False


def asked(policy: MixPolicy) -> list[str]:
    """What it needs of a learner."""
    return [need for need in policy.needs if need != 'pixels']


def unknown_needs(policy: MixPolicy) -> list[str]:
    """What it needs beyond what a learner of this package provides."""
    if not asked(policy):
        return []
    from openmixup.models.mix_classifier import PROVIDES

    return [need for need in asked(policy) if need not in PROVIDES]


def members(policy: MixPolicy) -> list[MixPolicy]:
    """The policy and all policies in it."""
    return [module for module in policy.modules() if isinstance(module, MixPolicy)]


def finishes(policy: MixPolicy) -> bool:
    """Whether some part of it has something left to do behind the forward passes."""
    return any(type(part).finish not in DELEGATES['finish'] for part in members(policy))


def most_operators(policy: MixPolicy) -> int:
    """Most operators of a plan: a choice of policies launches what its dearest member does."""
    return max(part.operators for part in members(policy))


def is_staged(policy: MixPolicy) -> bool:
    """Whether its plans are made by a learner: it needs or binds a network, has learned parts or a ``finish``."""
    if asked(policy) or policy.heads or policy.networks or any(True for _ in policy.parameters()):
        return True
    return any(getattr(type(part), name) not in known for part in members(policy) for name, known in DELEGATES.items())


def looks(policy: MixPolicy) -> bool:
    """Whether its pictures may follow from what a network makes of the images."""
    return bool(policy.networks) or any(need in LOOKS for need in policy.needs)


def learns_masks(policy: MixPolicy) -> bool:
    """Whether what it shows follows from weights that it learns."""
    return any(True for _ in policy.parameters())


def keeps_history(policy: MixPolicy) -> bool:
    """Whether some part of it remembers past batches."""
    inner = [part for part in members(policy) if len(members(part)) == 1]
    return any(type(part).rank_state is not MixPolicy.rank_state for part in inner)


class _Stage:
    """The learner of one policy, which it is kept with. Copies of the policy begin without one."""

    def __init__(self) -> None:
        self.learner: MixClassifier | None = None
        self.key: tuple[str, int, str, bool, bool] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Stage:
        return _Stage()

    def __reduce__(self) -> tuple[type[_Stage], tuple[()]]:
        return _Stage, ()


def learner_of(
    policy: MixPolicy,
    target: str = 'class',
    classes: int = CLASSES,
    device: torch.device | str = 'cpu',
    transformer: bool | None = None,
) -> MixClassifier:
    """The learner whose policy is ``policy``, with a tiny network in training mode.

    It is built when first asked for and again if one of the arguments is another one, which binds the policy anew. The
    policy keeps its mode. A teacher is there if needed; frozen networks are replaced by tiny ones.

    Args:
        policy: the policy.
        target: kind of the labels.
        classes: number of logits.
        device: of the learner.
        transformer: the network is a transformer; None: if attention is needed.

    Raises:
        InputError: the policy refuses the kind of the labels or the network, or its generator does not fit.
    """
    stage = vars(policy).setdefault('_stage', _Stage())
    transformer = 'attention' in policy.needs if transformer is None else transformer
    key = (target, classes, str(device), transformer, _fine_maps)
    if stage.key != key:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            stage.learner = _built(policy, target, classes, transformer).to(device)
        stage.key = key
    return stage.learner


def bound(policy: MixPolicy) -> MixPolicy:
    """``policy``, bound to the tiny network if it does not plan without one."""
    if is_staged(policy):
        learner_of(policy)
    return policy


def _built(policy: MixPolicy, target: str, classes: int, transformer: bool) -> MixClassifier:
    from openmixup.models import BinaryCrossEntropy, SoftCrossEntropy
    from openmixup.models.generator import check_generator
    from openmixup.testing.networks import tiny_network

    training = policy.training
    learner: MixClassifier = _learner_class()(
        tiny_network(transformer, _fine_maps),
        {'type': 'LinearHead', 'num_classes': classes},
        policy,
        BinaryCrossEntropy() if target == 'multilabel' else SoftCrossEntropy(),
        teacher={'decay': 0.9} if 'teacher' in policy.needs else None,
        target=target,
    )
    check_generator(learner.teacher)
    networks = [learner.student] if learner.teacher is None else [learner.student, learner.teacher.network]
    for network in networks:  # predictions that differ, and gradients that are no rounding errors
        for head in network.heads.values():
            head.load_state_dict({name: value * 30 for name, value in head.state_dict().items()})
    policy.train(training)
    learner.student.train()
    return learner


@functools.cache
def _learner_class() -> Any:
    """A learner whose frozen networks are tiny ones, and whose probe tells when a network is looked at."""
    from openmixup.models import MixClassifier, Student
    from openmixup.models.probe import Probe
    from openmixup.testing.networks import tiny_network

    looks = {name: _open(value) for name, value in vars(Probe).items() if callable(value) and not name.startswith('_')}
    quiet = type('Probe', (Probe,), looks)

    class Learner(MixClassifier):
        def build_guide(self, name: str, config: dict) -> Student:
            return Student(tiny_network(fine=_fine_maps), {}).requires_grad_(False).eval()

        def probe(self) -> Probe:
            found = super().probe()
            found.__class__ = quiet
            return found

    return Learner


@contextmanager
def fine_maps() -> Iterator[None]:
    """Learners are built with networks whose maps have many cells, which the arguments of a policy may ask for."""
    global _fine_maps
    _fine_maps = True
    try:
        yield
    finally:
        _fine_maps = False


def looking() -> bool:
    """Whether a network runs just now: what it launches is not the policy's."""
    return _looks_open > 0


@contextmanager
def _look() -> Iterator[None]:
    global _looks_open
    _looks_open += 1
    try:
        yield
    finally:
        _looks_open -= 1


def _open(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def counted(*args: Any, **options: Any) -> Any:
        with _look():
            return function(*args, **options)

    return counted


def play(policy: MixPolicy, batch: Batch, context: Context, final: bool, classes: int = CLASSES) -> Plan:
    """The plan of a staged policy.

    Args:
        policy: the policy.
        batch: the sources. Of a policy with a history the bank is what came before: it is the batch of a first step.
        context: random streams and the position in the run.
        final: the plan as it is behind the forward passes.
        classes: number of logits.
    """
    learner = learner_of(policy, batch.target, classes, batch.images.device)
    learner.context = context
    bank = batch.bank
    assert batch.labels is not None
    if keeps_history(policy):
        policy.load_rank_state({})
        if bank is not None:
            _remember(learner, Batch(bank.images, bank.labels, target=batch.target))
    if 'bank' not in policy.needs:
        bank = None
    if final and finishes(policy):
        return full_step(learner, Batch(batch.images, batch.labels, bank, batch.target))
    return learner.plan(batch.images, batch.labels, bank)[0]


def _remember(learner: MixClassifier, past: Batch) -> None:
    """Steps until there is a history: a choice of policies may leave it to another member first."""
    policy = learner.policy
    for _ in range(PATIENCE if policy.training and len(members(policy)) > 1 else 1):
        full_step(learner, past)
        if policy.rank_state():
            return


def full_step(learner: MixClassifier, batch: Batch) -> Plan:
    """A plan behind its forward passes, which leave no trace in the student, nor in a global random state."""
    assert batch.labels is not None
    plan, context = learner.plan(batch.images, batch.labels, batch.bank)
    return learner.policy.finish(plan, outputs_of(learner, plan), context)


def outputs_of(learner: MixClassifier, plan: Plan) -> tuple[Any, ...]:
    """What the student makes of each view without dropout, its statistics kept as they were."""
    before = [(buffer, buffer.clone()) for buffer in _buffers(learner.student)]
    with _look(), _without_dropout(learner.student):
        outputs = learner.run_views(plan)
    for buffer, value in before:
        buffer.data.copy_(value)  # unseen by a graph that runs backward later
    return outputs


@contextmanager
def _without_dropout(network: nn.Module) -> Iterator[None]:
    dropouts = [module for module in network.modules() if isinstance(module, nn.Dropout) and module.training]
    for module in dropouts:
        module.training = False
    try:
        yield
    finally:
        for module in dropouts:
            module.training = True


def _buffers(network: nn.Module) -> list[Tensor]:
    return [buffer for module in network.modules() if isinstance(module, nn.BatchNorm2d) for buffer in module.buffers()]
