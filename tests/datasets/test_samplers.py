import itertools

import pytest
import torch

from openmixup.datasets import EpochBatchSampler, InfiniteBatchSampler
from openmixup.datasets.samplers import FIRST_BANK_EPOCH, BankSampler
from openmixup.errors import InputError


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


def test_an_epoch_has_each_sample_once_and_epochs_differ():
    sampler = EpochBatchSampler(23, 4, seed=3)
    first = list(sampler)
    assert sorted(flat(first)) == list(range(23))
    assert len(first) == len(sampler) == 6
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert flat(sampler) != flat(first)
    assert list(EpochBatchSampler(23, 4, seed=3)) == first
    assert list(EpochBatchSampler(23, 4, seed=4)) != first


def test_a_last_batch_of_one_is_kept():
    assert [len(b) for b in EpochBatchSampler(9, 4)] == [4, 4, 1]
    assert [len(b) for b in EpochBatchSampler(9, 4, drop_last=True)] == [4, 4]


def test_start_batch_is_skipping():
    sampler = EpochBatchSampler(23, 4)
    sampler.set_epoch(5)
    whole = list(sampler)
    for start in range(7):
        sampler.set_epoch(5, start_batch=start)
        assert list(sampler) == whole[start:]
    sampler.set_epoch(5)
    assert list(sampler) == whole
    assert list(EpochBatchSampler(23, 4, start_batch=2)) == list(EpochBatchSampler(23, 4))[2:]


@pytest.mark.parametrize('length', [1, 2, 7, 24, 25])
def test_training_ranks_are_disjoint_but_for_the_wrap(length):
    world = 3
    shares = [list(EpochBatchSampler(length, 4, rank=r, world_size=world)) for r in range(world)]
    assert len({tuple(map(len, share)) for share in shares}) == 1
    seen = flat(flat(shares))
    assert set(seen) == set(range(length))
    assert len(seen) == -(-length // world) * world
    order = flat(EpochBatchSampler(length, length))
    assert [flat(share)[0] for share in shares] == [order[r % length] for r in range(world)]


def test_drop_last_is_the_same_on_every_rank():
    samplers = [EpochBatchSampler(29, 4, rank=r, world_size=3, drop_last=True) for r in range(3)]
    shares = [list(s) for s in samplers]
    assert [[len(b) for b in share] for share in shares] == [[4, 4]] * 3
    assert [len(s) for s in samplers] == [2, 2, 2]
    assert len(set(flat(flat(shares)))) == 24


@pytest.mark.parametrize('length', [1, 2, 7, 24, 25])
def test_evaluation_ranks_cover_each_sample_exactly_once(length):
    samplers = [EpochBatchSampler(length, 4, shuffle=False, rank=r, world_size=3) for r in range(3)]
    shares = [list(s) for s in samplers]
    assert sorted(flat(flat(shares))) == list(range(length))
    assert [len(s) for s in samplers] == [len(share) for share in shares]


def test_infinite_stream_is_the_epochs_one_after_the_other():
    epochs = []
    for epoch in range(5):
        sampler = EpochBatchSampler(7, 7, seed=2)
        sampler.set_epoch(epoch)
        epochs += flat(sampler)
    stream = list(itertools.islice(InfiniteBatchSampler(7, 4, seed=2), 8))
    assert flat(stream) == epochs[:32]
    ranks = [list(itertools.islice(InfiniteBatchSampler(7, 4, seed=2, rank=r, world_size=2), 4)) for r in (0, 1)]
    assert flat(ranks[0]) == epochs[0:32:2]
    assert flat(ranks[1]) == epochs[1:32:2]
    # a rank may skip whole epochs when the ranks outnumber the samples
    many = [flat(itertools.islice(InfiniteBatchSampler(2, 1, rank=r, world_size=5), 4)) for r in range(5)]
    whole = flat(itertools.islice(InfiniteBatchSampler(2, 1), 20))
    assert [many[i % 5][i // 5] for i in range(20)] == whole


@pytest.mark.parametrize('start', [0, 1, 2, 5, 9])
def test_infinite_start_batch_is_skipping(start):
    kwargs = {'seed': 1, 'rank': 1, 'world_size': 2, 'carry_epoch': True}
    whole = list(itertools.islice(InfiniteBatchSampler(7, 4, **kwargs), 20))
    assert list(itertools.islice(InfiniteBatchSampler(7, 4, start_batch=start, **kwargs), 20 - start)) == whole[start:]


def test_infinite_carries_the_epoch_if_asked():
    plain = flat(itertools.islice(InfiniteBatchSampler(5, 3), 10))
    carried = flat(itertools.islice(InfiniteBatchSampler(5, 3, carry_epoch=True), 10))
    assert [i % 5 for i in carried] == plain
    assert [i // 5 for i in carried] == [k // 5 for k in range(30)]


@pytest.mark.parametrize('cls', [EpochBatchSampler, InfiniteBatchSampler])
@pytest.mark.parametrize(
    'kwargs', [{'length': 0}, {'batch_size': 0}, {'rank': 2, 'world_size': 2}, {'world_size': 0}, {'start_batch': -1}]
)
def test_numbers_out_of_range_are_refused(cls, kwargs):
    with pytest.raises(InputError):
        cls(**({'length': 8, 'batch_size': 2} | kwargs))


def test_drop_last_without_a_batch_is_refused():
    with pytest.raises(InputError, match='leaves no batch'):
        EpochBatchSampler(7, 4, world_size=2, drop_last=True)


def test_the_global_random_state_is_untouched():
    before = torch.get_rng_state()
    list(EpochBatchSampler(9, 2))
    next(iter(InfiniteBatchSampler(9, 2)))
    assert torch.equal(before, torch.get_rng_state())


def banks(sampler, weights=None, size=None, take=None, **kwargs):
    """What the second stream adds to each batch."""
    weights = torch.arange(sampler.length).double() if weights is None else weights
    both = list(itertools.islice(BankSampler(sampler, weights, size, **kwargs), take))
    own = list(itertools.islice(iter(sampler), take))
    assert [batch[: len(alone)] for batch, alone in zip(both, own, strict=True)] == own
    return [batch[len(alone) :] for batch, alone in zip(both, own, strict=True)]


def test_a_bank_has_the_size_of_its_batch_or_its_own():
    assert [len(b) for b in banks(EpochBatchSampler(23, 4))] == [4, 4, 4, 4, 4, 3]
    assert [len(b) for b in banks(EpochBatchSampler(23, 4), size=7)] == [7] * 6
    assert [len(b) for b in banks(InfiniteBatchSampler(7, 4), take=5)] == [4] * 5
    assert len(BankSampler(EpochBatchSampler(23, 4), torch.ones(23))) == 6


def test_a_bank_draws_by_weight_and_never_what_has_none(monkeypatch):
    weights = torch.tensor([0.0, 1, 0, 3, 0])
    drawn = flat(flat(banks(EpochBatchSampler(5, 5, seed=seed), weights, 20)) for seed in range(200))
    assert set(drawn) == {1, 3}
    assert drawn.count(3) / len(drawn) == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 4000) ** 0.5)
    for point, index in ((0.0, 1), (0.25, 3), (1 - 2**-53, 3)):  # the ends of the intervals
        monkeypatch.setattr(torch, 'rand', lambda n, p=point, **_: torch.full((n,), p, dtype=torch.float64))
        assert set(flat(banks(EpochBatchSampler(5, 5), weights))) == {index}


@pytest.mark.parametrize('size', [None, 7])
@pytest.mark.parametrize('world', [1, 3])
def test_a_bank_can_be_cut_anywhere(size, world):
    sampler = EpochBatchSampler(23, 4, seed=1, rank=world - 1, world_size=world)
    bank = BankSampler(sampler, torch.ones(23), size)
    bank.set_epoch(5)
    whole = list(bank)
    for start in range(len(whole) + 1):
        bank.set_epoch(5, start_batch=start)
        assert list(bank) == whole[start:]
    bank.set_epoch(6)
    assert list(bank) != whole
    stream = InfiniteBatchSampler(23, 4, seed=1, rank=world - 1, world_size=world)
    bank = BankSampler(stream, torch.ones(23), size)
    whole = list(itertools.islice(bank, 20))
    for start in (1, 5, 6, 13):
        bank.start_batch = start
        assert list(itertools.islice(bank, 20 - start)) == whole[start:]


@pytest.mark.parametrize('length', [1, 2, 7, 25])
@pytest.mark.parametrize('size', [None, 5])
def test_ranks_and_epochs_take_different_draws(length, size):
    """The number that each draw carries is its place in the whole stream; no two draws may share one."""
    numbers, epochs = [], 4
    for rank in range(3):
        sampler = EpochBatchSampler(length, 2, seed=3, rank=rank, world_size=3)
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            drawn = flat(banks(sampler, torch.ones(length), size, carry_epoch=True))
            numbers += [index // length + epoch for index in drawn]  # a data set adds the epoch that it was told
            plain = flat(banks(sampler, torch.ones(length), size))
            assert [index % length for index in drawn] == plain
    assert len(set(numbers)) == len(numbers) >= epochs * length
    assert min(numbers) == FIRST_BANK_EPOCH
    streams = [
        flat(
            banks(InfiniteBatchSampler(length, 2, rank=r, world_size=3), torch.ones(length), size, 9, carry_epoch=True)
        )
        for r in range(3)
    ]
    carried = [index // length for index in flat(streams)]
    assert len(set(carried)) == len(carried)


def test_a_bank_is_drawn_by_its_own_key():
    """Not the shuffled order: equal weights still draw with replacement; and another seed draws otherwise."""
    drawn = flat(banks(EpochBatchSampler(50, 50, seed=2), torch.ones(50)))
    assert len(set(drawn)) < 45
    assert drawn != flat(banks(EpochBatchSampler(50, 50, seed=3), torch.ones(50)))
    shifted = EpochBatchSampler(50, 50, seed=2)
    shifted.set_epoch(1)
    assert drawn != flat(banks(shifted, torch.ones(50)))
    before = torch.get_rng_state()
    banks(shifted, torch.ones(50))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize('weights', [[1.0], [0.0, 0, 0], [1.0, -1, 1], [1.0, float('nan'), 1], [float('inf'), 1, 1]])
def test_weights_that_cannot_be_drawn_by_are_refused(weights):
    with pytest.raises(InputError, match='give one finite number of at least 0 for each'):
        BankSampler(EpochBatchSampler(3, 2), torch.tensor(weights))
