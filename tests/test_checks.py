"""What counts as a number, a whole number and a range, with the limits themselves inside."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from openmixup.checks import is_number, is_range, is_whole

NEITHER = [
    None, True, False, '1', 1j, Fraction(1), Decimal(1), np.bool_(True), np.float32(1), np.int64(1), np.ones(2),
    torch.tensor(1), torch.ones(2), [1], (1, 1), {}, int, math.nan, math.inf, -math.inf, np.float64('nan'),
]  # fmt: skip


@pytest.mark.parametrize('value', NEITHER, ids=repr)
def test_what_is_no_number(value):
    assert not is_number(value)
    assert not is_whole(value)
    assert not is_range((0, value))
    assert not is_range((value, 1))


def test_numbers_are_ints_and_finite_floats():
    assert all(map(is_number, (0, -3, 0.0, -0.5, 1e-320, -1.7e308, np.float64(0.5), 10**308)))
    assert not is_number(10**309)  # no float can hold it
    assert not is_number(-(10**309))
    assert not is_number(10**309, 0)
    assert not is_number(math.inf, 0, math.inf)


def test_whole_numbers_are_ints():
    assert all(map(is_whole, (0, -3, 10**309)))
    assert not any(map(is_whole, (0.0, 2.0, -0.5, np.float64(2))))


@pytest.mark.parametrize(
    ('low', 'high', 'inside', 'outside'),
    [
        (0, 1, (0, 0.0, -0.0, 5e-324, 0.5, 1, 1.0), (-5e-324, -1, 1 + 2**-52, 2)),
        (0.01, math.inf, (0.01, 1, 1e308), (0.009, 0, -1)),
        (-math.inf, -2, (-2, -2.5, -1e308), (-1.9, 0, 3)),
        (3, 3, (3, 3.0), (2.9, 3.1)),
        (1, 0, (), (0, 0.5, 1)),
    ],
)
def test_numbers_within_limits(low, high, inside, outside):
    assert [value for value in (*inside, *outside) if is_number(value, low, high)] == list(inside)


def test_a_single_limit_is_the_lower_one():
    assert [value for value in range(-2, 4) if is_number(value, 1)] == [1, 2, 3]
    assert [value for value in range(-2, 4) if is_whole(value, 1)] == [1, 2, 3]
    assert [value for value in range(-2, 4) if is_whole(value, high=1)] == [-2, -1, 0, 1]


def test_whole_numbers_within_limits():
    assert [value for value in range(-3, 9) if is_whole(value, -1, 4)] == [-1, 0, 1, 2, 3, 4]
    assert not is_whole(2.0, 1, 4)
    assert not is_whole(True, 0, 4)


def test_ranges_are_lists_or_tuples_of_two_numbers_that_do_not_fall():
    assert all(map(is_range, ((0, 1), [0.5, 0.5], (-2, 1.5), torch.Size((2, 3)))))
    assert not any(map(is_range, ((1, 0), (0,), (0, 1, 2), (), 0.5, 'ab', {0: 1, 1: 2}, range(2), np.array([0, 1]))))


def test_both_ends_of_a_range_lie_within_the_limits():
    given = [(0, 1), (0.1, 0.9), (0.1, 1), (-0.1, 0.5), (0.5, 1.1), (-1, 2)]
    assert [value for value in given if is_range(value, 0, 1)] == [(0, 1), (0.1, 0.9), (0.1, 1)]
    assert [value for value in given if is_range(value, 0.1)] == [(0.1, 0.9), (0.1, 1), (0.5, 1.1)]
