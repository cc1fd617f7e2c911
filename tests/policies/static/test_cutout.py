"""Cutout: one square an image, cut off at the border, and the label stays."""

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context
from openmixup.policies.static.cutout import Cutout
from openmixup.policies.wrap.regmixup import RegMixup
from openmixup.testing import check_policy, count_operators

IMAGES = torch.rand(6, 3, 12, 16, generator=torch.Generator().manual_seed(0)) + 1  # no pixel is 0
LABELS = torch.tensor([0, 1, 2, 3, 3, 0])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('policy', [Cutout(0.1), Cutout(1.0), Cutout(0.25, prob=0.5), Cutout(prob=0)], ids=repr)
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


@pytest.mark.parametrize(('length', 'side'), [(0.5, 6), (0.25, 3), (0.01, 1), (1.0, 12)])
@pytest.mark.parametrize('seed', range(4))
def test_the_square_by_hand(length, side, seed):
    view = Cutout(length).mix(IMAGES, LABELS, rng(seed))
    draws = torch.rand(6, 3, generator=rng(seed), dtype=torch.float64).tolist()
    for sample, (down, across, _) in enumerate(draws):
        expected = IMAGES[sample].clone()
        top, left = int(down * 12) - side // 2, int(across * 16) - side // 2
        for row in range(12):
            for column in range(16):
                if top <= row < top + side and left <= column < left + side:
                    expected[:, row, column] = 0
        assert torch.equal(view.inputs[sample], expected)
        assert torch.equal(view.masks[sample, 0], (expected[0] != 0).float())


def test_labels_stay():
    view = Cutout().mix(IMAGES, LABELS, rng())
    assert torch.equal(view.mixture.index, torch.arange(6)[:, None])
    assert torch.equal(view.mixture.soft(LABELS, 4), torch.nn.functional.one_hot(LABELS, 4).float())
    assert Cutout().rate == 0


def test_area_of_the_paper():
    """A quarter of the image at most, a sixteenth in a corner, and in between what the border leaves of it."""
    images = torch.ones(4000, 1, 32, 32)
    deleted = 1 - Cutout().mix(images, None, rng()).inputs.mean((1, 2, 3))
    reach = [sum(0 <= centre + step < 32 for step in range(-8, 8)) for centre in range(32)]
    mean = (sum(reach) / 32 / 32) ** 2
    assert float(deleted.mean()) == pytest.approx(mean, abs=5 * float(deleted.std()) / 4000**0.5)
    assert float(deleted.max()) == 0.25  # 16 of 32 pixels a side
    assert float(deleted.min()) == pytest.approx(8 * 8 / 1024)


@pytest.mark.parametrize('prob', [0.0, 0.3, 1.0])
def test_share_of_images_with_a_square(prob):
    changed = Cutout(0.2, prob).mix(torch.ones(3000, 1, 10, 10), None, rng()).inputs.amin((1, 2, 3)) == 0
    assert float(changed.float().mean()) == pytest.approx(prob, abs=5 * (prob * (1 - prob) / 3000) ** 0.5 + 1e-9)


def test_each_image_has_its_own_square_and_each_call_too():
    first, second = (Cutout(0.4).mix(IMAGES, LABELS).masks.flatten(1) for _ in range(2))
    assert len(first.unique(dim=0)) > 1
    assert not torch.equal(first, second)


def test_gradients_reach_the_images_that_are_left():
    images = IMAGES.clone().requires_grad_()
    view = Cutout().mix(images, LABELS, rng())
    view.inputs.sum().backward()
    assert torch.equal(images.grad, view.masks.expand_as(images))


def test_two_pixels_and_few_operators():
    assert Cutout().mix(torch.ones(2, 3, 2, 2), torch.arange(2)).inputs.shape == (2, 3, 2, 2)
    assert count_operators(Cutout(), IMAGES.to('meta'), LABELS.to('meta')) <= 5


@pytest.mark.parametrize('policy', [Cutout(), RegMixup(Cutout(), join=True)], ids=repr)
def test_trains_in_the_learner(policy):
    model = MixClassifier(
        {'type': 'CifarResNet', 'depth': 8, 'width': 4}, {'type': 'LinearHead', 'num_classes': 4}, policy
    ).train()
    model.context = Context(step=1)
    assert bool(model(IMAGES, LABELS, mode='loss')['loss_main'].isfinite())
    assert torch.equal(Cutout().eval()(Batch(IMAGES, LABELS), Context()).views[0].inputs, IMAGES)


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'length': 0}, 'length=0'), ({'length': 1.5}, 'length=1.5'), ({'length': 16}, '16 of 32 pixels are 0.5'),
    ({'length': True}, 'length=True'), ({'length': 'a'}, "length='a'"), ({'prob': -0.1}, 'prob=-0.1'),
    ({'prob': float('nan')}, 'prob=nan'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        Cutout(**arguments)
