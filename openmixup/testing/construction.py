"""Checks of the constructor: a policy can be named in a config, printed, copied and saved."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
from typing import Any

import torch

from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.registry import POLICIES
from openmixup.testing.report import Check, PolicyCheckError, check, require

MOST_ARGUMENTS = 8


def _static(function: Any) -> Check:
    """A check that draws nothing, so it also holds for policies that need a network."""
    function.without_network = True
    return check(function)


@_static
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


@_static
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


@_static
def repr_can_be_built_again(policy: MixPolicy) -> str | None:
    """``repr(policy)`` is an expression that builds an equal policy."""
    text = repr(policy)
    classes = {type(module).__name__: type(module) for module in policy.modules()}
    try:
        again = _built(ast.parse(text, mode='eval').body, {**POLICIES.module_dict, **classes})
    except (SyntaxError, ValueError, KeyError, TypeError) as error:
        raise PolicyCheckError(f'{text} cannot be built again: {type(error).__name__}: {error}') from error
    require(type(again) is type(policy) and repr(again) == text, f'{text} builds {again!r}')
    return None


def _built(node: ast.expr, classes: dict[str, Any]) -> Any:
    """The value of an expression of literals and calls of ``classes`` with keywords; nothing else is evaluated."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        return classes[node.func.id](**{str(word.arg): _built(word.value, classes) for word in node.keywords})
    if isinstance(node, ast.List | ast.Tuple):
        items = [_built(item, classes) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    return ast.literal_eval(node)


@_static
def copies_are_equal(policy: MixPolicy) -> str | None:
    """Deepcopy and pickle give an equal policy: loader workers get theirs that way."""
    for how, copied in (('deepcopy', copy.deepcopy), ('pickle', lambda given: pickle.loads(pickle.dumps(given)))):
        try:
            again = copied(policy)
        except (AttributeError, TypeError, RuntimeError, pickle.PicklingError) as error:
            raise PolicyCheckError(f'{how} fails: {error}') from error
        require(type(again) is type(policy) and repr(again) == repr(policy), f'{how} gives {again!r}')
        _equal_state(policy, again, how)
    return None


@_static
def state_can_be_loaded(policy: MixPolicy) -> str | None:
    """state_dict goes into a fresh policy, and holds nothing if there is nothing to learn."""
    again = type(policy)(**policy.arguments())
    again.load_state_dict(policy.state_dict())
    _equal_state(policy, again, 'load_state_dict')
    return None


def _equal_state(policy: MixPolicy, again: MixPolicy, how: str) -> None:
    first, second = policy.state_dict(), again.state_dict()
    require(first.keys() == second.keys(), f'{how} changes the names in state_dict')
    for name, value in first.items():
        require(torch.equal(value, second[name]), f'{how} changes {name}')


@_static
def it_is_documented(policy: MixPolicy) -> str | None:
    """The class has a docstring, and names its paper unless it mixes nothing by itself."""
    require((type(policy).__dict__.get('__doc__') or '').strip(), 'the class has no docstring')
    members = [module for module in policy.modules() if isinstance(module, MixPolicy) and module is not policy]
    require(policy.paper or members or policy.rate == 0, 'the class tag paper is empty: give a link to the source')
    return None
