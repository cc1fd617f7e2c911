"""What a check found, and what is done with a check that stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from openmixup.errors import InputError

__all__ = ['Effort', 'Finding', 'Say', 'attempt', 'brief', 'counted', 'duration', 'size_text', 'worst']

LEVELS = ('ok', 'warn', 'FAIL')


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, one line for the user.

    Args:
        name: what was looked at.
        level: 'ok'; 'warn' where a run works but is slow, short of something or may go wrong later; 'FAIL' where it
            stops or gives wrong results.
        found: what was measured, with its unit.
        expected: what was expected; empty if ``found`` says it.
        remedy: what to do; shown unless all is well.
        values: the figures behind ``found``, for machines.
    """

    name: str
    level: str
    found: str
    expected: str = ''
    remedy: str = ''
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        expected = f'; expected {self.expected}' if self.expected else ''
        remedy = f': {self.remedy}' if self.remedy and self.level != 'ok' else ''
        end = '' if self.level == 'ok' or f'{self.found}{expected}{remedy}'.endswith('.') else '.'
        return f'{self.level:5s} {self.name:16s} {self.found}{expected}{remedy}{end}'


Say = Callable[[Finding], None]


@dataclass(frozen=True)
class Effort:
    """How much to look at.

    Args:
        quick: try no step and time nothing.
        full: look at all image files.
        processes: processes of the run on this machine.
        images: files that are drawn from each part of the data.
        steps: training steps that are timed.
        seconds: after which no further step is begun.
    """

    quick: bool = False
    full: bool = False
    processes: int = 1
    images: int = 200
    steps: int = 10
    seconds: float = 30.0


def worst(findings: list[Finding]) -> str:
    """The gravest level among ``findings``; 'ok' if there are none."""
    return max((finding.level for finding in findings), key=LEVELS.index, default='ok')


def attempt(name: str, check: Callable[..., Iterator[Finding]], *args: Any, level: str = 'FAIL') -> Iterator[Finding]:
    """The findings of a check; an error in it is one more.

    Args:
        name: of the finding that an error becomes.
        check: makes findings.
        *args: what ``check`` gets.
        level: of an error that is no mistake of the user: 'FAIL' where a run would meet it too.
    """
    try:
        yield from check(*args)
    except InputError as error:
        yield Finding(name, 'FAIL', str(error))
    except Exception as error:
        remedy = 'a run would stop here too' if level == 'FAIL' else 'it could not be measured'
        yield Finding(name, level, f'{type(error).__name__}: {brief(error)}', 'no error', remedy)


def brief(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0][:200].rstrip('.')


def counted(number: int, what: str) -> str:
    """``'1 process'``, ``'2 processes'``."""
    return f'{number:,} {what}' if number == 1 else f'{number:,} {what}{"es" if what.endswith("s") else "s"}'


def duration(seconds: float) -> str:
    """A time in the unit that fits it: ``'40 s'``, ``'1.5 h'``."""
    for unit, length in (('days', 86400), ('h', 3600), ('min', 60)):
        if seconds >= 1.5 * length:
            return f'{seconds / length:.1f} {unit}'
    return f'{seconds:.0f} s'


def size_text(count: float) -> str:
    """A number of bytes in MiB or GiB: ``'17.3 MiB'``."""
    return f'{count / 2**30:.1f} GiB' if count >= 2**30 else f'{count / 2**20:.1f} MiB'
