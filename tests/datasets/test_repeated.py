"""Repeated augmentation: who comes how often, on which rank, and augmented how."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.datasets import EpochBatchSampler, ImageFolder
from openmixup.datasets.loading import build_dataloader
from openmixup.datasets.repeated import RepeatedBatchSampler
from openmixup.errors import InputError
from openmixup.registry import DATA_SAMPLERS


def flat(sampler):
    return [index for batch in sampler for index in batch]


def test_an_epoch_has_its_usual_length_and_each_image_comes_three_times_in_a_row():
    sampler = RepeatedBatchSampler(90, 10, seed=4)
    indices = flat(sampler)
    assert len(sampler) == 9
    assert set(Counter(indices).values()) == {3}
    assert len(set(indices)) == 30
    assert indices[::3] == indices[1::3] == indices[2::3]
    assert indices[::3] == flat(EpochBatchSampler(90, 10, seed=4))[:30]
    sampler.set_epoch(1)
    other = set(flat(sampler))
    assert other != set(indices)
    shown = set(indices) | other
    for epoch in range(2, 20):
        sampler.set_epoch(epoch)
        shown |= set(flat(sampler))
    assert shown == set(range(90)), 'every image has its turn'


def test_the_copies_of_an_image_go_to_different_ranks():
    ranks = [flat(RepeatedBatchSampler(120, 8, rank=rank, world_size=3)) for rank in range(3)]
    assert ranks[0] == ranks[1] == ranks[2]
    assert len(ranks[0]) == len(set(ranks[0])) == 40
    four = [flat(RepeatedBatchSampler(120, 8, rank=rank, world_size=4)) for rank in range(4)]
    together = [index for step in zip(*four, strict=True) for index in step]
    assert together == flat(RepeatedBatchSampler(120, 8))


def test_one_repeat_is_the_plain_order():
    for rank in range(2):
        plain = EpochBatchSampler(33, 4, seed=2, rank=rank, world_size=2)
        once = RepeatedBatchSampler(33, 4, repeats=1, seed=2, rank=rank, world_size=2)
        for sampler in (plain, once):
            sampler.set_epoch(5)
        assert list(once) == list(plain)


@pytest.mark.parametrize('carry', [False, True])
def test_it_continues_in_the_middle_of_an_epoch(carry):
    whole = RepeatedBatchSampler(50, 6, rank=1, world_size=2, carry_copy=carry, drop_last=True)
    whole.set_epoch(3)
    batches = list(whole)
    assert len(batches) == len(whole) == 4
    assert {len(batch) for batch in batches} == {6}
    again = RepeatedBatchSampler(50, 6, rank=1, world_size=2, carry_copy=carry, drop_last=True)
    again.set_epoch(3, start_batch=2)
    assert list(again) == batches[2:]
    again.set_epoch(4)
    assert list(again) != batches


def test_the_copies_are_augmented_differently_and_by_key(tmp_path):
    """No two copies are cropped alike, in any epoch; the same seed gives the same crops."""
    pictures = np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        folder = tmp_path / 'ab'[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f'{number}.png')
    data = ImageFolder(tmp_path, size=16, val_fraction=0)
    sampler = RepeatedBatchSampler(6, 6, carry_copy=True)

    def crops():
        found = {}
        for epoch in range(4):
            sampler.set_epoch(epoch)
            data.set_epoch(epoch)
            (batch,) = sampler
            assert len({index % 6 for index in batch}) == 2
            for place, image in enumerate(data.__getitems__(batch)['inputs']):
                found[epoch, place] = bytes(image.flatten().tolist())
        return found

    first = crops()
    assert len(set(first.values())) == 24
    assert crops() == first
    plain = data.__getitems__(next(iter(RepeatedBatchSampler(6, 6))))['inputs']
    assert torch.equal(plain[0], plain[1]), 'without the number of the copy they are alike'


@pytest.mark.parametrize('wrong', [{'repeats': 0}, {'repeats': 2.0}, {'shuffle': False}, {'batch_size': 0}])
def test_it_refuses(wrong):
    with pytest.raises(InputError):
        RepeatedBatchSampler(**{'length': 10, 'batch_size': 2, **wrong})


def test_it_is_registered():
    made = DATA_SAMPLERS.build({'type': 'RepeatedBatchSampler', 'length': 9, 'batch_size': 3})
    assert len(flat(made)) == 9


@pytest.mark.parametrize('wrong', [0, -1, 1.5, '3', None])
def test_a_loader_refuses_what_is_no_number_of_copies(wrong):
    data = torch.utils.data.TensorDataset(torch.arange(8))
    with pytest.raises(InputError, match=r'repeats=.*: give a whole number of at least 1'):
        build_dataloader(data, 4, shuffle=True, repeats=wrong)
