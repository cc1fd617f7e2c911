import itertools

import pytest
import torch

from openmixup.datasets import EpochBatchSampler, InfiniteBatchSampler
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
