"""Hide-and-Seek: the cells of a grid are hidden one by one."""

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies.static.hideandseek import HideAndSeek
from openmixup.testing import check_policy, count_operators

LABELS = torch.arange(6)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def kept(policy, size, count=6, seed=0):
    """(N, H, W) of images that are 1 everywhere."""
    return policy.mix(torch.ones(count, 2, *size), None, rng(seed)).inputs[:, 0]


@pytest.mark.parametrize('policy', [HideAndSeek((3,), 0.2)], ids=repr)
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


@pytest.mark.parametrize(('size', 'cells'), [((8, 8), 4), ((7, 11), 3), ((6, 20), 5), ((3, 3), 5)])
def test_cells_by_hand(size, cells):
    """A pixel in row i of H lies in cell floor(i cells / H); all pixels of a cell share their fate, others do not."""
    pictures = kept(HideAndSeek((cells,)), size, count=200)
    height, width = size
    fates = {}
    for i in range(height):
        for j in range(width):
            fates.setdefault((i * cells // height, j * cells // width), []).append(pictures[:, i, j])
    for pixels in fates.values():
        assert all(torch.equal(pixels[0], other) for other in pixels)
    first = torch.stack([pixels[0] for pixels in fates.values()])
    assert len(first.unique(dim=0)) == len(fates) == min(cells, height) * min(cells, width)


@pytest.mark.parametrize('prob', [0.0, 0.3, 0.5, 1.0])
def test_hidden_share_is_the_probability(prob):
    hidden = 1 - kept(HideAndSeek((4,), prob), (8, 8), count=2000).mean((1, 2))
    sigma = (prob * (1 - prob) / 16) ** 0.5  # of 16 independent cells
    assert float(hidden.mean()) == pytest.approx(prob, abs=5 * sigma / 2000**0.5 + 1e-9)
    assert float(hidden.std()) == pytest.approx(sigma, rel=0.1, abs=1e-9)


def test_each_image_draws_one_of_the_grids_and_some_stay_whole():
    pictures = kept(HideAndSeek((0, 2, 7), 1.0), (14, 14), count=3000)
    whole = (pictures.amin((1, 2)) == 1).float().mean()
    assert float(whole) == pytest.approx(1 / 3, abs=5 * (2 / 9 / 3000) ** 0.5)
    assert float(pictures.amax((1, 2))[pictures.amin((1, 2)) == 0].max()) == 0
    variance = {2: 0.25 / 4, 7: 0.25 / 49}
    hidden = kept(HideAndSeek((2, 7)), (14, 14), count=4000).mean((1, 2))
    assert float(hidden.var()) == pytest.approx(sum(variance.values()) / 2, rel=0.12)


def test_labels_stay_and_only_pixels_go():
    images = torch.rand(6, 3, 9, 9, generator=rng()) + 1
    view = HideAndSeek((3,)).mix(images, LABELS, rng(1))
    assert torch.equal(view.inputs, torch.where(view.masks == 1, images, 0))
    assert torch.equal(view.mixture.soft(LABELS, 6), torch.eye(6))
    assert 0 < float(view.masks.mean()) < 1


def test_calls_differ_and_operators_are_few():
    images = torch.ones(6, 3, 12, 12)
    assert not torch.equal(HideAndSeek().mix(images).inputs, HideAndSeek().mix(images).inputs)
    assert count_operators(HideAndSeek(), images.to('meta'), LABELS.to('meta')) <= 5
    assert HideAndSeek((0,)).mix(images).inputs.equal(images)


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'cells': ()}, r'cells=\(\)'), ({'cells': 4}, 'cells=4'), ({'cells': (4, 2.5)}, 'whole numbers'),
    ({'cells': (-1,)}, 'from 0 to 64'), ({'cells': (65,)}, 'from 0 to 64'), ({'cells': (True,)}, 'cells='),
    ({'prob': 1.1}, 'prob=1.1'), ({'prob': 'half'}, "prob='half'"),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        HideAndSeek(**arguments)
