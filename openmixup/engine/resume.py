"""The state of a run: what a checkpoint keeps, and how a run goes on from it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from openmixup.engine.differences import differences, fresh_options, go_to, judge
from openmixup.engine.distributed import accelerator, learner_of
from openmixup.errors import InputError, printable

__all__ = ['config_hash', 'gather_states', 'labels_digest', 'restore', 'run_state', 'settings']

# where and how a run is made does not change what it computes
PLACES = {
    'work_dir', 'resume', 'allow_inexact_resume', 'launcher', 'visualizer', 'log_level', 'default_hooks', 'env_cfg',
    'experiment_name', 'custom_imports', 'randomness.seed',
}  # fmt: skip
LABELS = 'labels (SHA-256)'
PLACE_KEYS = {'root', 'list_file', 'num_workers', 'on_error', 'bad_image_budget'}


def settings(config: Any) -> dict[str, Any]:
    """What a run computes, as dotted keys and plain values: the resolved config without places and the seed."""
    flat: dict[str, Any] = {}

    def add(value: Any, key: str) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                below = f'{key}.{name}' if key else str(name)
                if name not in PLACE_KEYS and below not in PLACES:
                    add(item, below)
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                add(item, f'{key}.{number}')
        else:
            flat[key] = value if value is None or isinstance(value, bool | int | float | str) else repr(value)

    add(config.to_dict(), '')
    if flat.get('load_from', '') is None:  # as if it were not there
        del flat['load_from']
    return flat


def config_hash(config: Any) -> str:
    """First 12 hex digits of SHA-256 over :func:`settings`."""
    return hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()[:12]


def _identity(runner: Any) -> dict[str, Any]:
    """What fixes the data of each step, but for the pixels."""
    return {
        'seed': runner.seed,
        'world_size': runner.world_size,
        'batch_size': runner.batch_size,
        'samples': len(runner.dataset('train')),
        LABELS: labels_digest(runner.dataset('train')),
    }


def labels_digest(dataset: Any) -> str | None:
    """First 12 hex digits of SHA-256 over the ``labels`` of a data set, their type and shape; None if it has none.

    Labels may be a dense tensor, an array, or a list of numbers; of others nothing is told.
    """
    try:
        labels = torch.as_tensor(dataset.labels).detach().cpu().contiguous()
        values = labels.reshape(-1).view(torch.uint8).numpy()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
    digest = hashlib.sha256(f'{labels.dtype}{tuple(labels.shape)}'.encode())
    digest.update(values.data)
    return digest.hexdigest()[:12]


def gather_states(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors of each process by name, on the CPU of the first one; all processes must call it.

    Names, types and shapes may differ between the processes. They travel as bytes, one process after the other, so that
    the first one never holds more than one of them on its accelerator, and no object is unpickled.

    Returns:
        One dict for each process; on other processes than the first an empty list.
    """
    own = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [{name: tensor.cpu() for name, tensor in own.items()}]
    rank, size, device = dist.get_rank(), dist.get_world_size(), accelerator()
    header = json.dumps([[name, str(value.dtype)[6:], list(value.shape)] for name, value in own.items()]).encode()
    parts = [torch.tensor(list(header), dtype=torch.uint8)]
    parts += [value.reshape(-1).view(torch.uint8) for value in own.values()]
    packed = torch.cat([part.to(device) for part in parts])
    sizes = [torch.zeros(2, dtype=torch.int64, device=device) for _ in range(size)]
    dist.all_gather(sizes, torch.tensor([len(header), len(packed)], device=device))
    if rank:
        dist.send(packed, 0)
        return []
    gathered = []
    for source, (head, length) in enumerate([pair.tolist() for pair in sizes]):
        if source:
            packed = torch.empty(length, dtype=torch.uint8, device=device)
            dist.recv(packed, source)
        gathered.append(_unpack(packed.cpu(), head))
    return gathered


def _unpack(packed: Tensor, head: int) -> dict[str, Tensor]:
    """Tensors by name from bytes (length,), of which the first ``head`` say what the others are."""
    state, begin = {}, head
    for name, kind, shape in json.loads(bytes(packed[:head].tolist())):
        dtype = getattr(torch, kind)
        end = begin + torch.Size(shape).numel() * dtype.itemsize
        state[name] = packed[begin:end].clone().view(dtype).reshape(shape)  # a copy begins where any type may begin
        begin = end
    return state


def run_state(runner: Any) -> dict[str, Any]:
    """Everything that a continued run needs, as tensors and plain data; all processes must call it."""
    loop, learner = runner.train_loop, learner_of(runner)
    schedulers = [scheduler.state_dict() for scheduler in runner.param_schedulers or []]
    state = {
        'state_dict': learner.state_dict(),
        'optimizer': runner.optim_wrapper.state_dict(),
        'param_schedulers': [
            {key: value for key, value in state.items() if not callable(value)} for state in schedulers
        ],
        'progress': {
            **_identity(runner),
            'epoch': loop.epoch,
            'iter': loop.iter,
            'pending': loop.pending,
            'samples_seen': loop.samples,
            'origin': loop.origin,
            'seconds': runner.seconds,
        },
        'settings': settings(runner.cfg),
        'history': runner.history,
        'best': runner.best,
        'inexact': runner.inexact,
        'meta': runner.meta(),
    }
    if loop.iter and not runner.optim_wrapper.should_update():  # in the middle of an accumulation
        gradients = {name: parameter.grad for name, parameter in learner.named_parameters()}
        found = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        state['gradients'] = gather_states(found)  # not averaged yet: each process has its own
    history = learner.policy.rank_state() if hasattr(learner, 'policy') else {}
    histories = gather_states(history)
    if any(histories):
        state['rank_states'] = histories
        state['rank_devices'] = {name: tensor.device.type for name, tensor in history.items()}
    runner.call_hook('before_save_checkpoint', checkpoint=state)
    return state


def _told(function: Callable[[Any, Path, dict[str, Any]], None]) -> Callable[[Any, Path, dict[str, Any]], None]:
    """``function``, with a state that does not fit told as a mistake of the user."""

    @wraps(function)
    def restored(runner: Any, path: Path, content: dict[str, Any]) -> None:
        try:
            function(runner, path, content)
        except InputError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = printable(f'{type(error).__name__}: {" ".join(str(error).split())}', 160)
            raise InputError(
                f'{path} cannot be continued ({reason}): it is damaged or of another version; start a new run from its '
                'weights with --load-from.'
            ) from error

    return restored


@_told
def restore(runner: Any, path: Path, content: dict[str, Any]) -> None:
    """Continue the run that wrote ``content``, or with ``allow_inexact_resume`` one that differs from it.

    Raises:
        InputError: not a checkpoint of a run, or of one that computes something else than this run.
    """
    if 'progress' not in content or 'optimizer' not in content:
        raise InputError(f'{path} holds weights only and cannot be resumed: use --load-from to start from them.')
    progress, own = content['progress'], _identity(runner)
    if LABELS not in progress:  # it is of a version that did not keep them
        del own[LABELS]
    found = differences({name: progress.get(name) for name in own}, own)
    found += differences(content['settings'], settings(runner.cfg))
    inexact, told = judge(path, found, bool(runner.cfg.get('allow_inexact_resume')))
    if told:
        runner.logger.log(logging.WARNING if inexact else logging.INFO, told)
    fresh = fresh_options(runner)
    learner, loop = learner_of(runner), runner.train_loop
    try:
        learner.load_state_dict(content['state_dict'])
        runner.optim_wrapper.load_state_dict(content['optimizer'])
    except (RuntimeError, ValueError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise InputError(f'{path} does not fit the model or the optimizer of this run ({reason}).') from error
    loop.epoch, loop.iter, loop.pending = progress['epoch'], progress['iter'], progress.get('pending', False)
    loop.origin = tuple(progress.get('origin', (0, 0, 0)))
    runner.history, runner.best = content['history'], content['best']
    runner.inexact = [*content.get('inexact', ()), *inexact]
    if inexact:
        go_to(runner, progress, fresh)
    else:
        for scheduler, state in zip(runner.param_schedulers or [], content['param_schedulers'], strict=True):
            scheduler.load_state_dict(state)
    if progress['world_size'] == runner.world_size:
        _restore_own(runner, learner, content, gradients=not inexact)
    runner.continue_clock(progress['seconds'])
    runner.call_hook('after_load_checkpoint', checkpoint=content)


def _restore_own(runner: Any, learner: Any, content: Mapping[str, Any], *, gradients: bool) -> None:
    """What each process has for itself: gradients that are half accumulated, and the history of its policy."""
    own = content['gradients'][runner.rank] if gradients and 'gradients' in content else {}
    for name, parameter in learner.named_parameters():
        if name in own:
            parameter.grad = own[name].to(parameter.device)
    if own and isinstance(runner.model, DistributedDataParallel):
        # DDP averages no gradient of weights that it has not seen in use since the last update, and it was not there
        # when these gradients were made: adding nothing to them shows it their weights
        with runner.model.no_sync():
            sum((p * 0).sum() for name, p in learner.named_parameters() if name in own).backward()
    if 'rank_states' in content:
        places = content['rank_devices']
        learner.policy.load_rank_state({
            name: tensor if places.get(name) == 'cpu' else tensor.to(accelerator())
            for name, tensor in content['rank_states'][runner.rank].items()
        })  # fmt: skip


def finite(module: torch.nn.Module, gradients: bool = False) -> bool:
    """Whether all weights and floating-point buffers are finite on all processes, which must ask together; one read.

    Buffers differ: a batch that is not finite spoils the statistics of the process that saw it.

    Args:
        module: the learner.
        gradients: look at gradients, too: those that are half accumulated are part of a checkpoint.
    """
    sums = [parameter.detach().double().sum() for parameter in module.parameters()]
    for buffer in module.buffers():
        if buffer.is_floating_point():  # masks are made of -inf; spoilt statistics are NaN or have infinite variance
            sums.append(buffer.double().nan_to_num(nan=torch.nan, posinf=torch.inf, neginf=0.0).sum())
    if gradients:
        sums += [p.grad.double().sum() for p in module.parameters() if p.grad is not None]
    if not sums:
        return True
    fine = torch.stack(sums).isfinite().all().to(torch.int32)
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(fine, dist.ReduceOp.MIN)
    return bool(fine)
