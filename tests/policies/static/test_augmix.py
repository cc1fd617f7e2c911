"""AugMix: chains of operations, mixed, and the divergence of the predictions."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from openmixup.errors import InputError
from openmixup.policies import AugMix, Batch, Context
from openmixup.policies import augment_ops as ops
from openmixup.policies.augment_ops import amounts
from openmixup.policies.static import augmix
from openmixup.testing import check_policy, count_operators
from openmixup.testing.beta import beta_cdf, ecdf

LABELS = torch.tensor([0, 3, 1, 4, 2])
MEAN, STD = (0.49, 0.45, 0.40), (0.25, 0.2, 0.3)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(count=5, height=20, width=28, channels=3, seed=0):
    """Pictures of whole levels in [0, 1]."""
    coarse = torch.rand(count, channels, 4, 5, generator=rng(seed))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode='bicubic')
    return smooth.mul(255).round().clamp(0, 255) / 255


def each(values):
    return torch.tensor(values)[:, None, None]


@pytest.mark.parametrize('policy', [AugMix(1.0, 2, 2, 0.5, False), AugMix(10, 1, 1, jsd_weight=0.0)], ids=repr)
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


def by_pil(image, kind, amount):
    """One operation on a PIL picture, as the authors write it."""
    if kind < 4:
        functions = (ImageOps.autocontrast, ImageOps.equalize, ImageOps.posterize, ImageOps.solarize)
        return functions[kind](image, *[(), (), (4 - int(amount),), (256 - int(amount),)][kind])
    if kind == ops.ROTATE:
        return image.rotate(amount, Image.Resampling.BILINEAR)
    data = [(1, amount, 0, 0, 1, 0), (1, 0, 0, amount, 1, 0), (1, 0, amount, 0, 1, 0), (1, 0, 0, 0, 1, amount)]
    return image.transform(image.size, Image.Transform.AFFINE, data[kind - 5], Image.Resampling.BILINEAR)


@pytest.mark.parametrize('seed', range(3))
def test_pictures_are_those_of_a_loop_over_pil(monkeypatch, seed):
    """Chain by chain with the drawn operations; apart from borders and rounding the same."""
    noted, layers, shares = [], ops.Layer.drawn, AugMix.draw_weights

    def note_layer(places, kind, amount, size):
        noted.append(list(zip(places.tolist(), kind.tolist(), amount.tolist(), strict=True)))
        return layers(places, kind, amount, size)

    def note_shares(self, count, generator):
        noted.append(shares(self, count, generator))
        return noted[-1]

    monkeypatch.setattr(augmix.Layer, 'drawn', note_layer)
    monkeypatch.setattr(AugMix, 'draw_weights', note_shares)
    raw = pixels(4, 48, 64)
    normalised = (raw - each(MEAN)) / each(STD)
    found = AugMix(jsd=False)(Batch(normalised, LABELS[:4]), Context(seed, mean=MEAN, std=STD)).views[0].inputs
    found = (found * each(STD) + each(MEAN)) * 255
    (weight, share), *steps = noted
    assert weight.shape == (4, 3)
    gaps, changes = [], []
    for number, image in enumerate(raw):
        levels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        mixed = np.zeros(levels.shape)
        for chain in range(3):
            picture = Image.fromarray(levels)
            done = [job for step in steps for job in step if job[0] == number * 3 + chain]
            assert 1 <= len(done) <= 3
            for _, kind, amount in done:
                picture = by_pil(picture, kind, amount)
            mixed += float(weight[number, chain]) * np.array(picture, dtype=float)
        m = float(share[number])
        expected = torch.from_numpy((1 - m) * levels + m * mixed).permute(2, 0, 1)
        gaps.append((found[number] - expected).abs())
        changes.append((expected - image * 255).abs())
    gap, change = torch.stack(gaps), torch.stack(changes)
    assert float(gap.median()) < 0.3
    assert float(gap.mean()) < 0.1 * float(change.mean()), 'the rest are borders and rounding'


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('given', ['context', 'constructor'])
def test_normalised_images_are_augmented_as_their_pixels(channels, given):
    """Not as if they were in [0, 1], and normalised once."""
    raw, mean, std = pixels(channels=channels), MEAN[:channels], STD[:channels]
    normalised = (raw - each(mean)) / each(std)
    inner = {'mean': mean, 'std': std} if given == 'constructor' else {}
    context = (
        Context(7, mean=mean, std=std)
        if given == 'context'
        else Context(7, mean=(0.1,) * channels, std=(1.0,) * channels)
    )
    found = AugMix(jsd=False, **inner)(Batch(normalised, LABELS), context).views[0].inputs
    plain = AugMix(jsd=False, mean=(0.0,) * channels, std=(1.0,) * channels).mix(raw, LABELS, Context(7).rng).inputs
    torch.testing.assert_close(found * each(std) + each(mean), plain, rtol=0, atol=1e-4)
    assert float((plain - raw).abs().mean()) > 0.01
    assert float(plain.min()) >= 0
    assert float(plain.max()) <= 1 + 1e-6


def test_levels_out_of_range_are_cut_in_chains_only():
    """Where the share of the chains is 0 the image stays as it is, and where it is 1 it lies in the range."""

    class Fixed(AugMix):
        def draw_weights(self, count, generator):
            return torch.full((count, self.width), 1 / self.width), torch.tensor([0.0, 1.0] * (count // 2))

    images = torch.randn(4, 3, 16, 16, generator=rng()) * 5
    found = Fixed(jsd=False, mean=MEAN, std=STD).mix(images, None, rng()).inputs
    assert torch.equal(found[::2], images[::2])
    levels = found[1::2] * each(STD) + each(MEAN)
    assert float(levels.min()) >= -1e-5
    assert float(levels.max()) <= 1 + 1e-5
    assert float(levels.max()) > 0.9


def test_a_normalisation_that_is_not_known_is_taken_from_the_range():
    """Scale and shift of the values then have no part in the picture, nor do the other images."""
    images = pixels(5)
    policy = AugMix(jsd=False)
    found = policy.mix(images, None, rng(1)).inputs
    other = policy.mix(images * 4 - 2, None, rng(1)).inputs
    torch.testing.assert_close(other, found * 4 - 2, rtol=0, atol=1e-4)
    changed = images.clone()
    changed[1:] = changed[1:] * 3 - 1
    assert torch.equal(policy.mix(changed, None, rng(1)).inputs[0], found[0])
    flat = torch.full((3, 3, 8, 8), 0.7)
    torch.testing.assert_close(policy.mix(flat, None, rng(1)).inputs, flat)


@pytest.mark.parametrize('alpha', [0.3, 1.0, 4.0])
def test_weights_follow_their_laws(alpha):
    weight, share = AugMix(alpha=alpha).draw_weights(4000, rng())
    torch.testing.assert_close(weight.sum(1), torch.ones(4000, dtype=torch.float64))
    torch.testing.assert_close(weight.mean(0), torch.full((3,), 1 / 3, dtype=torch.float64), rtol=0, atol=0.02)
    variance = (1 / 3) * (2 / 3) / (3 * alpha + 1)  # of Dirichlet(alpha, alpha, alpha)
    torch.testing.assert_close(weight.var(0), torch.full((3,), variance, dtype=torch.float64), rtol=0.1, atol=0)
    ordered = share.sort().values
    assert float((ecdf(ordered) - beta_cdf(ordered, alpha)).abs().max()) < 2.75 / 4000**0.5
    assert abs(float(torch.corrcoef(torch.stack([share, weight[:, 0]]))[0, 1])) < 0.08


def drawn(policy, count=6000, size=(30, 60)):
    """(chain, place in it, kind, amount) of the operations of ``count`` chains."""
    found = []
    real = ops.Layer.drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmix.Layer, 'drawn', lambda *given: found.append(given) or real(*given))
        policy.draw_layers(count, size, rng())
    return [(place, kind, amount) for place, kind, amount, _ in found]


def test_chains_have_one_to_three_even_operations_of_the_paper():
    layers = drawn(AugMix())
    assert len(layers[0][0]) == 6000
    for layer, share in zip(layers, (1, 2 / 3, 1 / 3), strict=True):
        assert abs(len(layer[0]) / 6000 - share) < 0.03
    assert set(layers[2][0].tolist()) < set(layers[1][0].tolist())
    counts = torch.cat([kind for _, kind, _ in layers]).bincount(minlength=9) / 12000
    assert len(counts) == 9
    assert float((counts - 1 / 9).abs().max()) < 0.015
    assert not {'color', 'contrast', 'brightness', 'sharpness'} & set(ops.OPERATIONS)
    assert [len(layer[0]) for layer in drawn(AugMix(depth=4), 50)] == [50] * 4


def test_strengths_follow_severity_and_the_image_size():
    """By the authors' rule for images of 30x60: whole numbers but for shears, and both signs where there are signs."""
    kind, amount = (torch.cat(part) for part in list(zip(*drawn(AugMix(severity=5)), strict=True))[1:])
    largest = {2: 1, 3: 127, 4: 14, 5: 0.15, 6: 0.15, 7: 9, 8: 4}
    for number, top in largest.items():
        found = amount[kind == number]
        low = -top if number >= 4 else 0
        assert float(found.max()) == pytest.approx(top, rel=0.02)
        assert float(found.min()) == pytest.approx(low, rel=0.02, abs=3)
        if number not in (5, 6):
            assert torch.equal(found, found.trunc())
        if number >= 4:
            assert abs(float((found > 0).double().mean() - (found < 0).double().mean())) < 0.1
    levels = torch.tensor([0.1, 2.5, 10.0], dtype=torch.float64)
    table = amounts(torch.arange(9)[:, None].expand(-1, 3), levels.expand(9, -1), (32, 64))
    expected = [
        (0, 0, 0), (0, 0, 0), (0, 1, 4), (2, 64, 256), (0, 7, 30), (0.003, 0.075, 0.3), (0.003, 0.075, 0.3),
        (0, 5, 21), (0, 2, 10),
    ]  # fmt: skip
    torch.testing.assert_close(table, torch.tensor(expected, dtype=torch.float64))


def test_samples_and_views_differ_and_least_severity_moves_nothing():
    images = pixels(1).expand(6, -1, -1, -1)
    clean_plan = AugMix()(Batch(images, torch.arange(6)), Context(3))
    pictures = torch.cat([view.inputs for view in clean_plan.views[:2]]).flatten(1)
    assert len(pictures.unique(dim=0)) == 12
    kinds = [(kind[amount != 0], amount[amount != 0]) for _, kind, amount in drawn(AugMix(0.1), 500, (24, 24))]
    assert {int(kind) for kind in torch.cat([kind for kind, _ in kinds])} <= {ops.SOLARIZE, ops.SHEAR_X, ops.SHEAR_Y}
    assert float(torch.cat([amount[kind > ops.SOLARIZE] for kind, amount in kinds]).abs().max()) <= 0.0031


def test_regression_targets_have_no_divergence():
    images, values = pixels(), torch.rand(5, 2, generator=rng())
    with pytest.raises(InputError, match='give jsd=False'):
        AugMix()(Batch(images, values, target='regression'), Context())
    view = AugMix(jsd=False).mix(images, values, rng(), target='regression')
    torch.testing.assert_close(view.mixture.of(values), values)
    with pytest.raises(InputError, match='3 views'):
        AugMix().mix(images, LABELS)


def test_the_slope_of_the_image_is_its_own_share():
    images = pixels().requires_grad_()
    AugMix(jsd=False).mix(images, None, rng(2)).inputs.sum().backward()
    slope = images.grad.flatten(1)
    torch.testing.assert_close(slope, slope[:, :1].expand_as(slope))
    _, share = AugMix().draw_weights(5, rng(2))
    torch.testing.assert_close(slope[:, 0], (1 - share).float())


@pytest.mark.parametrize('shape', [(2, 1, 2, 2), (3, 4, 3, 40), (5, 3, 33, 17)])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_any_size_and_type(shape, dtype):
    images = torch.rand(shape, generator=rng())
    found = AugMix(10, jsd=False).mix(images.to(dtype), None, rng()).inputs
    assert found.dtype == dtype
    assert found.shape == shape
    assert bool(found.isfinite().all())
    assert float(found.float().min()) >= -0.01
    assert float(found.float().max()) <= 1.01


@pytest.mark.parametrize(('policy', 'most'), [(AugMix(), 137), (AugMix(depth=1), 57), (AugMix(width=9), 137)], ids=repr)
def test_operators_grow_with_depth_only(policy, most):
    images = torch.ones(32, 3, 12, 12, device='meta')
    found = count_operators(policy, images, torch.zeros(32, dtype=torch.long, device='meta'))
    assert found <= policy.operators == most


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'severity': 0}, 'severity=0'), ({'severity': 11}, 'from 0.1 to 10'), ({'severity': float('nan')}, 'severity=nan'),
    ({'width': 0}, 'width=0'), ({'width': 2.0}, 'width=2.0'), ({'depth': 0}, 'depth=0'),
    ({'depth': True}, 'depth=True'),
    ({'alpha': 0}, 'alpha=0'), ({'alpha': 'one'}, "alpha='one'"), ({'jsd': 12.0}, 'its weight is jsd_weight'),
    ({'jsd_weight': -1}, 'jsd_weight=-1'), ({'mean': (0.5,)}, 'std=None'), ({'std': (0.5,)}, 'mean=None'),
    ({'mean': (), 'std': ()}, 'one number per channel'),
    ({'mean': (0.5,), 'std': (0.5, 0.5)}, 'one number per channel'),
    ({'mean': (0.5,), 'std': (0.0,)}, 'std above 0'), ({'mean': 0.5, 'std': 0.5}, 'mean=0.5'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        AugMix(**arguments)


def test_a_normalisation_of_other_channels_is_refused():
    with pytest.raises(InputError, match='2 channels, but the images have 3'):
        AugMix(jsd=False, mean=(0.5, 0.5), std=(0.2, 0.2)).mix(pixels())


def test_a_pixel_that_is_no_number_breaks_no_other_image_and_stays_to_be_found():
    images = pixels()
    images[1, 0, 3, 4] = float('nan')
    view = AugMix(10.0, jsd=False, mean=(0.0,) * 3, std=(1.0,) * 3).mix(images, rng=rng())
    assert view.inputs[1, 0, 3, 4].isnan()
    assert view.inputs.isnan().sum() == 1
