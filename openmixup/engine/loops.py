"""Training by epoch or by iteration, and evaluation.

Every random draw of a step is keyed by (seed, step, rank), so that a run that is continued repeats what an undisturbed
one would have done.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop

from openmixup.datasets.loading import BatchLoader
from openmixup.engine.failures import Rollback, memory_errors
from openmixup.errors import InputError
from openmixup.policies import Context
from openmixup.randomness import derive_seed
from openmixup.registry import LOOPS, METRICS

__all__ = ['EpochLoop', 'EvalLoop', 'IterLoop', 'TrainLoop', 'learner_of']


def learner_of(runner: Any) -> Any:
    """The learner without a wrapper of distributed training."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def seed_noise(seed: int) -> None:
    """Set torch's global streams, which dropout and stochastic depth draw from.

    ``torch.manual_seed`` would do it too, but without a GPU it stores a stack trace for each kind of accelerator in
    each call: about a millisecond and a few kilobytes a step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


class TrainLoop(BaseLoop):
    """What both training loops share: one step, the position in the run, and evaluation when it is due.

    Attributes:
        epoch: epochs completed.
        iter: steps (micro-batches) completed.
        images: images seen by this process since the run or its continuation began.
        stop_training: a hook may set it; the run then ends after the current epoch or evaluation.
    """

    dataloader: BatchLoader

    def __init__(self, runner: Any, dataloader: BatchLoader, val_interval: int, val_begin: int) -> None:
        super().__init__(runner, dataloader)
        for name, value in (('val_interval', val_interval), ('val_begin', val_begin)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f'train_cfg.{name}={value!r}: expected a whole number of at least 1.')
        self.val_interval, self.val_begin = val_interval, val_begin
        self.epoch = self.iter = self.images = 0
        self.stop_training = False

    @property
    @abstractmethod
    def max_iters(self) -> int:
        """Steps of the whole run."""

    @property
    @abstractmethod
    def max_epochs(self) -> int:
        """Epochs of the whole run."""

    @property
    @abstractmethod
    def due(self) -> bool:
        """Whether the position reached asks for an evaluation."""

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        """One micro-batch: forward, backward and, unless gradients accumulate, an update."""
        runner = self.runner
        learner = learner_of(runner)
        context = Context(
            seed=runner.seed, step=self.iter, rank=runner.rank, epoch=self.epoch, progress=self.iter / self.max_iters
        )
        learner.context = learner.data_preprocessor.context = context
        seed_noise(derive_seed(runner.seed, 'noise', self.iter, runner.rank))
        runner.call_hook('before_train_iter', batch_idx=self.iter, data_batch=batch)
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        if runner.optim_wrapper.grad_norm is not None:
            outputs['grad_norm'] = runner.optim_wrapper.grad_norm
        self.images += len(batch['labels'])
        runner.call_hook('after_train_iter', batch_idx=self.iter, data_batch=batch, outputs=outputs)
        learner.last_plan = None
        self.iter += 1

    def after_step_hooks(self) -> None:
        """Let hooks save, now that the position counts the finished step."""
        self.runner.call_hook('after_step')

    def evaluate(self) -> None:
        """Evaluate if it is due, then go on training."""
        if self.runner.val_loop is not None and self.due:
            self.runner.val_loop.run()
            self.runner.model.train()

    def run(self) -> Any:
        """The whole run."""
        runner = self.runner
        runner.call_hook('before_train')
        runner.model.train()
        while not self._advanced():
            runner.call_hook('go_back')  # a hook restores weights and position
        runner.call_hook('after_train')
        return runner.model

    def _advanced(self) -> bool:
        """Whether the end of the run was reached; False: it must go back to a checkpoint."""
        try:
            with memory_errors(self.runner, 'train'):
                self.advance()
        except Rollback:
            return False
        return True

    @abstractmethod
    def advance(self) -> None:
        """From the current position to the end of the run."""


@LOOPS.register_module()
class EpochLoop(TrainLoop):
    """Training counted in epochs.

    Args:
        runner: the runner.
        dataloader: loader of the training batches.
        max_epochs: length of the run.
        val_interval: evaluate every so many epochs, and after the last one.
        val_begin: first epoch, counted from 1, after which an evaluation is done.
    """

    def __init__(
        self, runner: Any, dataloader: BatchLoader, max_epochs: int, val_interval: int = 1, val_begin: int = 1
    ) -> None:
        super().__init__(runner, dataloader, val_interval, val_begin)
        if not isinstance(max_epochs, int) or max_epochs < 1:
            raise InputError(f'train_cfg.max_epochs={max_epochs!r}: expected a whole number of at least 1.')
        self._max_epochs = max_epochs

    @property
    def max_epochs(self) -> int:
        """Epochs of the whole run."""
        return self._max_epochs

    @property
    def max_iters(self) -> int:
        """Steps of the whole run."""
        return self._max_epochs * len(self.dataloader)

    @property
    def due(self) -> bool:
        """Whether the position reached asks for an evaluation."""
        last = self.epoch == self._max_epochs
        return last or (self.epoch >= self.val_begin and self.epoch % self.val_interval == 0)

    def advance(self) -> None:
        """From the current position, also in the middle of an epoch, to the end."""
        while self.epoch < self._max_epochs and not self.stop_training:
            self.dataloader.set_epoch(self.epoch, self.iter - self.epoch * len(self.dataloader))
            self.runner.call_hook('before_train_epoch')
            for batch in self.dataloader:
                self.step(batch)
                if self.iter % len(self.dataloader):
                    self.after_step_hooks()
            self.epoch += 1
            self.runner.call_hook('after_train_epoch')
            self.evaluate()
            self.runner.call_hook('after_epoch')


@LOOPS.register_module()
class IterLoop(TrainLoop):
    """Training counted in steps.

    Args:
        runner: the runner.
        dataloader: loader of an endless stream of training batches.
        max_iters: length of the run in steps.
        val_interval: evaluate every so many steps, and after the last one.
        val_begin: first step, counted from 1, after which an evaluation is done.
    """

    infinite = True

    def __init__(
        self, runner: Any, dataloader: BatchLoader, max_iters: int, val_interval: int = 1000, val_begin: int = 1
    ) -> None:
        super().__init__(runner, dataloader, val_interval, val_begin)
        if not isinstance(max_iters, int) or max_iters < 1:
            raise InputError(f'train_cfg.max_iters={max_iters!r}: expected a whole number of at least 1.')
        self._max_iters = max_iters

    @property
    def max_epochs(self) -> int:
        """The whole run counts as one epoch."""
        return 1

    @property
    def max_iters(self) -> int:
        """Steps of the whole run."""
        return self._max_iters

    @property
    def due(self) -> bool:
        """Whether the position reached asks for an evaluation."""
        last = self.iter == self._max_iters
        return last or (self.iter >= self.val_begin and self.iter % self.val_interval == 0)

    def advance(self) -> None:
        """From the current position to the end."""
        self.dataloader.start_at(self.iter)
        batches = iter(self.dataloader)
        while self.iter < self._max_iters and not self.stop_training:
            seen = self.iter * self.runner.batch_size * self.runner.world_size
            self.epoch = seen // len(self.runner.dataset('train'))
            self.step(next(batches))
            self.evaluate()
            self.after_step_hooks()


@LOOPS.register_module()
class EvalLoop(BaseLoop):
    """Evaluation of every branch of the learner (student, teacher).

    Args:
        runner: the runner.
        dataloader: loader of the evaluation batches.
        evaluator: configs of the metrics.
    """

    def __init__(self, runner: Any, dataloader: BatchLoader, evaluator: list[dict]) -> None:
        super().__init__(runner, dataloader)
        self.evaluator = evaluator if isinstance(evaluator, list | tuple) else [evaluator]

    def run(self) -> dict[str, Any]:
        """Metrics by name; those of branches other than the student carry the branch, as in ``teacher/top1``."""
        runner = self.runner
        learner = learner_of(runner)
        runner.call_hook('before_val')
        runner.model.eval()
        if dist.is_initialized() and dist.get_world_size() > 1:
            for buffer in learner.buffers():  # BatchNorm statistics of this rank's last step differ from the others'
                dist.broadcast(buffer, 0)
        start = time.perf_counter()
        metrics: dict[str, list[Any]] = {}
        part = 'test' if runner._test_loop is self else 'val'
        with torch.no_grad(), memory_errors(runner, part):
            for batch in self.dataloader:
                batch = learner.data_preprocessor(batch, training=False)
                for branch, logits in learner.predict(batch['inputs']).items():
                    if branch not in metrics:
                        metrics[branch] = [METRICS.build(metric) for metric in self.evaluator]
                    for metric in metrics[branch]:
                        metric.update(logits, batch['labels'])
        result: dict[str, Any] = {}
        for branch, built in metrics.items():
            prefix = '' if branch == 'student' else f'{branch}/'
            for metric in built:
                result |= {f'{prefix}{name}': value for name, value in metric.compute().items()}
        result['seconds'] = time.perf_counter() - start
        runner.call_hook('after_val_epoch', metrics=result)
        return result
