"""Operations with a strength of their own for each image, held against PIL one image at a time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as vision

from openmixup.policies import augment_ops as ops


def pictures(count=6, height=24, width=31, channels=3):
    """Smooth pictures of whole levels, of which some have little contrast."""
    coarse = torch.rand(count, channels, 4, 5, generator=torch.Generator().manual_seed(0))
    images = F.interpolate(coarse, (height, width), mode='bicubic').mul(255).clamp(0, 255)
    images[1::2] = images[1::2] / 3 + 40
    return images.round()


def by_pil(function, images):
    """``function`` of each channel as a grey PIL picture, (N, C, H, W) int."""
    rows = [[np.array(function(Image.fromarray(channel))) for channel in image] for image in images.byte().numpy()]
    return torch.from_numpy(np.stack([np.stack(row) for row in rows])).int()


def apply(images, kinds, amounts):
    """One operation for each image."""
    layer = ops.Layer.drawn(
        torch.arange(len(images)), torch.tensor(kinds), torch.tensor(amounts, dtype=torch.float64), images.shape[2:]
    )
    result = images.clone()
    layer.apply(result, *layer.parts())
    return result


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(('kind', 'amount', 'function'), [
    (ops.EQUALIZE, 0, ImageOps.equalize),
    *[(ops.POSTERIZE, lost, lambda image, lost=lost: ImageOps.posterize(image, 4 - lost)) for lost in (0, 1, 2, 3)],
    *[(ops.SOLARIZE, less, lambda image, less=less: ImageOps.solarize(image, 256 - less)) for less in (0, 1, 76, 200)],
])  # fmt: skip
def test_levels_are_exactly_those_of_pil(channels, kind, amount, function):
    images = pictures(channels=channels)
    found = apply(images, [kind] * 6, [amount] * 6)
    assert torch.equal(found.int(), by_pil(function, images))
    assert torch.equal(found, found.round())


def test_autocontrast_is_that_of_pil_but_for_its_rounding_errors():
    """Many pairs of a lowest and a highest level; PIL is off by one at a few levels that are whole before rounding."""
    lows = range(0, 255, 9)
    odd = total = 0
    for low in lows:
        for high in range(low + 1, 256, 11):
            row = np.arange(low, high + 1, dtype=np.uint8)[None]
            found = ops.measured_tables(torch.from_numpy(row)[None].long(), 1)[0, 0].numpy()[row]
            product = (row.astype(int) - low) * 255
            np.testing.assert_array_equal(found, product // (high - low))
            gap = found - np.array(ImageOps.autocontrast(Image.fromarray(row)))
            assert set(np.unique(gap[product % (high - low) != 0])) <= {0}
            assert set(np.unique(gap)) <= {0, 1}
            odd, total = odd + np.count_nonzero(gap), total + gap.size
    assert odd < 0.01 * total


def test_levels_are_stretched_by_channel_and_flat_channels_stay():
    images = torch.full((3, 2, 4, 6), 77.0)
    images[1:, 0, :, 3:] = 100.0
    found = apply(images, [ops.EQUALIZE, ops.AUTOCONTRAST, ops.EQUALIZE], [0, 0, 0])
    assert torch.equal(found[0], images[0])
    assert torch.equal(found[:, 1], images[:, 1])
    assert found[1, 0].unique().tolist() == [0, 255]
    assert torch.equal(found[2], images[2])  # fewer pixels than levels: PIL leaves them too
    large = images[2:].repeat_interleave(16, 2).repeat_interleave(16, 3)
    assert apply(large, [ops.EQUALIZE], [0])[0, 0].unique().tolist() == [0, 255]


def test_levels_between_whole_ones_are_rounded():
    images = torch.tensor([[[[99.4, 99.6], [180.4, 180.6]]]])
    assert apply(images, [ops.SOLARIZE], [256 - 100]).flatten().tolist() == [99, 155, 75, 74]


def affine_by_pil(image, kind, amount):
    if kind == ops.ROTATE:
        return image.rotate(amount, resample=Image.Resampling.BILINEAR)
    data = {
        ops.SHEAR_X: (1, amount, 0, 0, 1, 0), ops.SHEAR_Y: (1, 0, 0, amount, 1, 0),
        ops.TRANSLATE_X: (1, 0, amount, 0, 1, 0), ops.TRANSLATE_Y: (1, 0, 0, 0, 1, amount),
    }[kind]  # fmt: skip
    return image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)


STRENGTHS = [
    *[(ops.ROTATE, degrees) for degrees in (-29, 3, 17)], *[(ops.SHEAR_X, shear) for shear in (-0.3, 0.05, 0.21)],
    *[(ops.SHEAR_Y, shear) for shear in (-0.3, 0.05, 0.21)], *[(ops.TRANSLATE_X, pixels) for pixels in (-9, 1, 5)],
    *[(ops.TRANSLATE_Y, pixels) for pixels in (-7, 2, 4)],
]  # fmt: skip


@pytest.mark.parametrize('size', [(24, 31), (32, 20)])
def test_moves_are_those_of_pil(size):
    """All in one batch, each by itself; PIL fades nothing out at the border, so a line there is left out."""
    images = pictures(1, *size).expand(len(STRENGTHS), -1, -1, -1)
    found = apply(images, *zip(*STRENGTHS, strict=True))
    for (kind, amount), image, moved in zip(STRENGTHS, images, found, strict=True):
        expected = by_pil(lambda picture, kind=kind, amount=amount: affine_by_pil(picture, kind, amount), image[None])
        whole = by_pil(
            lambda picture, kind=kind, amount=amount: affine_by_pil(picture, kind, amount),
            F.pad(torch.full((1, 1, size[0] - 2, size[1] - 2), 255.0), (1, 1, 1, 1)),
        )[0, 0]
        inside, outside = whole == 255, whole == 0
        assert (moved.round().int() - expected[0]).abs()[:, inside].max() <= 1, (kind, amount)
        far = outside & (F.max_pool2d((whole > 0).float()[None, None], 5, 1, 2)[0, 0] == 0)
        assert float(moved[:, far].abs().max() if far.any() else 0) == 0
        assert float(inside.float().mean()) > 0.4


@pytest.mark.parametrize('degrees', [-20, 7])
def test_a_rotation_is_that_of_torchvision_to_the_border(degrees):
    images = pictures(2)
    expected = vision.rotate(images, degrees, vision.InterpolationMode.BILINEAR)
    torch.testing.assert_close(apply(images, [ops.ROTATE] * 2, [degrees] * 2), expected, rtol=0, atol=0.01)


def test_a_shift_is_one_of_whole_pixels():
    images = pictures(2, 8, 12)
    found = apply(images, [ops.TRANSLATE_X, ops.TRANSLATE_Y], [3, -2])
    torch.testing.assert_close(found[0, :, :, :9], images[0, :, :, 3:], rtol=0, atol=1e-3)
    torch.testing.assert_close(found[1, :, 2:], images[1, :, :6], rtol=0, atol=1e-3)
    torch.testing.assert_close(found[0, :, :, 9:], torch.zeros(3, 8, 3), rtol=0, atol=1e-3)
    torch.testing.assert_close(found[1, :, :2], torch.zeros(3, 2, 12), rtol=0, atol=1e-3)


def test_no_strength_is_no_change():
    images = pictures(6)
    kinds = [ops.SOLARIZE, ops.ROTATE, ops.SHEAR_X, ops.SHEAR_Y, ops.TRANSLATE_X, ops.TRANSLATE_Y]
    torch.testing.assert_close(apply(images, kinds, [0] * 6), images, rtol=0, atol=1e-3)


def test_a_layer_leaves_the_other_images_alone():
    images = pictures(5)
    places, kinds = torch.tensor([4, 0, 2]), torch.tensor([ops.ROTATE, ops.SOLARIZE, ops.AUTOCONTRAST])
    layer = ops.Layer.drawn(places, kinds, torch.tensor([180.0, 256.0, 0.0], dtype=torch.float64), images.shape[2:])
    assert (layer.measured, layer.toned.tolist(), layer.moved.tolist()) == ((1, 0), [2, 0], [4])
    result = images.clone()
    layer.apply(result, *layer.parts())
    assert torch.equal(result[[1, 3]], images[[1, 3]])
    assert torch.equal(result[0], 255 - images[0])
    assert torch.equal(result[2].int(), by_pil(ImageOps.autocontrast, images[2:3])[0])
    torch.testing.assert_close(result[4], images[4].flip(1, 2), rtol=0, atol=0.01)


def test_samples_stay_apart():
    """What an image becomes depends on its own levels and operation, not on its neighbours."""
    images = pictures(9)
    kinds, amounts = list(range(9)), [0, 0, 1, 200, 10, 0.2, -0.1, 3, -2]
    together = apply(images, kinds, amounts)
    for place in range(9):
        alone = apply(images[place : place + 1], kinds[place : place + 1], amounts[place : place + 1])
        torch.testing.assert_close(alone[0], together[place], rtol=0, atol=1e-4)
        assert not torch.equal(alone[0], images[place])
