"""GridMask: squares of a regular grid are deleted."""

import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.static.gridmask import GridMask
from openmixup.testing import check_policy, count_operators

LABELS = torch.arange(6)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def kept(policy, size, count=6, seed=0, progress=0.0):
    """(N, H, W) of images that are 1 everywhere."""
    batch = Batch(torch.ones(count, 1, *size), None)
    return policy(batch, Context(generator=rng(seed), progress=progress)).views[0].inputs[:, 0]


@pytest.mark.parametrize('policy', [GridMask(rotate=360)], ids=repr)
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


@pytest.mark.parametrize('rotate', [0.0, 40.0])
@pytest.mark.parametrize('seed', range(3))
def test_squares_by_hand(rotate, seed):
    """Pixel by pixel; a few that lie on an edge of a turned square are not compared."""
    height, width, ratio = 17, 24, 0.6
    pictures = kept(GridMask((0.3, 0.7), ratio, 1.0, rotate=rotate), (height, width), seed=seed)
    compared = 0
    for sample, draw in enumerate(torch.rand(6, 5, generator=rng(seed), dtype=torch.float64).tolist()):
        side = 5 + int(draw[0] * 8)  # 0.3 and 0.7 of 17 pixels are 5 and 12
        hole = side - int(ratio * side + 0.5)
        down, across, angle = int(draw[1] * side), int(draw[2] * side), math.radians(rotate * draw[4])
        for i in range(height):
            for j in range(width):
                y, x = i + 0.5 - height // 2, j + 0.5 - width // 2
                at = (
                    (math.cos(angle) * y + math.sin(angle) * x + down) % side,
                    (math.cos(angle) * x - math.sin(angle) * y + across) % side,
                )
                if all(abs(place - edge) > 1e-3 for place in at for edge in (0, hole, side)):
                    assert float(pictures[sample, i, j]) == float(not (at[0] < hole and at[1] < hole))
                    compared += 1
    assert compared > 0.99 * 6 * height * width


@pytest.mark.parametrize(('ratio', 'deleted'), [(0.5, 1 / 4), (0.75, 1 / 16), (0.25, 9 / 16)])
def test_kept_share_is_that_of_the_paper(ratio, deleted):
    """1 - (1 - r)^2 of an image that holds a whole number of units, wherever they begin."""
    pictures = kept(GridMask((0.5, 0.5), ratio, 1.0), (16, 24), count=50)
    torch.testing.assert_close(pictures.mean((1, 2)), torch.full((50,), 1 - deleted))
    assert len(pictures.flatten(1).unique(dim=0)) > 20


def test_sides_are_drawn_evenly_from_the_range():
    """A unit of d pixels with a hole of d - 1 deletes all but one row and one column of every d."""
    pictures = kept(GridMask((0.2, 0.4), 0.01, 1.0), (20, 40), count=3000)
    stripes = (pictures == 1).all(2)  # rows that are kept whole
    sides = [rows.nonzero().flatten().diff()[0].item() for rows in stripes]
    counts = torch.bincount(torch.tensor(sides), minlength=9)
    assert counts[:4].sum() == 0
    assert counts[4:].tolist() == pytest.approx([600] * 5, abs=5 * (3000 * 0.16) ** 0.5)


@pytest.mark.parametrize(('ramp', 'progress', 'chance'), [
    (0.0, 0.0, 0.6), (0.8, 0.0, 0.0), (0.8, 0.2, 0.15), (0.8, 0.8, 0.6), (0.8, 1.0, 0.6), (1.0, 0.5, 0.3),
])  # fmt: skip
def test_the_probability_rises_linearly_and_stays(ramp, progress, chance):
    policy = GridMask((0.5, 0.5), 0.5, 0.6, ramp)
    assert policy.chance(progress) == pytest.approx(chance)
    with_grid = kept(policy, (8, 8), count=3000, progress=progress).amin((1, 2)) == 0
    assert float(with_grid.float().mean()) == pytest.approx(chance, abs=5 * (chance * (1 - chance) / 3000) ** 0.5)


@pytest.mark.parametrize('rotate', [0.0, 360.0])
def test_labels_stay_and_only_pixels_go(rotate):
    images = torch.rand(6, 3, 9, 11, generator=rng()) + 1
    view = GridMask(rotate=rotate).mix(images, LABELS, rng(1))
    assert torch.equal(view.inputs, torch.where(view.masks == 1, images, 0))
    assert torch.equal(view.mixture.soft(LABELS, 6), torch.eye(6))
    assert 0 < float(view.masks.mean()) < 1
    assert count_operators(GridMask(rotate=rotate), images.to('meta'), LABELS.to('meta')) <= 10
    assert not torch.equal(GridMask(prob=1.0).mix(images).inputs, GridMask(prob=1.0).mix(images).inputs)


@pytest.mark.parametrize('size', [(2, 2), (2, 9), (3, 2)])
def test_small_images(size):
    assert kept(GridMask(prob=1.0), size).shape == (6, *size)


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'unit': (0.0, 1.0)}, 'least <= most'), ({'unit': (0.9, 0.5)}, 'unit='), ({'unit': 0.5}, 'unit=0.5'),
    ({'unit': (96, 224)}, r'unit=\(96, 224\)'), ({'ratio': 0}, 'ratio=0'), ({'ratio': 1.0}, 'ratio=1.0'),
    ({'prob': 2}, 'from 0 to 1'), ({'ramp': -1}, 'ramp=-1'), ({'rotate': 361}, 'from 0 to 360'),
    ({'rotate': True}, 'rotate=True'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        GridMask(**arguments)
