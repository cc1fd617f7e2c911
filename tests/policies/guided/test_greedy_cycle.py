"""The greedy cycle of GuidedMixup against plain loops."""

import numpy as np
import pytest
import torch

from openmixup.policies.guided.greedy_cycle import distances, far_partners, groups


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def some_maps(size, pixels=20, seed=0):
    return torch.rand(size, pixels, generator=rng(seed)).pow(4).softmax(1)


def distance(one, two, kind):
    if kind == 'cosine':
        return 1 - (one * two).sum() / np.sqrt((one**2).sum() * (two**2).sum())
    return np.sqrt(((one - two) ** 2).sum()) if kind == 'l2' else np.abs(one - two).sum()


def cycle(maps, members, kind):
    """Partner by image of one group, in plain loops."""
    maps = maps.double().numpy()
    table = {(i, j): distance(maps[i], maps[j], kind) for i in members for j in members if i != j}
    first = at = max(table, key=table.get)[0]
    found, open_ = {}, set(members) - {first}
    while open_:
        found[at] = max(open_, key=lambda other: table[at, other])
        at = found[at]
        open_ -= {at}
    return found | {at: first}


@pytest.mark.parametrize('kind', ['l2', 'l1', 'cosine'])
@pytest.mark.parametrize(('size', 'most'), [(2, 8), (3, 8), (9, 9), (10, 3), (11, 4), (7, 3), (5, 3), (40, 16)])
def test_each_group_is_one_cycle_to_the_farthest_image_not_yet_met(size, most, kind):
    maps, members = some_maps(size, seed=size), groups(size, most, rng())
    expected = {}
    for group in members.tolist():
        expected |= cycle(maps, [member for member in group if member < size], kind)
    assert dict(enumerate(far_partners(maps, members, kind).tolist())) == expected


def test_the_cycle_of_four_maps_by_hand():
    """0 and 3 are farthest apart; from 0 the walk goes to 3, from there to 1, then 2, and back."""
    maps = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    assert far_partners(maps, groups(4, 8, rng())).tolist() == [3, 2, 0, 1]


@pytest.mark.parametrize(('size', 'most', 'sizes'), [(6, 6, [6]), (7, 6, [4, 3]), (13, 5, [5, 4, 4]), (4, 3, [2, 2])])
def test_groups_are_about_equal_and_hold_each_image_once(size, most, sizes):
    members = groups(size, most, rng())
    assert [sum(member < size for member in group) for group in members.tolist()] == sizes
    assert sorted(members.flatten().tolist())[:size] == list(range(size))
    if len(sizes) > 1:
        assert not torch.equal(members, groups(size, most, rng(1)))


@pytest.mark.parametrize('maps', [torch.full((6, 8), 0.125), torch.zeros(6, 8), torch.eye(6)], ids=['even', '0', 'far'])
def test_maps_that_are_equally_far_give_a_cycle_all_the_same(maps):
    for most in (3, 4, 6):
        members = groups(6, most, rng())
        partner = far_partners(maps, members)
        assert sorted(partner.tolist()) == list(range(6))
        assert bool((partner != torch.arange(6)).all())


def test_distances_are_in_full_precision_under_autocast():
    maps = some_maps(12)
    plain = distances(maps, 'l2')
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(distances(maps, 'l2'), plain)
        assert torch.equal(distances(maps, 'cosine'), distances(maps.clone(), 'cosine').float())
        assert distances(maps, 'cosine').dtype == torch.float32
