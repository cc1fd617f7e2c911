"""Process groups from the environment of torchrun or Slurm, on CPU and GPU.

mmengine's own initialisation calls ``torch.cuda.set_device`` without asking whether there is a GPU; the group is
therefore made here before its runner is built.
"""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from torch import nn

from openmixup.engine.policy_checks import check_unused
from openmixup.errors import InputError
from openmixup.registry import MODEL_WRAPPERS

__all__ = [
    'accelerator',
    'check_same_step',
    'init_processes',
    'learner_of',
    'leave_processes',
    'slurm_environment',
    'wrapped',
    'wrapper_options',
]

LAUNCHERS = ('none', 'pytorch', 'slurm')


def accelerator() -> torch.device:
    """The device that this process trains on: its GPU if there is one, else the CPU."""
    return torch.device('cuda', torch.cuda.current_device()) if torch.cuda.is_available() else torch.device('cpu')


def slurm_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables of torch's ``env://`` from those that ``srun`` sets.

    Args:
        environ: the environment of a Slurm task; without MASTER_ADDR, Slurm is asked for the first node of the job.

    Raises:
        InputError: it is no such environment, or Slurm does not answer.
    """
    try:
        job, rank, size, local = (environ[f'SLURM_{x}'] for x in ('JOB_ID', 'PROCID', 'NTASKS', 'LOCALID'))
    except KeyError as error:
        raise InputError(f'--launcher slurm: the variable {error} is not set; start the command with srun.') from error
    return {
        'RANK': rank,
        'WORLD_SIZE': size,
        'LOCAL_RANK': local,
        'MASTER_ADDR': environ.get('MASTER_ADDR') or _first_slurm_host(environ),
        'MASTER_PORT': environ.get('MASTER_PORT', str(20000 + int(job) % 20000)),  # jobs on one node must not meet
    }


def _first_slurm_host(environ: Mapping[str, str]) -> str:
    command = ['scontrol', 'show', 'hostnames', environ.get('SLURM_JOB_NODELIST', 'localhost')]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        return shown.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise InputError(
            f'--launcher slurm: {" ".join(command)} names no node ({type(error).__name__}): set MASTER_ADDR to the '
            'name of the first node of the job.'
        ) from error


def init_processes(launcher: str, timeout: float = 600.0) -> None:
    """Join the process group of this run; nothing for ``launcher='none'``.

    gloo on CPU, nccl on GPUs (one process each).

    Args:
        launcher: 'none', 'pytorch' (torchrun) or 'slurm' (srun).
        timeout: seconds after which a collective that a process does not join fails.
    """
    if launcher not in LAUNCHERS:
        raise InputError(f'launcher={launcher!r}: expected one of {", ".join(LAUNCHERS)}.')
    if launcher == 'none' or dist.is_initialized():
        return
    if launcher == 'slurm':
        os.environ.update(slurm_environment(os.environ))
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR') if name not in os.environ]
    if missing:
        raise InputError(f'--launcher pytorch: {missing[0]} is not set; start with torchrun or tools/dist_train.sh.')
    backend = 'gloo'
    if torch.cuda.is_available():
        backend = 'nccl'
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']) % torch.cuda.device_count())
    rank, size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    host, port = os.environ['MASTER_ADDR'], int(os.environ.get('MASTER_PORT', '29500'))
    agent_store = os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True'
    store = dist.TCPStore(host, port, size, is_master=rank == 0 and not agent_store, timeout=timedelta(seconds=timeout))
    # torchrun keeps its store over restarts: without a prefix a restarted rank dials addresses of the previous attempt
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    dist.init_process_group(
        backend, store=dist.PrefixStore(f'attempt{attempt}', store), rank=rank, world_size=size,
        timeout=timedelta(seconds=timeout),
    )  # fmt: skip


def leave_processes(failed: bool = False) -> None:
    """Leave the process group of a run that is over and to which nothing refers any more; nothing without a group.

    A thread of gloo that lets go of a tensor of the last collective while Python ends would abort the process.

    Args:
        failed: only this process may end here; NCCL, which might wait for the others then, is left as it is.
    """
    if not dist.is_initialized() or (failed and dist.get_backend() != 'gloo'):
        return
    gc.collect()  # the model's wrapper holds the group, and lies in cycles
    dist.destroy_process_group()


def wrapper_options(given: Any, find_unused_parameters: bool) -> dict[str, Any]:
    """Arguments of the wrapper that averages gradients.

    Args:
        given: ``model_wrapper_cfg`` of a config, with or without the type of the one wrapper that there is.
        find_unused_parameters: where ``given`` does not say it.

    Raises:
        InputError: another type, or an argument that the wrapper does not take from a config.
    """
    name = MMDistributedDataParallel.__name__
    config = {'type': name, **given} if isinstance(given, Mapping) else given or {'type': name}
    MODEL_WRAPPERS.check(config)
    if MODEL_WRAPPERS.get(config['type']) is not MMDistributedDataParallel:
        raise InputError(f'model_wrapper_cfg.type={config["type"]!r}: expected {name!r}, or leave the type out.')
    for key in ('module', 'device_ids'):
        if key in config:
            raise InputError(f'model_wrapper_cfg: {key} is set by the runner: leave it out.')
    options = {key: value for key, value in config.items() if key != 'type'}
    return {'find_unused_parameters': find_unused_parameters, **options}


def wrapped(
    model: nn.Module, given: Any, distributed: bool, *, find_unused_parameters: bool, sync_bn: bool
) -> nn.Module:
    """The model with the wrapper that averages gradients and shares rank 0's buffers; one process needs none.

    Args:
        model: the learner, on its device.
        given: ``model_wrapper_cfg`` of a config.
        distributed: whether there are several processes.
        find_unused_parameters: where ``given`` does not say it.
        sync_bn: normalise by the statistics of all processes, on GPUs.

    Raises:
        InputError: options that the wrapper does not take, or that the policy needs and are not set.
    """
    options = wrapper_options(given, find_unused_parameters)
    if not distributed:
        return model
    if torch.cuda.is_available() and sync_bn:
        for name, part in model.named_children():
            if name != 'teacher':  # in a step without learned masks a process may leave its pass out
                setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(part))
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    check_unused(model, options['find_unused_parameters'])
    return MMDistributedDataParallel(model, device_ids=devices, **options)


def learner_of(runner: Any) -> Any:
    """The learner without a wrapper of distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def check_same_step(step: int, work_dir: str | Path) -> None:
    """All processes must have found the same checkpoint.

    Raises:
        InputError: they stand at different steps.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    both = torch.tensor([step, -step], device=accelerator())
    dist.all_reduce(both, dist.ReduceOp.MAX)
    newest, oldest = both[0].item(), -both[1].item()
    if newest != oldest:
        raise InputError(
            f'the processes found different checkpoints (steps {oldest} and {newest}) in {work_dir}: '
            'put the work dir on a file system that all of them share.'
        )
