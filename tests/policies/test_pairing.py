from collections import Counter
from math import factorial, sqrt

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies.pairing import PAIRINGS, derangement, flip, partners, permutation


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('kind', PAIRINGS)
@pytest.mark.parametrize('size', [1, 2, 3, 5, 8, 33])
def test_each_sample_is_a_partner_once(kind, size):
    for seed in range(5):
        found = partners(kind, size, rng(seed))
        assert found.dtype == torch.int64
        assert found.device.type == 'cpu'
        assert sorted(found.tolist()) == list(range(size))


@pytest.mark.parametrize('size', [2, 3, 4, 7, 16])
def test_a_derangement_is_one_cycle_so_nobody_meets_itself(size):
    for seed in range(50):
        found, at, length = derangement(size, rng(seed)).tolist(), 0, 0
        while length == 0 or at != 0:
            at, length = found[at], length + 1
        assert length == size


@pytest.mark.parametrize(('kind', 'size', 'outcomes'), [
    (derangement, 3, factorial(2)), (derangement, 4, factorial(3)), (permutation, 3, factorial(3)),
])  # fmt: skip
def test_all_outcomes_are_alike(kind, size, outcomes):
    count, generator = 4000, rng()
    seen = Counter(tuple(kind(size, generator).tolist()) for _ in range(count))
    assert len(seen) == outcomes
    share = 1 / outcomes
    for hits in seen.values():
        assert abs(hits - share * count) < 5 * sqrt(share * (1 - share) * count)


def test_flip_is_the_reverse_order():
    assert flip(5, rng()).tolist() == [4, 3, 2, 1, 0]
    assert flip(4, rng()).tolist() == [3, 2, 1, 0]


def test_flip_draws_nothing():
    generator = rng()
    before = generator.get_state()
    flip(6, generator)
    assert torch.equal(generator.get_state(), before)


def test_a_batch_of_one_has_only_itself():
    for kind in PAIRINGS:
        assert partners(kind, 1, rng()).tolist() == [0]


def test_an_unknown_pairing_is_named_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'derangement'"):
        partners('derangment', 4, rng())
