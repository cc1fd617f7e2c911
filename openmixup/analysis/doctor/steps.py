"""A few steps of the real training: time, cost of the mixing, memory, batches."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from openmixup.analysis.doctor import limits
from openmixup.analysis.doctor.report import Effort, Finding, counted, duration, size_text
from openmixup.datasets.loading import BatchLoader
from openmixup.datasets.samplers import EpochBatchSampler, InfiniteBatchSampler
from openmixup.engine import peak
from openmixup.engine.distributed import accelerator, learner_of
from openmixup.engine.loops import EpochLoop
from openmixup.engine.resume import finite
from openmixup.policies import Batch, Context

__all__ = ['Timing', 'batches', 'mixing', 'step', 'step_memory', 'stream']

FEW = 8  # images in a batch below which its statistics are noise
MOST_MIXING = 0.2  # of a step, for a policy that looks at pixels only


@dataclass
class Timing:
    """What the steps took, in seconds.

    Attributes:
        wall: of each step, by the clock on the wall.
        busy: of each step, CPU time of this process; on a GPU as ``wall``.
        mixing: of the policy's plan alone, as ``busy``.
        images: in a batch.
        memory: bytes at the peak, and before the first step.
    """

    images: int = 0
    wall: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    mixing: list[float] = field(default_factory=list)
    memory: tuple[int, int] = (0, 0)

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / statistics.median(self.wall)


def clock(device: torch.device) -> float:
    """CPU time of this process, or the time when the GPU has caught up."""
    if device.type == 'cpu':
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def stream(loader: BatchLoader) -> Iterator[dict[str, Tensor]]:
    """The batches of a loader, epoch after epoch."""
    sampler: Any = loader.batch_sampler
    if isinstance(getattr(sampler, 'batches', sampler), InfiniteBatchSampler):
        loader.start_at(0)
        yield from loader
        return
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from loader


def step(runner: Any, timing: Timing, effort: Effort) -> Iterator[Finding]:
    """Time of a training step, the first two left out, and of the policy's plan in turn with it."""
    loop, device = runner.train_loop, accelerator()
    first = list(itertools.islice(stream(loop.dataloader), 3))
    whole = max(first, key=lambda batch: len(batch['labels']))
    timing.images = len(whole['labels'])
    before, begun = peak.restart(device), time.perf_counter()
    try:
        for number in range(2 + effort.steps):
            batch = first[number % len(first)] if number < 2 else whole
            loop.iter %= loop.max_iters
            start, busy = time.perf_counter(), clock(device)
            loop.step(batch)
            busy = clock(device) - busy
            late = time.perf_counter() - begun > effort.seconds
            if number >= 2 or late:
                timing.wall.append(time.perf_counter() - start)
                timing.busy.append(busy)
                timing.mixing += time_plan(runner, batch, device)
            if late:
                break
    except RuntimeError as error:
        if 'out of memory' not in str(error):
            raise
        remedy = 'halve train_dataloader.batch_size, and set optim_wrapper.accumulative_counts=2 or --amp'
        yield Finding(
            'step', 'FAIL', f'out of memory with {counted(timing.images, "image")}', 'a step that fits', remedy
        )
        return
    timing.memory = peak.read(device), before
    yield _step_finding(runner, timing, effort)


def _step_finding(runner: Any, timing: Timing, effort: Effort) -> Finding:
    seconds, steps = statistics.median(timing.wall), runner.train_loop.max_iters
    if isinstance(runner.train_loop, EpochLoop):  # its epochs are divided among the processes
        steps = -(-steps // effort.processes)
    whole = seconds * steps
    found = f'{1000 * seconds:.1f} ms for {counted(timing.images, "image")} ({timing.rate:,.0f} images/s, median of '
    found += f'{len(timing.wall)}), so {duration(whole)} for {steps:,} steps without evaluation'
    values = {'seconds': seconds, 'images_per_second': timing.rate, 'steps': steps, 'seconds_of_run': whole}
    if not finite(learner_of(runner)):
        remedy = 'lower the learning rate or clip gradients'
        return Finding('step', 'FAIL', f'{found}; the weights are not finite', 'finite weights', remedy, values)
    level = 'ok' if whole <= 7 * 24 * 3600 else 'warn'
    return Finding('step', level, found, 'a run of at most a week', 'use a faster machine or more processes', values)


def time_plan(runner: Any, batch: dict[str, Tensor], device: torch.device) -> list[float]:
    """Seconds that the policy takes to plan a batch; empty if the learner has none."""
    learner = learner_of(runner)
    if not hasattr(learner, 'plan'):
        return []
    loop = runner.train_loop
    learner.context = Context(seed=runner.seed, step=loop.iter, progress=loop.iter / loop.max_iters)
    data = learner.data_preprocessor(batch, training=True)
    bank = Batch(data['bank_inputs'], data['bank_labels'], target=learner.target) if 'bank_inputs' in data else None
    with runner.optim_wrapper.optim_context(runner.model):
        start = clock(device)
        learner.plan(data['inputs'], data['labels'], bank)
        return [clock(device) - start]


def mixing(runner: Any, timing: Timing) -> Iterator[Finding]:
    """Share of a training step that the policy takes."""
    if not timing.mixing:
        return
    policy = learner_of(runner).policy
    part, whole = statistics.median(timing.mixing), statistics.median(timing.busy)
    share = part / max(whole, 1e-9)
    looks = [need for need in policy.needs if need not in ('pixels', 'logits', 'bank')]
    kind = 'CPU time' if accelerator().type == 'cpu' else 'time'
    found = f'{type(policy).__name__} takes {1000 * part:.2f} ms of {kind}, {100 * share:.1f}% of a step'
    values = {'seconds': part, 'share': share}
    if looks:
        yield Finding('mixing', 'ok', f'{found}; it needs {", ".join(looks)} of a network', values=values)
        return
    level = 'ok' if share <= MOST_MIXING else 'warn'
    remedy = 'choose a cheaper policy, or mix on a GPU'
    yield Finding('mixing', level, found, f'at most {100 * MOST_MIXING:.0f}%', remedy, values)


def step_memory(timing: Timing, effort: Effort) -> Iterator[Finding]:
    """Memory at the peak of the steps against what there is."""
    top, before = timing.memory
    if not top:
        return
    device, free = accelerator(), limits.available_memory()
    found = f'{size_text(top)} at the peak of a step, {size_text(max(top - before, 0))} above its beginning'
    if device.type == 'cuda':
        share, has = 1, torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    elif free is not None:
        share, has = effort.processes, free + top
    else:
        yield Finding('step memory', 'ok', found, values={'peak': top, 'before': before})
        return
    level = 'ok' if top * share <= 0.9 * has else 'warn' if top * share <= has else 'FAIL'
    expected = f'for {counted(share, "process")} at most 90% of {size_text(has)}'
    remedy = 'lower train_dataloader.batch_size, and raise optim_wrapper.accumulative_counts, or use --amp'
    yield Finding('step memory', level, found, expected, remedy, {'peak': top, 'before': before, 'has': has})


def batches(runner: Any, effort: Effort) -> Iterator[Finding]:
    """Whether batches, the last one of an epoch too, are large enough for the statistics of BatchNorm."""
    learner, sampler = learner_of(runner), runner.train_loop.dataloader.batch_sampler
    sampler = getattr(sampler, 'batches', sampler)
    size = last = runner.batch_size
    if isinstance(sampler, EpochBatchSampler):
        share = type(sampler)(
            sampler.length, size, shuffle=sampler.shuffle, world_size=effort.processes, drop_last=sampler.drop_last
        )
        last = share.num_samples % size or size
    norms = sum(isinstance(module, _BatchNorm) for module in learner.modules())
    found = f'{counted(size, "image")} in a batch, {last} in the last, {counted(norms, "BatchNorm layer")}'
    values = {'batch_size': size, 'last': last, 'batch_norms': norms}
    if not norms or last >= FEW:
        yield Finding('batches', 'ok', found, f'at least {FEW} for BatchNorm' if norms else '', values=values)
        return
    remedy = 'set train_dataloader.drop_last=True, or another batch_size' if size >= FEW else (
        f'raise train_dataloader.batch_size to {FEW} or more, or set sync_bn=True on several GPUs')  # fmt: skip
    problem = _one_image(runner) if last == 1 else ''
    found += f'; a batch of one stops ({problem})' if problem else ''
    yield Finding('batches', 'FAIL' if problem else 'warn', found, f'at least {FEW} for BatchNorm', remedy, values)


def _one_image(runner: Any) -> str:
    """Why a training step with one image stops; empty if it does not."""
    learner = learner_of(runner)
    batch = learner.data_preprocessor(next(stream(runner.train_loop.dataloader)), training=True)
    try:
        learner(**{name: value[:1] for name, value in batch.items()}, mode='loss')
    except (ValueError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return ''
