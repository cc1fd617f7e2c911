"""The runner: mmengine's, with what is wrong or slow on today's torch replaced."""

from __future__ import annotations

import itertools
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import get_dist_info
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from openmixup import __version__
from openmixup.datasets.loading import build_dataloader
from openmixup.engine.checkpoint import latest_checkpoint, load_weights, put_aside, read_checkpoint, write_checkpoint
from openmixup.engine.data_checks import build_data, check_data, set_outputs
from openmixup.engine.distributed import accelerator, check_same_step, init_processes, learner_of, wrapped
from openmixup.engine.environment import environment
from openmixup.engine.files import remove_leftovers
from openmixup.engine.manifest import add_to_manifest, check_file
from openmixup.engine.model_checks import check_images
from openmixup.engine.policy_checks import check_last_batch, check_needs
from openmixup.engine.preemption import GRACE, Preempted, Preemption
from openmixup.engine.resume import finite, restore, run_state
from openmixup.engine.schedulers import build_schedulers
from openmixup.engine.screen import shorten
from openmixup.errors import InputError
from openmixup.models.generator import begin_from, check_generator
from openmixup.registry import HOOKS, LOOPS, MODELS, RUNNERS

__all__ = ['Runner']

_runs = itertools.count()


@RUNNERS.register_module(name='OpenMixupRunner')
class Runner(MMEngineRunner):
    """Builds data, model and optimizer from a config and runs training or evaluation.

    Build it with ``Runner.from_cfg(cfg)`` from a config of :func:`openmixup.engine.config.load_config`.

    Attributes:
        history: one dict of plain numbers per evaluation or epoch, saved in checkpoints.
        best: best metrics so far, with the epoch they belong to.
        classes: class names of the data.
        inexact: what was changed in the course of the run, if it was continued with ``allow_inexact_resume``.
        last_saved: the newest checkpoint that this process wrote.
    """

    _has_loaded: bool
    history: list[dict[str, Any]]
    best: dict[str, Any]
    inexact: list[str]
    classes: tuple[str, ...] = ()
    last_saved: Path | None = None

    def setup_env(self, env_cfg: dict) -> None:
        """Processes, threads and the name of this run."""
        self.history, self.best, self.inexact = [], {}, []
        self._datasets: dict[str, Any] = {}
        self._seconds_before, self._started = 0.0, time.perf_counter()
        init_processes(self._launcher)
        self.preemption = Preemption(env_cfg.get('preemption_grace', GRACE))
        self._saved_at: tuple[int, bool] | None = None
        self._rank, self._world_size = get_dist_info()
        if env_cfg.get('cudnn_benchmark'):
            torch.backends.cudnn.benchmark = True
        warnings.filterwarnings('ignore', message='.*broadcast_buffers.*', category=FutureWarning)
        # a second run in the same second and process must not write into the first one's files
        number = next(_runs)
        now = torch.tensor([time.time()], dtype=torch.float64, device=accelerator())
        if self._world_size > 1:
            dist.broadcast(now, 0)  # one log folder for all
        started = time.localtime(now.item())
        self._timestamp = time.strftime('%Y%m%d_%H%M%S', started) + (f'_{number}' if number else '')

    def build_logger(self, log_level: str | int = 'INFO', log_file: str | None = None, **kwargs: Any) -> Any:
        """The logger of mmengine with short lines on the screen."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        shorten(logger)
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        """Versions and hardware go to a file, not to the screen."""
        if self.rank == 0:
            text = json.dumps(environment(), indent=2)
            Path(self._log_dir, 'environment.json').write_text(text + '\n')

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """The schedulers' hook and those of the config, none of mmengine's that read the device in each step."""
        own = {'param_scheduler': 'ParamSchedulerHook', 'non_finite': 'NonFiniteHook', 'energy': 'EnergyHook'}
        for hook in {**{name: {'type': kind} for name, kind in own.items()}, **(hooks or {})}.values():
            if hook is not None:
                self.register_hook(hook)
        if getattr(learner_of(self), 'teacher', None) is not None:
            self.register_hook({'type': 'TeacherHook'})

    @property
    def seconds(self) -> float:
        """Seconds since training began, those before a continuation included."""
        return self._seconds_before + time.perf_counter() - self._started

    def continue_clock(self, seconds: float) -> None:
        """Count ``seconds`` of an earlier part of the run."""
        self._seconds_before = seconds

    def train(self) -> nn.Module:
        """The whole run, or what is left of it.

        Raises:
            Preempted: SIGTERM or SIGUSR1 came, and the run was saved.
        """
        self._started = time.perf_counter()
        try:
            with self.preemption.listening():
                try:
                    return super().train()
                except Preempted as told:
                    self._save_and_end(told)
                    raise
        finally:
            for loop in (self._train_loop, self._val_loop):
                if hasattr(loop, 'dataloader'):
                    loop.dataloader.close()  # ends its worker processes

    def _save_and_end(self, told: Preempted) -> None:
        """Save where the run stands, unless that was done just now; all processes come here together."""
        self.preemption.stop_timer()
        loop = self.train_loop
        if loop.iter and (loop.iter, loop.pending) != self._saved_at:
            self.save(f'iter_{loop.iter}.pth')
        self.preemption.wait_for_all()
        self.logger.info(f'{told}: the run was saved after step {loop.iter}; --resume continues it')

    def set_randomness(self, seed: int, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
        """Seed the global streams; each draw of a run is keyed besides."""
        if deterministic:
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS is deterministic only with it
        super().set_randomness(seed, diff_rank_seed, deterministic)

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Register a hook; those of mmengine that its own loops and checkpoints would have to serve are refused."""
        if isinstance(hook, dict) and isinstance(hook.get('type'), str):
            cls = HOOKS.get(hook['type'])
            if cls.__module__.startswith('mmengine.') and cls.__name__ != 'ParamSchedulerHook':
                remedy = 'use model.teacher=dict(decay=...)' if 'EMA' in cls.__name__ else 'write a hook of your own'
                raise InputError(
                    f'{cls.__name__} of mmengine does not work with these loops and checkpoints: {remedy}.'
                )
        super().register_hook(hook, priority)

    def dataset(self, part: str) -> Any:
        """The data set of 'train', 'val' or 'test', built once; equal configs share one."""
        if part not in self._datasets:
            loader = getattr(self, f'_{part}_dataloader')
            config = loader.get('dataset')
            for other, built in self._datasets.items():
                if getattr(self, f'_{other}_dataloader').get('dataset') == config:
                    self._datasets[part] = built
                    return built
            built = build_data(loader, f'{part}_dataloader', self.seed, Path(self.work_dir))
            self._datasets[part] = built
        return self._datasets[part]

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the learner; the number of classes comes from the data and is checked against an explicit one."""
        parts = [part for part in ('train', 'val', 'test') if getattr(self, f'_{part}_dataloader') is not None]
        count, self.classes = check_data({part: self.dataset(part) for part in parts}, self.world_size)
        if isinstance(model, dict):
            set_outputs(model, count, self.dataset(parts[0]))
        learner = check_needs(model if isinstance(model, nn.Module) else MODELS.build(model), self._train_dataloader)
        check_images(learner, {part: self.dataset(part).image_shape for part in parts})
        return learner

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move to the device; with several processes, average gradients and share rank 0's buffers."""
        if is_model_wrapper(model):
            return model
        unused, sync_bn = self.cfg.get('find_unused_parameters', False), self.cfg.get('sync_bn', False)
        model = model.to(accelerator())
        return wrapped(model, model_wrapper_cfg, self.distributed, find_unused_parameters=unused, sync_bn=sync_bn)

    def _loader(self, part: str, *, infinite: bool = False) -> Any:
        given = getattr(self, f'_{part}_dataloader')
        config = {key: value for key, value in given.items() if key not in ('dataset', 'on_device')}
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
        return LOOPS.build({**loop, 'runner': self, 'dataloader': check_last_batch(loader, self.model)})

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

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """The schedulers of the config, for all parameters or one part; a run counted in steps needs steps."""
        return build_schedulers(self, scheduler)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """The optimizer with equal parameters in one group and frozen ones left out."""
        if isinstance(optim_wrapper, dict):
            optim_wrapper.setdefault('constructor', 'GroupedOptimizer')
        return super().build_optim_wrapper(optim_wrapper)

    @property
    def batch_size(self) -> int:
        """Training samples of a micro-batch of this process."""
        return self._train_dataloader['batch_size']

    def meta(self) -> dict[str, Any]:
        """What someone who has only the file wants to know: classes and shape (C, H, W) of the evaluated images."""
        part = next(part for part in ('test', 'val', 'train') if getattr(self, f'_{part}_dataloader') is not None)
        shape = list(self.dataset(part).image_shape)
        return {'openmixup': __version__, 'classes': list(self.classes), 'image_shape': shape}

    def save(self, name: str) -> Path:
        """Write the state to ``name`` in the work directory; only the first process writes.

        Raises:
            InputError: the weights, gradients that are half accumulated or the log's sum of losses are not finite;
                nothing is written.
        """
        path = Path(self.work_dir, name)
        state = run_state(self)  # on all ranks: hooks may reduce over them
        # a guard leaves such updates out later, and so does a loss scaler
        unwatched = getattr(self.optim_wrapper, 'guard', None) is None and not getattr(
            self.optim_wrapper, 'scales', False
        )
        # a run that went on from such a sum, which is the same on all ranks, would end at the log's next read
        losses = state.get('log', {}).get('sums', {}).get('loss')
        fault = '' if losses is None or losses.isfinite() else 'losses'
        fault = fault if finite(learner_of(self), gradients=unwatched) else 'weights or gradients'
        if fault:
            self.call_hook('on_bad_weights')
            raise InputError(
                f'{fault} are not finite at step {self.train_loop.iter}, so that {name} was not written: '
                'lower the learning rate or clip gradients; earlier checkpoints are still there.'
            )
        if self.rank == 0:
            digest = write_checkpoint(state, path)
            add_to_manifest(path, digest, self.train_loop.epoch, self.train_loop.iter)
            self.last_saved = path
        self._saved_at = self.train_loop.iter, self.train_loop.pending
        return path

    def load_or_resume(self) -> None:
        """Continue the run in the work directory, or start from given weights, as the config says."""
        if self._has_loaded:
            return
        self._has_loaded = True
        work_dir, found = Path(self.work_dir), None
        if isinstance(self._resume, str):  # this checkpoint, also one of another folder
            check_file(Path(self._resume))
            found = Path(self._resume), read_checkpoint(self._resume)
        elif self._resume:
            found = latest_checkpoint(work_dir)
        if found is not None:
            restore(self, *found)
            self._saved_at = self.train_loop.iter, self.train_loop.pending
            self.logger.info(f'resumed from {found[0]} (epoch {self.train_loop.epoch}, step {self.train_loop.iter})')
        elif self._load_from is not None:
            self.load_weights(self._load_from, strict=False)
        if found is None and self._resume:
            self.logger.info(f'no checkpoint in {self.work_dir}: the run starts from the beginning')
        if self._train_loop is not None:
            check_generator(getattr(learner_of(self), 'teacher', None))
            check_same_step(self.train_loop.iter, self.work_dir)  # all have read what they need
        if self._train_loop is not None and self.rank == 0:
            remove_leftovers(work_dir)
            if not self._resume or (found is not None and found[0].resolve().parent != work_dir.resolve()):
                put_aside(work_dir, self.timestamp, self.logger.info)

    def load_weights(self, path: str | Path, *, strict: bool = True) -> None:
        """Load the weights of a checkpoint.

        Args:
            path: a checkpoint file.
            strict: every weight must be there and fit; False: what fits is taken, the rest is named in the log.
        """
        learner = learner_of(self)
        begin_from(learner, lambda: load_weights(learner, path, strict=strict, log=self.logger.info))
