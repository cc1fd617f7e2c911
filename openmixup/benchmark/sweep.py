"""Runs as subprocesses, several at once, each ending as a row or as a failure."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from openmixup.benchmark.results import append_row, row_of
from openmixup.benchmark.runs import Run

__all__ = ['Sweep']

_Job = tuple[Run, subprocess.Popen, BinaryIO, float]


class Sweep:
    """Train the given runs and append their rows.

    A run whose summary is there is collected, one that has a checkpoint is continued. The log of a run is locked while
    it goes on, by the trainer too, so that no run is ever trained twice at the same time.

    Args:
        runs: the runs, in the order in which they are started.
        results: CSV file that the rows are appended to.
        jobs: runs at once.
        trainer: command that trains; the config, ``--work-dir`` and so on follow it.
        say: gets the lines of progress.
        patience: seconds that runs have to end after SIGTERM before they are killed.

    Attributes:
        failures: (run, reason) of each run that gave no row.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        results: str | Path,
        jobs: int = 1,
        trainer: Sequence[str] = (sys.executable, '-m', 'openmixup', 'train'),
        say: Callable[[str], None] = print,
        patience: float = 60.0,
    ) -> None:
        self.waiting = list(runs)
        self.total = len(runs)
        self.results, self.jobs, self.trainer = Path(results), max(1, jobs), list(trainer)
        self.say, self.patience = say, patience
        self.failures: list[tuple[Run, str]] = []
        self._running: list[_Job] = []
        self._durations: list[float] = []
        self._done = 0

    def run(self) -> list[tuple[Run, str]]:
        """Train until no run is left; the failures are returned. An interrupt ends the children before it goes on."""
        try:
            while self.waiting or self._running:
                while self.waiting and len(self._running) < self.jobs:
                    self._start(self.waiting.pop(0))
                self._reap()
                if self._running:
                    time.sleep(0.1)
        except BaseException:
            self._stop()
            raise
        return self.failures

    def _start(self, run: Run) -> None:
        """Collect a finished run, or start it with its output in its log."""
        run.work_dir.mkdir(parents=True, exist_ok=True)
        log = open(run.log, 'ab')  # noqa: SIM115 (closed when the run has ended)
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.close()
            self._fail(run, 'another process trains it')
            return
        if run.summary() is not None:
            log.close()
            self._collect(run, 'collected')
            return
        command = run.command(self.trainer)
        log.write(f'$ {" ".join(command)}\n'.encode())
        log.flush()
        environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'}
        try:  # a session of its own: Ctrl-C reaches the children through _stop alone, once
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        except OSError as error:
            log.close()
            self._fail(run, f'could not be started: {error}')
            return
        self._running.append((run, process, log, time.monotonic()))

    def _reap(self) -> None:
        """Turn each run that has ended into a row or a failure."""
        for job in list(self._running):
            run, process, log, begin = job
            code = process.poll()
            if code is None:
                continue
            self._running.remove(job)
            log.close()
            if code != 0:
                self._fail(run, f'exit code {code}')
            elif run.summary() is None:
                self._fail(run, 'no summary.json of this run, though it ended with exit code 0')
            else:
                self._durations.append(time.monotonic() - begin)
                self._collect(run, f'{self._durations[-1]:.0f} s')

    def _collect(self, run: Run, how: str) -> None:
        summary = run.summary()
        assert summary is not None
        append_row(self.results, row_of(summary, run.table, run.policy, run.seed, run.epochs))
        self._done += 1
        self._report(f'{run.name}: top-1 {summary["last"]["top1"]:.2f} in the last epoch, {how}')

    def _fail(self, run: Run, reason: str) -> None:
        self.failures.append((run, reason))
        self._report(f'{run.name}: FAILED, {reason}; see {run.log}')

    def _report(self, text: str) -> None:
        left = len(self.waiting) + len(self._running)
        eta = ''
        if left and self._durations:
            seconds = sum(self._durations) / len(self._durations) * left / self.jobs
            eta = f'; about {seconds / 60:.0f} min left' if seconds >= 90 else f'; about {seconds:.0f} s left'
        self.say(f'[{self._done + len(self.failures)}/{self.total}] {text}{eta}')

    def _stop(self) -> None:
        """SIGTERM to all runs, SIGKILL to those still there after ``patience`` seconds; they are continued later."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for _, process, _, _ in self._running:
                if process.poll() is None:
                    os.killpg(process.pid, number)
            deadline = time.monotonic() + self.patience
            while time.monotonic() < deadline and any(job[1].poll() is None for job in self._running):
                time.sleep(0.05)
        for _, process, log, _ in self._running:
            process.wait()
            log.close()
        self._running.clear()
