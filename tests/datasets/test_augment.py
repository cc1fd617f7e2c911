"""RandAugment and ColorJitter of batches, held against PIL one image at a time; timm's RandAugment of single images."""

import pickle
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance, ImageOps
from timm.data import auto_augment as timm_augment

from openmixup.datasets import ColorJitter, RandAugment, RandomErasing
from openmixup.datasets.sample_crop import SampleCrop
from openmixup.datasets.transforms import operations
from openmixup.datasets.transforms.augment import _FIXMATCH, _TIMM
from openmixup.errors import InputError

INCREASING = {
    **{name: f'{name}Increasing' for name in ('Posterize', 'Solarize', 'Color', 'Contrast', 'Brightness', 'Sharpness')},
    'TranslateX': 'TranslateXRel', 'TranslateY': 'TranslateYRel',
}  # fmt: skip


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=4, h=40, w=48, channels=3):
    """Smooth pictures, of which the second has little contrast."""
    coarse = torch.rand(n, channels, 5, 6, generator=rng())
    images = F.interpolate(coarse, (h, w), mode='bicubic').mul(255).clamp(0, 255)
    images[1:2] = images[1:2] / 3 + 40
    return images.to(torch.uint8)


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pil(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def one_operation(name, level, sign, images, **options):
    """``name`` at one level and side for all samples."""
    transform = RandAugment(1, operations=[name], **options)
    count = len(images)
    levels, signs = torch.full((count,), level, dtype=torch.float64), torch.full((count,), sign)
    return transform._layer(images, torch.zeros(count, dtype=torch.int64), levels, signs)


@pytest.mark.parametrize('sign', [-1, 1])
@pytest.mark.parametrize('level', [0.0, 3.3, 9.0, 9.99])
@pytest.mark.parametrize('name', _TIMM)
def test_each_operation_is_that_of_timm(monkeypatch, name, level, sign):
    """Same strength at the same magnitude, same pixels but for rounding."""
    monkeypatch.setattr(timm_augment, '_randomly_negate', lambda value: sign * value)
    fill = (10, 20, 30)
    hparams = {'img_mean': fill, 'interpolation': Image.Resampling.BILINEAR}
    other = timm_augment.AugmentOp(INCREASING.get(name, name), 1.0, level, hparams)
    images = pictures()
    expected = torch.stack([from_pil(other(to_pil(image))) for image in images])
    found = one_operation(name, level, sign, images, fill=fill)
    assert (found.int() - expected.int()).abs().max() <= 1
    if level == 0 and name not in ('AutoContrast', 'Equalize', 'Invert', 'Posterize'):
        assert torch.equal(found, images), 'no strength, no change'
    elif level >= 9:
        assert (found != images).float().mean() > 0.3


def test_the_lists_are_those_of_timm_and_of_the_paper():
    from torchvision.transforms import v2

    names = {INCREASING.get(name, name) for name in _TIMM}
    assert names == set(timm_augment._RAND_INCREASING_TRANSFORMS)
    assert set(_FIXMATCH) == set(v2.RandAugment._AUGMENTATION_SPACE)
    assert (len(_TIMM), len(_FIXMATCH)) == (15, 14)


def test_every_sample_has_strengths_of_its_own():
    images = pictures(1).expand(4, 3, 40, 48)
    factor = torch.tensor([0.1, 1.0, 1.4, 1.9])
    for batched, single in ((operations.color, ImageEnhance.Color), (operations.contrast, ImageEnhance.Contrast)):
        result = batched(images, factor)
        for image, strength, found in zip(images, factor.tolist(), result, strict=True):
            expected = from_pil(single(to_pil(image)).enhance(strength))
            assert (found.int() - expected.int()).abs().max() <= 1
        assert torch.equal(result[1], images[1])
    bits = torch.tensor([1, 4, 7, 8])
    posterized = operations.apply_tables(images, operations.posterize_tables(bits))
    for image, count, found in zip(images, bits.tolist(), posterized, strict=True):
        assert torch.equal(found, from_pil(ImageOps.posterize(to_pil(image), count)))


def test_extreme_pictures():
    """Constant ones stay where there is nothing to stretch, and tiny ones pass."""
    flat = torch.full((2, 3, 8, 8), 77, dtype=torch.uint8)
    for name in ('AutoContrast', 'Equalize', 'Contrast', 'Sharpness', 'Color', 'Rotate', 'ShearX', 'TranslateY'):
        assert torch.equal(one_operation(name, 9.0, 1, flat, fill=77), flat), name
    tiny = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2)
    assert torch.equal(one_operation('Sharpness', 9.0, 1, tiny), tiny)
    two = torch.tensor([0, 255], dtype=torch.uint8).repeat(8).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert torch.equal(one_operation('AutoContrast', 9.0, 1, two), two)


def test_draws():
    """Each operation, side and magnitude comes as often as it should; magnitudes are cut to 0..10."""
    transform = RandAugment(1, magnitude=9, magnitude_std=0.5, prob=0.5)
    chosen, level, sign = transform._draw(30_000, rng())
    share = chosen.add(1).bincount(minlength=16) / 30_000
    assert abs(float(share[0]) - 0.5) < 0.015
    assert float((share[1:] - 0.5 / 15).abs().max()) < 0.006
    assert abs(float(level.mean()) - 9) < 0.02
    assert abs(float(level.std()) - 0.5) < 0.02
    assert float(level.max()) == 10
    assert sign.unique().tolist() == [-1, 1]
    assert abs(float(sign.float().mean())) < 0.03
    assert RandAugment(magnitude=4, magnitude_std=0)._draw(9, rng())[1].unique().tolist() == [4]


def test_about_a_quarter_of_the_samples_stay():
    images = pictures(1).expand(800, 3, 40, 48)
    result = RandAugment(2, operations=['Invert'])(images, rng())
    same = (result == images).flatten(1).all(1).float().mean()
    assert abs(float(same) - 0.5) < 0.06  # neither or both of two
    result = RandAugment(2, operations=['Posterize'])(images, rng())
    same = (result == images).flatten(1).all(1).float().mean()
    assert abs(float(same) - 0.25) < 0.05  # neither
    for nothing in (RandAugment(0), RandAugment(prob=0.0), RandAugment(operations=['Identity'], prob=1.0)):
        assert torch.equal(nothing(images, rng()), images)


def test_samples_stay_apart():
    """What a sample becomes depends on its own pixels and draws, not on its neighbours."""
    images, transform = pictures(16), RandAugment(2, prob=1.0)
    result = transform(images, rng(5))
    others = images.clone()
    others[1::2] = 0
    assert torch.equal(transform(others, rng(5))[::2], result[::2])
    assert torch.equal(transform(images.float() + 0.2, rng(5)), result.float()), 'rounded to whole values first'


@pytest.mark.parametrize('transform', [RandAugment(2, prob=1.0), ColorJitter()], ids=['RandAugment', 'ColorJitter'])
def test_global_streams_are_left_alone(transform):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    transform(pictures(), rng())
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(states[0], after[0])
    assert states[1:] == after[1:]


def test_jitter_is_the_product_of_its_parts():
    images = pictures(300, 6, 7)
    assert torch.equal(ColorJitter(0, 0, 0)(images, rng()), images)
    grey = torch.full((300, 1, 6, 7), 100, dtype=torch.uint8)
    bright = ColorJitter(0.4, 0, 0)(grey, rng())[:, 0, 0, 0].float()
    assert 60 <= float(bright.min()) < 63
    assert 137 < float(bright.max()) <= 140
    assert abs(float(bright.mean()) - 100) < 3
    assert torch.equal(ColorJitter(0, 0.4, 0.4)(grey, rng()), grey), 'a constant grey has neither contrast nor colour'
    coloured = ColorJitter(0, 0, 0.9)(images, rng()).float()
    spread = [(batch.amax(1) - batch.amin(1)).mean((1, 2)) for batch in (images.float(), coloured)]
    ratio = spread[1] / spread[0]
    assert float(ratio.min()) < 0.2
    assert float(ratio.max()) > 1.4


@pytest.mark.parametrize(
    'wrong',
    [
        {'num_ops': -1}, {'num_ops': 1.5}, {'magnitude': 11}, {'magnitude_std': -1}, {'prob': 2}, {'fill': 300},
        {'operations': 'tim'}, {'operations': ['Rotat']}, {'operations': []}, {'interpolation': 'nearest'},
        {'fill': ()},
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(InputError):
        RandAugment(**wrong)
    with pytest.raises(InputError, match='fill has 3'):
        RandAugment(fill=(1, 2, 3))(pictures(channels=1), rng())
    with pytest.raises(InputError):
        ColorJitter(brightness=-0.1)


def test_noise_of_large_images_takes_memory_for_the_batch_only():
    """A table of all shifts of the noise picture would take 30 GB here."""
    images = torch.zeros(4, 3, 224, 224)
    result = RandomErasing(1.0, value='noise')(images, rng())
    written = result[result != 0]
    assert 0.02 < len(written) / result.numel() < 1 / 3
    assert not torch.equal(result[0], result[1])


AUGMENT = 'rand-m9-mstd0.5-inc1'


def test_single_images_get_timms_own_by_key():
    """The same generator gives the same picture; the global streams are neither read nor moved."""
    image = pictures(1, 60, 70)[0]
    crop = SampleCrop(32, augment=AUGMENT, interpolation='bicubic')
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = crop(image, rng(3))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert torch.equal(crop(image, rng(3)), first)
    assert (first.dtype, first.shape) == (torch.uint8, (3, 32, 32))
    plain = SampleCrop(32, interpolation='bicubic')
    assert torch.equal(crop.cropped(image, rng(3)), plain(image, rng(3))), 'the crop is drawn first'
    results = [crop(image, rng(seed)) for seed in range(40)]
    changed = [not torch.equal(result, plain(image, rng(seed))) for seed, result in enumerate(results)]
    assert 20 < sum(changed) < 40
    assert torch.equal(pickle.loads(pickle.dumps(crop))(image, rng(3)), first), 'it goes to a spawned worker'


def test_single_images_are_what_timm_makes_of_the_crop():
    image = pictures(1, 60, 70)[0]
    hparams = {'translate_const': 14, 'img_mean': (124, 116, 104), 'interpolation': Image.Resampling.BICUBIC}
    other = timm_augment.rand_augment_transform(AUGMENT, hparams)
    crop = SampleCrop(32, augment=AUGMENT, interpolation='bicubic')
    for seed in range(20):
        generator = rng(seed)
        cropped = crop.cropped(image, generator)
        key = int(torch.randint(2**32, (), generator=generator))
        random.seed(key)
        np.random.seed(key)  # noqa: NPY002
        assert torch.equal(crop(image, rng(seed)), from_pil(other(to_pil(cropped))))


def test_the_strongest_posterizing_keeps_a_bit():
    """At magnitude 10 timm asks for none, which PIL refuses."""
    image = pictures(1, 40, 40)[0]
    crop = SampleCrop(32, augment='rand-m10-p1-inc1')
    for seed in range(60):
        crop(image, rng(seed))
    posterize = next(op for op in crop.augment.ops if op.name == 'PosterizeIncreasing')
    assert posterize.level_fn(10, {}) == (1,)
    assert posterize.level_fn(5, {}) == (2,)


@pytest.mark.parametrize('wrong', ['rand-x', 'rand-mfoo', 'rand-tnope', 'augmix-m3', 'm9', ''])
def test_a_wrong_recipe_is_refused(wrong):
    with pytest.raises(InputError, match='mstd'):
        SampleCrop(32, augment=wrong)
