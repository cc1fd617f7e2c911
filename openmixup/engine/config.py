"""Reading a config, changing it from the command line, and refusing what nothing would read."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from openmixup import registry
from openmixup.datasets.loading import BANK_KEYS, check_bank
from openmixup.datasets.selection import innermost
from openmixup.engine.data_config import KINDS, is_data_config, read_data_config
from openmixup.engine.optim import GroupedOptimizer, policy_options
from openmixup.engine.schedulers import BUILDER_KEYS, check_schedulers
from openmixup.errors import InputError, did_you_mean

__all__ = ['apply_options', 'configs_root', 'find_config', 'load_config', 'use_policy', 'validate']

LOADER_KEYS = {'dataset', 'batch_size', 'num_workers', 'drop_last', 'shuffle', 'on_device'}
TOP_KEYS = {
    'model', 'data_preprocessor', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator',
    'test_evaluator', 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler', 'default_hooks',
    'custom_hooks', 'custom_imports', 'default_scope', 'env_cfg', 'experiment_name', 'find_unused_parameters',
    'allow_inexact_resume', 'launcher', 'load_from', 'log_level', 'model_wrapper_cfg', 'randomness', 'resume',
    'sync_bn', 'visualizer', 'work_dir',
}  # fmt: skip
WRAPPER_KEYS = {'constructor', 'paramwise_cfg', 'policy'}  # read by the constructor, not by the wrapper
PARAMWISE_KEYS = {
    'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult',
    'dcn_offset_lr_mult', 'bypass_duplicate', 'layer_decay',
}  # fmt: skip
CLIP_KEYS = {'type', 'max_norm', 'norm_type', 'clip_value', 'error_if_nonfinite', 'foreach'}
TOGETHER = {  # mmengine wants all of a group or none
    'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'val': ('val_dataloader', 'val_cfg', 'val_evaluator'),
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}
LARGEST_SEED = 2**32 - 1  # what NumPy takes


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

    A config in Python is code and is run: load only files that you trust. One in JSON or YAML is parsed as data.

    Args:
        name: file, or name of a shipped config.
        options: ``key=value`` changes, as in ``model.policy.alpha=0.2``.
        policy: name of a policy that replaces the config's own, before the options are applied.
        data: root folder for all data sets of the config.

    Raises:
        InputError: no such file, an error in it, or a key that nothing reads.
    """
    path = find_config(name)
    if path.suffix not in ('.py', *KINDS):
        raise InputError(f'config {path}: expected a file with the suffix .py, {", ".join(KINDS)}.')
    try:
        config = read_data_config(path) if is_data_config(path) else Config.fromfile(path, lazy_import=False)
    except InputError:
        raise
    except Exception as error:  # a config is code and may raise anything
        raise _unreadable(path, error) from error
    for key in [key for key in config if key.startswith('_')]:
        config.pop(key)  # helper variables of the file
    config.setdefault('default_scope', 'openmixup')
    if policy is not None:
        use_policy(config, policy)
    if data is not None:
        for dataset in _data_sets(config):
            dataset['root'] = data
    apply_options(config, options)
    if data is not None:
        for dataset in _data_sets(config):
            _check_root(dataset, data)
    validate(config)
    return config


def _unreadable(path: Path, error: Exception) -> InputError:
    """Why the file of a config raised ``error``."""
    told: BaseException = error
    if str(error).startswith('Failed to import custom modules'):  # mmengine lists all of them, and all of sys.path
        for _ in range(2):  # it wraps what the module raised twice
            told = told.__context__ or told
    reason = (str(told).strip().splitlines() or [type(told).__name__])[0]
    remedy = '; run this in the folder of the module, or install it' if isinstance(told, ModuleNotFoundError) else ''
    return InputError(f'config {path} cannot be read ({type(told).__name__}: {reason}){remedy}.')


def _data_sets(config: Config) -> Iterator[Any]:
    """The configs of all data sets, without wrappers around them."""
    for part in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if config.get(part) is not None:
            yield innermost(_section(_section(config, part), 'dataset', part))


def _check_root(dataset: Any, data: str) -> None:
    """Refuse the folder ``data`` for a data set that is not read from one."""
    name = dataset.get('type')
    accepted = registry.accepted_arguments(registry.DATASETS.get(name)) if registry.DATASETS.knows(name) else None
    if accepted is not None and 'root' not in accepted:
        raise InputError(f'--data {data}: {name} is not read from a folder; leave --data out.')


def use_policy(config: Config, policy: str) -> None:
    """Replace the policy of ``config`` by another one with its defaults."""
    registry.POLICIES.get(policy)  # an unknown name is refused here
    if 'model' in config:
        _section(config, 'model')['policy'] = {'type': policy}


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
        settable = _settable(place, parents)
        if last not in place and last not in settable:
            hint, where = did_you_mean(last, {*place, *settable}), '.'.join(parents) or 'the config'
            takes = f' (it takes {", ".join(sorted({*place, *settable} - {"type"}))})' if settable else ''
            raise InputError(f'option {key}: {where} has no key {last!r}{hint}{takes}.')
        place[last] = _value(text)


def _step(place: Any, name: str, key: str) -> Any:
    """The dict or list that ``name`` names in ``place``."""
    found, known = None, []
    if not isinstance(place, list | tuple):
        found, known = place.get(name), list(place)
    elif name.removeprefix('-').isdecimal() and -len(place) <= int(name) < len(place):
        found = place[int(name)]
    if isinstance(found, Mapping | list | tuple):
        return found
    raise InputError(f'option {key}...: there is no {name!r} to change{did_you_mean(name, known)}.')


def _settable(place: Any, parents: list[str]) -> set[str]:
    """Keys that may be added to the dict ``place``."""
    if not parents:
        return TOP_KEYS
    if len(parents) == 1 and parents[0].endswith('_dataloader'):
        return _loader_keys(parents[0])
    if parents == ['train_dataloader', 'bank']:
        return BANK_KEYS
    for known in vars(registry).values():
        if isinstance(known, registry.Registry) and known.knows(place.get('type')):
            accepted = registry.accepted_arguments(known.get(place['type'])) or set()
            builders = {registry.OPTIM_WRAPPERS: WRAPPER_KEYS, registry.PARAM_SCHEDULERS: BUILDER_KEYS}
            return accepted | builders.get(known, set())
    return set()


def _loader_keys(name: str) -> set[str]:
    return LOADER_KEYS | ({'bank', 'repeats'} if name == 'train_dataloader' else set())


def _refuse_unknown(found: Iterable[str], known: set[str], where: str, remedy: str = '') -> None:
    for key in found:
        if key not in known:
            raise InputError(f'{where} has an unknown key {key!r}{did_you_mean(key, known)}{remedy}.')


def _section(config: Mapping[str, Any], name: str, where: str = '') -> Any:
    """The dict ``config[name]``; an empty one if it is missing or None."""
    found = config.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise InputError(f'{where}{"." if where else ""}{name}={found!r}: expected a dict.')
    return {} if found is None else found


def _whole(value: Any, name: str, least: int, most: int | None = None) -> None:
    """Refuse what is no whole number from ``least`` to ``most``."""
    if type(value) is not int or value < least or (most is not None and value > most):
        limit = f'of at least {least}' if most is None else f'from {least} to {most}'
        raise InputError(f'{name}={value!r}: expected a whole number {limit}.')


def validate(config: Mapping[str, Any]) -> None:
    """Refuse unknown keys, types and arguments anywhere in ``config``, before anything is built."""
    _refuse_unknown(config, TOP_KEYS, 'the config', ' (a variable of your own needs a name that begins with _)')
    if config.get('default_scope', 'openmixup') != 'openmixup':  # mmengine imports the package that is named here
        raise InputError(f"default_scope={config['default_scope']!r}: expected 'openmixup'; leave it out.")
    model = config.get('model')
    if not isinstance(model, Mapping):
        raise InputError('the config has no model=dict(...): inherit from a recipe through _base_ or write one.')
    _check(registry.MODELS, model)
    run = any(config.get(f'{part}_dataloader') is not None for part in TOGETHER)
    for name in ('backbone', 'head'):
        if run and model.get(name) is None:  # without data a config may hold no more than a policy
            raise InputError(f'the model has no {name}: give it as model.{name}=dict(type=...).')
    for name in ('backbone', 'head', 'loss', 'data_preprocessor'):
        _check(registry.MODELS, model.get(name))
    _check_policy(model.get('policy'))
    preprocessor = _section(config, 'data_preprocessor')
    _check(registry.MODELS, preprocessor or None)
    for part in ('train', 'test'):
        _check(registry.TRANSFORMS, preprocessor.get(part))
    for part, names in TOGETHER.items():
        _check_together(config, names)
        _check_loader(_section(config, f'{part}_dataloader'), f'{part}_dataloader')
        _check(registry.LOOPS, config.get(f'{part}_cfg'))
        _check(registry.METRICS, config.get(f'{part}_evaluator'))
    _check_optimizer(_section(config, 'optim_wrapper'))
    randomness = _section(config, 'randomness')
    _refuse_unknown(randomness, {'seed', 'deterministic'}, 'randomness')
    _whole(randomness.get('seed', 0), 'randomness.seed', 0, LARGEST_SEED)
    _refuse_unknown(_section(config, 'env_cfg'), {'cudnn_benchmark', 'preemption_grace'}, 'env_cfg')
    check_schedulers(config.get('param_scheduler'))
    _check(registry.VISUALIZERS, config.get('visualizer'))
    _check(registry.VISBACKENDS, _section(config, 'visualizer').get('vis_backends'))
    for hook in [*_section(config, 'default_hooks').values(), *(config.get('custom_hooks') or [])]:
        plain = {key: value for key, value in hook.items() if key != 'priority'} if isinstance(hook, Mapping) else hook
        _check(registry.HOOKS, plain)
        if plain is not None:
            registry.HOOKS.check_complete(plain)


def _check_together(config: Mapping[str, Any], names: tuple[str, ...]) -> None:
    missing = [name for name in names if config.get(name) is None]
    if missing and len(missing) < len(names):
        there = ' and '.join(name for name in names if name not in missing)
        raise InputError(
            f'the config has {there} without {" and ".join(missing)}: give all of {", ".join(names)}, or set all of '
            'them to None.'
        )


def _check_loader(loader: Mapping[str, Any], name: str) -> None:
    if not loader:
        return
    _refuse_unknown(loader, _loader_keys(name), name)
    for key in ('dataset', 'batch_size'):
        if loader.get(key) is None:
            raise InputError(f'{name} has no {key}: add it.')
    _whole(loader['batch_size'], f'{name}.batch_size', 1)
    _whole(loader.get('num_workers', 0), f'{name}.num_workers', 0)
    _whole(loader.get('repeats', 1), f'{name}.repeats', 1)
    check_bank(_section(loader, 'bank', name))
    dataset = loader['dataset']
    _check(registry.DATASETS, dataset)
    while isinstance(dataset.get('dataset'), Mapping):  # inside a wrapper
        dataset = dataset['dataset']
        _check(registry.DATASETS, dataset)


def _check_optimizer(wrapper: Mapping[str, Any]) -> None:
    if not wrapper:
        return
    plain = {key: value for key, value in wrapper.items() if key not in WRAPPER_KEYS}
    _check(registry.OPTIM_WRAPPERS, {'type': 'OptimWrapper', **plain})
    optimizer = wrapper.get('optimizer')
    if optimizer is None:
        raise InputError('optim_wrapper has no optimizer: give it as optim_wrapper.optimizer=dict(type=...).')
    _check(registry.OPTIMIZERS, optimizer)
    registry.OPTIMIZERS.check_complete(optimizer)
    constructor, own = wrapper.get('constructor', 'GroupedOptimizer'), _section(wrapper, 'policy', 'optim_wrapper')
    builder = registry.OPTIM_WRAPPER_CONSTRUCTORS.get(constructor)
    if own and not issubclass(builder, GroupedOptimizer):
        raise InputError(f'{constructor} does not read optim_wrapper.policy: use the constructor GroupedOptimizer.')
    policy_options(optimizer, own)
    rules = _section(wrapper, 'paramwise_cfg', 'optim_wrapper')
    _refuse_unknown(rules, PARAMWISE_KEYS, 'optim_wrapper.paramwise_cfg')
    for key in _section(rules, 'custom_keys', 'optim_wrapper.paramwise_cfg'):
        where = 'optim_wrapper.paramwise_cfg.custom_keys'
        _refuse_unknown(_section(rules['custom_keys'], key, where), {'lr_mult', 'decay_mult'}, f'{where}[{key!r}]')
    clip = _section(wrapper, 'clip_grad', 'optim_wrapper')
    _refuse_unknown(clip, CLIP_KEYS, 'optim_wrapper.clip_grad')
    if wrapper.get('clip_grad') is not None and not {'max_norm', 'clip_value'} & set(clip):
        raise InputError('optim_wrapper.clip_grad has no limit: give max_norm, or clip_value with type="value".')


def _check(known: registry.Registry, entry: Any) -> None:
    for item in entry if isinstance(entry, list | tuple) else [entry]:
        if item is not None:
            known.check(item)


def _check_policy(entry: Any) -> None:
    _check(registry.POLICIES, entry)
    members = (entry or {}).get('policies', ())
    for member in members if isinstance(members, list | tuple) else ():
        _check_policy(member)
