import pytest
import timm.data
import torch
from torchvision.transforms import v2

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, Mixup

IMAGES = torch.randn(6, 3, 8, 10, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 3, 0])


def view(policy, partner, lam):
    ctx = Context(generator=torch.Generator().manual_seed(0))
    return policy.view(Batch(IMAGES, LABELS), partner, torch.tensor([lam], dtype=torch.float64), ctx)


def test_equals_torchvision_for_the_same_lam_and_partners():
    theirs = v2.MixUp(num_classes=4)
    params = {'labels': LABELS, 'batch_size': 6, 'lam': 0.37}
    ours = view(Mixup(), torch.arange(6).roll(1), 0.37)
    torch.testing.assert_close(ours.inputs, theirs.transform(IMAGES, params))
    torch.testing.assert_close(ours.mixture.soft(LABELS, 4), theirs.transform(LABELS, params))


def test_equals_timm_for_the_same_lam_and_partners():
    theirs = timm.data.Mixup(num_classes=4, label_smoothing=0.0)
    theirs._params_per_batch = lambda: (0.37, False)
    images, target = theirs(IMAGES.clone(), LABELS)
    ours = view(Mixup(pairing='flip'), torch.arange(6).flip(0), 0.37)
    torch.testing.assert_close(ours.inputs, images)
    torch.testing.assert_close(ours.mixture.soft(LABELS, 4), target)


@pytest.mark.parametrize('alpha', [0.2, 1.0, 4.0])
def test_lam_has_the_moments_of_beta(alpha):
    lam = Mixup(alpha).draw_lam(20_000, torch.Generator().manual_seed(0))
    variance = 1 / (4 * (2 * alpha + 1))
    assert lam.dtype == torch.float64
    assert float(lam.mean()) == pytest.approx(0.5, abs=5 * (variance / 20_000) ** 0.5)
    assert float(lam.var()) == pytest.approx(variance, rel=0.05)


def test_an_image_that_meets_itself_is_kept():
    ours = view(Mixup(), torch.tensor([0, 2, 1, 3, 5, 4]), 0.25)
    torch.testing.assert_close(ours.inputs[[0, 3]], IMAGES[[0, 3]])
    torch.testing.assert_close(ours.inputs[1], 0.25 * IMAGES[1] + 0.75 * IMAGES[2])


@pytest.mark.parametrize(('options', 'match'), [
    ({'alpha': 0}, 'alpha=0'), ({'alpha': -1.0}, 'alpha=-1.0'), ({'alpha': True}, 'alpha=True'),
    ({'alpha': '1'}, "alpha='1'"), ({'alpha': float('nan')}, 'alpha=nan'), ({'per': 'pixel'}, "per='pixel'"),
    ({'pairing': 'random'}, "pairing='random'"), ({'pairing': ['flip']}, r"pairing=\['flip'\]"),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        Mixup(**options)


def test_gradients_flow_to_the_images():
    images = IMAGES.clone().requires_grad_()
    Mixup().mix(images, LABELS, torch.Generator().manual_seed(1)).inputs.sum().backward()
    torch.testing.assert_close(images.grad.sum(), torch.tensor(float(IMAGES.numel())))
