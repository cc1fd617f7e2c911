"""SamplePairing: the mean of two images with the label of one."""

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context
from openmixup.policies.static.mixup import Mixup
from openmixup.policies.static.samplepairing import SamplePairing

IMAGES = torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 3])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_mean_of_two_images_with_the_label_of_the_first():
    view = SamplePairing().mix(IMAGES, LABELS, rng(1))
    own, partner = view.mixture.index.unbind(1)
    assert torch.equal(own, torch.arange(5))
    assert bool((own != partner).all())
    torch.testing.assert_close(view.inputs, (IMAGES + IMAGES[partner]) / 2)
    assert torch.equal(view.mixture.soft(LABELS, 4), torch.nn.functional.one_hot(LABELS, 4).float())
    assert torch.equal(view.masks, torch.full((5, 2, 4, 6), 0.5))


def test_it_is_mixup_by_a_half_with_hard_labels():
    ours = SamplePairing().mix(IMAGES, LABELS, rng(2))
    lam = torch.tensor([0.5], dtype=torch.float64)
    theirs = Mixup().view(Batch(IMAGES, LABELS), ours.mixture.index[:, 1], lam, Context())
    assert torch.equal(ours.inputs, theirs.inputs)
    assert torch.equal(ours.mixture.index, theirs.mixture.index)


def test_regression_keeps_the_own_value():
    values = torch.tensor([1.0, -2.0, 5.0, 0.5, 9.0])
    mixture = SamplePairing().mix(IMAGES, values, rng(), target='regression').mixture
    assert torch.equal(mixture.of(values), values)


def test_epochs_come_in_cycles_from_the_start_of_the_window():
    policy = SamplePairing(window=(103, 800), cycle=(8, 2))
    paired = [
        epoch
        for epoch in range(1000)
        if not torch.equal(policy(Batch(IMAGES, LABELS), Context(epoch=epoch, seed=3)).views[0].inputs, IMAGES)
    ]
    assert paired == [epoch for epoch in range(103, 800) if (epoch - 103) % 10 < 8]
    assert policy.rate == 0
    assert SamplePairing().rate == SamplePairing(window=(0, 3), cycle=(1, 5)).rate == 1
    view = SamplePairing(cycle=(1, 1)).mix(IMAGES, LABELS, rng(), epoch=1)
    assert view.inputs is IMAGES
    assert view.mixture.index.shape == (5, 1)


def test_trains_in_the_learner():
    model = MixClassifier(
        {'type': 'CifarResNet', 'depth': 8, 'width': 4}, {'type': 'LinearHead', 'num_classes': 4}, SamplePairing()
    ).train()
    model.context = Context(step=1)
    assert bool(model(IMAGES, LABELS, mode='loss')['loss_main'].isfinite())


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'window': (3, 3)}, r'window=\(3, 3\)'), ({'window': 4}, 'window=4'),
    ({'window': (-1, None)}, 'first < end'), ({'cycle': (0, 2)}, r'cycle=\(0, 2\)'), ({'cycle': (1, -1)}, 'cycle='),
    ({'cycle': (1.5, 1)}, 'cycle='), ({'cycle': 8}, 'cycle=8'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        SamplePairing(**arguments)
