"""Whether the images come as fast as the steps use them."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from openmixup.analysis.doctor import files, limits, machine
from openmixup.analysis.doctor.report import Finding, counted, size_text
from openmixup.analysis.doctor.steps import Timing, stream
from openmixup.datasets.loading import BatchLoader, build_dataloader

__all__ = ['handover', 'loader', 'reading']

SECONDS = 5.0  # for which a rate is measured
TRIED = 32  # images that are decoded in this process
AHEAD = 2  # batches that each worker makes in advance


def loader(runner: Any, timing: Timing, processes: int) -> Iterator[Finding]:
    """Images a second of the training loader, against what the steps use.

    Args:
        runner: the runner of the trial.
        timing: of its steps; without any the loader is measured against nothing.
        processes: that share this machine.
    """
    loaded, dataset = runner.train_loop.dataloader, runner.dataset('train')
    workers, need = loaded.num_workers, timing.rate if timing.wall else 0.0
    rate = _rate(loaded)
    values = {'images_per_second': rate, 'needed': need, 'num_workers': workers}
    found = f'{rate:,.0f} images/s with num_workers={workers}'
    expected = f'at least the {need:,.0f} images/s that the steps use'
    if not hasattr(dataset, 'paths'):
        level = 'ok' if rate >= need else 'warn'
        yield Finding('loader', level, found, expected, 'put the data on the GPU by on_device=True', values)
        return
    cost = _cost(dataset)
    most = max(1, limits.cores() // processes)
    wanted = max(1, math.ceil(1.2 * need * cost))
    suggested = min(wanted, most)
    if suggested != workers:
        other = build_dataloader(dataset, runner.batch_size, shuffle=True, seed=runner.seed, num_workers=suggested)
        values['suggested_images_per_second'] = _rate(other)
        other.close()
        found += f' and {values["suggested_images_per_second"]:,.0f} with {suggested}'
    found += f'; an image takes {1000 * cost:.1f} ms of a core, which asks for {counted(wanted, "worker")}'
    values |= {'seconds_per_image': cost, 'suggested': suggested}
    remedy = f'set train_dataloader.num_workers={suggested}'
    if wanted > most:
        remedy += f' and store smaller images, as {counted(most, "core")} can decode {most / cost:,.0f} images/s'
    if workers > most:
        expected += f', by at most {counted(most, "worker")}, one a core'
    level = 'ok' if rate >= need and workers <= most else 'warn'
    yield Finding('loader', level, found, expected, remedy, values)


def _rate(loaded: BatchLoader) -> float:
    """Images a second that a loader hands out when nothing waits for them."""
    batches = stream(loaded)
    for _ in range(1 + AHEAD * loaded.num_workers):  # begun before the clock
        next(batches)
    count, start = 0, time.perf_counter()
    for batch in itertools.islice(batches, 200):
        count += len(batch['labels'])
        if time.perf_counter() - start > SECONDS:
            break
    return count / max(time.perf_counter() - start, 1e-9)


def _cost(dataset: Any) -> float:
    """Seconds of one core that an image takes to be read, decoded and cut."""
    count = min(TRIED, len(dataset))
    places = torch.linspace(0, len(dataset) - 1, count).long().tolist()
    start = time.process_time()
    for place in places:
        dataset[place]
    return (time.process_time() - start) / count


def handover(runner: Any, processes: int) -> Iterator[Finding]:
    """Room in the shared memory for the batches that workers make in advance; pixels are one byte each."""
    workers, dataset = runner.train_loop.dataloader.num_workers, runner.dataset('train')
    if not workers or not machine.SHARED.is_dir():
        return
    need = processes * workers * (AHEAD + 1) * math.prod(dataset.image_shape) * runner.batch_size
    free = shutil.disk_usage(machine.SHARED).free
    found = f'{size_text(free)} free in {machine.SHARED}'
    expected = f'{size_text(need)} for {counted(processes * workers, "worker")} with {AHEAD + 1} batches each'
    remedy = 'lower num_workers, or start the container with --ipc=host or --shm-size=8g'
    yield Finding('worker memory', 'FAIL' if free < need else 'ok', found, expected, remedy,
                  {'free': free, 'need': need})  # fmt: skip


def reading(runner: Any, timing: Timing, count: int) -> Iterator[Finding]:
    """Speed at which files of the training data come from the disk, one after the other.

    Args:
        runner: the runner of the trial.
        timing: of its steps.
        count: files to read at most.
    """
    dataset, workers = runner.dataset('train'), max(1, runner.train_loop.dataloader.num_workers)
    if not hasattr(dataset, 'paths'):
        return
    size, number, seconds = _read(files.sample(dataset.paths, count))
    rate = number / max(seconds, 1e-9)
    need = timing.rate / workers if timing.wall else 0.0
    found = f'{size_text(size / max(seconds, 1e-9))}/s, {rate:,.0f} files/s of {size / number / 1024:,.0f} KiB '
    found += f'({number:,} files of the training data, one after the other, past the cache)'
    expected = f'at least the {need:,.0f} files/s that each loader process needs'
    remedy = 'copy the data to a local disk, or raise num_workers'
    values = {'bytes_per_second': size / max(seconds, 1e-9), 'files_per_second': rate, 'needed': need}
    yield Finding('reading', 'ok' if rate >= need else 'warn', found, expected, remedy, values)


def _read(paths: list[Path]) -> tuple[int, int, float]:
    """Bytes, files and seconds of reading; what the system has in its cache is dropped first where it can be."""
    size, number, seconds = 0, 0, 0.0
    for path in paths:
        with path.open('rb', buffering=0) as stream:
            if hasattr(os, 'posix_fadvise'):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            start = time.perf_counter()
            size += len(stream.read())
            seconds += time.perf_counter() - start
        number += 1
        if seconds > SECONDS:
            break
    return size, number, seconds
