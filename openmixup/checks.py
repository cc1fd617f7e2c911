"""What is asked of most arguments: whether they are numbers, whole numbers or ranges, and within their limits.

A bool is an int to Python and none of these here; NaN and infinity are no numbers.
"""

from __future__ import annotations

import math
import sys
from typing import TypeGuard

__all__ = ['is_number', 'is_range', 'is_whole']


def is_number(value: object, low: float = -math.inf, high: float = math.inf) -> TypeGuard[float]:
    """Whether it is an int or a finite float with ``low`` <= it <= ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max and low <= value <= high  # an int may be too large for any float


def is_whole(value: object, low: float = -math.inf, high: float = math.inf) -> TypeGuard[int]:
    """Whether it is an int with ``low`` <= it <= ``high``; 2.0 is none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_range(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether it is a list or tuple of two numbers with ``low`` <= the first <= the second <= ``high``."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(is_number(number, low, high) for number in value) and value[0] <= value[1]
