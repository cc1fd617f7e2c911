"""The registries: names in a config become classes here, and only here.

All but :data:`POLICIES` are children of mmengine's registries, so that mmengine's own hooks, schedulers and optimizers
can be named too. Three things differ from mmengine: a name resolves to a *registered* class only (mmengine imports any
dotted name and any ``_scope_``, so that ``type='os.system'`` in a file would run); an argument that the constructor
does not have or lacks is named before it runs; and what it refuses itself is told as a mistake of the user.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import mmengine.registry as parents
from mmengine.registry import Registry as MMEngineRegistry
from torch import nn

from openmixup.errors import InputError, did_you_mean

__all__ = [
    'DATASETS', 'DATA_SAMPLERS', 'HOOKS', 'LOG_PROCESSORS', 'LOOPS', 'METRICS', 'MODELS', 'MODEL_WRAPPERS',
    'OPTIMIZERS', 'OPTIM_WRAPPERS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'PARAM_SCHEDULERS', 'POLICIES', 'RUNNERS', 'Registry',
    'TRANSFORMS', 'VISBACKENDS', 'VISUALIZERS', 'accepted_arguments', 'required_arguments',
]  # fmt: skip

TAKES_NOTHING = (object.__init__, nn.Module.__init__)  # whatever their signatures say
FILLED = {'optimizer', 'params'}  # given by mmengine when it builds an optimizer, its wrapper or a scheduler


def accepted_arguments(cls: Any) -> set[str] | None:
    """Names of the constructor arguments of ``cls``; None if it takes any keyword."""
    names: set[str] = set()
    inits = [cls]
    if inspect.isclass(cls):
        inits = [c.__dict__['__init__'] for c in cls.__mro__ if '__init__' in c.__dict__]
        if cls.__init__ in TAKES_NOTHING and cls.__new__ is object.__new__:
            return names
    for init in inits:
        try:
            parameters = list(inspect.signature(init).parameters.values())
        except (TypeError, ValueError):  # a constructor written in C has no signature
            return None
        kinds = [p.kind for p in parameters]
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            return names - {'self'}
    return None


def required_arguments(cls: Any) -> set[str]:
    """Names of the constructor arguments of ``cls`` that have no default."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):  # written in C
        return set()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name for p in named if p.default is p.empty}


class Registry(MMEngineRegistry):
    """A registry that resolves registered names only and checks arguments before it builds."""

    def _find(self, key: str) -> Any:
        """The class registered under ``key`` here or in a parent registry; None if there is none."""
        self.import_from_location()
        scope, name = self.split_scope_key(key)
        registry: Any = self
        while registry is not None:
            if scope in (None, registry.scope) and name in registry.module_dict:
                return registry.module_dict[name]
            registry = registry.parent
        return None

    def knows(self, key: Any) -> bool:
        """Whether a class is registered under ``key``."""
        return isinstance(key, str) and self._find(key) is not None

    def get(self, key: str) -> Any:
        """The class registered under ``key`` here or in a parent registry.

        Raises:
            InputError: no such name, with the nearest known one.
        """
        found = self._find(key)
        if found is not None:
            return found
        known = [*self.module_dict, *(self.parent.module_dict if self.parent is not None else ())]
        raise InputError(
            f'type={key!r} is not a registered {self.name}{did_you_mean(key, known)} '
            f'(known: {", ".join(sorted(known)[:12])}{", ..." if len(known) > 12 else ""}). '
            'List the module that registers it under custom_imports if it is your own.'
        )

    def build(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """Build an object from ``dict(type=..., **arguments)``; an object that is built already is returned.

        Raises:
            InputError: no such class, arguments that it does not take, or those that its constructor refuses.
        """
        if not isinstance(cfg, Mapping):
            if isinstance(cfg, str | type(None) | int | float | list | tuple):
                self.check(cfg)  # refuses it
            return cfg
        self.check(cfg)
        self.check_complete(cfg)
        try:
            return super().build(cfg, *args, **kwargs)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f'{_name(cfg)} refuses its arguments: {" ".join(str(error).split())}') from error

    def _class(self, cfg: Mapping) -> Any:
        return self.get(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']

    def check(self, cfg: Any) -> None:
        """Refuse what is no dict, has no ``type``, or has an argument that the constructor does not accept."""
        if not isinstance(cfg, Mapping):
            remedy = f": write {{'type': {cfg!r}}}" if isinstance(cfg, str) else ''
            remedy += f' or use --policy {cfg}' if remedy and self is POLICIES else ''
            raise InputError(f'a {self.name} is given as dict(type=..., ...), not as {cfg!r}{remedy}.')
        if 'type' not in cfg:
            raise InputError(f'a {self.name} needs a type: got {dict(cfg)!r}; add type=... with a registered name.')
        cls = self._class(cfg)
        if not callable(cls):
            raise InputError(f'type={cls!r} is no {self.name}: give a registered name.')
        if cfg.get('_scope_', self.scope) != self.scope:  # mmengine imports the package that is named here
            raise InputError(f'_scope_={cfg["_scope_"]!r} of {cfg["type"]} is not known: leave _scope_ out.')
        accepted, name = accepted_arguments(cls), _name(cfg)
        if accepted is None:
            return
        accepted |= {'type', '_scope_'}
        if self.name == parents.PARAM_SCHEDULERS.name:  # read by the builder, not by the scheduler
            accepted |= {'convert_to_iter_based', 'epoch_length'}
        for key in cfg:
            if key not in accepted:
                hint = did_you_mean(key, accepted)
                takes = ', '.join(sorted(accepted - {'type', '_scope_', 'optimizer'})) or 'nothing'
                raise InputError(f'{name} has no argument {key!r}{hint} (it takes {takes}).')

    def check_complete(self, cfg: Mapping) -> None:
        """Refuse a checked config without an argument that the constructor needs."""
        cls = self._class(cfg)
        missing = sorted(required_arguments(cls) - set(cfg) - FILLED)
        if missing:
            raise InputError(f'{_name(cfg)} needs {", ".join(missing)}: add {missing[0]}=... to its dict.')


def _name(cfg: Mapping) -> str:
    """What to call the class or function of a config in messages."""
    given = cfg['type']
    return given if isinstance(given, str) else getattr(given, '__name__', 'the class')


def _child(parent: MMEngineRegistry, *locations: str) -> Registry:
    return Registry(parent.name, parent=parent, scope='openmixup', locations=[f'openmixup.{x}' for x in locations])


POLICIES = Registry('policy', scope='openmixup', locations=['openmixup.policies'])
MODELS = _child(parents.MODELS, 'models')
MODEL_WRAPPERS = _child(parents.MODEL_WRAPPERS, 'engine')
DATASETS = _child(parents.DATASETS, 'datasets')
DATA_SAMPLERS = _child(parents.DATA_SAMPLERS, 'datasets')
TRANSFORMS = _child(parents.TRANSFORMS, 'datasets')
METRICS = _child(parents.METRICS, 'evaluation')
HOOKS = _child(parents.HOOKS, 'engine')
LOOPS = _child(parents.LOOPS, 'engine')
RUNNERS = _child(parents.RUNNERS, 'engine')
OPTIMIZERS = _child(parents.OPTIMIZERS, 'engine')
OPTIM_WRAPPERS = _child(parents.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(parents.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
PARAM_SCHEDULERS = _child(parents.PARAM_SCHEDULERS, 'engine')
LOG_PROCESSORS = _child(parents.LOG_PROCESSORS, 'engine')
VISUALIZERS = _child(parents.VISUALIZERS, 'engine')
VISBACKENDS = _child(parents.VISBACKENDS, 'engine')
