"""The one exception for a mistake that the user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ['InputError', 'did_you_mean', 'printable']


class InputError(ValueError):
    """A mistake in a config, an argument, a file or a label.

    Its message is one sentence for the user: the value that was found, what was expected and the remedy. The
    command-line tools print it without a traceback and exit with code 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'alpha'?"`` for the nearest known name, or an empty string."""
    match = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f'; did you mean {match[0]!r}?' if match else ''


def printable(text: object, most: int = 60) -> str:
    """``text`` of a stranger for one line of a terminal: what would steer it is escaped, a long one is cut."""
    shown = ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in str(text)[: most + 1])
    return shown if len(shown) <= most else f'{shown[:most]}...'
