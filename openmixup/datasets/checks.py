"""Checks of arguments that data sets and transforms share."""

from __future__ import annotations

from collections.abc import Sequence

from openmixup.errors import InputError, did_you_mean

__all__ = ['check_choice']


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is not among the choices, with the nearest one as a hint.

    Raises:
        InputError: the value is none of ``choices``.
    """
    if value not in choices:
        raise InputError(f'{name}={value!r} is not one of {", ".join(choices)}{did_you_mean(str(value), choices)}.')
