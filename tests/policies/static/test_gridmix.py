import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.static.gridmix import GridMix

PARTNER = torch.tensor([1, 2, 3, 4, 0])


def shown(policy, lam, chance, size=(24, 36)):
    """(b, H, W) 1 where the partner shows, for given lam and draws."""
    count = len(chance)
    generator = torch.Generator()
    values = torch.tensor(chance, dtype=torch.float64)
    original = torch.rand
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, 'rand', lambda *shape, **_: values if shape == (count, 5) else original(*shape))
        lam = torch.tensor(lam, dtype=torch.float64)
        region = policy.mask(Batch(torch.zeros(5, 1, *size), None), PARTNER, lam, Context(generator=generator))
    return 1 - torch.addcmul(*region.parts())[:, 0]


def by_hand(policy, lam, chance, size):
    """The same with a loop over the holes, each written into a picture."""
    height, width = size
    (a0, a1), (r0, r1), (n0, n1) = policy.area, policy.aspect, policy.holes
    area, aspect = (a0 + chance[0] * (a1 - a0)) * height * width, r0 + chance[1] * (r1 - r0)
    holes = range(n0, n1 + 1)[int(chance[2] * (n1 - n0 + 1))]
    part_width = min(max(int(math.sqrt(area / aspect)), 1), width)
    part_height = min(max(int(math.sqrt(area * aspect)), 1), height)
    across = math.ceil(part_width / holes)
    cell_height, cell_width = max(int(across * policy.hole_aspect), 2), max(across, 2)
    hole_height = min(max(int(cell_height * math.sqrt(1 - lam)), 1), cell_height - 1)
    hole_width = min(max(int(cell_width * math.sqrt(1 - lam)), 1), cell_width - 1)
    top, left = int(chance[3] * (height - part_height + 1)), int(chance[4] * (width - part_width + 1))
    picture = torch.zeros(height, width)
    for y in range(top, top + part_height, cell_height):
        for x in range(left, left + part_width, cell_width):
            picture[y : min(y + hole_height, top + part_height), x : min(x + hole_width, left + part_width)] = 1
    return picture


POLICIES = [
    GridMix(),
    GridMix(holes=(1, 9), hole_aspect=0.6, area=(0.1, 0.9), aspect=(1, 2)),
    GridMix(holes=(30, 50), hole_aspect=3),
]


@pytest.mark.parametrize('policy', POLICIES, ids=repr)
@pytest.mark.parametrize('size', [(24, 36), (32, 32), (7, 2), (2, 2)])
def test_equals_a_loop_over_the_holes(policy, size):
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(5, 5, generator=generator).double().tolist()
    lam = [0.0, 0.1, 0.5, 0.9, 1.0]
    each = shown(policy, lam, chance, size)
    for sample in range(5):
        expected = by_hand(policy, lam[sample], chance[sample], size)
        assert torch.equal(each[sample], expected)
        assert torch.equal(shown(policy, lam[sample : sample + 1], chance[sample : sample + 1], size)[0], expected)
        assert 0 < float(expected.mean()) < 1


def test_a_grid_that_fits():
    """24 x 24 pixels in 4 cells a row; a hole has half the sides of its cell, a quarter of the area."""
    policy = GridMix(holes=(4, 4), area=(2 / 3, 2 / 3), aspect=(1, 1))
    picture = shown(policy, [0.75], [[0, 0, 0, 0, 0.999]])[0]
    for y in range(24):
        for x in range(36):
            assert picture[y, x] == float(x >= 12 and y % 6 < 3 and (x - 12) % 6 < 3)
    assert float(picture.mean()) == pytest.approx(2 / 3 * 0.25)


def test_a_part_that_is_longer_than_the_image_keeps_its_holes():
    """All of the area at height / width = 2 asks for 33 rows of 24; the holes start at the first row."""
    policy = GridMix(holes=(3, 3), area=(1, 1), aspect=(2, 2))
    picture = shown(policy, [0.5], [[0, 0, 0, 0.9, 0]], (24, 24))[0]
    width = int(24 / math.sqrt(2))
    cell, hole = math.ceil(width / 3), int(math.ceil(width / 3) * math.sqrt(0.5))
    assert picture[:, 0].tolist() == [float(y % cell < hole) for y in range(24)]


def test_all_numbers_of_cells_are_alike_probable():
    """Cells of the whole width: their number is told by the width of a cell."""
    policy, generator = GridMix(holes=(2, 4), area=(1, 1), aspect=(1, 1)), torch.Generator().manual_seed(0)
    draws = 6000
    lam = torch.full((draws,), 1.0, dtype=torch.float64)  # holes of one pixel, one a cell
    region = policy.mask(Batch(torch.zeros(2, 1, 24, 24), None), PARTNER, lam, Context(generator=generator))
    cells = (-region.rows).sum(1)
    for count in (2, 3, 4):
        assert float((cells == count).double().mean()) == pytest.approx(1 / 3, abs=5 * (2 / 9 / draws) ** 0.5)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_labels_follow_the_holes(per):
    images = torch.arange(5.0)[:, None, None, None].expand(5, 1, 24, 36).contiguous()
    for seed in range(10):
        view = GridMix(1.0, per).mix(images, torch.arange(5), torch.Generator().manual_seed(seed))
        own = (view.inputs == images).double().mean((1, 2, 3))
        apart = view.mixture.index[:, 0] != view.mixture.index[:, 1]
        torch.testing.assert_close(view.mixture.weight[apart, 0], own[apart].float())
        assert bool((own > 0).all())


@pytest.mark.parametrize('arguments', [
    {'holes': (0, 3)}, {'holes': (3, 2)}, {'holes': 3}, {'holes': (1.0, 2.0)}, {'hole_aspect': 0}, {'area': (0.5, 1.5)},
    {'area': (0, 1)}, {'aspect': (2, 0.5)}, {'aspect': (0.5,)}, {'aspect': ('a', 'b')}, {'area': (True, True)},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(InputError, match=rf'GridMix\({name}=.*: expected'):
        GridMix(**arguments)
