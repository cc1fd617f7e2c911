"""Runs as subprocesses, several at once, each ending as a row or as a failure."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from openmixup.benchmark.outcome import check_results, keep_failure, keep_row, lock_log, trained_elsewhere
from openmixup.benchmark.runs import Run
from openmixup.benchmark.screen import Lines, Screen
from openmixup.errors import InputError
from openmixup.evaluation.headline import told

__all__ = ['Sweep']


class _Job(NamedTuple):
    """A run that goes on."""

    run: Run
    process: subprocess.Popen
    log: BinaryIO
    begin: float
    offset: int
    gpus: tuple[str, ...]


@contextmanager
def _caught() -> Iterator[list[int]]:
    """Interrupts gather in the list instead of breaking in anywhere; those that are ignored stay so."""
    numbers: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():  # the only one that gets signals
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, lambda number, frame: numbers.append(number))
        yield numbers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _devices(gpus: int | None) -> list[str]:
    """Names of the GPUs to use, of those that this process may see; empty: no choice is made."""
    if gpus is None:
        return []
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = [str(number) for number in range(gpus)] if visible is None else [n for n in visible.split(',') if n]
    if len(names) < gpus:
        raise InputError(f'{gpus} GPUs are asked for, but CUDA_VISIBLE_DEVICES={visible!r} has {len(names)}.')
    return list(names[:gpus])


class Sweep:
    """Train the given runs and append their rows.

    A run whose summary is there is collected, one that has a checkpoint is continued, both only if of the same config.
    The log of a run is locked while it goes on, by the trainer too, so that no run is ever trained twice at the same
    time. Runs that another process trains are waited for, so that several sweeps share a table, and one that was killed
    and started again waits for the trainings that outlived it.

    Args:
        runs: the runs, in the order in which they are started.
        results: CSV file that the rows are appended to.
        jobs: runs at once.
        trainer: command that trains; the config, ``--work-dir`` and so on follow it.
        screen: where progress is shown; None: one printed line for each run that ends.
        data: root folder of the data; None: that of the configs.
        gpus: each process of a run gets one of so many GPUs in turn, the least busy first; None: they see what this
            process sees.
        patience: seconds that runs have to end after SIGTERM before they are killed.

    Attributes:
        failures: (run, reason) of each run that gave no summary.
        not_kept: (run, reason) of each run that has a summary, but whose row could not be appended; another sweep or
            ``collect`` appends it.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        results: str | Path,
        jobs: int = 1,
        trainer: Sequence[str] = (sys.executable, '-m', 'openmixup', 'train'),
        screen: Screen | None = None,
        patience: float = 60.0,
        data: str | None = None,
        gpus: int | None = None,
    ) -> None:
        self.waiting = list(runs)
        self.total = len(runs)
        self.results, self.jobs, self.trainer = Path(results), max(1, jobs), list(trainer)
        self.screen, self.patience, self.data = screen or Lines(), patience, data
        self._gpus, self._started = _devices(gpus), 0
        # runs that meet on a GPU share its counter of energy; decided once, so that a run is whole over its attempts
        at_once = min(self.jobs, self.total) * max((run.processes for run in runs), default=1)
        self._shared = self.jobs > 1 and self.total > 1 and at_once > len(self._gpus)
        for run in runs:
            if gpus is not None and run.processes > gpus:
                raise InputError(
                    f'{run.config.name} is a recipe for {run.processes} processes, each with a GPU, but --gpus is '
                    f'{gpus}: give it {run.processes}, or write a recipe for fewer.'
                )
        self.failures: list[tuple[Run, str]] = []
        self.not_kept: list[tuple[Run, str]] = []
        self._running: list[_Job] = []
        self._elsewhere: list[Run] = []
        self._durations: list[float] = []
        self._done = 0

    def run(self) -> list[tuple[Run, str]]:
        """Train until no run is left; the failures are returned.

        Raises:
            InputError: rows cannot be appended to the results, or no work folder be made; nothing has been trained.
            KeyboardInterrupt: SIGINT or SIGTERM came; the children have ended.
        """
        from openmixup.engine.disk import saving

        if self.waiting:
            check_results(self.results)
            first = self.waiting[0].work_dir
            with saving(first):
                first.mkdir(parents=True, exist_ok=True)
        with _caught() as interrupts:
            try:
                while (self.waiting or self._running or self._elsewhere) and not interrupts:
                    while self.waiting and len(self._running) < self.jobs and not interrupts:
                        self._start(self.waiting.pop(0))
                    self._reap()
                    if self._running or self._elsewhere:
                        self._show()
                        time.sleep(0.1 if self._running else 1.0)
                        self._take_back()
            finally:  # after an interrupt or an error; nothing is left to stop otherwise
                self._stop()
                self.screen.close()
        if interrupts:
            raise KeyboardInterrupt
        return self.failures

    def _start(self, run: Run) -> None:
        """Collect a finished run, or start it with its output in its log."""
        from openmixup.engine.energy import SHARED_GPUS

        try:
            run.work_dir.mkdir(parents=True, exist_ok=True)
            log = lock_log(run)
        except (OSError, InputError) as error:
            self._fail(run, f'could not be started: {error}', 0)
            return
        if log is None:
            self._elsewhere.append(run)
            self.screen.say(f'{run.name}: another process trains it; its end is waited for')
            return
        if run.summary() is not None:
            log.close()
            self._collect(run, 'collected')
            return
        offset = log.tell()
        command = run.command(self.trainer, self.data)
        gpus = self._next_gpus(run.processes)
        environment = os.environ | {'PYTHONUNBUFFERED': '1'}
        environment.setdefault('OMP_NUM_THREADS', '1')  # runs at once with a thread for each core slow each other down
        environment |= {'CUDA_VISIBLE_DEVICES': ','.join(gpus)} if gpus else {}
        environment |= {SHARED_GPUS: '1'} if self._shared else {}
        try:
            run.failure.unlink(missing_ok=True)  # of an attempt before this one
            os.write(log.fileno(), f'$ {shlex.join(command)}\n'.encode())
            # a session of its own: Ctrl-C reaches the children through _stop alone, once
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        except OSError as error:
            log.close()
            self._fail(run, f'could not be started: {error}', offset)
            return
        self._started += run.processes
        self._running.append(_Job(run, process, log, time.monotonic(), offset, gpus))

    def _next_gpus(self, count: int) -> tuple[str, ...]:
        """The ``count`` GPUs with the fewest runs; in turn among equals. None at all if there is no choice."""
        turn = self._started % max(1, len(self._gpus))
        busy = [gpu for job in self._running for gpu in job.gpus]
        return tuple(sorted(self._gpus[turn:] + self._gpus[:turn], key=busy.count)[:count])

    def _take_back(self) -> None:
        """Runs that no other process trains any more wait here again, first in the line."""
        free = [run for run in self._elsewhere if not trained_elsewhere(run)]
        self._elsewhere = [run for run in self._elsewhere if run not in free]
        self.waiting[:0] = free

    def _reap(self) -> None:
        """Turn each run that has ended into a row or a failure."""
        for job in list(self._running):
            run, code = job.run, job.process.poll()
            if code is None:
                continue
            self._running.remove(job)
            job.log.close()
            if code != 0:
                self._fail(run, f'exit code {code}', job.offset)
            elif run.summary() is None:
                self._fail(run, 'no summary.json of this run and config, though it ended with exit code 0', job.offset)
            else:
                self._durations.append(time.monotonic() - job.begin)
                self._collect(run, f'{self._durations[-1]:.0f} s')

    def _collect(self, run: Run, how: str) -> None:
        try:
            summary = keep_row(run, self.results)
        except InputError as error:  # the other runs go on: the summary stays, and the row can be appended later
            self.not_kept.append((run, str(error)))
            self._report(f'{run.name}: trained, but without a row: {error}')
            return
        self._done += 1
        self._report(f'{run.name}: {told(summary)} in the last epoch, {how}')

    def _fail(self, run: Run, reason: str, offset: int) -> None:
        place = f'; see {run.failure}'
        try:
            keep_failure(run, reason, offset)
        except OSError as error:  # as on a full disk: the other runs go on
            reason, place = f'{reason}, which could not be kept: {error}', ''
        self.failures.append((run, reason))
        self._report(f'{run.name}: FAILED, {reason}{place}')

    def _report(self, text: str) -> None:
        self.screen.say(f'[{self._done + self._without_row}/{self.total}] {text}{self._eta()}')

    @property
    def _without_row(self) -> int:
        return len(self.failures) + len(self.not_kept)

    def _eta(self) -> str:
        """How long the rest takes at the pace so far, by the runs that have ended or else by those that go on."""
        left = self.waiting + self._elsewhere + [job.run for job in self._running]
        now, shares = time.monotonic(), {job.run.key: job.run.share or 0.0 for job in self._running}
        paces = self._durations or [
            (now - job.begin) / shares[job.run.key] for job in self._running if shares[job.run.key] > 0.02
        ]
        if not left or not paces:
            return ''
        work = sum(1 - shares.get(run.key, 0.0) for run in left) * sum(paces) / len(paces)
        seconds = work / min(self.jobs, len(left))
        return f'; about {seconds / 60:.0f} min left' if seconds >= 90 else f'; about {seconds:.0f} s left'

    def _show(self) -> None:
        if self.screen.due():
            shares = {job.run.name: job.run.share for job in self._running}
            shares |= {f'{run.name} (elsewhere)': run.share for run in self._elsewhere}
            self.screen.show(self._done, self._without_row, self.total, shares, self._eta())

    def _stop(self) -> None:
        """SIGTERM to all runs, SIGKILL to those still there after ``patience`` seconds; they are continued later."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for job in self._running:
                if job.process.poll() is None:
                    os.killpg(job.process.pid, number)
            deadline = time.monotonic() + self.patience
            while time.monotonic() < deadline and any(job.process.poll() is None for job in self._running):
                time.sleep(0.05)
        for job in self._running:
            job.process.wait()
            job.log.close()
        self._running.clear()
