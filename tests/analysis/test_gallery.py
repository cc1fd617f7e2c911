import doctest

import cv2
import numpy as np
import pytest
import torch

from openmixup.analysis import gallery
from openmixup.analysis.gallery import mix_gallery, write_png
from openmixup.errors import InputError
from openmixup.policies import CutMix, Mixture, Mixup, Vanilla, View

IMAGES = torch.rand(5, 3, 32, 48, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(5)


def rng():
    return torch.Generator().manual_seed(1)


def cell(picture, column, row=0, columns=4, height=96, header=28):
    """The pixels of one cell, without text and margin."""
    width = picture.shape[1] // columns
    top = row * (height + header + gallery.GAP) + header
    left = column * width + gallery.GAP // 2
    return picture[top : top + height, left : left + width - gallery.GAP]


def as_bytes(image):
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def test_example_in_the_docstring():
    assert doctest.testmod(gallery, extraglobs={'torch': torch}).failed == 0


def test_cells_are_the_sources_the_mask_and_the_mixed_image():
    view = CutMix().mix(IMAGES, LABELS, rng())
    picture = mix_gallery(IMAGES, view, LABELS, rows=3)
    assert picture.dtype == np.uint8
    for row in range(3):
        own, partner = view.mixture.index[row].tolist()
        for column, image in ((0, IMAGES[own]), (1, IMAGES[partner]), (3, view.inputs[row])):
            assert np.array_equal(cell(picture, column, row)[::3, ::3], as_bytes(image))
        mask = view.masks[row, :1].expand(3, -1, -1)
        assert np.array_equal(cell(picture, 2, row)[::3, ::3], as_bytes(mask))


def test_normalised_images_come_back():
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.1])
    normalised = (IMAGES - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    picture = mix_gallery(normalised, Mixup().mix(normalised, rng=rng()), None, mean.tolist(), std.tolist())
    difference = cell(picture, 0)[::3, ::3].astype(int) - as_bytes(IMAGES[0])
    assert abs(difference).max() <= 1


def test_an_unmixed_batch_has_no_second_image():
    picture = mix_gallery(IMAGES, Vanilla().mix(IMAGES, LABELS), LABELS)
    assert (cell(picture, 1) == 255).all()
    assert np.array_equal(cell(picture, 3)[::3, ::3], as_bytes(IMAGES[0]))


def test_grey_images_are_shown_as_grey():
    grey = IMAGES[:, :1]
    picture = mix_gallery(grey, Mixup().mix(grey, LABELS, rng()), LABELS)
    shown = cell(picture, 3)
    assert (shown[..., 0] == shown[..., 1]).all()
    assert (shown[..., 0] == shown[..., 2]).all()


@pytest.mark.parametrize(('count', 'sources'), [(3, 3), (4, 4), (5, 4)])
def test_up_to_three_partners_are_shown(count, sources):
    mixture = Mixture(torch.arange(5)[:, None].repeat(1, count), torch.full((5, count), 1 / count))
    mixture.index[0] = torch.arange(count)
    view = View(mixture.of(IMAGES), mixture, lambda: mixture.weight[..., None, None].expand(-1, -1, 32, 48))
    picture = mix_gallery(IMAGES, view, LABELS, rows=1)
    for column in range(sources):
        shown = cell(picture, column, columns=sources + 2, header=14 * sources)
        assert np.array_equal(shown[::3, ::3], as_bytes(IMAGES[column]))


@pytest.mark.parametrize('labels', [None, LABELS, torch.eye(5), torch.rand(5)])
@pytest.mark.parametrize('names', [None, ['ä very long name of a class', 'b', 'c', 'd', 'e']])
def test_any_labels_can_be_printed(labels, names):
    view = CutMix().mix(IMAGES, rng=rng())
    assert (mix_gallery(IMAGES, view, labels, class_names=names) < 255).any()


def test_a_view_without_masks_says_so():
    view = View(IMAGES, Mixture(LABELS[:, None].expand(-1, 2), torch.full((5, 2), 0.5)))
    assert (cell(mix_gallery(IMAGES, view), 2) == 255).all()


def test_images_of_other_channels_are_refused():
    images = torch.rand(2, 4, 8, 8)
    with pytest.raises(InputError, match=r'\(2, 4, 8, 8\)'):
        mix_gallery(images, Vanilla().mix(images))


def test_write_png_keeps_the_colours(tmp_path):
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[..., 0] = 200  # red
    path = write_png(tmp_path / 'new folder' / 'a.png', picture)
    assert np.array_equal(cv2.imread(str(path))[..., ::-1], picture)
    with pytest.raises(InputError, match=r'must end in \.png'):
        write_png(tmp_path / 'a.jpg', picture)
    with pytest.raises(InputError, match='cannot be written'):
        write_png(path / 'b.png', picture)
