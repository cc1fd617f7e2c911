import cv2
import numpy as np
import pytest
import torch

from openmixup.analysis import policy_pictures
from openmixup.analysis.mix_pictures import mix_rows, mixed_plan, small_learner
from openmixup.analysis.policy_pictures import caption, draw_picture, is_pictured
from openmixup.policies import MixPolicy
from openmixup.registry import POLICIES

CELL, HEADER, GAP = 96, 28, 6
ROW = CELL + HEADER + GAP
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def built(name, **arguments):
    return POLICIES.build({'type': name, **arguments})


def rows_of(policy, lams=(0.3, 0.7), telling=True, seed=0):
    return mix_rows(small_learner(policy, 32), IMAGES, ['a', 'b'], lams, seed, telling)


def cell(picture, column, row=0, header=HEADER, columns=4):
    """One pixel of each that was enlarged."""
    height, width = header + CELL + GAP, picture.shape[1] // columns
    top, left = row * height + header, column * width + GAP // 2
    return picture[top : top + CELL : 3, left : left + CELL : 3]


def as_bytes(image):
    return image.mul(255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize(('name', 'expected'), [
    ('Vanilla', False), ('ManifoldMix', False), ('AlignMix', False),
    ('Mixup', True), ('Cutout', True), ('GridMask', True), ('SoftAugmentation', True), ('StackMix', True),
    ('KMixup', True), ('CMO', True), ('RecursiveMix', True), ('PuzzleMix', True), ('TransMix', True),
    ('AutoMix', True), ('RegMixup', True), ('RandomChoice', True),
])  # fmt: skip
def test_what_changes_the_images_has_a_picture(name, expected):
    assert is_pictured(built(name)) is expected


def test_a_policy_for_another_learner_has_no_picture():
    class Asks(MixPolicy):
        needs = ('telepathy',)

    assert not is_pictured(Asks())


@pytest.mark.parametrize(('name', 'words'), [
    ('AutoMix', 'automix_masks.png'), ('PuzzleMix', 'learnt for'), ('SnapMix', 'learnt for'),
    ('AttentiveMix', 'learnt for'), ('TransMix', 'untrained ViT'),
    ('CutMix', ''), ('RecursiveMix', ''), ('CMO', ''),
])  # fmt: skip
def test_the_network_behind_a_picture_is_named(name, words):
    said = caption(built(name))
    assert words in said
    assert bool(said) == bool(words)


def test_more_than_two_sources_are_the_images_and_their_mirrors():
    picture = rows_of(built('RICAP', beta=5.0), lams=(0.5,))
    found = [cell(picture, column, header=14 * 4, columns=6) for column in range(4)]
    expected = [as_bytes(image) for image in torch.cat([IMAGES, IMAGES.flip(-1)])]
    matches = [[np.abs(one.astype(int) - other).max() <= 1 for other in expected] for one in found]
    assert np.array(matches).sum(0).tolist() == [1, 1, 1, 1]


def test_a_past_batch_is_the_other_image():
    plan = mixed_plan(small_learner(built('RecursiveMix'), 32), IMAGES, 0)
    assert plan.batch.source_labels[plan.views[plan.mixed].mixture.index[0]].argmax(-1).tolist() == [0, 1]


def test_what_is_deleted_is_drawn_for_several_draws_and_what_never_changes_once():
    assert rows_of(built('Cutout')).shape[0] == 2 * ROW
    assert rows_of(built('Cutout'), telling=False).shape[0] == 2 * ROW
    assert rows_of(built('Vanilla'), telling=False).shape[0] == ROW
    kept = rows_of(built('GridMask', prob=0.5), lams=(0.5,) * 6)
    assert kept.shape[0] == 6 * ROW
    for row in range(6):
        assert (cell(kept, 3, row) != cell(kept, 0, row)).any()


def test_rows_that_would_be_alike_are_drawn_once():
    assert rows_of(built('SamplePairing')).shape[0] == ROW
    assert rows_of(built('SamplePairing'), telling=False).shape[0] == 2 * ROW


def test_each_row_of_a_composition_shows_another_member():
    picture = rows_of(built('RandomChoice'))
    levels = [len(np.unique(cell(picture, 2, row))) for row in range(2)]
    assert sorted(levels) == [1, 2]  # the even grey of Mixup, the black box of CutMix


def test_guided_pictures_follow_a_network_that_has_learnt(tmp_path, monkeypatch):
    monkeypatch.setattr(policy_pictures, 'STEPS', 1)
    policy_pictures._taught.cache_clear()
    try:
        path = draw_picture('AttentiveMix', tmp_path / 'a.jpg')
    finally:
        policy_pictures._taught.cache_clear()
    picture = cv2.imread(str(path))
    assert picture.shape == (2 * ROW, 4 * (CELL + GAP), 3)
    assert path.stat().st_size < 60_000
