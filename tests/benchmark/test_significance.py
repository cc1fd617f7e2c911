"""The mathematics of the statements, against published tables, closed forms, textbook data and counting."""

import itertools
import math

import numpy as np
import pytest

from openmixup.benchmark.significance import compare, groups, holm, ranks, sign_flip_p, student_p, student_quantile

# Darwin's cross- and self-fertilised maize, in eighths of an inch; Fisher, The Design of Experiments (1935), section 21
MAIZE = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)
# Student, The probable error of a mean (1908): hours of sleep gained with one drug over the other
SLEEP = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)


@pytest.mark.parametrize(
    ('degrees', 'tail', 'critical'),
    [
        (1, 0.05, 12.706), (2, 0.05, 4.303), (3, 0.05, 3.182), (4, 0.05, 2.776), (5, 0.05, 2.571), (9, 0.05, 2.262),
        (30, 0.05, 2.042), (1, 0.01, 63.657), (2, 0.01, 9.925), (4, 0.001, 8.610), (7, 0.01, 3.499), (120, 0.05, 1.980),
    ],
)  # fmt: skip
def test_critical_values_are_those_of_the_tables(degrees, tail, critical):
    assert student_quantile(degrees, tail) == pytest.approx(critical, abs=6e-4)
    assert student_p(critical, degrees) == pytest.approx(tail, rel=2e-3)


@pytest.mark.parametrize('t', [0.0, 0.3, 1.0, 2.5, 40.0])
def test_small_degrees_have_closed_forms(t):
    assert student_p(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), abs=1e-14)
    assert student_p(-t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-14)


@pytest.mark.parametrize('degrees', range(1, 13))
def test_the_tail_is_the_integral_of_the_density(degrees):
    x = np.linspace(-1.7, 1.7, 20_001)
    log_constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    density = np.exp(log_constant - (degrees + 1) / 2 * np.log1p(x * x / degrees))
    inside = float(((density[1:] + density[:-1]) / 2).sum() * (x[1] - x[0]))
    assert student_p(1.7, degrees) == pytest.approx(1 - inside, abs=1e-8)


def test_fishers_maize():
    """Of the 32,768 choices of signs 863 give a sum of 314 or more, and as many one of -314 or less; t is 2.148."""
    found = compare(MAIZE)
    assert found.flip_p == 2 * 863 / 32768
    assert found.flip_least == 2 / 32768
    assert found.t_p == pytest.approx(0.0497, abs=1e-4)
    assert found.mean == pytest.approx(314 / 15)


def test_students_sleep():
    found = compare(SLEEP)
    assert found.t_p == pytest.approx(0.002833, abs=1e-6)
    assert (found.n, found.mean) == (10, pytest.approx(1.58))
    assert (found.low, found.high) == (pytest.approx(0.7001, abs=1e-4), pytest.approx(2.4599, abs=1e-4))


@pytest.mark.parametrize('n', range(2, 10))
def test_sign_flips_are_counted(n):
    draws = np.random.default_rng(n)
    for values in (draws.normal(0.3, 1.0, n).round(2), draws.integers(-2, 4, n) / 10):  # the second with many ties
        exact = [round(value * 100) for value in values]
        choices = itertools.product((1, -1), repeat=n)
        sums = [abs(sum(sign * value for sign, value in zip(signs, exact, strict=True))) for signs in choices]
        assert sign_flip_p(values.tolist()) == sum(s >= abs(sum(exact)) for s in sums) / 2**n


def test_few_pairs_allow_little():
    assert [sign_flip_p([1.0 + k for k in range(n)]) for n in (2, 3, 5, 6)] == [0.5, 0.25, 0.0625, 0.03125]
    assert sign_flip_p([1.0]) is None
    assert sign_flip_p([1.0] * 40) == 2.0**-39
    assert sign_flip_p([1.0] * 41) is None
    one = compare([0.7])
    assert (one.n, one.mean, one.sd, one.low, one.t_p, one.flip_p) == (1, 0.7, None, None, None, None)


def test_equal_differences_are_no_certainty():
    """84.1 - 83.7 and 83.9 - 83.5 differ in the last bit only, which is no spread to divide by."""
    found = compare([84.1 - 83.7, 83.9 - 83.5])
    assert (found.t_p, found.low, found.sd, found.flip_p) == (None, None, 0.0, 0.5)


def accuracies(right, images):
    """In percent, as the files keep them."""
    return [round(100 * count / images, 6) for count in right]


def gains(one, other, images):
    pairs = zip(accuracies(one, images), accuracies(other, images), strict=True)
    return [mine - theirs for mine, theirs in pairs]


def test_one_image_more_each_time_is_no_certainty_where_an_image_is_no_round_share():
    """Rounded to six decimals, one of 797 images makes gains of 0.125470 and of 0.125471."""
    found = compare(gains([778, 779, 780], [777, 778, 779], 797))
    assert (found.t_p, found.low) == (None, None)
    assert compare(gains([778, 779, 781], [777, 778, 779], 797)).t_p is not None


def test_sign_flips_count_images_and_not_what_rounding_makes_of_them():
    draws = np.random.default_rng(0)
    for _ in range(200):
        one, other = draws.integers(770, 797, 6), draws.integers(770, 797, 6)
        exact = (one - other).tolist()
        sums = [abs(np.dot(signs, exact)) for signs in itertools.product((1, -1), repeat=6)]
        expected = sum(each >= abs(sum(exact)) for each in sums) / 64
        assert sign_flip_p(gains(one.tolist(), other.tolist(), 797)) == expected


def test_holm():
    """The example of R's p.adjust: the smallest times 4, the next times 3, never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_ranks_are_shared_by_equals():
    assert ranks([90.0, 95.0, 90.0, 80.0]) == [2.5, 1.0, 2.5, 4.0]
    means = [np.mean(accuracies(right, 797)) for right in ([777, 779], [778, 778], [778, 779])]
    assert means[0] != means[1]  # by rounding alone
    assert ranks(means) == [2.5, 2.5, 1.0]


def test_groups_are_the_longest_runs_without_a_parted_pair():
    far = {(0, 2), (0, 3), (1, 3), (0, 4), (1, 4), (2, 4), (3, 4)}
    assert groups(5, lambda one, other: (one, other) in far) == [(0, 1), (1, 2), (2, 3)]
    assert groups(3, lambda one, other: False) == [(0, 2)]
    assert groups(3, lambda one, other: True) == []
    assert groups(0, lambda one, other: True) == []
