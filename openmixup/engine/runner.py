"""The runner: mmengine's, with what is wrong or slow on today's torch replaced."""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_dist_info
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from openmixup import __version__
from openmixup.datasets.loading import build_dataloader
from openmixup.engine.checkpoint import latest_checkpoint, load_weights, read_checkpoint, write_checkpoint
from openmixup.engine.distributed import init_processes
from openmixup.engine.environment import environment
from openmixup.engine.loops import learner_of
from openmixup.errors import InputError
from openmixup.registry import DATASETS, LOOPS, MODELS, RUNNERS

__all__ = ['Runner']

_runs = itertools.count()


class _OwnLines(logging.Filter):
    """Keeps mmengine's remarks about itself off the screen; its warnings and the log file stay complete."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or f'{os.sep}mmengine{os.sep}' not in record.pathname


@RUNNERS.register_module(name='OpenMixupRunner')
class Runner(MMEngineRunner):
    """Builds data, model and optimizer from a config and runs training or evaluation.

    Build it with ``Runner.from_cfg(cfg)`` from a config of :func:`openmixup.engine.config.load_config`.

    Attributes:
        history: one dict of plain numbers per evaluation or epoch, saved in checkpoints.
        best: best metrics so far, with the epoch they belong to.
        classes: class names of the data.
    """

    _has_loaded: bool
    history: list[dict[str, Any]]
    best: dict[str, Any]
    classes: tuple[str, ...] = ()

    def setup_env(self, env_cfg: dict) -> None:
        """Processes, threads and the name of this run."""
        self.history, self.best = [], {}
        self._datasets: dict[str, Any] = {}
        self._seconds_before, self._started = 0.0, time.perf_counter()
        init_processes(self._launcher)
        self._rank, self._world_size = get_dist_info()
        if env_cfg.get('cudnn_benchmark'):
            torch.backends.cudnn.benchmark = True
        warnings.filterwarnings('ignore', message='.*broadcast_buffers.*', category=FutureWarning)
        # a second run in the same second and process must not write into the first one's files
        number = next(_runs)
        self._timestamp = time.strftime('%Y%m%d_%H%M%S') + (f'_{number}' if number else '')

    def build_logger(self, log_level: str | int = 'INFO', log_file: str | None = None, **kwargs: Any) -> Any:
        """The logger of mmengine with short lines on the screen."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setFormatter(logging.Formatter('%(message)s'))
                handler.addFilter(_OwnLines())
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        """Versions and hardware go to a file, not to the screen."""
        if self.rank == 0:
            text = json.dumps(environment(), indent=2)
            Path(self._log_dir, 'environment.json').write_text(text + '\n')

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """The schedulers' hook and those of the config, none of mmengine's that read the device in each step."""
        for hook in {'param_scheduler': {'type': 'ParamSchedulerHook'}, **(hooks or {})}.values():
            if hook is not None:
                self.register_hook(hook)
        if getattr(learner_of(self), 'teacher', None) is not None:
            self.register_hook({'type': 'TeacherHook'})

    @property
    def seconds(self) -> float:
        """Seconds since training began, those before a continuation included."""
        return self._seconds_before + time.perf_counter() - self._started

    def train(self) -> nn.Module:
        """The whole run, or what is left of it."""
        self._started = time.perf_counter()
        try:
            return super().train()
        finally:
            for loop in (self._train_loop, self._val_loop):
                if hasattr(loop, 'dataloader'):
                    loop.dataloader.close()  # ends its worker processes

    def dataset(self, part: str) -> Any:
        """The data set of 'train', 'val' or 'test', built once; equal configs share one."""
        if part not in self._datasets:
            loader = getattr(self, f'_{part}_dataloader')
            config = loader.get('dataset')
            for other, built in self._datasets.items():
                if getattr(self, f'_{other}_dataloader').get('dataset') == config:
                    self._datasets[part] = built
                    return built
            built = DATASETS.build(config)
            if getattr(built, 'reads_epoch', False):  # its crops are drawn by key and must differ between seeds
                built.seed = self.seed
            if loader.get('on_device'):
                if not hasattr(built, 'to'):
                    raise InputError(f'{part}_dataloader.on_device=True: {type(built).__name__} is not held in memory.')
                built = built.to(get_device())
            self._datasets[part] = built
        return self._datasets[part]

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the learner; the number of classes comes from the data and is checked against an explicit one."""
        parts = [part for part in ('train', 'val', 'test') if getattr(self, f'_{part}_dataloader') is not None]
        counts = {part: getattr(self.dataset(part), 'num_classes', None) for part in parts}
        known = {part: count for part, count in counts.items() if count is not None}
        if len(set(known.values())) > 1:
            found = ', '.join(f'{part} {count}' for part, count in known.items())
            raise InputError(f'the data sets have different numbers of classes ({found}): check their roots.')
        if known and isinstance(model, dict):
            count = next(iter(known.values()))
            head = model['head']
            if head.get('num_classes') is None:
                head['num_classes'] = count
            elif head['num_classes'] != count:
                raise InputError(
                    f'model.head.num_classes={head["num_classes"]}, but the data has {count} classes: '
                    'correct it, or set None to take the number from the data.'
                )
            self.classes = tuple(getattr(self.dataset(parts[0]), 'classes', ()))
        return model if isinstance(model, nn.Module) else MODELS.build(model)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move to the device; with several processes, average gradients and share rank 0's buffers."""
        if is_model_wrapper(model):
            return model
        model = model.to(get_device())
        if not self.distributed:
            return model
        if torch.cuda.is_available():
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model) if self.cfg.get('sync_bn') else model
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else None
        options = {'find_unused_parameters': self.cfg.get('find_unused_parameters', False)}
        return MMDistributedDataParallel(model, device_ids=devices, **{**options, **(model_wrapper_cfg or {})})

    def _loader(self, part: str, *, infinite: bool = False) -> Any:
        config = dict(getattr(self, f'_{part}_dataloader'))
        config.pop('dataset')
        config.pop('on_device', None)
        shuffle = config.pop('shuffle', part == 'train')
        return build_dataloader(
            self.dataset(part), shuffle=shuffle, seed=self.seed, rank=self.rank, world_size=self.world_size,
            infinite=infinite, **config,
        )  # fmt: skip

    def build_train_loop(self, loop: Any) -> Any:
        """The training loop of the config with its loader."""
        if not isinstance(loop, dict):
            return loop
        LOOPS.check(loop)
        loader = self._loader('train', infinite=getattr(LOOPS.get(loop['type']), 'infinite', False))
        return LOOPS.build({**loop, 'runner': self, 'dataloader': loader})

    def _eval_loop(self, part: str, loop: Any) -> Any:
        if not isinstance(loop, dict):
            return loop
        LOOPS.check(loop)
        evaluator = getattr(self, f'_{part}_evaluator')
        return LOOPS.build({**loop, 'runner': self, 'dataloader': self._loader(part), 'evaluator': evaluator})

    def build_val_loop(self, loop: Any) -> Any:
        """The validation loop of the config with its loader."""
        return self._eval_loop('val', loop)

    def build_test_loop(self, loop: Any) -> Any:
        """The test loop of the config with its loader."""
        return self._eval_loop('test', loop)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """The optimizer with equal parameters in one group and frozen ones left out."""
        if isinstance(optim_wrapper, dict):
            optim_wrapper.setdefault('constructor', 'GroupedOptimizer')
        return super().build_optim_wrapper(optim_wrapper)

    def state(self) -> dict[str, Any]:
        """Everything a continued run needs, as tensors and plain data."""
        loop = self.train_loop
        return {
            'state_dict': learner_of(self).state_dict(),
            'optimizer': self.optim_wrapper.state_dict(),
            'param_schedulers': [scheduler.state_dict() for scheduler in self.param_schedulers or []],
            'progress': {
                'epoch': loop.epoch, 'iter': loop.iter, 'seed': self.seed, 'world_size': self.world_size,
                'batch_size': self._train_dataloader['batch_size'], 'seconds': self.seconds,
            },
            'history': self.history,
            'best': self.best,
            'meta': self.meta(),
        }  # fmt: skip

    def meta(self) -> dict[str, Any]:
        """What someone who has only the file wants to know: classes and shape (C, H, W) of the images."""
        shape = list(self.dataset('train').image_shape)
        return {'openmixup': __version__, 'classes': list(self.classes), 'image_shape': shape}

    def save(self, name: str) -> Path:
        """Write the state to ``name`` in the work directory; only the first process writes."""
        path = Path(self.work_dir, name)
        if self.rank == 0:
            write_checkpoint(self.state(), path)
        return path

    def load_or_resume(self) -> None:
        """Continue the run in the work directory, or start from given weights, as the config says."""
        if self._has_loaded:
            return
        if self._resume:
            found = latest_checkpoint(Path(self.work_dir)) if self._load_from is None else None
            if self._load_from is not None:
                found = Path(self._load_from), read_checkpoint(self._load_from)
            if found is None:
                self.logger.info(f'no checkpoint in {self.work_dir}: the run starts from the beginning')
            else:
                self.resume_from(*found)
            self._has_loaded = True
        elif self._load_from is not None:
            self.load_weights(self._load_from, strict=False)
            self._has_loaded = True

    def resume_from(self, path: Path, content: dict[str, Any]) -> None:
        """Continue the run that wrote ``content``.

        Raises:
            InputError: not a checkpoint of a run, or of one whose seed, batch size or process count differ.
        """
        progress = content.get('progress')
        if progress is None or 'optimizer' not in content:
            raise InputError(f'{path} holds weights only and cannot be resumed: use --load-from to start from them.')
        now = {'seed': self.seed, 'world_size': self.world_size, 'batch_size': self._train_dataloader['batch_size']}
        for name, value in now.items():
            if progress[name] != value:
                raise InputError(
                    f'{path} was written with {name}={progress[name]}, this run has {value}: the same data order '
                    'cannot be continued; use the same value, or --load-from to start a new run from its weights.'
                )
        learner_of(self).load_state_dict(content['state_dict'])
        self.optim_wrapper.load_state_dict(content['optimizer'])
        for scheduler, state in zip(self.param_schedulers or [], content['param_schedulers'], strict=True):
            scheduler.load_state_dict(state)
        self.train_loop.epoch, self.train_loop.iter = progress['epoch'], progress['iter']
        self.history, self.best = content['history'], content['best']
        self._seconds_before = progress['seconds']
        self.logger.info(f'resumed from {path} (epoch {progress["epoch"]}, step {progress["iter"]})')

    def load_weights(self, path: str | Path, *, strict: bool = True) -> None:
        """Load the weights of a checkpoint.

        Args:
            path: a checkpoint file.
            strict: every weight must be there and fit; False: what fits is taken, the rest is named in the log.
        """
        load_weights(learner_of(self), path, strict=strict, log=self.logger.info)
