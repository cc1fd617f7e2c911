"""Reading a config, changing it from the command line, and refusing what nothing would read."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from openmixup import registry
from openmixup.errors import InputError, did_you_mean

__all__ = ['apply_options', 'configs_root', 'find_config', 'load_config', 'use_policy', 'validate']

LOADER_KEYS = {'dataset', 'batch_size', 'num_workers', 'drop_last', 'shuffle', 'on_device'}
TOP_KEYS = {
    'model', 'data_preprocessor', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator',
    'test_evaluator', 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler', 'default_hooks',
    'custom_hooks', 'custom_imports', 'default_scope', 'env_cfg', 'experiment_name', 'find_unused_parameters',
    'launcher', 'load_from', 'log_level', 'model_wrapper_cfg', 'randomness', 'resume', 'sync_bn', 'visualizer',
    'work_dir',
}  # fmt: skip
WRAPPER_KEYS = {'constructor', 'paramwise_cfg'}  # read by the constructor, not by the wrapper


def configs_root() -> Path:
    """The folder of the configs that come with the package, in a checkout or installed."""
    package = Path(__file__).parents[1]
    checkout = package.parent / 'configs'
    return checkout if (checkout / '_base_').is_dir() else package / 'configs'


def find_config(name: str | Path) -> Path:
    """The file of a config: a path, or a name below the shipped configs with or without ``configs/`` and ``.py``."""
    given = Path(name)
    inside = Path(*given.parts[1:]) if given.parts[:1] == ('configs',) else given
    for path in (given, configs_root() / inside, configs_root() / f'{inside}.py'):
        if path.is_file():
            return path
    shipped = [str(path.relative_to(configs_root())) for path in configs_root().glob('[!_]*/*.py')]
    raise InputError(
        f'config {name}: no such file, neither here nor among the shipped ones{did_you_mean(str(inside), shipped)}.'
    )


def load_config(
    name: str | Path, options: Iterable[str] = (), policy: str | None = None, data: str | None = None
) -> Config:
    """A checked config.

    A config is Python code and is run: load only files that you trust.

    Args:
        name: file, or name of a shipped config.
        options: ``key=value`` changes, as in ``model.policy.alpha=0.2``.
        policy: name of a policy that replaces the config's own, before the options are applied.
        data: root folder for all data sets of the config.

    Raises:
        InputError: no such file, an error in it, or a key that nothing reads.
    """
    path = find_config(name)
    try:
        config = Config.fromfile(path, lazy_import=False)
    except InputError:
        raise
    except Exception as error:  # a config is code and may raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f'config {path} cannot be read ({type(error).__name__}: {reason}).') from error
    for key in [key for key in config if key.startswith('_')]:
        config.pop(key)  # helper variables of the file
    config.setdefault('default_scope', 'openmixup')
    if policy is not None:
        use_policy(config, policy)
    if data is not None:
        for part in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if part in config:
                config[part]['dataset']['root'] = data
    apply_options(config, options)
    validate(config)
    return config


def use_policy(config: Config, policy: str) -> None:
    """Replace the policy of ``config`` by another one with its defaults."""
    registry.POLICIES.get(policy)  # an unknown name is refused here
    config['model']['policy'] = {'type': policy}


def _value(text: str) -> Any:
    words = {'true': True, 'false': False, 'none': None, 'null': None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def apply_options(config: Config, options: Iterable[str]) -> None:
    """Apply ``key=value`` changes to ``config``.

    A key must exist already, or be an argument of what its ``type`` names; numbers in a key index a list.

    Raises:
        InputError: an option without '=', or a key that does not exist.
    """
    for option in options:
        key, equals, text = option.partition('=')
        if not equals or not key:
            raise InputError(f'option {option!r}: expected key=value, as in model.policy.alpha=0.2.')
        *parents, last = key.split('.')
        place: Any = config
        for depth, name in enumerate(parents):
            place = _step(place, name, '.'.join(parents[: depth + 1]))
        if isinstance(place, list | tuple):
            raise InputError(f'option {key}: items of a list are changed by a key inside them, or in a config file.')
        if last not in place and last not in _settable(place, parents):
            hint = did_you_mean(last, {*place, *_settable(place, parents)})
            raise InputError(f'option {key}: {".".join(parents) or "the config"} has no key {last!r}{hint}.')
        place[last] = _value(text)


def _step(place: Any, name: str, key: str) -> Any:
    if isinstance(place, list | tuple) and name.lstrip('-').isdigit() and int(name) < len(place):
        return place[int(name)]
    if not isinstance(place, list | tuple) and name in place and isinstance(place[name], Mapping | list | tuple):
        return place[name]
    hint = '' if isinstance(place, list | tuple) else did_you_mean(name, list(place))
    raise InputError(f'option {key}...: there is no {name!r} to change{hint}.')


def _settable(place: Any, parents: list[str]) -> set[str]:
    """Keys that may be added to the dict ``place``."""
    if not parents:
        return TOP_KEYS
    if len(parents) == 1 and parents[0].endswith('_dataloader'):
        return LOADER_KEYS
    for known in vars(registry).values():
        if isinstance(known, registry.Registry) and known.knows(place.get('type')):
            accepted = registry.accepted_arguments(known.get(place['type'])) or set()
            return accepted | (WRAPPER_KEYS if known is registry.OPTIM_WRAPPERS else set())
    return set()


def _refuse_unknown(found: Iterable[str], known: set[str], where: str, remedy: str = '') -> None:
    for key in found:
        if key not in known:
            raise InputError(f'{where} has an unknown key {key!r}{did_you_mean(key, known)}{remedy}.')


def validate(config: Mapping[str, Any]) -> None:
    """Refuse unknown keys, types and arguments anywhere in ``config``, before anything is built."""
    _refuse_unknown(config, TOP_KEYS, 'the config', ' (a variable of your own needs a name that begins with _)')
    if not isinstance(config.get('model'), Mapping):
        raise InputError('the config has no model=dict(...): inherit from a recipe through _base_ or write one.')
    _check(registry.MODELS, config['model'])
    for name in ('backbone', 'head', 'loss', 'data_preprocessor'):
        _check(registry.MODELS, config['model'].get(name))
    _check_policy(config['model'].get('policy'))
    preprocessor = config.get('data_preprocessor')
    _check(registry.MODELS, preprocessor)
    for part in ('train', 'test'):
        _check(registry.TRANSFORMS, (preprocessor or {}).get(part))
    for part in ('train', 'val', 'test'):
        loader = config.get(f'{part}_dataloader')
        if loader is not None:
            _refuse_unknown(loader, LOADER_KEYS, f'{part}_dataloader')
            for key in ('dataset', 'batch_size'):
                if key not in loader:
                    raise InputError(f'{part}_dataloader has no {key}: add it.')
            _check(registry.DATASETS, loader['dataset'])
        _check(registry.LOOPS, config.get(f'{part}_cfg'))
        _check(registry.METRICS, config.get(f'{part}_evaluator'))
    wrapper = config.get('optim_wrapper')
    if wrapper is not None:
        plain = {key: value for key, value in wrapper.items() if key not in WRAPPER_KEYS}
        _check(registry.OPTIM_WRAPPERS, {'type': 'OptimWrapper', **plain})
        _check(registry.OPTIMIZERS, wrapper.get('optimizer'))
    _refuse_unknown(config.get('randomness') or {}, {'seed', 'deterministic'}, 'randomness')
    _check(registry.PARAM_SCHEDULERS, config.get('param_scheduler'))
    _check(registry.VISUALIZERS, config.get('visualizer'))
    for hook in [*(config.get('default_hooks') or {}).values(), *(config.get('custom_hooks') or [])]:
        if hook is not None:
            _check(registry.HOOKS, {key: value for key, value in hook.items() if key != 'priority'})


def _check(known: registry.Registry, entry: Any) -> None:
    for item in entry if isinstance(entry, list | tuple) else [entry]:
        if item is not None:
            known.check(item)


def _check_policy(entry: Any) -> None:
    _check(registry.POLICIES, entry)
    for member in (entry or {}).get('policies', ()):
        _check_policy(member)
