"""What paired differences over a few seeds allow to say: two tests, their correction, and groups that no test parts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ['LEVEL', 'Comparison', 'compare', 'groups', 'holm', 'ranks', 'sign_flip_p', 'student_p', 'student_quantile']

LEVEL = 0.05  # of a statement, after the correction
DIGITS = 6  # of results in the files
ROUNDING = 2  # units of the last digit by which equal differences of two rounded results can lie apart
MOST_FLIPPED = 40  # differences whose sign flips are all counted: two lists of 2**20 sums


@dataclass(frozen=True)
class Comparison:
    """The differences of two policies over the seeds that both have.

    Attributes:
        n: number of pairs.
        mean: mean difference in points.
        sd: sample standard deviation; None for one pair.
        low: lower end of the 95 % interval of the mean by Student's t; None where ``t_p`` is.
        high: its upper end.
        t_p: two-sided p of the paired t-test. None for one pair, and if all differences are the same, of which the test
            would say the impossible with certainty.
        flip_p: two-sided p of the exact sign-flip test; None for one pair.
        flip_least: the least p that this test can give with so many pairs.
    """

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    t_p: float | None = None
    flip_p: float | None = None
    flip_least: float | None = None


def compare(differences: Sequence[float]) -> Comparison:
    """Compare two policies by their paired differences.

    Args:
        differences: one for each seed that both have, in points; at least one.

    Returns:
        The mean, its interval and both tests, as far as there are enough pairs.
    """
    values = [round(value, DIGITS) for value in differences]
    n, mean = len(values), statistics.fmean(values)
    if n < 2:
        return Comparison(n, mean)
    sd = statistics.stdev(values)
    known = {'sd': sd, 'flip_p': sign_flip_p(values), 'flip_least': 2.0 ** (1 - n)}
    if round((max(values) - min(values)) * 10**DIGITS) <= ROUNDING:  # as equal as can be told
        return Comparison(n, mean, **known)
    error = sd / math.sqrt(n)
    half = student_quantile(n - 1) * error
    return Comparison(n, mean, low=mean - half, high=mean + half, t_p=student_p(mean / error, n - 1), **known)


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of the exact permutation test: how many of all choices of signs give a sum as far from zero.

    If the two policies were alike, each difference could as well have had the other sign; no law of the differences is
    assumed. With n pairs the p is at least 2 / 2**n: 0.25 for 3, 0.0625 for 5, 0.031 for 6.

    Args:
        differences: the pairs, of results with six decimals; sums that may differ by their rounding alone are equal.

    Returns:
        The p; None for fewer than 2 or more than 40 pairs.
    """
    n = len(differences)
    if not 2 <= n <= MOST_FLIPPED:
        return None
    units = [round(abs(value) * 10**DIGITS) for value in differences]
    observed = abs(sum(round(value * 10**DIGITS) for value in differences))
    least = observed - ROUNDING * n
    # all sums of one half of the pairs against the sorted ones of the other: 2**(n / 2) steps instead of 2**n
    one, other = _signed_sums(units[: n // 2]), np.sort(_signed_sums(units[n // 2 :]))
    upper = len(other) - np.searchsorted(other, least - one, side='left')
    lower = np.searchsorted(other, -least - one, side='right')
    count = 2**n if least <= 0 else int(upper.sum()) + int(lower.sum())
    return count / 2**n


def _signed_sums(units: Sequence[int]) -> np.ndarray:
    sums = np.zeros(1, dtype=np.int64)
    for unit in units:
        sums = np.concatenate([sums - unit, sums + unit])
    return sums


def student_p(t: float, degrees: int) -> float:
    """Two-sided tail of Student's t, by the finite sums for whole degrees of freedom.

    They are those of Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4. The error is
    about 1e-15, absolute.

    Args:
        t: the statistic.
        degrees: degrees of freedom, at least 1.
    """
    angle = math.atan2(abs(t), math.sqrt(degrees))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term = total = math.cos(angle) if odd else 1.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= square * (k - 1) / k
        total += term
    if degrees == 1:
        total = 0.0
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(1.0, max(0.0, 1.0 - inside))


def student_quantile(degrees: int, tail: float = LEVEL) -> float:
    """The t whose two-sided tail is ``tail``.

    Args:
        degrees: degrees of freedom, at least 1.
        tail: above 1e-9 and below 1.
    """
    low, high = 0.0, 1.0
    while student_p(high, degrees) > tail:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, degrees) > tail else (low, middle)
    return (low + high) / 2


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by the method of Holm (1979), in the order given.

    The k-th smallest of m is multiplied by m - k + 1, kept from falling below those before it, and cut at 1. The chance
    that any true hypothesis is rejected at a level is then at most this level.
    """
    corrected, largest = [0.0] * len(values), 0.0
    for place, k in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - place) * values[k]))
        corrected[k] = largest
    return corrected


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value, 1 for the largest; those whose rounding alone may part them share the mean of theirs."""
    slack = 1.5 * 10**-DIGITS  # two means of rounded results, which are each off by half a unit at most
    return [
        1
        + sum(other > value + slack for other in values)
        + (sum(abs(other - value) <= slack for other in values) - 1) / 2
        for value in values
    ]


def groups(count: int, apart: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """The longest runs of neighbours in an order of which no two are told apart.

    Args:
        count: number of items, in their order.
        apart: whether the items at two places, the first before the second, are told apart.

    Returns:
        First and last place of each run of at least two that lies in no longer one.
    """
    found: list[tuple[int, int]] = []
    for first in range(count):
        last = first
        while last + 1 < count and not any(apart(place, last + 1) for place in range(first, last + 1)):
            last += 1
        if last > first and (not found or found[-1][1] < last):
            found.append((first, last))
    return found
