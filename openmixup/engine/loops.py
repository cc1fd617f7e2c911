"""Training by epoch or by iteration.

Every random draw of a step is keyed by (seed, step, rank), so that a run that is continued repeats what an undisturbed
one would have done.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from mmengine.runner import BaseLoop

from openmixup.checks import is_whole
from openmixup.datasets.loading import BatchLoader
from openmixup.engine.distributed import learner_of
from openmixup.engine.failures import Rollback, memory_errors
from openmixup.engine.preemption import Preemption
from openmixup.errors import InputError
from openmixup.policies import Context
from openmixup.randomness import derive_seed
from openmixup.registry import LOOPS

__all__ = ['EpochLoop', 'IterLoop', 'TrainLoop', 'resting']


def seed_noise(seed: int) -> None:
    """Set torch's global streams, which dropout and stochastic depth draw from.

    ``torch.manual_seed`` would do it too, but without a GPU it stores a stack trace for each kind of accelerator in
    each call: about a millisecond and a few kilobytes a step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def resting(batches: Iterable[dict[str, torch.Tensor]], preemption: Preemption) -> Iterator[dict[str, torch.Tensor]]:
    """``batches``, with a wait that a signal may end."""
    iterator = iter(batches)
    while True:
        with preemption.at_rest():
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch


class TrainLoop(BaseLoop):
    """What both training loops share: one step, the position in the run, and evaluation when it is due.

    Attributes:
        epoch: epochs completed.
        iter: steps (micro-batches) completed.
        images: images seen by this process since the run or its continuation began.
        pending: the training up to the position is done, its evaluation and what follows is not.
        origin: (epoch, iter, samples) where the run went on with batches of another size; samples are those of all
            processes that the epoch, or the endless stream, had behind it.
        stop_training: a hook may set it; the run then ends after the current epoch or evaluation.
    """

    dataloader: BatchLoader

    def __init__(self, runner: Any, dataloader: BatchLoader, val_interval: int, val_begin: int) -> None:
        super().__init__(runner, dataloader)
        for name, value in (('val_interval', val_interval), ('val_begin', val_begin)):
            if not is_whole(value, 1):
                raise InputError(f'train_cfg.{name}={value!r}: expected a whole number of at least 1.')
        self.val_interval, self.val_begin = val_interval, val_begin
        self.epoch = self.iter = self.images = 0
        self.pending = self.stop_training = False
        self.origin = (0, 0, 0)

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

    @property
    @abstractmethod
    def samples(self) -> int:
        """Samples of all processes that were seen of the epoch, or of the endless stream."""

    @property
    def _step_samples(self) -> int:
        return self.runner.batch_size * self.runner.world_size

    @abstractmethod
    def place(self, epoch: int, step: int, samples: int) -> None:
        """Go to a position that was reached with batches of another size."""

    def after_step_hooks(self) -> None:
        """Let hooks save, now that the position counts the finished step; then the run may be told to end."""
        self.runner.call_hook('after_step')
        self.runner.preemption.pause()

    def batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of the loader; while one is waited for, nothing is half done."""
        return resting(self.dataloader, self.runner.preemption)

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
        if not is_whole(max_epochs, 1):
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
        while self.pending or (self.epoch < self._max_epochs and not self.stop_training):
            if not self.pending:
                self._train_epoch()
                self.pending = True
            self.evaluate()
            self.pending = False
            self.runner.call_hook('after_epoch')
            self.runner.preemption.pause()

    def _begin(self) -> tuple[int, int]:
        """The step at which the batches of this epoch begin, and the samples before them."""
        epoch, step, samples = self.origin
        return (step, samples) if epoch == self.epoch else (self.epoch * len(self.dataloader), 0)

    @property
    def samples(self) -> int:
        """Samples of all processes that were seen of the epoch."""
        step, before = self._begin()
        return before + (self.iter - step) * self._step_samples

    def place(self, epoch: int, step: int, samples: int) -> None:  # noqa: ARG002 (the steps of other batches)
        """Go to a position that was reached with batches of another size."""
        left = self.dataloader.order.batches_behind(samples) if samples else len(self.dataloader)
        self.epoch, self.iter = epoch, (epoch + 1) * len(self.dataloader) - left
        self.origin = epoch, self.iter, samples

    def _train_epoch(self) -> None:
        step, samples = self._begin()
        self.dataloader.set_epoch(self.epoch, self.iter - step, samples)
        self.runner.call_hook('before_train_epoch')
        for batch in self.batches():
            self.step(batch)
            if self.iter % len(self.dataloader):
                self.after_step_hooks()
        self.runner.call_hook('after_train_epoch')
        self.epoch += 1


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
        if not is_whole(max_iters, 1):
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

    @property
    def samples(self) -> int:
        """Samples of all processes that were seen."""
        _, step, samples = self.origin
        return samples + (self.iter - step) * self._step_samples

    def place(self, epoch: int, step: int, samples: int) -> None:
        """Go to a position that was reached with batches of another size."""
        self.epoch, self.iter, self.origin = epoch, step, (0, step, samples)

    def advance(self) -> None:
        """From the current position to the end; for hooks that is one epoch."""
        self.dataloader.start_at(self.iter - self.origin[1], self.origin[2])
        self.runner.call_hook('before_train_epoch')
        batches = self.batches()
        while self.pending or (self.iter < self._max_iters and not self.stop_training):
            if not self.pending:
                self.epoch = self.samples // len(self.runner.dataset('train'))
                self.step(next(batches))
                self.pending = True
            self.evaluate()
            self.pending = False
            self.after_step_hooks()
        self.runner.call_hook('after_train_epoch')
