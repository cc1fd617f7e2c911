"""What a person sees of a sweep: lines, and on a terminal bars below them."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ['Bars', 'Lines', 'Screen', 'screen']


class Screen(Protocol):
    """Where a sweep tells how far it is."""

    def say(self, text: str) -> None:
        """One line that stays."""

    def due(self) -> bool:
        """Whether it is time for :meth:`show`."""

    def show(self, done: int, failed: int, total: int, running: Mapping[str, float | None], eta: str) -> None:
        """The state of all runs.

        Args:
            done: runs that have a row.
            failed: runs that gave none.
            total: all runs.
            running: share that is done of each run that goes on, by its name; None where its log does not tell yet.
            eta: a phrase on the time that is left, or an empty string.
        """

    def close(self) -> None:
        """Nothing is shown any more."""


class Lines:
    """Lines only, as for a file."""

    def say(self, text: str) -> None:
        """Print the line at once."""
        print(text, flush=True)

    def due(self) -> bool:
        """Never."""
        return False

    def show(self, *state: object) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Bars:
    """A bar for the whole and one for each run that goes on, below the lines; for a terminal."""

    def __init__(self, interval: float = 0.5) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (
            TextColumn('{task.description}'),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn('{task.fields[note]}'),
        )
        self.interval, self._last = interval, 0.0
        self._progress = Progress(*columns, console=Console(highlight=False), auto_refresh=False)
        self._whole = self._progress.add_task('all runs', note='')
        self._tasks: dict[str, TaskID] = {}

    def say(self, text: str) -> None:
        """Print the line above the bars."""
        self._progress.console.print(text, markup=False, soft_wrap=True)

    def due(self) -> bool:
        """Twice a second."""
        return time.monotonic() - self._last >= self.interval

    def show(self, done: int, failed: int, total: int, running: Mapping[str, float | None], eta: str) -> None:
        """Draw the bars anew."""
        self._progress.start()  # not before: what goes wrong earlier leaves the terminal as it is
        self._last = time.monotonic()
        note = f'{done + failed}/{total}' + (f', {failed} failed' if failed else '') + eta
        self._progress.update(self._whole, total=total, completed=done + failed, note=note)
        for name in [name for name in self._tasks if name not in running]:
            self._progress.remove_task(self._tasks.pop(name))
        for name, share in running.items():
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=1.0, note='')
            self._progress.update(self._tasks[name], completed=share or 0.0)
        self._progress.refresh()

    def close(self) -> None:
        """Take the bars off the screen."""
        for task in (*self._tasks.values(), self._whole):
            self._progress.remove_task(task)
        self._progress.stop()


def screen() -> Screen:
    """Bars if a person looks on, lines otherwise."""
    return Bars() if sys.stdout.isatty() else Lines()
