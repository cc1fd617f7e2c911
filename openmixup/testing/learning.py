"""Checks of a policy in a learner: it leaves the network alone, and each loss trains what it is meant for."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Plan
from openmixup.randomness import keyed_generator
from openmixup.testing.report import check, require
from openmixup.testing.scenes import label_of, noise, normalised
from openmixup.testing.stage import is_staged, learner_of, members, outputs_of

if TYPE_CHECKING:
    from openmixup.models import MixClassifier

STEPS = 12  # in which each learned part shall have had its turn
ALONE = 'not run: it needs no network and learns nothing'


def _steps(learner: MixClassifier, count: int) -> Iterator[Batch]:
    """The batches of the first steps of a run, of which the learner is told."""
    policy = learner.policy
    for step in range(count):
        batch = noise(policy, 6, 8, 12, seed=step)
        bank = batch.bank if 'bank' in policy.needs else None
        learner.context = Context(step=step, progress=step / count)
        yield Batch(batch.images, batch.labels, bank)


@check
def a_look_leaves_no_trace(policy: MixPolicy) -> str | None:
    """Planning and finishing change no weight, statistic, gradient or mode of any network.

    Gradients are half accumulated, and a BatchNorm of the student is frozen, as in fine-tuning.
    """
    if not is_staged(policy):
        return ALONE
    learner = learner_of(policy)
    next(module for module in learner.student.modules() if not list(module.children())).eval()
    norm = next((module for module in learner.student.modules() if isinstance(module, _NormBase)), None)
    if norm is not None:
        norm.eval()
    for parameter in (*learner.student.parameters(), *policy.parameters()):
        parameter.grad = torch.full_like(parameter, 0.5)
    for batch in _steps(learner, 3):
        networks = _networks(learner)
        before = {name: _traces(network) for name, network in networks.items()}
        before['the policy'] = _gradients(policy)
        assert batch.labels is not None
        plan, context = learner.plan(batch.images, batch.labels, batch.bank)
        _no_trace(networks, policy, before, 'plan()')
        outputs = outputs_of(learner, plan)
        policy.finish(plan, outputs, context)
        _no_trace(networks, policy, before, 'finish()')
    return None


def _no_trace(networks: dict[str, nn.Module], policy: MixPolicy, before: dict[str, dict[str, str]], what: str) -> None:
    after = {name: _traces(network) for name, network in networks.items()} | {'the policy': _gradients(policy)}
    for name, traces in before.items():
        changed = sorted(key for key in {**traces, **after[name]} if traces.get(key) != after[name].get(key))
        require(not changed, f'{what} changes {len(changed)} things of {name}, such as {", ".join(changed[:3])}')


def _networks(learner: MixClassifier) -> dict[str, nn.Module]:
    """The networks that a policy may look at, by names for messages."""
    found: dict[str, nn.Module] = {'the student': learner.student}
    if learner.teacher is not None:
        found['the teacher'] = learner.teacher.network
    return found | {f'the frozen network {name!r}': guide for name, guide in learner._guides.items()}


def _traces(network: nn.Module) -> dict[str, str]:
    """All of a network that a look must leave alone, by name."""
    found = {f'the gradient of {name}': text for name, text in _gradients(network).items()}
    for name, value in network.state_dict().items():
        found[f'the value of {name}'] = _digest(value)
    for name, parameter in network.named_parameters():
        found[f'requires_grad of {name}'] = str(parameter.requires_grad)
    for name, module in network.named_modules():
        hooks = (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
        found[f'the mode of {name or "itself"}'] = f'{module.training} {getattr(module, "track_running_stats", "")}'
        found[f'the hooks of {name or "itself"}'] = str(hooks)
    return found


def _gradients(module: nn.Module) -> dict[str, str]:
    return {name: '' if p.grad is None else _digest(p.grad) for name, p in module.named_parameters()}


def _digest(value: Tensor) -> str:
    return hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest()


def _total(learner: MixClassifier, batch: Batch) -> Tensor:
    """The loss of a step."""
    assert batch.labels is not None
    with torch.random.fork_rng(devices=[]):  # of dropout
        torch.default_generator.manual_seed(0)
        return learner.parse_losses(learner.loss(batch.images, batch.labels, batch.bank))[0]


@check
def gradients_go_where_they_should(policy: MixPolicy) -> str | None:
    """One backward pass: the student learns from its views, learned parts of the policy from its additional losses.

    Teachers and frozen networks get no gradient, and the views train no part of the policy. What the additional losses
    train is said by the class tag ``losses_train``: 'policy' for its learned parts only, 'network' for the student too.
    The default is 'policy' if it has learned parts. Each of these gets a gradient in each step, or, if the policy says
    that they are sometimes unused, in some step. All of it holds for a convolutional network and for a transformer.
    """
    if not is_staged(policy):
        return ALONE
    refused = ''
    for transformer in (False, True):
        if not transformer and 'attention' in policy.needs:
            continue
        try:
            learner = learner_of(policy, transformer=transformer)
        except InputError as error:
            require(transformer, f'it refuses a convolutional network: {error}')
            refused = f'it refuses a transformer: {error}'
            continue
        _gradients_go_where_they_should(policy, learner)
    return refused or None


def _gradients_go_where_they_should(policy: MixPolicy, learner: MixClassifier) -> None:
    parts = dict(policy.named_parameters())
    reached: set[str] = set()
    for batch in _steps(learner, STEPS if policy.sometimes_unused else 3):
        assert batch.labels is not None
        plan, context = learner.plan(batch.images, batch.labels, batch.bank)
        outputs = outputs_of(learner, plan)
        plan = policy.finish(plan, outputs, context)
        _losses_go_where_they_should(policy, learner, plan, outputs)
        learner.zero_grad(set_to_none=True)
        _total(learner, batch).backward()
        _all_gradients_are_sound(learner)
        now = {name for name, part in parts.items() if part.requires_grad and part.grad is not None}
        reached |= now
        still = [name for name, part in parts.items() if part.requires_grad and name not in now]
        require(
            policy.sometimes_unused or not still,
            f'{", ".join(still[:3])} of the policy got no gradient: if that is meant, say so by sometimes_unused',
        )
    never = [name for name, part in parts.items() if part.requires_grad and name not in reached]
    require(not never, f'{", ".join(never[:3])} of the policy got no gradient in {STEPS} steps')


def _losses_go_where_they_should(
    policy: MixPolicy, learner: MixClassifier, plan: Plan, outputs: tuple[object, ...]
) -> None:
    parts, weights = dict(policy.named_parameters()), dict(learner.student.named_parameters())
    for name, term in plan.losses.items():
        require(term.ndim == 0, f'the loss {name!r} has the shape {tuple(term.shape)}, expected a scalar')
        require(term.requires_grad, f'the loss {name!r} has no gradient: it trains nothing')
    if plan.losses and _losses_train(plan) == 'policy':
        touched = _touched(plan.losses.values(), weights)
        names = ', '.join(map(repr, plan.losses))
        require(
            not touched,
            f'its losses {names} train the network, such as {", ".join(touched[:3])}: if that is meant, set '
            "losses_train = 'network' in the class",
        )
    terms = [
        view.share * learner.criterion(output.logits, plan.batch.source_labels, view.mixture).mean()  # type: ignore[attr-defined]
        for view, output in zip(plan.views, outputs, strict=True)
        if view.share
    ]
    touched = _touched(terms, parts)
    require(not touched, f'the loss of the views trains {", ".join(touched[:3])} of the policy')


def _losses_train(plan: Plan) -> str:
    """'network' if any policy of a nested plan says so, or has nothing else to train."""
    declared = [part.losses_train for part in members(plan.policy)]
    if 'network' in declared:
        return 'network'
    learned = any(parameter.requires_grad for parameter in plan.policy.parameters())
    return 'policy' if learned or 'policy' in declared else 'network'


def _touched(terms: Iterable[Tensor], parameters: dict[str, nn.Parameter]) -> list[str]:
    """Names of the parameters that the gradient of the sum of ``terms`` reaches."""
    names = [name for name, parameter in parameters.items() if parameter.requires_grad]
    differentiable = [term for term in terms if term.requires_grad]
    if not names or not differentiable:
        return []
    total = torch.stack([term.float() for term in differentiable]).sum()
    found = torch.autograd.grad(total, [parameters[name] for name in names], retain_graph=True, allow_unused=True)
    return [name for name, gradient in zip(names, found, strict=True) if gradient is not None]


def _all_gradients_are_sound(learner: MixClassifier) -> None:
    for name, parameter in learner.named_parameters():
        finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
        require(finite, f'the gradient of {name} is not finite')
    for name, parameter in learner.student.named_parameters():
        used = not name.startswith('heads.') or name.startswith('heads.main.')
        require(parameter.grad is not None or not used, f'{name} of the student got no gradient')
    for title, network in _networks(learner).items():
        given = [name for name, parameter in network.named_parameters() if parameter.grad is not None]
        require(title == 'the student' or not given, f'{title} got a gradient in {", ".join(given[:3])}')


@check
def finish_is_sound(policy: MixPolicy) -> str | None:
    """What ``finish`` leaves has the views of the plan, finite weights that sum as declared, and finite losses."""
    if not is_staged(policy):
        return ALONE
    learner = learner_of(policy)
    for batch in _steps(learner, 6):
        assert batch.labels is not None
        plan, context = learner.plan(batch.images, batch.labels, batch.bank)
        outputs = outputs_of(learner, plan)
        done = policy.finish(plan, outputs, context)
        require(done.policy is policy, 'the finished plan names another policy')
        require(len(done.views) == len(plan.views), f'{len(plan.views)} views became {len(done.views)}')
        sources = len(done.batch.source_images)
        require(len(done.batch.source_labels) == sources, f'{sources} sources have other labels')
        for before, view in zip(plan.views, done.views, strict=True):
            require(before.inputs is view.inputs, 'finish() has another picture than the network saw')
            index, weight = view.mixture.index, view.mixture.weight
            size = f'index {tuple(index.shape)} and weight {tuple(weight.shape)}'
            require(index.shape == weight.shape and len(index) == len(batch), f'{size} must both be (N, K)')
            require(int(index.min()) >= 0 and int(index.max()) < sources, f'index leaves the {sources} sources')
            require(bool(weight.isfinite().all()), 'a weight is not finite')
            require(not weight.requires_grad, 'weights carry a gradient')
            most = 1 if normalised(done) else index.shape[1]  # a class that two sources have may count for both
            low, high = float(weight.min()), float(weight.max())
            inside = low >= 0 and (high <= most + 1e-5 or label_of(done) != 'semantic')
            require(inside, f'weights go from {low:.4f} to {high:.4f}, outside 0 to {most}')
            if normalised(done):
                gap = float((weight.double().sum(1) - 1).abs().max())
                require(gap <= 1e-5, f'weights sum to 1 only within {gap:.5f}')
        for name, term in done.losses.items():
            require(term.ndim == 0 and bool(term.isfinite()), f'the loss {name!r} is {term.tolist()}')
    return None


@check
def history_can_be_saved(policy: MixPolicy) -> str | None:
    """All that it remembers is in ``state_dict`` or ``rank_state``: a fresh policy goes on from them bit for bit."""
    from openmixup.testing.construction import rebuilt

    again = rebuilt(policy).train()
    for _ in range(3):
        _step(policy, 0)
    learner_like(policy, again)
    again.load_state_dict(policy.state_dict())
    state = policy.rank_state()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    require(not odd, f'rank_state() holds {", ".join(odd)}, which are no tensors')
    require(not any(value.requires_grad for value in state.values()), 'rank_state() holds a gradient')
    again.load_rank_state({name: value.clone() for name, value in state.items()})
    for seed in range(1, 3):
        first, second = _step(policy, seed), _step(again, seed)
        for one, two in itertools.zip_longest(first.views, second.views):
            same = one is not None and two is not None and torch.equal(one.inputs, two.inputs)
            same = same and torch.equal(one.mixture.index, two.mixture.index)
            require(
                same and torch.equal(one.mixture.weight, two.mixture.weight),
                'a fresh policy that got state_dict and rank_state goes on in another way: it remembers something else',
            )
        lost = [name for name, term in first.losses.items() if not torch.equal(term, second.losses[name])]
        require(not lost, f'a fresh policy that got state_dict and rank_state has other losses: {", ".join(lost)}')
    return None


def learner_like(policy: MixPolicy, again: MixPolicy) -> None:
    """Bind ``again`` as ``policy`` is bound."""
    if is_staged(policy):
        learner_of(again)


def _step(policy: MixPolicy, seed: int) -> Plan:
    """A step without a reset of its history."""
    batch = noise(policy, 4, 8, 8, seed=seed)
    context = Context(generator=keyed_generator('step', seed))
    if not is_staged(policy):
        return policy(batch, context)
    learner = learner_of(policy)
    learner.context = context
    bank = batch.bank if 'bank' in policy.needs else None
    assert batch.labels is not None
    plan, context = learner.plan(batch.images, batch.labels, bank)
    return policy.finish(plan, outputs_of(learner, plan), context)
