import numpy as np
import pytest
import timm.data
import timm.data.mixup
import torch
from torchvision.transforms import v2

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, CutMix
from openmixup.policies.masks import Boxes, cutmix_boxes, inner_boxes
from openmixup.testing import check_policy

IMAGES = torch.randn(6, 3, 14, 20, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 3, 0])
DRAWS = 20_000


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def view(lam, partner, seed=0):
    return CutMix().view(
        Batch(IMAGES, LABELS), partner, torch.tensor([lam], dtype=torch.float64), Context(generator=rng(seed))
    )


def centre(seed):
    """Row and column of the centre that the policy draws first from its stream."""
    return (torch.rand(1, 2, generator=rng(seed), dtype=torch.float64) * torch.tensor([14, 20])).long()[0].tolist()


@pytest.mark.parametrize('lam', [0.02, 0.3, 0.77, 0.995])
@pytest.mark.parametrize('seed', range(5))
def test_equals_torchvision_for_the_same_lam_centre_and_partners(lam, seed, monkeypatch):
    theirs = v2.CutMix(num_classes=4)
    row, column = centre(seed)
    draws = iter([column, row])  # torchvision draws x first
    monkeypatch.setattr(theirs._dist, 'sample', lambda shape: torch.tensor([lam], dtype=torch.float64))
    monkeypatch.setattr(torch, 'randint', lambda high, size: torch.tensor([next(draws)]))
    params = {'labels': LABELS, 'batch_size': 6, **theirs.make_params([IMAGES])}
    ours = view(lam, torch.arange(6).roll(1), seed)
    assert torch.equal(ours.inputs, theirs.transform(IMAGES, params))
    torch.testing.assert_close(ours.mixture.soft(LABELS, 4), theirs.transform(LABELS, params))


@pytest.mark.parametrize('seed', range(5))
def test_equals_timm_for_the_same_lam_centre_and_partners(seed, monkeypatch):
    lam = 1 - 0.36  # sides of 8 and 12 pixels; timm gives odd sides one pixel more than the authors
    theirs = timm.data.Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, num_classes=4, label_smoothing=0.0)
    theirs._params_per_batch = lambda: (lam, True)
    draws = iter(centre(seed))
    monkeypatch.setattr(np.random, 'randint', lambda low, high, size=None: next(draws))
    images, target = theirs(IMAGES.clone(), LABELS)
    ours = view(lam, torch.arange(6).flip(0), seed)
    assert torch.equal(ours.inputs, images)
    torch.testing.assert_close(ours.mixture.soft(LABELS, 4), target)


@pytest.mark.parametrize(('alpha', 'pixels', 'mean', 'deviation'), [
    (1.0, 32, 0.701, 0.183), (1.0, 224, 0.682, 0.188), (0.2, 32, 0.723, 0.245), (0.2, 224, 0.705, 0.258),
    (2.0, 32, 0.694, 0.153), (2.0, 224, 0.675, 0.157),
])  # fmt: skip
def test_realised_lam(alpha, pixels, mean, deviation):
    generator = rng()
    kept = cutmix_boxes(CutMix(alpha).draw_lam(DRAWS, generator), (pixels, pixels), generator).kept()
    assert float(kept.mean()) == pytest.approx(mean, abs=5 * deviation / DRAWS**0.5 + 5e-4)
    assert float(kept.std()) == pytest.approx(deviation, abs=5 * deviation / (2 * DRAWS) ** 0.5 + 5e-4)


@pytest.mark.parametrize(('pixels', 'share'), [(32, 0.174), (224, 0.081)])
def test_share_of_draws_without_a_box(pixels, share):
    generator = rng()
    boxes = cutmix_boxes(CutMix(0.2).draw_lam(DRAWS, generator), (pixels, pixels), generator)
    empty = float((boxes.kept() == 1).double().mean())
    assert empty == pytest.approx(share, abs=5 * (share * (1 - share) / DRAWS) ** 0.5 + 5e-4)


def test_boxes_lie_in_the_image_and_centres_are_uniform():
    lam = torch.full((DRAWS,), 0.96, dtype=torch.float64)  # sides of 2 and 4 pixels
    boxes = cutmix_boxes(lam, (10, 20), rng())
    assert int(boxes.low.min()) == 0
    assert boxes.high.amax(0).tolist() == [10, 20]
    assert bool((boxes.high >= boxes.low).all())
    for axis, size in enumerate((10, 20)):
        hits = torch.bincount(boxes.high[:, axis], minlength=size + 1)
        share = 1 / size  # the side behind the centre is never clipped before the border
        inner = hits[axis + 2 : size]
        assert bool((abs(inner - share * DRAWS) < 5 * (share * (1 - share) * DRAWS) ** 0.5).all())


def test_batch_and_sample_paths_agree_for_one_box():
    ours = view(0.5, torch.arange(6).roll(1), seed=3)
    boxes = cutmix_boxes(torch.full((1,), 0.5, dtype=torch.float64), (14, 20), rng(3))
    many = Boxes(boxes.low.expand(6, -1), boxes.high.expand(6, -1), (14, 20))

    class Given(CutMix):
        def mask(self, batch, partner, lam, ctx):
            return many

    lam = torch.full((6,), 0.5, dtype=torch.float64)
    again = Given(per='sample').view(Batch(IMAGES, LABELS), torch.arange(6).roll(1), lam, Context())
    torch.testing.assert_close(ours.mixture.weight, again.mixture.weight)
    assert torch.equal(ours.inputs, again.inputs)
    assert torch.equal(ours.masks, again.masks)


def test_nobody_is_cut_into_itself():
    for seed in range(50):
        index = CutMix().mix(IMAGES, LABELS, rng(seed)).mixture.index
        assert not bool((index[:, 0] == index[:, 1]).any())


def test_sides_of_minmax_are_uniform_and_so_are_places():
    boxes = inner_boxes(DRAWS, (0.2, 0.5), (10, 20), rng())
    sides = boxes.high - boxes.low
    assert int(boxes.low.min()) == 0
    assert boxes.high.amax(0).tolist() == [10, 20]
    for axis, least, most in ((0, 2, 5), (1, 4, 10)):
        hits = torch.bincount(sides[:, axis], minlength=most + 1)
        assert hits[:least].sum() == 0
        assert len(hits) == most + 1
        share = 1 / (most - least + 1)
        assert float((hits[least:] - share * DRAWS).abs().max()) < 5 * (share * (1 - share) * DRAWS) ** 0.5
        low = boxes.low[sides[:, axis] == least, axis]
        places = torch.bincount(low)
        assert len(places) == (10, 20)[axis] - least + 1
        rate = 1 / len(places)
        assert float((places - rate * len(low)).abs().max()) < 5 * (rate * (1 - rate) * len(low)) ** 0.5
    assert abs(float(sides.double().T.corrcoef()[0, 1])) < 5 / DRAWS**0.5


def test_bounds_of_sides_are_whole_pixels_of_exact_products():
    for share in (0.29, 0.3, 0.57, 0.7):  # in float32 0.29 * 100 is 29
        side = inner_boxes(1, (share, share), (100, 10), rng())
        assert (side.high - side.low).tolist() == [[int(100 * share), int(10 * share)]]


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_labels_follow_the_area_of_a_box_of_minmax(per):
    policy = CutMix(per=per, minmax=(0.2, 0.8))
    assert policy.lam_beta is None
    for seed in range(5):
        ours = policy.mix(IMAGES, LABELS, rng(seed))
        own = (ours.inputs == IMAGES).all(1).float().mean((1, 2))
        torch.testing.assert_close(ours.mixture.weight[:, 0], own)
        assert bool((own >= 1 - 0.8**2).all())
        assert bool((own <= 1 - 2 * 4 / 280).all())


def test_minmax_does_what_it_says():
    check_policy(CutMix(per='sample', minmax=(0.0, 1.0)), raise_on_failure=True)


@pytest.mark.parametrize('minmax', [0.5, (0.8, 0.2), (0.1, 1.2), (0.1,), (-0.1, 0.5), ('a', 1), (True, 1)])
def test_wrong_ranges_are_refused(minmax):
    with pytest.raises(InputError, match=r'CutMix\(minmax='):
        CutMix(minmax=minmax)
