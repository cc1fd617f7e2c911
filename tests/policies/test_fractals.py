"""Pictures of iterated function systems."""

import torch

from openmixup.policies import fractals as room
from openmixup.policies.fractals import fractals


def test_the_same_arguments_give_the_same_pictures():
    first = fractals(5, 3, (20, 30))
    assert first.shape == (5, 3, 20, 30)
    assert first.dtype == torch.uint8
    torch.manual_seed(7)
    assert torch.equal(fractals(5, 3, (20, 30)), first)
    assert not torch.equal(fractals(6, 3, (20, 30))[:5], first)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(fractals(5, 3, (20, 30)), first)
    finally:
        torch.set_default_dtype(torch.float32)


def test_no_global_random_state_is_advanced():
    before = torch.get_rng_state()
    fractals(2, 1, (8, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_pictures_differ_and_show_something_on_a_ground():
    pictures = fractals(40, 3, (28, 28)).flatten(2).transpose(1, 2)  # (count, pixels, channels)
    for picture in pictures:
        colours, count = picture.unique(dim=0, return_counts=True)
        assert len(colours) > 10, 'blank'
        assert 0.02 < 1 - int(count.max()) / len(picture) < 0.98, 'a speck, or no ground'
    assert len(pictures.unique(dim=0)) == 40


def test_each_figure_fills_the_frame_on_a_ground_of_its_own():
    pictures = fractals(20, 3, (40, 60))
    grounds = pictures[:, :, 0, 0]
    assert len(grounds.unique(dim=0)) == 20
    for picture, ground in zip(pictures, grounds, strict=True):
        shown = (picture != ground[:, None, None]).any(0)
        rows, columns = shown.any(1).nonzero()[:, 0].tolist(), shown.any(0).nonzero()[:, 0].tolist()
        assert (rows[0], rows[-1], columns[0], columns[-1]) == (2, 38, 3, 57)


def test_more_pictures_than_are_made_together(monkeypatch):
    monkeypatch.setattr(room, 'TOGETHER', 2)
    assert len(fractals(5, 1, (6, 6)).flatten(1).unique(dim=0)) == 5


def test_systems_contract_by_the_law_of_their_singular_values():
    rng = torch.Generator().manual_seed(0)
    counts, turned = set(), []
    for _ in range(200):
        system = room._system(rng)
        counts.add(len(system))
        values = torch.linalg.svdvals(system[:, :, :2])
        total = float((values * torch.tensor([1.0, 2.0])).sum())
        assert (5 + len(system)) / 2 - 1e-4 <= total <= (6 + len(system)) / 2 + 1e-4
        assert float(values.max()) < 1
        turned += (torch.linalg.det(system[:, :, :2]) > 0).tolist()
    assert 0.4 < sum(turned) / len(turned) < 0.6, 'half of the maps mirror'
    assert counts == set(range(2, 9))


def test_points_stay_where_the_maps_of_their_system_send_them():
    """Each point of an attractor is the image of another one, so all lie within the bound that the maps give."""
    rng = torch.Generator().manual_seed(1)
    points, shades = room._attractors(3, 2, 50, rng)
    assert points.shape == (3, 50 * room.JUMPS, 2)
    assert shades.shape == (3, 50 * room.JUMPS, 2)
    rng = torch.Generator().manual_seed(1)
    for number in range(3):
        system = room._system(rng)
        matrices, shifts = system[:, :, :2], system[:, :, 2]
        bound = float((shifts.norm(dim=1).max()) / (1 - torch.linalg.matrix_norm(matrices, 2).max()))
        assert float(points[number].norm(dim=1).max()) <= bound + 1e-4
        later = points[number, 50:].view(-1, 50, 2)
        before = points[number].view(-1, 50, 2)[:-1]
        sent = torch.einsum('mij,tpj->tpmi', matrices, before) + shifts
        gap, used = (sent - later[:, :, None]).norm(dim=3).min(2)
        assert float(gap.max()) < 1e-4
        areas = torch.linalg.det(matrices).abs()
        rates = torch.bincount(used.flatten(), minlength=len(system)) / used.numel()
        torch.testing.assert_close(rates, areas / areas.sum(), rtol=0, atol=0.03)
        blended = 2 * shades[number].view(-1, 50, 2)[1:] - shades[number].view(-1, 50, 2)[:-1]
        for place in range(len(system)):
            colours = blended[used == place]
            assert float((colours - colours[:1]).abs().max()) < 1e-4, 'half of it is the colour of the map'


def test_a_pixel_shows_the_mean_of_its_points(monkeypatch):
    points = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])
    shades = torch.tensor([[[0.9], [0.2], [0.4], [0.9]]])
    monkeypatch.setattr(room, '_attractors', lambda *given: (points, shades))
    (picture,) = room._pictures(1, 1, (10, 10), torch.Generator().manual_seed(0))
    assert abs(float(picture[0, 0, 0]) - 0.9) < 1e-6
    assert abs(float(picture[0, 9, 9]) - 0.5) < 1e-6
    assert len(picture.unique()) == 3


def test_chains_have_forgotten_where_they_began():
    """They all begin at one point, so without a warm-up the first of the points lie on few places."""
    points, _ = room._attractors(1, 1, 200, torch.Generator().manual_seed(2))
    assert len((points[0, :200] * 1e3).round().unique(dim=0)) > 100
