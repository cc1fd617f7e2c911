"""Saliency maps: equal to plain loops, find what stands out, and do not depend on type, autocast or device."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import gaussian_blur, rgb_to_grayscale

from openmixup.policies import saliency
from openmixup.policies.precision import arithmetic
from openmixup.policies.saliency import (
    blur,
    fine_grained,
    gradient_saliency,
    grey,
    peaks,
    spectral_residual,
)

MAPS = {'fine_grained': fine_grained, 'spectral_residual': spectral_residual}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def blob(height, width, row, column, sigma=2.0):
    """(H, W) a bright spot around a pixel."""
    rows, columns = torch.arange(height)[:, None] - row, torch.arange(width) - column
    return (-(rows**2 + columns**2) / (2 * sigma**2)).exp()


def surround_by_loops(picture, radii):
    """Fine-grained saliency of (H, W), one pixel at a time: the "on" and the "off" part of each window."""
    height, width = picture.shape
    on, off = np.zeros((height, width)), np.zeros((height, width))
    for radius in radii:
        for i in range(height):
            for j in range(width):
                window = picture[max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1]
                on[i, j] += max(picture[i, j] - window.mean(), 0)
                off[i, j] += max(window.mean() - picture[i, j], 0)
    return on + off


@pytest.mark.parametrize(('height', 'width', 'radii'), [(7, 11, (1, 2, 3)), (16, 16, (1, 3, 5)), (40, 33, (3, 6, 13))])
def test_fine_grained_is_the_sum_of_on_and_off_maps(height, width, radii):
    images = noise(2, 1, height, width)
    maps = fine_grained(images)
    for image, found in zip(images[:, 0].double().numpy(), maps, strict=True):
        np.testing.assert_allclose(found.numpy(), surround_by_loops(image, radii), atol=1e-5)


def test_fine_grained_sees_dark_like_bright_and_ignores_the_level():
    images = noise(3, 3, 32, 32)
    torch.testing.assert_close(fine_grained(-images), fine_grained(images))
    torch.testing.assert_close(fine_grained(images + 5), fine_grained(images), atol=1e-4, rtol=0)
    assert float(fine_grained(torch.ones(1, 3, 32, 32)).max()) < 1e-5


def test_windows_grow_with_the_picture():
    assert saliency._radii(64) == (5, 10, 20)
    assert saliency._radii(32) == (3, 5, 10)
    assert saliency._radii(4) == (1,)  # equal ones count once


def spectral_by_numpy(picture, size=7, sigma=3.0):
    spectrum = np.fft.fft2(picture)
    magnitude, phase = np.log(np.abs(spectrum) + 1e-3), np.angle(spectrum)
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    usual = sum(np.roll(magnitude, shift, (0, 1)) for shift in shifts) / 9
    left = np.abs(np.fft.ifft2(np.exp(magnitude - usual + 1j * phase)))
    weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(left, size // 2, mode='reflect')
    places = np.ndindex(left.shape)
    return np.array([(padded[i : i + size, j : j + size] * window).sum() for i, j in places]).reshape(left.shape)


@pytest.mark.parametrize('size', [(8, 8), (12, 9), (3, 5), (1, 6)])
def test_spectral_residual_equals_numpy(size):
    images = noise(2, 1, *size)
    for image, found in zip(images[:, 0].double().numpy(), spectral_residual(images), strict=True):
        np.testing.assert_allclose(found.numpy(), spectral_by_numpy(image), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(('row', 'column'), [(14, 40), (45, 21), (33, 33)])
def test_spectral_residual_finds_the_odd_one_in_a_texture(row, column):
    """What the paper shows: repeated things are expected and fade, the odd one pops out."""
    texture = (torch.arange(64) // 2 % 2).float().expand(64, 64).clone()
    texture[row - 2 : row + 3, column - 2 : column + 3] = texture[row - 2 : row + 3, column - 2 : column + 3].mT
    found = peaks(spectral_residual(texture[None, None]), (64, 64))[0]
    assert int((found - torch.tensor([row, column])).abs().max()) <= 3
    bright = peaks(fine_grained(texture[None, None]), (64, 64))[0]  # no pixel of it is brighter or darker than others
    assert int((bright - torch.tensor([row, column])).abs().max()) > 3


@pytest.mark.parametrize('name', MAPS)
@pytest.mark.parametrize(('size', 'row', 'column'), [((32, 32), 9, 25), ((32, 48), 20, 13), ((224, 224), 60, 171)])
def test_a_bright_spot_is_the_peak(name, size, row, column):
    """Exactly in small pictures, within the pixels that were put together in large ones."""
    spot = blob(*size, row, column, sigma=max(size) / 16)[None, None].expand(1, 3, -1, -1)
    maps = MAPS[name](spot, full=False)
    found = peaks(maps, size)[0]
    atol = 0 if name == 'fine_grained' else 4  # the window of the spectral residual is 7 pixels wide
    atol = max(atol, math.ceil(max(size) / max(maps.shape[1:]))) if maps.shape[1:] != size else atol
    assert int((found - torch.tensor([row, column])).abs().max()) <= atol


@pytest.mark.parametrize(('name', 'small'), [('fine_grained', (64, 37)), ('spectral_residual', (128, 75))])
def test_large_pictures_are_reduced_and_maps_brought_back(name, small):
    images = noise(2, 3, 240, 140)
    reduced, full = MAPS[name](images, full=False), MAPS[name](images)
    assert reduced.shape == (2, *small)
    assert full.shape == (2, 240, 140)
    assert float(full.min()) >= 0
    area = torch.nn.functional.interpolate(images, size=small, mode='area')
    torch.testing.assert_close(MAPS[name](area), reduced, rtol=1e-3, atol=1e-4)


def test_grey_is_the_brightness_that_eyes_see():
    pixels = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grey(pixels), rgb_to_grayscale(pixels)[:, 0], atol=2e-4, rtol=0)
    torch.testing.assert_close(grey(pixels[:, :2]), pixels[:, :2].mean(1))


def test_grey_of_normalised_images_is_true_but_for_a_constant():
    pixels = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.4)
    images = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    gap = grey(images, std) - grey(pixels)
    torch.testing.assert_close(gap, gap[0, 0, 0].expand_as(gap))
    torch.testing.assert_close(fine_grained(images, std), fine_grained(pixels), rtol=0, atol=1e-5)
    assert not torch.allclose(fine_grained(images), fine_grained(pixels), atol=0.1)
    torch.testing.assert_close(grey(images, ()), rgb_to_grayscale(images)[:, 0], atol=2e-3, rtol=0)


def test_blur_is_a_gaussian_and_keeps_what_is_even():
    maps = noise(2, 20, 24).abs()
    torch.testing.assert_close(blur(maps), gaussian_blur(maps, 7, 3.0))
    torch.testing.assert_close(blur(maps, 3, 1.0), gaussian_blur(maps, 3, 1.0))
    torch.testing.assert_close(blur(torch.full((1, 5, 2), 0.7)), torch.full((1, 5, 2), 0.7))


def test_gradient_saliency_is_the_root_mean_square():
    gradient = noise(2, 3, 4, 5)
    expected = np.sqrt((gradient.double().numpy() ** 2).mean(1))
    np.testing.assert_allclose(gradient_saliency(gradient).numpy(), expected, rtol=1e-5)


def test_peaks_are_rows_and_columns_and_the_first_of_equals():
    maps = torch.zeros(3, 4, 6)
    maps[0, 2, 5] = maps[1, 3, 1] = maps[1, 3, 4] = 1.0
    assert peaks(maps, (4, 6)).tolist() == [[2, 5], [3, 1], [0, 0]]


def test_peaks_of_a_smaller_map_are_in_the_middle_of_their_cell():
    maps = torch.zeros(2, 4, 8)
    maps[0, 0, 7] = maps[1, 3, 3] = 1.0
    assert peaks(maps, (12, 24)).tolist() == [[1, 22], [10, 10]]
    assert peaks(maps, (10, 28)).tolist() == [[1, 26], [8, 12]]


@pytest.mark.parametrize('name', MAPS)
def test_type_gradient_and_autocast_do_not_matter(name):
    images = noise(2, 3, 20, 24)
    plain = MAPS[name](images)
    assert plain.dtype == torch.float32
    assert not MAPS[name](images.clone().requires_grad_()).requires_grad
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        typed = images.to(dtype)
        assert torch.equal(MAPS[name](typed), MAPS[name](typed.float()))
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(MAPS[name](images), plain)
        assert torch.equal(blur(plain), blur(plain.clone()))
        assert blur(plain).dtype == grey(images).dtype == torch.float32


@pytest.mark.parametrize('size', [(20, 24), (150, 224)])
@pytest.mark.parametrize('name', MAPS)
def test_it_runs_where_there_are_no_values(name, size):
    maps = MAPS[name](torch.empty(2, 3, *size, device='meta'))
    assert maps.is_meta
    assert maps.shape == (2, *size)
    assert peaks(maps, size).is_meta
    assert blur(maps).is_meta


def test_images_and_constants_are_left_alone():
    images = noise(2, 3, 20, 24)
    before = images.clone()
    for function in (*MAPS.values(), grey):
        first = function(images)
        assert torch.equal(function(images), first)
    assert torch.equal(images, before)


def test_arithmetic_rules_over_an_outer_autocast():
    a = noise(4, 4)
    with torch.autocast('cpu', torch.bfloat16), arithmetic(a.device):
        assert (a @ a).dtype == torch.float32
    with arithmetic(a.device, torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
    with arithmetic(torch.device('meta'), torch.bfloat16):
        assert (a.to('meta') @ a.to('meta')).dtype == torch.float32
