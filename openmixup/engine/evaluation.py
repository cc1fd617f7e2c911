"""Evaluation of a learner, in training and after it."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
import torch.distributed as dist
from mmengine.runner import BaseLoop

from openmixup.datasets.loading import BatchLoader
from openmixup.engine.distributed import accelerator, learner_of
from openmixup.engine.failures import memory_errors
from openmixup.engine.loops import resting
from openmixup.registry import LOOPS, METRICS

__all__ = ['EvalLoop']


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
        entries = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
        self.metrics = [METRICS.build(entry) for entry in entries]  # never updated: each branch gets copies

    @property
    def part(self) -> str:
        """'test' or 'val', after which the hooks are named that are called."""
        return 'test' if self.runner._test_loop is self else 'val'

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of what :meth:`run` measures; None if the learner or a metric does not say them beforehand."""
        branches = getattr(learner_of(self.runner), 'branches', None)
        if branches is None or not all(hasattr(metric, 'names') for metric in self.metrics):
            return None
        classes = getattr(self.dataloader.dataset, 'num_classes', None)
        names = [name for metric in self.metrics for name in metric.names(classes)]
        return tuple(f'{prefix(branch)}{name}' for branch in branches for name in names)

    def run(self) -> dict[str, Any]:
        """Metrics by name; those of branches other than the student carry the branch, as in ``teacher/top1``."""
        runner, part = self.runner, self.part
        start = time.perf_counter()
        runner.call_hook(f'before_{part}')
        runner.call_hook(f'before_{part}_epoch')
        runner.model.eval()
        if dist.is_initialized() and dist.get_world_size() > 1:
            for buffer in learner_of(runner).buffers():  # BatchNorm statistics of the last step differ between ranks
                dist.broadcast(buffer, 0)
        result: dict[str, Any] = {}
        with memory_errors(runner, part):
            counted = self._counted(part)
        for branch, metrics in counted.items():
            for metric in metrics:
                result |= {f'{prefix(branch)}{name}': value for name, value in metric.compute().items()}
        result['seconds'] = time.perf_counter() - start
        runner.call_hook(f'after_{part}_epoch', metrics=result)
        runner.call_hook(f'after_{part}')
        return result

    @torch.no_grad()
    def _counted(self, part: str) -> dict[str, list[Any]]:
        """The metrics of each branch, with all batches counted."""
        runner, learner = self.runner, learner_of(self.runner)
        asked = self._common_batches()
        counted: dict[str, list[Any]] = {}
        for number, batch in enumerate(resting(self.dataloader, runner.preemption)):
            if number < asked:
                runner.preemption.pause()
            runner.call_hook(f'before_{part}_iter', batch_idx=number, data_batch=batch)
            ready = learner.data_preprocessor(batch, training=False)
            outputs = learner.predict(ready['inputs'])
            for branch, logits in outputs.items():
                if branch not in counted:
                    counted[branch] = copy.deepcopy(self.metrics)
                for metric in counted[branch]:
                    metric.update(logits, ready['labels'])
            runner.call_hook(f'after_{part}_iter', batch_idx=number, data_batch=batch, outputs=outputs)
        return counted

    def _common_batches(self) -> int:
        """Batches that every process has: they need not have the same number."""
        count = len(self.dataloader)
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return count
        least = torch.tensor(count, device=accelerator())
        dist.all_reduce(least, dist.ReduceOp.MIN)
        return int(least)


def prefix(branch: str) -> str:
    """What stands before the names of the metrics of a branch."""
    return '' if branch == 'student' else f'{branch}/'
