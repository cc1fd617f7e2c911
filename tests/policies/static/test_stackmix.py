"""StackMix: two images in one picture of twice the size."""

import pytest
import torch

from openmixup.analysis.gallery import mix_gallery
from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context
from openmixup.policies.static.stackmix import StackMix
from openmixup.testing import count_operators

IMAGES = torch.randn(5, 3, 8, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 3])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(('axis', 'shape'), [('height', (5, 3, 16, 12)), ('width', (5, 3, 8, 24))])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_halves_and_weights(axis, shape, dtype):
    images = IMAGES.to(dtype)
    version, before = images._version, images.clone()
    view = StackMix(axis).mix(images, LABELS, rng(1))
    own, partner = view.mixture.index.unbind(1)
    assert view.inputs.shape == shape
    assert view.inputs.dtype == dtype
    first, second = view.inputs.chunk(2, 2 if axis == 'height' else 3)
    assert torch.equal(own, torch.arange(5))
    assert bool((own != partner).all())
    assert torch.equal(first, images)
    assert torch.equal(second, images[partner])
    assert view.mixture.index.dtype == torch.int64
    assert torch.equal(view.mixture.weight, torch.full((5, 2), 0.5))
    assert torch.equal(images, before)
    assert images._version == version
    assert view.inputs.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()


def test_labels_are_averaged_whatever_the_order():
    mixture = StackMix().mix(IMAGES, LABELS, rng()).mixture
    target, dense = mixture.soft(LABELS, 4), torch.eye(4)[LABELS]
    expected = torch.stack([(dense[a] + dense[b]) / 2 for a, b in mixture.index.tolist()])
    assert torch.equal(target, expected)
    same = StackMix().mix(IMAGES, torch.full((5,), 2), rng()).mixture.soft(torch.full((5,), 2), 4)
    assert torch.equal(same, torch.eye(4)[[2] * 5])  # two of a class are of that class


@pytest.mark.parametrize('axis', ['height', 'width'])
def test_nothing_is_read_from_the_device(axis):
    view = StackMix(axis)(Batch(IMAGES.to('meta'), LABELS.to('meta')), Context()).views[0]
    assert view.inputs.is_meta
    assert view.mixture.index.is_meta
    assert view.mixture.weight.is_meta
    assert count_operators(StackMix(axis), IMAGES.to('meta'), LABELS.to('meta')) == 2


def test_trains_in_the_learner_and_can_be_shown():
    model = MixClassifier(
        {'type': 'CifarResNet', 'depth': 8, 'width': 4}, {'type': 'LinearHead', 'num_classes': 4}, StackMix()
    ).train()
    model.context = Context(step=1)
    assert bool(model(IMAGES, LABELS, mode='loss')['loss_main'].isfinite())
    assert model.last_plan.views[0].inputs.shape == (5, 3, 16, 12)
    for axis in ('height', 'width'):
        assert mix_gallery(IMAGES, StackMix(axis).mix(IMAGES, LABELS), LABELS, rows=2).ndim == 3


@pytest.mark.parametrize('axis', ['depth', 0, None])
def test_wrong_arguments_are_refused(axis):
    with pytest.raises(InputError, match='StackMix'):
        StackMix(axis)
