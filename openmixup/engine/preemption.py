"""A run that is told to end: SIGTERM or SIGUSR1 saves it at the next safe point, on all processes at the same one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from openmixup.checks import is_number
from openmixup.errors import InputError

__all__ = ['EXIT_CODE', 'GRACE', 'Preempted', 'Preemption']

EXIT_CODE = 143  # 128 + SIGTERM, as a shell reports it
GRACE = 60.0  # seconds from the signal to a safe point
SIGNALS = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1') if hasattr(signal, name))


class Preempted(SystemExit):
    """The run was told to end and was saved; the process ends with exit code 143 unless this is caught."""

    def __init__(self, message: str = '') -> None:
        super().__init__(EXIT_CODE)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Preemption:
    """Notes the signals that tell a run to end, and says at safe points whether to.

    A signal that comes while the only process waits for data ends the run at once by :class:`Preempted`: nothing is
    half done then. Otherwise the loops ask :meth:`due` after each step and each batch of an evaluation. With several
    processes a signal to one of them is a signal to all: they exchange the news in the background and all learn of it
    at the same point, one step later.

    A process that reaches no such point in ``grace`` seconds, because it waits for another one or for data, ends with
    exit code 143 and without saving; the checkpoints that are there stay. Writing the checkpoint takes what it takes.

    Args:
        grace: seconds from the signal to a safe point, above 0.
    """

    def __init__(self, grace: float = GRACE) -> None:
        if not is_number(grace) or grace <= 0:
            raise InputError(f'env_cfg.preemption_grace={grace!r}: expected a number of seconds above 0.')
        self.grace = grace
        self.signal: int | None = None
        self._at_rest = False
        self._timer: threading.Timer | None = None
        self._group: Any = None
        self._news: tuple[Any, torch.Tensor] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside; in another thread than the main one, which gets none, nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        if dist.is_initialized() and dist.get_world_size() > 1 and self._group is None:
            self._group = dist.new_group(backend='gloo')  # of its own, on the CPU: nothing waits for a GPU
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.stop_timer()

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.signal is not None:
            return
        self.signal = number
        if self._at_rest:
            raise Preempted(self.name)
        self._timer = threading.Timer(self.grace, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def _give_up(self) -> None:
        sys.stderr.write(
            f'{self.name}: no step ended within {self.grace:g} s (env_cfg.preemption_grace), so that nothing was '
            'saved; --resume continues from the last checkpoint.\n'
        )
        sys.stderr.flush()
        os._exit(EXIT_CODE)

    def stop_timer(self) -> None:
        """The safe point is reached; what follows may take its time."""
        if self._timer is not None:
            self._timer.cancel()

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Inside, nothing is half done: a signal ends the wait of a single process by :class:`Preempted`."""
        if self._group is not None:
            yield
            return
        self._at_rest = True
        try:
            if self.signal is not None:
                raise Preempted(self.name)
            yield
        finally:
            self._at_rest = False

    def due(self) -> bool:
        """Whether the run is to end here; with several processes all must ask, and all get the same answer."""
        if self._group is None:
            return self.signal is not None
        told = False
        if self._news is not None:
            work, flag = self._news
            work.wait()
            told = bool(flag)
        flag = torch.tensor([self.signal is not None], dtype=torch.int32)
        self._news = dist.all_reduce(flag, dist.ReduceOp.MAX, self._group, async_op=True), flag
        return told

    def pause(self) -> None:
        """A safe point.

        Raises:
            Preempted: the run is to end here.
        """
        if self.due():
            raise Preempted('another process was told to end' if self.signal is None else self.name)

    @property
    def name(self) -> str:
        """Of the signal that came."""
        return signal.Signals(self.signal or signal.SIGTERM).name

    def wait_for_all(self) -> None:
        """Let no process end before the first one has written the checkpoint: the others would be taken for dead."""
        if self._group is not None:
            if self._news is not None:
                self._news[0].wait()
                self._news = None
            dist.barrier(self._group)
