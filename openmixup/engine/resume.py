"""The state of a run: what a checkpoint keeps, and how a run goes on from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from openmixup.engine.loops import learner_of
from openmixup.errors import InputError

__all__ = ['config_hash', 'restore', 'run_state', 'settings']

# where and how a run is made does not change what it computes
PLACES = {
    'work_dir', 'resume', 'load_from', 'launcher', 'visualizer', 'log_level', 'default_hooks', 'env_cfg',
    'experiment_name', 'custom_imports',
}  # fmt: skip
PLACE_KEYS = {'root', 'list_file', 'num_workers', 'seed'}


def settings(config: Any) -> dict[str, Any]:
    """What a run computes, as dotted keys and plain values: the resolved config without places and the seed."""
    flat: dict[str, Any] = {}

    def add(value: Any, key: str) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                if name not in PLACE_KEYS and not (key == '' and name in PLACES):
                    add(item, f'{key}.{name}' if key else str(name))
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                add(item, f'{key}.{number}')
        else:
            flat[key] = value if value is None or isinstance(value, bool | int | float | str) else repr(value)

    add(config.to_dict(), '')
    return flat


def config_hash(config: Any) -> str:
    """First 12 hex digits of SHA-256 over :func:`settings`."""
    return hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()[:12]


def _identity(runner: Any) -> dict[str, int]:
    """What fixes the order of the data."""
    return {
        'seed': runner.seed,
        'world_size': runner.world_size,
        'batch_size': runner.batch_size,
        'samples': len(runner.dataset('train')),
    }


def run_state(runner: Any) -> dict[str, Any]:
    """Everything that a continued run needs, as tensors and plain data."""
    loop, learner = runner.train_loop, learner_of(runner)
    schedulers = [scheduler.state_dict() for scheduler in runner.param_schedulers or []]
    state = {
        'state_dict': learner.state_dict(),
        'optimizer': runner.optim_wrapper.state_dict(),
        'param_schedulers': [
            {key: value for key, value in state.items() if not callable(value)} for state in schedulers
        ],
        'progress': {**_identity(runner), 'epoch': loop.epoch, 'iter': loop.iter, 'seconds': runner.seconds},
        'settings': settings(runner.cfg),
        'history': runner.history,
        'best': runner.best,
        'meta': runner.meta(),
    }
    if loop.iter and not runner.optim_wrapper.should_update():  # in the middle of an accumulation
        gradients = {name: parameter.grad for name, parameter in learner.named_parameters()}
        state['gradients'] = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    runner.call_hook('before_save_checkpoint', checkpoint=state)
    return state


def restore(runner: Any, path: Path, content: dict[str, Any]) -> None:
    """Continue the run that wrote ``content``.

    Raises:
        InputError: not a checkpoint of a run, or of one that computes something else than this run.
    """
    if 'progress' not in content or 'optimizer' not in content:
        raise InputError(f'{path} holds weights only and cannot be resumed: use --load-from to start from them.')
    progress, remedy = content['progress'], 'or start a new run from its weights with --load-from'
    for name, value in _identity(runner).items():
        if progress[name] != value:
            raise InputError(
                f'{path} was written with {name}={progress[name]}, this run has {value}: the order of the data cannot '
                f'be continued; use the same value, {remedy}.'
            )
    old, new = content['settings'], settings(runner.cfg)
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if changed:
        shown = ', '.join(f'{key}: {old.get(key)!r} -> {new.get(key)!r}' for key in changed[:5])
        more = f' and {len(changed) - 5} more' if len(changed) > 5 else ''
        raise InputError(
            f'the config differs from that of {path} ({shown}{more}): a run goes on with the config it began with; '
            f'undo the change, {remedy}.'
        )
    learner = learner_of(runner)
    learner.load_state_dict(content['state_dict'])
    runner.optim_wrapper.load_state_dict(content['optimizer'])
    for scheduler, state in zip(runner.param_schedulers or [], content['param_schedulers'], strict=True):
        scheduler.load_state_dict(state)
    gradients = content.get('gradients', {})
    for name, parameter in learner.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device)
    runner.train_loop.epoch, runner.train_loop.iter = progress['epoch'], progress['iter']
    runner.history, runner.best = content['history'], content['best']
    runner.continue_clock(progress['seconds'])
    runner.call_hook('after_load_checkpoint', checkpoint=content)


def finite(module: torch.nn.Module) -> bool:
    """Whether all weights are finite; one read from the device."""
    with torch.no_grad():
        sums = [parameter.double().sum() for parameter in module.parameters()]
        return bool(torch.stack(sums).isfinite().all()) if sums else True
