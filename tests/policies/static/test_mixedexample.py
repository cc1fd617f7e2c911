"""MixedExample: each way to combine two images, by plain loops."""

import numpy as np
import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.static.mixedexample import VARIANTS, MixedExample
from openmixup.testing import check_policy, count_operators

IMAGES = torch.randn(5, 3, 10, 14, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 6).view(5, 1, 1, 1) + 1
LABELS = torch.tensor([0, 1, 2, 3, 3])
MEASURED = [variant for variant in VARIANTS if variant not in ('noisy_mixup', 'bc_plus', 'vh_bc_plus')]

STILL = {'every_pixel_has_its_turn'}
FREE_AREA = {'weights_follow_lam'}
OF_A_CHANNEL = {'per_means_what_it_says'}  # samples that see other channels
BY_CHANNEL = {'label_equals_pixels', 'masks_equal_the_picture', 'pixels_stay_in_place', 'all_target_kinds_mix_alike'}
CONTRAST = {'identical_images_stay_identical'}
ALL_PASS = ('dtype_is_kept', 'nothing_is_read_from_the_device', 'few_operators_are_launched', 'weights_are_sound')
CHECKED = (*sorted(STILL | FREE_AREA | OF_A_CHANNEL | BY_CHANNEL | CONTRAST), *ALL_PASS)
FAILS = {
    'vertical_concat': STILL, 'horizontal_concat': STILL, 'random_rows': FREE_AREA, 'random_columns': FREE_AREA,
    'random_2x2': FREE_AREA, 'random_elements': BY_CHANNEL | OF_A_CHANNEL, 'vh_bc_plus': CONTRAST | STILL,
    'bc_plus': CONTRAST | {'label_equals_pixels', 'all_target_kinds_mix_alike'},
}  # fmt: skip


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def fixed(policy, *values):
    """Let the policy draw lam and further shares from ``values``, each a number or one a sample."""
    draws = iter(values)
    policy.draw_lam = lambda count, rng: torch.as_tensor(next(draws), dtype=torch.float64).expand(count)
    return policy


def of_both(view, own):
    """The pictures that a mask (N, C, H, W) or one that broadcasts to it makes."""
    images = IMAGES.numpy()
    return np.where(own, images, images[view.mixture.index[:, 1]])


@pytest.mark.parametrize('variant', VARIANTS)
def test_each_variant_does_what_it_says(variant, monkeypatch):
    """But for what it does on purpose, which is what the checks find."""
    monkeypatch.setattr(MixedExample, 'exempt', {})
    found = {result.name for result in check_policy(MixedExample(variant), only=CHECKED) if not result.ok}
    assert found == FAILS.get(variant, STILL | FREE_AREA if variant == 'mixed_concat' else set())


@pytest.mark.parametrize('lam', [0.0, 0.34, 0.5, 1.0])
def test_concatenations_by_hand(lam):
    view = fixed(MixedExample('vertical_concat'), lam).mix(IMAGES, LABELS)
    rows = round(lam * 10)
    own = np.arange(10)[:, None] < np.full(14, rows)
    np.testing.assert_array_equal(view.inputs, of_both(view, own))
    assert view.mixture.weight[:, 0].tolist() == pytest.approx([rows / 10] * 5)
    view = fixed(MixedExample('horizontal_concat'), lam).mix(IMAGES, LABELS)
    columns = round(lam * 14)
    np.testing.assert_array_equal(view.inputs, of_both(view, np.arange(14) < columns))
    assert view.mixture.weight[:, 1].tolist() == pytest.approx([1 - columns / 14] * 5)


@pytest.mark.parametrize(('lam', 'across'), [(0.3, 0.5), (0.7, 0.21), (0.0, 1.0)])
def test_mixed_concatenation_by_hand(lam, across):
    view = fixed(MixedExample('mixed_concat'), lam, across).mix(IMAGES, LABELS)
    upper, left = np.arange(10)[:, None] < round(lam * 10), np.arange(14) < round(across * 14)
    np.testing.assert_allclose(view.inputs, of_both(view, upper == left), atol=1e-6)
    a, b = round(lam * 10) / 10, round(across * 14) / 14  # the rule of the paper
    assert view.mixture.weight[:, 0].tolist() == pytest.approx([a * b + (1 - a) * (1 - b)] * 5)


def test_random_2x2_has_all_patterns_alike():
    policy = fixed(MixedExample('random_2x2', per='sample'), [0.4] * 1600, [0.5] * 1600)
    view = policy.mix(torch.zeros(1600, 1, 10, 14), None, rng())
    mask = view.masks[:, 0]
    for rows in (slice(0, 4), slice(4, 10)):
        for columns in (slice(0, 7), slice(7, 14)):
            assert torch.equal(mask[:, rows, columns].amax((1, 2)), mask[:, rows, columns].amin((1, 2)))
    code = mask[:, 0, 0] + 2 * mask[:, 0, -1] + 4 * mask[:, -1, 0] + 8 * mask[:, -1, -1]
    counts = torch.bincount(code.long(), minlength=16)
    assert counts.sum() == 1600
    assert 50 <= int(counts.min()) <= int(counts.max()) <= 150  # 100 each, 5 sigma


def test_a_square_of_half_the_shorter_side_lies_in_the_image():
    view = MixedExample('random_square', per='sample').mix(torch.zeros(800, 1, 10, 14), None, rng())
    taken = view.masks[:, 1]
    assert taken.sum((1, 2)).tolist() == [25] * 800
    assert set(taken.amax(2).sum(1).tolist()) == set(taken.amax(1).sum(1).tolist()) == {5.0}
    assert set(taken.amax(2).argmax(1).tolist()) == set(range(6))
    assert set(taken.amax(1).argmax(1).tolist()) == set(range(10))
    assert view.mixture.weight[0].tolist() == pytest.approx([1 - 25 / 140, 25 / 140])
    small = MixedExample('random_square', side=0.01).mix(torch.zeros(2, 1, 10, 14), None, rng())
    assert small.masks[0, 1].sum() == 1


@pytest.mark.parametrize(('variant', 'axis'), [('random_row_interval', 0), ('random_column_interval', 1)])
def test_intervals_are_whole_lines_side_by_side_at_any_place(variant, axis):
    length = (10, 14)[axis]
    view = fixed(MixedExample(variant, per='sample'), [0.5] * 600).mix(torch.zeros(600, 1, 10, 14), None, rng())
    taken = view.masks[:, 1]
    lines = taken.amax(2 - axis)
    assert torch.equal(lines, taken.amin(2 - axis))
    first, count = lines.argmax(1), lines.sum(1)
    assert set(count.tolist()) == {length / 2}
    assert set(first.tolist()) == set(range(length // 2 + 1))
    for line, start in zip(lines, first, strict=True):
        assert line[start : start + length // 2].sum() == length / 2
    torch.testing.assert_close(view.mixture.weight[:, 1], count / length)


@pytest.mark.parametrize(('variant', 'shape'), [
    ('random_rows', (1, 40, 1)), ('random_columns', (1, 1, 50)),
    ('random_pixels', (1, 40, 50)), ('random_elements', (3, 40, 50)),
])  # fmt: skip
def test_independent_choices(variant, shape):
    """Each line, pixel or element is the own one with probability lam; the labels are measured."""
    images = torch.arange(8.0)[:, None, None, None].expand(8, 3, 40, 50)
    policy = fixed(MixedExample(variant, per='sample', pairing='flip'), [0.3] * 8)
    view = policy.mix(images, None, rng())
    own = (view.inputs == images).float()
    assert torch.equal(own + (view.inputs == images.flip(0)), torch.ones_like(own))
    part = own[:, : shape[0], : shape[1], : shape[2]]
    assert torch.equal(part.expand_as(own), own)
    count = part.numel()
    assert float(part.mean()) == pytest.approx(0.3, abs=5 * (0.21 / count) ** 0.5)
    assert len(part.flatten(1).unique(dim=0)) == 8
    torch.testing.assert_close(view.mixture.weight[:, 0], own.mean((1, 2, 3)))
    torch.testing.assert_close(view.masks[:, 0], own.mean(1))
    axes = [axis for axis, length in enumerate(shape, 1) if length > 1]
    assert all(bool((part.amax(axis) != part.amin(axis)).any()) for axis in axes)


def test_noisy_mixup_blends_each_pixel_by_lam_and_a_little():
    view = fixed(MixedExample('noisy_mixup', noise=0.1), 0.6).mix(torch.zeros(4, 3, 80, 90), None, rng())
    own = view.masks[0, 0]
    assert float(own.mean()) == pytest.approx(0.6, abs=0.006)
    assert float(own.std()) == pytest.approx(0.1, rel=0.05)
    assert view.mixture.weight.tolist() == [pytest.approx([0.6, 0.4])] * 4
    bound = fixed(MixedExample('noisy_mixup', noise=0.1), 0.99).mix(torch.zeros(4, 3, 80, 90), None, rng()).masks
    assert float(bound.max()) == 1
    assert float(bound.min()) == 0


def test_without_noise_it_is_mixup():
    view = fixed(MixedExample('noisy_mixup', noise=0.0), 0.25).mix(IMAGES, LABELS)
    torch.testing.assert_close(view.inputs, 0.25 * IMAGES + 0.75 * IMAGES[view.mixture.index[:, 1]])


def between(own, other, lam):
    """BC+ of two images as its paper has it, and the mean that is added again."""
    own_mean, mean, p = own.mean(), other.mean(), 1 / (1 + own.std() / other.std() * (1 - lam) / lam)
    picture = (p * (own - own_mean) + (1 - p) * (other - mean)) / np.sqrt(p**2 + (1 - p) ** 2)
    return picture + lam * own_mean + (1 - lam) * mean


@pytest.mark.parametrize('lam', [0.2, 0.5, 0.9])
def test_between_class_by_hand(lam):
    view = fixed(MixedExample('bc_plus'), lam).mix(IMAGES, LABELS, rng())
    images, partner = IMAGES.double().numpy(), view.mixture.index[:, 1].tolist()
    assert partner != [0, 1, 2, 3, 4]
    for sample, other in enumerate(partner):
        expected = between(images[sample], images[other], lam)
        np.testing.assert_allclose(view.inputs[sample], expected, atol=1e-4)
    assert view.mixture.weight.tolist() == [pytest.approx([lam, 1 - lam])] * 5


def test_between_class_keeps_the_contrast():
    """Of independent images of the same contrast the mixture has that contrast too, unlike one of mixup."""
    images = torch.randn(6, 3, 64, 64, generator=rng())
    mixed = fixed(MixedExample('bc_plus', pairing='derangement'), 0.5).mix(images, None, rng()).inputs
    assert mixed.std((1, 2, 3)).tolist() == pytest.approx([1.0] * 6, abs=0.03)


def test_quadrants_of_vh_between_class_by_hand():
    lam, up, left = 0.3, 0.4, 0.5
    view = fixed(MixedExample('vh_bc_plus'), lam, up, left).mix(IMAGES, LABELS, rng())
    images, partner = IMAGES.double().numpy(), view.mixture.index[:, 1].tolist()
    for sample, other in enumerate(partner):
        expected = np.empty((3, 10, 14))
        expected[:, :4, :7] = images[sample][:, :4, :7]
        expected[:, 4:, 7:] = images[other][:, 4:, 7:]
        expected[:, :4, 7:] = between(images[sample], images[other], lam)[:, :4, 7:]
        expected[:, 4:, :7] = between(images[sample], images[other], 1 - lam)[:, 4:, :7]
        np.testing.assert_allclose(view.inputs[sample], expected, atol=1e-4)
    weight = lam * up + (1 - lam) * left
    assert view.mixture.weight.tolist() == [pytest.approx([weight, 1 - weight])] * 5


@pytest.mark.parametrize('variant', ['bc_plus', 'vh_bc_plus'])
def test_images_without_contrast_do_no_harm(variant):
    images = torch.ones(4, 3, 6, 6) * torch.arange(4.0).view(4, 1, 1, 1)
    images.requires_grad_()
    view = MixedExample(variant).mix(images, None, rng())
    assert bool(view.inputs.isfinite().all())
    view.inputs.sum().backward()
    assert bool(images.grad.isfinite().all())


@pytest.mark.parametrize('variant', VARIANTS)
def test_a_bank_gives_the_partners(variant):
    bank = Batch(IMAGES[:3] + 7, LABELS[:3])
    policy = fixed(MixedExample(variant, per='sample').train(), [0.5] * 5, [0.4] * 5)
    partner = torch.tensor([7, 6, 5, 7, 5])
    lam = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    view = policy.view(Batch(IMAGES, LABELS, bank), partner, lam, Context(generator=rng()))
    assert view.mixture.index.tolist() == [[0, 7], [1, 6], [2, 5], [3, 7], [4, 5]]
    theirs = bank.images[partner - 5]
    if variant == 'bc_plus':
        pairs = zip(IMAGES.double().numpy(), theirs.double().numpy(), lam.tolist(), strict=True)
        np.testing.assert_allclose(view.inputs, np.stack([between(*pair) for pair in pairs]), atol=1e-4)
    elif variant == 'random_elements':
        assert bool(((view.inputs == IMAGES) | (view.inputs == theirs)).all())
    elif variant == 'vh_bc_plus':
        torch.testing.assert_close(view.inputs[:, :, -1, -1], theirs[:, :, -1, -1])
    else:
        own, other = view.masks.split(1, 1)
        torch.testing.assert_close(view.inputs, own * IMAGES + other * theirs)


def test_labels_are_declared_by_variant():
    assert {MixedExample(variant).label for variant in MEASURED} == {'pixels'}
    assert [MixedExample(variant).label for variant in ('noisy_mixup', 'bc_plus')] == ['drawn'] * 2
    assert MixedExample('vh_bc_plus').label == 'semantic'


@pytest.mark.parametrize('variant', [variant for variant in VARIANTS if not variant.endswith('bc_plus')])
def test_few_operators(variant):
    for per in ('batch', 'sample'):
        policy = MixedExample(variant, per=per)
        assert count_operators(policy, IMAGES.to('meta'), LABELS.to('meta')) <= 6


@pytest.mark.parametrize('arguments', [
    {'variant': 'mixup'}, {'variant': 'random_row'}, {'side': 0}, {'side': 1.1}, {'side': True}, {'noise': -0.1},
    {'noise': '0'}, {'alpha': 0}, {'per': 'image'}, {'pairing': 'none'},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError, match=rf'MixedExample\({next(iter(arguments))}='):
        MixedExample(**arguments)
