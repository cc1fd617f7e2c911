"""Random Erasing: a rectangle of random area and aspect, inside the image, filled in three ways; the label stays."""

import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context
from openmixup.policies.static.randomerasing import TRIES, RandomErasing
from openmixup.testing import check_policy, count_operators

IMAGES = torch.rand(6, 3, 12, 16, generator=torch.Generator().manual_seed(0)) + 10  # no filling comes near
LABELS = torch.tensor([0, 1, 2, 3, 3, 0])
MEAN, STD = (0.5, 0.4, 0.1), (0.2, 0.3, 0.5)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def boxes(policy, count, size, seed=0):
    """(count, 4) top, left, height and width, as numbers."""
    found = policy.boxes(Batch(torch.empty(count, 1, *size), None), rng(seed))
    return torch.cat([found.low, found.high - found.low], 1)


@pytest.mark.parametrize('policy', [
    RandomErasing(fill='zero'), RandomErasing(prob=1, fill='colour'), RandomErasing(prob=0),
    RandomErasing(1.0, (0.1, 0.1), [1, 1]),
], ids=repr)  # fmt: skip
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


@pytest.mark.parametrize(
    ('area', 'aspect'), [((0.02, 0.4), (0.3, 10 / 3)), ((0.5, 1.0), (0.2, 1.0)), ((0.9, 1.0), (5, 9))]
)
@pytest.mark.parametrize('size', [(12, 16), (32, 32), (8, 40), (2, 2)])
def test_rectangles_by_the_loop_of_the_authors(size, area, aspect):
    """Draw sizes until one is smaller than the image along both sides, then its place; the same draws, one by one."""
    height, width = size
    found = boxes(RandomErasing(0.7, area, aspect), 40, size)
    stream = rng()
    draws = torch.rand(2, 40, TRIES, generator=stream, dtype=torch.float64).tolist()
    places = torch.rand(40, 3, generator=stream, dtype=torch.float64).tolist()
    whole = 0
    for sample in range(40):
        expected, (down, across, coin) = None, places[sample]
        for attempt in range(TRIES):
            pixels = (area[0] + draws[0][sample][attempt] * (area[1] - area[0])) * height * width
            ratio = aspect[0] + draws[1][sample][attempt] * (aspect[1] - aspect[0])
            h, w = max(round(math.sqrt(pixels * ratio)), 1), max(round(math.sqrt(pixels / ratio)), 1)
            if h < height and w < width:
                expected = [int(down * (height - h + 1)), int(across * (width - w + 1)), h, w]
                break
        if expected is None or coin >= 0.7:
            assert found[sample, 2:].prod() == 0
            whole += 1
        else:
            assert found[sample].tolist() == expected
    assert whole > 0


def test_facts_of_the_paper():
    """Areas from 2 % to 40 %, height / width from 0.3 to 3.33, both uniform, inside the image, half of the images."""
    assert RandomErasing().arguments() == {'prob': 0.5, 'area': (0.02, 0.4), 'aspect': (0.3, 10 / 3), 'fill': 'noise'}
    found = boxes(RandomErasing(), 4000, (400, 400)).double()
    erased = found[found[:, 2] > 0]
    assert len(erased) / 4000 == pytest.approx(0.5, abs=5 * 0.5 / 4000**0.5)
    top, left, height, width = erased.T
    assert bool((top + height <= 400).all())
    assert bool((left + width <= 400).all())
    for value, low, high in ((height * width / 160000, 0.02, 0.4), (height / width, 0.3, 10 / 3)):
        assert float(value.min()) == pytest.approx(low, rel=0.05)
        assert float(value.max()) == pytest.approx(high, rel=0.02)
        unit = (value - low) / (high - low)
        for share in (0.25, 0.5, 0.75):
            # sizes that do not fit are few, and are the large and the long ones
            assert float((unit < share).double().mean()) == pytest.approx(share, abs=0.05)
    for place, side in ((top, height), (left, width)):  # uniform over all places, up to both borders
        unit = place / (400 - side)
        assert float(unit.mean()) == pytest.approx(0.5, abs=0.04)
        assert float(unit.max()) == 1
        assert float(unit.min()) == 0


@pytest.mark.parametrize(('size', 'most'), [((32, 32), 0.0), ((32, 64), 0.0), ((64, 32), 0.0), ((16, 160), 0.1)])
def test_few_images_stay_whole_for_want_of_a_size(size, most):
    found = boxes(RandomErasing(1.0), 3000, size)
    assert float((found[:, 2] == 0).double().mean()) <= most


@pytest.mark.parametrize('fill', ['noise', 'colour', 'zero'])
@pytest.mark.parametrize('seed', range(3))
def test_the_rest_of_the_picture_stays_and_masks_say_where(fill, seed):
    policy = RandomErasing(1.0, fill=fill)
    view = policy.mix(IMAGES, LABELS, rng(seed))
    for sample, (top, left, height, width) in enumerate(boxes(policy, 6, (12, 16), seed).tolist()):
        inside = torch.zeros(12, 16, dtype=torch.bool)
        inside[top : top + height, left : left + width] = True
        assert int(inside.sum()) == height * width > 0
        assert torch.equal(view.inputs[sample][:, ~inside], IMAGES[sample][:, ~inside])
        assert torch.equal(view.masks[sample, 0], (~inside).float())
        filled = view.inputs[sample][:, inside]
        assert float(filled.abs().max()) < 9
        assert bool((filled.std(1, correction=0) > 0.1).all()) is (fill == 'noise' and height * width > 1)
        if fill == 'colour':
            assert torch.equal(filled, filled[:, :1].expand_as(filled))
        if fill == 'zero':
            assert not filled.any()


@pytest.mark.parametrize('known', [True, False])
def test_noise_is_even_over_the_range_of_the_pixels(known):
    """Uniform in 0..1 before the normalisation; where that is not known, of mean 0 and standard deviation 1."""
    policy = RandomErasing(1.0, (0.5, 0.5), (1, 1))
    images = torch.full((4, 3, 200, 200), 100.0)
    ctx = Context(generator=rng(), mean=MEAN, std=STD) if known else Context(generator=rng(), mean=(0.5,), std=(0.1,))
    view = policy(Batch(images, LABELS[:4]), ctx).views[0]
    values = view.inputs.transpose(0, 1).flatten(1)
    values = values[:, view.masks.flatten() == 0]
    if known:
        values = values * torch.tensor(STD)[:, None] + torch.tensor(MEAN)[:, None]
    else:
        assert float(values.mean()) == pytest.approx(0, abs=0.02)
        assert float(values.std()) == pytest.approx(1, abs=0.01)
        values = values / math.sqrt(12) + 0.5
    for channel in values:
        assert float(channel.min()) == pytest.approx(0, abs=1e-3)
        assert float(channel.max()) == pytest.approx(1, abs=1e-3)
        for share in (0.25, 0.5, 0.75):
            assert float((channel < share).float().mean()) == pytest.approx(share, abs=0.01)
    assert abs(float(torch.corrcoef(values)[0, 1])) < 0.02  # channels are not alike


def test_colours_differ_by_image_and_channel():
    view = RandomErasing(1.0, (0.1, 0.1), fill='colour').mix(torch.full((5, 3, 20, 20), 99.0), LABELS[:5], rng())
    colours = (view.inputs * (view.masks == 0)).sum((2, 3)) / (view.masks == 0).sum((2, 3))
    assert len(colours.flatten().unique()) == 15
    assert float(colours.abs().max()) <= math.sqrt(3)


def test_a_step_repeats_its_noise_and_others_have_their_own():
    policy, state = RandomErasing(1.0), torch.get_rng_state()

    def made(**position):
        return policy(Batch(IMAGES, LABELS), Context(**position)).views[0].inputs

    assert torch.equal(made(step=3), made(step=3))
    assert not torch.equal(made(step=3), made(step=4))
    assert not torch.equal(made(rank=1), made(rank=0))
    assert torch.equal(torch.get_rng_state(), state)
    alike = RandomErasing(1.0, (0.9, 0.9), (0.75, 0.75))  # one size: nearly the whole image
    one, two = (alike.mix(IMAGES, LABELS, rng(seed)).inputs for seed in (0, 1))
    assert float((one[:, :, 4:8, 4:8] - two[:, :, 4:8, 4:8]).abs().mean()) > 0.5


@pytest.mark.parametrize('fill', ['noise', 'colour', 'zero'])
def test_labels_and_gradients_stay(fill):
    images = IMAGES.clone().requires_grad_()
    view = RandomErasing(fill=fill).mix(images, LABELS, rng())
    assert torch.equal(view.mixture.index, torch.arange(6)[:, None])
    assert torch.equal(view.mixture.soft(LABELS, 4), torch.nn.functional.one_hot(LABELS, 4).float())
    view.inputs.sum().backward()
    assert torch.equal(images.grad, view.masks.expand_as(images))
    assert RandomErasing(fill=fill).rate == 0


@pytest.mark.parametrize(('fill', 'most'), [('noise', 7), ('colour', 7), ('zero', 5)])
def test_few_operators(fill, most):
    assert count_operators(RandomErasing(fill=fill), IMAGES.to('meta'), LABELS.to('meta')) <= most


def test_trains_in_the_learner_and_leaves_evaluation_alone():
    model = MixClassifier(
        {'type': 'CifarResNet', 'depth': 8, 'width': 4}, {'type': 'LinearHead', 'num_classes': 4}, RandomErasing()
    ).train()
    model.context = Context(step=1)
    assert bool(model(IMAGES, LABELS, mode='loss')['loss_main'].isfinite())
    assert torch.equal(RandomErasing().eval()(Batch(IMAGES, LABELS), Context()).views[0].inputs, IMAGES)


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'prob': 1.1}, 'prob=1.1'), ({'prob': True}, 'prob=True'), ({'prob': float('nan')}, 'prob=nan'),
    ({'area': (0, 0.4)}, r'area=\(0, 0.4\)'), ({'area': (0.5, 0.4)}, r'area=\(0.5, 0.4\)'), ({'area': 0.3}, 'area=0.3'),
    ({'area': (0.1, 1.1)}, r'area=\(0.1, 1.1\)'), ({'area': (0.1, 'a')}, 'area='), ({'area': (0.1, 0.2, 0.3)}, 'area='),
    ({'aspect': (0, 1)}, r'aspect=\(0, 1\)'), ({'aspect': (3, 0.3)}, r'aspect=\(3, 0.3\)'), ({'aspect': 1}, 'aspect=1'),
    ({'aspect': (0.3, 101)}, r'aspect=\(0.3, 101\)'), ({'fill': 'color'}, "did you mean 'colour'"),
    ({'fill': None}, 'fill=None'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        RandomErasing(**arguments)
