"""Checks of the constructor: a policy can be named in a config, printed, copied and saved."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
from typing import Any

import torch

from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MixPolicy
from openmixup.registry import POLICIES
from openmixup.testing.report import CHECKS, PolicyCheckError, check, require
from openmixup.testing.scenes import draw, noise
from openmixup.testing.stage import CLASSES, bound, is_staged, learner_of

MOST_ARGUMENTS = 8


@check
def arguments_have_defaults(policy: MixPolicy) -> str | None:
    """Every argument has a default, there are at most eight, and an unknown one is refused."""
    parameters = inspect.signature(type(policy)).parameters
    loose = [p.name for p in parameters.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    require(not loose, f'the constructor takes *{loose}: name the arguments')
    bare = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    require(not bare, f'no default for {", ".join(bare)}')
    require(len(parameters) <= MOST_ARGUMENTS, f'{len(parameters)} arguments, at most {MOST_ARGUMENTS} are allowed')
    cls: Any = type(policy)
    cls()
    try:
        cls(no_such_argument=1)
    except (TypeError, InputError):
        return None
    raise PolicyCheckError('an unknown argument is not refused')


@check
def arguments_are_stored(policy: MixPolicy) -> str | None:
    """Each argument is stored under its own name as it was given, so that the policy can be built again."""
    missing = [name for name in inspect.signature(type(policy)).parameters if not hasattr(policy, name)]
    require(not missing, f'not stored under its own name: {", ".join(missing)}')
    fresh = type(policy)()
    for name, parameter in inspect.signature(type(policy)).parameters.items():
        stored = getattr(fresh, name)
        kept = isinstance(stored, torch.nn.Module) or stored == parameter.default  # members are built from dicts
        require(kept, f'{name}={parameter.default!r} was stored as {stored!r}')
    arguments = policy.arguments()
    again = type(policy)(**arguments).arguments()
    require(repr(again) == repr(arguments), f'built again from {arguments}, it has the arguments {again}')
    return None


@check
def repr_can_be_built_again(policy: MixPolicy) -> str | None:
    """``repr(policy)`` is an expression that builds an equal policy."""
    text = repr(policy)
    again = rebuilt(policy)
    require(type(again) is type(policy) and repr(again) == text, f'{text} builds {again!r}')
    require(repr(bound(policy)) == text, f'bound to a network, {text} calls itself {policy!r}')
    return None


def rebuilt(policy: MixPolicy) -> MixPolicy:
    """A new policy of the same arguments, that shares no member with ``policy``."""
    text = repr(policy)
    classes = {type(module).__name__: type(module) for module in policy.modules()}
    try:
        return _built(ast.parse(text, mode='eval').body, {**POLICIES.module_dict, **classes})
    except (SyntaxError, ValueError, KeyError, TypeError) as error:
        raise PolicyCheckError(f'{text} cannot be built again: {type(error).__name__}: {error}') from error


def _built(node: ast.expr, classes: dict[str, Any]) -> Any:
    """The value of an expression of literals and calls of ``classes`` with keywords; nothing else is evaluated."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        return classes[node.func.id](**{str(word.arg): _built(word.value, classes) for word in node.keywords})
    if isinstance(node, ast.List | ast.Tuple):
        items = [_built(item, classes) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    return ast.literal_eval(node)


@check
def copies_are_equal(policy: MixPolicy) -> str | None:
    """Deepcopy and pickle give an equal policy, before and after a step: loader workers get theirs that way."""
    _copies_are_equal(policy)
    if is_staged(policy):
        draw(policy, noise(policy, 4, 8, 8), final=True)
        _copies_are_equal(policy)
    return None


def _copies_are_equal(policy: MixPolicy) -> None:
    for how, copied in (('deepcopy', copy.deepcopy), ('pickle', lambda given: pickle.loads(pickle.dumps(given)))):
        try:
            again = copied(policy)
        except (AttributeError, TypeError, RuntimeError, pickle.PicklingError) as error:
            raise PolicyCheckError(f'{how} fails: {error}') from error
        require(type(again) is type(policy) and repr(again) == repr(policy), f'{how} gives {again!r}')
        _equal_state(policy, again, how)


@check
def state_can_be_loaded(policy: MixPolicy) -> str | None:
    """state_dict goes into a fresh policy, bound or not, and holds nothing if there is nothing to learn."""
    again = rebuilt(policy)
    _loads(policy, again)
    if is_staged(policy):
        for value in bound(policy).state_dict().values():
            if value.is_floating_point():
                value.add_(0.25)  # as if it had been trained
        _loads(policy, learner_of(rebuilt(policy)).policy)
    return None


def _loads(policy: MixPolicy, again: MixPolicy) -> None:
    try:
        again.load_state_dict(policy.state_dict())
    except RuntimeError as error:
        raise PolicyCheckError(f'a fresh policy refuses the state: {" ".join(str(error).split())}') from error
    _equal_state(policy, again, 'load_state_dict')


@check
def binding_twice_keeps(policy: MixPolicy) -> str | None:
    """Bound again to an equal network it keeps what it learned, the very tensors that an optimizer knows."""
    if not is_staged(policy):
        return 'not run: it binds no network'
    learner = learner_of(policy)
    before = {name: (value, value.clone()) for name, value in policy.state_dict(keep_vars=True).items()}
    learner._bind(learner.student.backbone, CLASSES)
    after = policy.state_dict(keep_vars=True)
    require(after.keys() == before.keys(), 'bound again to an equal network it has other parts')
    for name, (value, copied) in before.items():
        require(after[name] is value, f'bound again to an equal network it has a new tensor {name}')
        require(torch.equal(value, copied), f'bound again to an equal network it has other values in {name}')
    return None


def _equal_state(policy: MixPolicy, again: MixPolicy, how: str) -> None:
    first, second = policy.state_dict(), again.state_dict()
    require(first.keys() == second.keys(), f'{how} changes the names in state_dict')
    for name, value in first.items():
        require(torch.equal(value, second[name]), f'{how} changes {name}')


@check
def it_is_documented(policy: MixPolicy) -> str | None:
    """The class has a docstring, names its paper unless it mixes nothing by itself, and is exempt for reasons only."""
    require((type(policy).__dict__.get('__doc__') or '').strip(), 'the class has no docstring')
    members = [module for module in policy.modules() if isinstance(module, MixPolicy) and module is not policy]
    require(policy.paper or members or policy.rate == 0, 'the class tag paper is empty: give a link to the source')
    for name, reason in getattr(type(policy), 'exempt', {}).items():
        require(name in CHECKS, f'exempt names {name!r}, which is no check{did_you_mean(name, CHECKS)}')
        require(isinstance(reason, str) and reason.strip(), f'exempt gives no reason for {name!r}')
    return None
