import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, CutMix, Mixup
from openmixup.policies.masks import cutmix_boxes
from openmixup.policies.static.hmix import HMix

IMAGES = torch.randn(4, 3, 12, 18, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.arange(4))
PARTNER = torch.tensor([1, 3, 0, 2])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def view(policy, lam, seed=0, batch=BATCH):
    lam = torch.tensor(lam, dtype=torch.float64)
    return policy.view(batch, PARTNER[: len(batch)], lam, Context(generator=rng(seed)))


@pytest.mark.parametrize('ratio', [0, 0.3, 0.5, 1])
@pytest.mark.parametrize('lam', [[0.4], [0.1, 0.35, 0.8, 0.99]], ids=['batch', 'sample'])
@pytest.mark.parametrize('seed', range(3))
def test_image_by_hand(ratio, lam, seed):
    mixed = view(HMix(ratio=ratio), lam, seed)
    area = 1 - ratio * (1 - torch.tensor(lam, dtype=torch.float64))
    boxes = cutmix_boxes(area, (12, 18), rng(seed))
    for sample in range(4):
        at = sample % len(lam)
        (top, left), (bottom, right) = boxes.low[at].tolist(), boxes.high[at].tolist()
        outside = 1 - (bottom - top) * (right - left) / (12 * 18)
        own = lam[at] / outside
        expected = own * IMAGES[sample] + (1 - own) * IMAGES[PARTNER[sample]]
        expected[:, top:bottom, left:right] = IMAGES[PARTNER[sample], :, top:bottom, left:right]
        torch.testing.assert_close(mixed.inputs[sample], expected)


@pytest.mark.parametrize('ratio', [0, 0.5, 1])
def test_the_mean_of_the_mask_is_lam_and_so_is_the_label(ratio):
    lam = torch.rand(2000, generator=rng(1), dtype=torch.float64)
    region = HMix(ratio=ratio).mask(BATCH, PARTNER, lam, Context(generator=rng()))
    torch.testing.assert_close(region.kept(), lam, atol=1e-6, rtol=0)
    masks = torch.addcmul(*region.parts())
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1
    mixed = view(HMix(ratio=ratio), [0.1, 0.35, 0.8, 0.99])
    assert mixed.mixture.weight[:, 0].tolist() == pytest.approx([0.1, 0.35, 0.8, 0.99], abs=1e-6)


def test_ratio_0_is_mixup():
    ours, theirs = (view(policy, [0.3]) for policy in (HMix(ratio=0), Mixup()))
    torch.testing.assert_close(ours.inputs, theirs.inputs)
    torch.testing.assert_close(ours.mixture.weight, theirs.mixture.weight)


def test_ratio_1_is_cutmix_only_where_the_box_is_not_clipped():
    lam, same, other = 0.75, 0, 0  # a box of 6 x 6 of 12 x 12 pixels
    images = IMAGES[:, :, :, :12].contiguous()
    batch = Batch(images, torch.arange(4))
    for seed in range(40):
        (box,) = [cutmix_boxes(torch.tensor([lam]).double(), (12, 12), rng(seed))]
        ours, theirs = (view(policy, [lam], seed, batch) for policy in (HMix(ratio=1), CutMix()))
        whole = (box.high - box.low).tolist() == [[6, 6]]
        assert torch.allclose(ours.inputs, theirs.inputs, atol=1e-6) == whole
        same, other = same + whole, other + (not whole)
    assert min(same, other) > 5


@pytest.mark.parametrize('count', [1, 4])
def test_a_box_of_the_whole_image_leaves_nothing_to_divide_by(count, monkeypatch):
    monkeypatch.setattr(torch, 'rand', lambda *shape, **_: torch.full(shape, 0.5, dtype=torch.float64))
    region = HMix(ratio=1).mask(BATCH, PARTNER, torch.zeros(count, dtype=torch.float64), Context(generator=rng()))
    assert torch.equal(torch.addcmul(*region.parts()), torch.zeros(count, 1, 12, 18))


@pytest.mark.parametrize('ratio', [-0.1, 1.1, True, 'half', float('nan')])
def test_wrong_ratios_are_refused(ratio):
    with pytest.raises(InputError, match=r'HMix\(ratio=.*: expected a number from 0'):
        HMix(ratio=ratio)
