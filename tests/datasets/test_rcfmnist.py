"""Angles and colours of RCF-MNIST, on files of Fashion-MNIST that the test writes."""

import struct

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from openmixup.datasets import RCFMNIST, subset
from openmixup.datasets.rcfmnist import rotated
from openmixup.errors import InputError


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """200 training and 100 test images: white bars from the centre upwards."""
    folder = tmp_path_factory.mktemp('fashion')
    for stem, count in (('train', 200), ('t10k', 100)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 2:14, 12:16] = 255
        header = struct.pack('>4I', 0x803, count, 28, 28)
        (folder / f'{stem}-images-idx3-ubyte').write_bytes(header + images.tobytes())
        labels = struct.pack('>2I', 0x801, count) + bytes(i % 10 for i in range(count))
        (folder / f'{stem}-labels-idx1-ubyte').write_bytes(labels)
    return folder


@pytest.mark.parametrize('size', [(28, 28), (20, 32)])
def test_images_turn_as_in_torchvision(size):
    images = torch.rand(5, 2, *size, generator=torch.Generator().manual_seed(0))
    degrees = torch.tensor([0.0, 17.0, 90.0, -45.0, 200.0])
    theirs = [
        v2.functional.rotate(image, angle, v2.InterpolationMode.BILINEAR)
        for image, angle in zip(images, degrees.tolist(), strict=True)
    ]
    assert torch.allclose(rotated(images, degrees), torch.stack(theirs), atol=1e-4)


def test_the_bar_stands_at_the_angle_of_the_target(root):
    data = RCFMNIST(root, allow_subset=True)
    assert data.labels.shape == (200,)
    assert data.num_classes is None
    assert data.image_shape == (3, 28, 28)
    assert 0 <= float(data.labels.min()) < 0.05
    assert 0.95 < float(data.labels.max()) < 1
    light = data.images.float().sum(1)
    place = torch.arange(28.0) - 13.5
    x = (light * place).sum((1, 2)) / light.sum((1, 2))
    y = -(light * place[:, None]).sum((1, 2)) / light.sum((1, 2))
    measured = torch.atan2(-x, y) * 180 / torch.pi  # counter-clockwise from above
    assert torch.allclose(measured, data.labels * 60, atol=1.0)
    assert torch.allclose(RCFMNIST(root, max_angle=180, allow_subset=True).angles, data.labels * 180)


def colours(data):
    """Red and blue of the brightest pixel of each image, in [0, 1]."""
    brightest = data.images.flatten(2).amax(2).float() / 255
    assert int(data.images[:, 1].max()) == 0, 'no green'
    return brightest[:, 0], brightest[:, 2]


@pytest.mark.parametrize(('split', 'direct'), [('train', 160), ('test', 20)])
def test_the_colour_goes_with_the_angle_and_against_it_in_the_test(root, split, direct):
    data = RCFMNIST(root, split, allow_subset=True)
    red, blue = colours(data)
    assert torch.allclose(red + blue, torch.ones(len(data)), atol=0.01)
    assert int((~data.swapped).sum()) == direct
    expected = torch.where(data.swapped, 1 - data.labels, data.labels)
    assert torch.allclose(red, expected, atol=0.01)


def test_the_seed_decides_all(root):
    first, again, other = (
        RCFMNIST(root, allow_subset=True),
        RCFMNIST(root, allow_subset=True),
        RCFMNIST(root, seed=1, allow_subset=True),
    )
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.labels, other.labels)
    assert not torch.equal(first.labels[:100], RCFMNIST(root, 'test', allow_subset=True).labels)
    part = subset(first, fraction=0.1)
    assert torch.allclose(part.angles, part.labels * 60)
    assert len(part.swapped) == 20


@pytest.mark.parametrize('wrong', [{'max_angle': 0}, {'max_angle': 361}, {'spurious': 1.2}, {'split': 'val'}])
def test_refusals(root, wrong):
    with pytest.raises(InputError):
        RCFMNIST(root, **wrong)
