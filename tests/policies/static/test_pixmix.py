"""PixMix: rounds of adding and multiplying fractals and augmented copies."""

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, PixMix
from openmixup.policies.static import pixmix
from openmixup.testing import check_policy

MEAN, STD = (0.49, 0.45, 0.40), (0.25, 0.2, 0.3)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def each(values):
    return torch.tensor(values)[:, None, None]


@pytest.mark.parametrize('policy', [PixMix(1, 0.5, 10.0, count=3)], ids=repr)
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


@pytest.mark.parametrize('seed', range(3))
def test_images_are_those_of_a_loop_in_the_authors_form(monkeypatch, seed):
    """Image by image in double precision; copies that are not augmented show what is mixed with what."""
    noted, draw = [], PixMix.draw

    def note(self, *given):
        noted.append(draw(self, *given))
        return noted[-1]

    monkeypatch.setattr(PixMix, 'draw', note)
    monkeypatch.setattr(pixmix.Layer, 'apply', lambda self, images, *parts: images.mul_(0.5))
    raw = torch.rand(12, 3, 10, 14, generator=rng(seed))
    policy = PixMix(count=5)
    batch = Batch((raw - each(MEAN)) / each(STD), torch.arange(12))
    found = policy(batch, Context(seed, mean=MEAN, std=STD)).views[0].inputs * each(STD) + each(MEAN)
    (drawn,) = noted
    pictures = policy.held(torch.device('cpu'), 3, (10, 14)).double().numpy() / 255
    copies = len(drawn.owner)
    for place, clean in enumerate(raw.double().numpy()):
        image = 0.5 * clean if place in drawn.start else clean
        for both in drawn.rounds:
            for multiplies, part in enumerate(both):
                for row in (part.places == place).nonzero()[:, 0].tolist():
                    other, a, b = int(part.other[row]), float(part.a[row]), float(part.b[row])
                    second = 0.5 * clean if other < copies else pictures[int(drawn.picture[other - copies])]
                    if multiplies:
                        image = ((2 * image) ** a * (2 * second).clip(1e-37) ** b) / 2
                    else:
                        image = (a * (2 * image - 1) + b * (2 * second - 1) + 1) / 2
                    image = image.clip(0, 1)
        np.testing.assert_allclose(found[place].numpy(), image, rtol=0, atol=2e-5)


def test_rounds_are_drawn_one_by_one():
    """Neither what is done nor with what nor how strongly follows from anything else."""
    size = 4000
    drawn = PixMix(rounds=3).draw(size, 2, rng())
    table = torch.full((3, size, 4), torch.nan, dtype=torch.float64)  # multiplies, by a copy, a, b
    for step, both in enumerate(drawn.rounds):
        for multiplies, part in enumerate(both):
            by_copy = (part.other < len(drawn.owner)).double()
            columns = [torch.full_like(part.a, multiplies), by_copy, part.a, part.b]
            table[step, part.places] = torch.stack(columns, 1)
    full = table[:, ~table.isnan().any(2).any(0)]  # of the images with three rounds
    assert full.shape[1] > 800
    kinds = full.flatten(0, 1)
    related = torch.corrcoef(torch.cat([full[0], full[1], full[2]], 1).t())
    related[[2, 3, 6, 7, 10, 11], [3, 2, 7, 6, 11, 10]] = 0  # a and b of one round share their coin
    assert float((related - torch.eye(12)).abs().max()) < 0.13
    for multiplies in (0.0, 1.0):
        for by_copy in (0.0, 1.0):
            share = ((kinds[:, 0] == multiplies) & (kinds[:, 1] == by_copy)).double().mean()
            assert abs(float(share) - 0.25) < 0.04


def test_what_is_drawn_follows_the_authors_laws():
    size, k = 6000, 4
    drawn = PixMix().draw(size, 7, rng())
    lengths, copies = torch.zeros(size, dtype=torch.long), len(drawn.owner)
    added, by_copy, shown = 0, 0, {}
    for both in drawn.rounds:
        places = torch.cat([part.places for part in both])
        assert len(places.unique()) == len(places), 'an image adds or multiplies, not both'
        lengths[places] += 1
        added += len(both[0].places)
        for part in both:
            is_copy = part.other < copies
            by_copy += int(is_copy.sum())
            assert torch.equal(drawn.owner[part.other[is_copy]], part.places[is_copy]), 'a copy of another image'
            for place, other in zip(part.places[~is_copy].tolist(), part.other[~is_copy].tolist(), strict=True):
                assert shown.setdefault(place, other) == other, 'one picture for all rounds of an image'
    for rounds in range(k + 1):
        assert abs(float((lengths == rounds).float().mean()) - 1 / (k + 1)) < 0.025
    total = int(lengths.sum())
    assert abs(added / total - 0.5) < 0.025
    assert abs(by_copy / total - 0.5) < 0.025
    assert abs(len(drawn.start) / size - 0.5) < 0.03
    assert torch.equal(drawn.owner[: len(drawn.start)], drawn.start)
    assert torch.equal(drawn.changed, (lengths > 0) | torch.isin(torch.arange(size), drawn.start))
    assert sorted(set(shown.values())) == list(range(copies, copies + len(drawn.picture)))
    count = torch.bincount(drawn.picture, minlength=7) / len(drawn.picture)
    assert float((count - 1 / 7).abs().max()) < 0.02


@pytest.mark.parametrize('beta', [0.5, 3.0])
def test_factors_are_of_their_beta_laws(beta):
    a, b = PixMix(beta=beta).draw_powers((4, 5000), rng())
    below = b >= 0
    assert abs(float(below.double().mean()) - 0.5) < 0.02
    assert bool(((a <= 1) == below).all())
    mean, variance = 1 / (1 + beta), beta / ((1 + beta) ** 2 * (2 + beta))  # of Beta(1, beta)
    for values in (1 - a[below], b[below], a[~below] - 1, -b[~below]):
        assert abs(float(values.mean()) - mean) < 0.02
        assert abs(float(values.var()) - variance) < 0.1 * variance
        assert 0 <= float(values.min()) <= float(values.max()) <= 1
    assert abs(float(torch.corrcoef(torch.stack([a[below], b[below]]))[0, 1])) < 0.04


def test_images_without_a_round_stay_exactly_and_others_lie_in_the_range_of_pixels():
    images = torch.randn(64, 3, 16, 16, generator=rng()) * 3
    policy = PixMix(mean=MEAN, std=STD)
    found = policy.mix(images, None, rng()).inputs
    same = (found == images).flatten(1).all(1)
    assert 0.02 < float(same.double().mean()) < 0.25, '1/2 * 1/5 are left alone'
    levels = found[~same] * each(STD) + each(MEAN)
    assert float(levels.min()) > -1e-4
    assert float(levels.max()) < 1 + 1e-4
    assert float(levels.std()) > 0.1


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_an_image_that_is_not_finite_is_left_alone(value):
    images = torch.rand(32, 1, 8, 8, generator=rng())
    whole = PixMix(mean=(0.0,), std=(1.0,)).mix(images, None, rng()).inputs
    images[1::2, 0, 3, 3] = value
    found = PixMix(mean=(0.0,), std=(1.0,)).mix(images, None, rng()).inputs
    assert torch.equal(found[1::2].nan_to_num(), images[1::2].nan_to_num())
    assert not bool(found[1::2, 0, 3, 3].isfinite().any())
    assert torch.equal(found[::2], whole[::2])


def test_no_gradient_passes_to_the_images():
    images = torch.rand(32, 1, 8, 8, generator=rng()).requires_grad_()
    assert not PixMix().mix(images, None, rng()).inputs.requires_grad


def test_pictures_are_made_once_for_a_size():
    policy = PixMix(count=4)
    first = policy.held(torch.device('cpu'), 3, (8, 9))
    assert policy.held(torch.device('cpu'), 3, (8, 9)) is first
    assert first.shape == (4, 3, 8, 9)
    assert policy.held(torch.device('cpu'), 1, (9, 8)).shape == (4, 1, 9, 8)
    assert torch.equal(copy.deepcopy(policy).held(torch.device('cpu'), 3, (8, 9)), first)
    assert policy.state_dict() == {}
    for side in range(5, 12):
        policy.held(torch.device('cpu'), 1, (side, side))
    assert len(policy._held) == pixmix.MOST_SIZES
    assert len(pickle.dumps(policy)) < 2000, 'the pictures travel along'


def write(folder, name, colour, size=(20, 10)):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, colour).save(path)


def test_a_folder_gives_the_pictures_evenly_in_order(tmp_path):
    for number in range(6):
        write(tmp_path, f'{"ab"[number // 3]}/{number}.png', (40 * number, 0, 255))
    (tmp_path / 'readme.txt').write_text('no picture')
    held = PixMix(pictures=str(tmp_path), count=3).held(torch.device('cpu'), 3, (8, 6))
    assert held.shape == (3, 3, 8, 6)
    assert held.dtype == torch.uint8
    assert held[:, 0].flatten(1).unique(dim=1).tolist() == [[0], [80], [160]]
    assert held[:, 2].unique().tolist() == [255]
    assert len(PixMix(pictures=str(tmp_path)).held(torch.device('cpu'), 3, (8, 6))) == 6
    grey = PixMix(pictures=str(tmp_path)).held(torch.device('cpu'), 1, (8, 6))
    assert grey.shape == (6, 1, 8, 6)
    assert grey[5, 0, 0, 0] == round(0.299 * 200 + 0.114 * 255)


def test_a_picture_keeps_its_middle_and_its_aspect(tmp_path):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20, 1] = 255
    Image.fromarray(pixels).save(tmp_path / 'wide.png')
    assert PixMix(pictures=str(tmp_path)).held(torch.device('cpu'), 3, (10, 10))[0, 1].min() == 255
    tall = PixMix(pictures=str(tmp_path)).held(torch.device('cpu'), 3, (10, 20))[0, 1]
    assert tall[:, 7:13].min() == 255
    assert max(tall[:, :3].max(), tall[:, -3:].max()) == 0


@pytest.mark.parametrize('severity', [0.1, 10.0])
def test_copies_are_augmented_as_strongly_as_asked_for(monkeypatch, severity):
    asked, real = [], pixmix.drawn_operations
    monkeypatch.setattr(pixmix, 'drawn_operations', lambda *given: asked.append(given[:3]) or real(*given))
    PixMix(severity=severity).mix(torch.rand(64, 1, 6, 9, generator=rng()), None, rng())
    (((count,), given, size),) = asked
    assert (given, size) == (severity, (6, 9))
    assert 64 < count < 64 * 3, 'a half and one for each image in the mean'


@pytest.mark.parametrize(
    ('make', 'channels', 'message'),
    [
        (lambda folder: None, 3, 'expected a folder with images .* but it has none'),
        (lambda folder: folder.rmdir(), 3, 'there is no such folder'),
        (lambda folder: (folder / 'a.jpg').write_bytes(b'no image'), 3, 'cannot read .*a.jpg'),
        (lambda folder: write(folder, 'a.png', 'red'), 2, 'one or three channels, but the images have 2'),
    ],
)
def test_a_folder_that_does_not_serve_is_refused(tmp_path, make, channels, message):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    make(folder)
    with pytest.raises(InputError, match=message):
        PixMix(pictures=str(folder)).mix(torch.rand(4, channels, 8, 8))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'rounds': 0}, r'rounds=0\): expected a whole number'),
        ({'rounds': True}, 'rounds=True'),
        ({'beta': 0}, r'beta=0\): expected a number from 0.01'),
        ({'beta': float('nan')}, 'beta=nan'),
        ({'severity': 11}, r'severity=11\): expected a number from 0.1 to 10'),
        ({'pictures': 3}, r'pictures=3\): expected the folder'),
        ({'count': 0}, r'count=0\): expected a whole number'),
        ({'mean': (0.5,)}, 'std=None.*one number per channel'),
        ({'mean': (0.5,), 'std': (0.0,)}, 'std above 0'),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=f'PixMix.*{message}'):
        PixMix(**arguments)


def test_a_normalisation_of_other_channels_is_refused():
    with pytest.raises(InputError, match='PixMix has mean and std of 3 channels, but the images have 1'):
        PixMix(mean=MEAN, std=STD).mix(torch.rand(4, 1, 8, 8))
