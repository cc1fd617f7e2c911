import copy
import doctest
import pickle
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import timm.data
import timm.data.mixup
import torch
from torch.utils.data import DataLoader, TensorDataset

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, CutMix, Mixup, RandomChoice, adapters
from openmixup.policies.adapters import MixCollate, TimmMixup
from openmixup.policies.masks import Boxes

IMAGES = torch.randn(6, 3, 12, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
BOXES = Boxes(torch.tensor([[0, 2], [3, 3], [1, 0], [5, 5], [2, 8], [0, 0]]),
              torch.tensor([[4, 9], [9, 12], [2, 16], [5, 5], [12, 16], [6, 6]]), (12, 16))  # fmt: skip
LAMS = torch.tensor([0.3, 0.5, 0.9, 0.7, 0.2, 0.6], dtype=torch.float64)


def test_examples_in_the_docstrings():
    assert doctest.testmod(adapters).failed == 0


@pytest.mark.parametrize('correct', [True, False])
@pytest.mark.parametrize('mode', ['batch', 'elem'])
@pytest.mark.parametrize('method', ['mixup', 'cutmix'])
def test_equals_timm_for_the_same_draws(method, mode, correct, monkeypatch):
    options = {
        'mixup_alpha': 1.0 if method == 'mixup' else 0.0, 'cutmix_alpha': 1.0 if method == 'cutmix' else 0.0,
        'mode': mode, 'correct_lam': correct, 'label_smoothing': 0.1, 'num_classes': 5,
    }  # fmt: skip
    count = 1 if mode == 'batch' else 6
    lams, boxes = LAMS[:count], Boxes(BOXES.low[:count], BOXES.high[:count], BOXES.size)

    theirs = timm.data.Mixup(**options)
    uses_cutmix = np.full(6, method == 'cutmix')
    theirs._params_per_batch = lambda: (float(lams[0]), method == 'cutmix')
    theirs._params_per_elem = lambda size: (lams.numpy().astype(np.float32), uses_cutmix)
    queue = iter(torch.stack([boxes.low, boxes.high], 2).flatten(1).tolist())  # top, bottom, left, right
    monkeypatch.setattr(timm.data.mixup, 'rand_bbox', lambda *_, **__: next(queue))
    expected, expected_target = theirs(IMAGES.clone(), LABELS)

    ours = TimmMixup(**options)
    member = ours.policy.policies[0]
    monkeypatch.setattr(member, 'draw_lam', lambda size, rng: lams)
    monkeypatch.setattr('openmixup.policies.static.cutmix.cutmix_boxes', lambda *_: boxes)
    images, target = ours(IMAGES, LABELS)

    torch.testing.assert_close(images, expected)
    torch.testing.assert_close(target, expected_target)


@pytest.mark.parametrize('correct', [True, False])
@pytest.mark.parametrize('mode', ['batch', 'elem'])
def test_minmax_equals_timm_for_the_same_boxes(mode, correct, monkeypatch):
    options = {
        'mixup_alpha': 0.0, 'cutmix_alpha': 0.0, 'cutmix_minmax': [0.2, 0.8], 'mode': mode, 'correct_lam': correct,
        'num_classes': 5,
    }  # fmt: skip
    count = 1 if mode == 'batch' else 6
    boxes = Boxes(BOXES.low[:count], BOXES.high[:count], BOXES.size)
    queue = iter(torch.stack([boxes.low, boxes.high], 2).flatten(1).tolist())
    monkeypatch.setattr(timm.data.mixup, 'rand_bbox_minmax', lambda *_, **__: next(queue))
    monkeypatch.setattr(adapters, 'inner_boxes', lambda *_, **__: boxes)
    expected, expected_target = timm.data.Mixup(**options)(IMAGES.clone(), LABELS)
    images, target = TimmMixup(**options)(IMAGES, LABELS)
    torch.testing.assert_close(images, expected)
    torch.testing.assert_close(target, expected_target)


@pytest.mark.parametrize(
    ('minmax', 'size'), [((0.25, 0.75), (8, 12)), ((0.0, 1.0), (5, 4)), ((0.29, 0.31), (100, 100))]
)
def test_minmax_draws_boxes_by_the_law_of_timm(minmax, size, monkeypatch):
    """Each axis by the exact law, timm's draws as ours, and the axes by themselves."""
    draws = 20_000
    random = SimpleNamespace(randint=np.random.default_rng(0).integers)  # in place of the global one
    monkeypatch.setattr(timm.data.mixup, 'np', SimpleNamespace(random=random))
    theirs = np.stack(timm.data.mixup.rand_bbox_minmax((3, *size), minmax, count=draws), 1)
    member = TimmMixup(cutmix_minmax=minmax, mode='elem').policy.policies[1]
    ctx = Context(generator=torch.Generator().manual_seed(0))
    boxes = member.mask(Batch(torch.empty(2, 3, *size), None), None, torch.empty(draws), ctx)
    ours = torch.stack([boxes.low, boxes.high], 2).flatten(1).numpy()  # top, bottom, left, right
    for drawn in (ours, theirs):
        for axis, length in enumerate(size):
            least, beyond = (int(length * share) for share in minmax)
            law = {
                (low, low + side): 1 / (beyond - least) / (length - side + 1)
                for side in range(least, beyond) for low in range(length - side + 1)
            }  # fmt: skip
            found = Counter(map(tuple, drawn[:, 2 * axis : 2 * axis + 2].tolist()))
            assert set(found) <= set(law)
            off = [(found[box] - p * draws) / (p * (1 - p) * draws) ** 0.5 for box, p in law.items()]
            assert max(map(abs, off)) < 5
        heights, widths = drawn[:, 1] - drawn[:, 0], drawn[:, 3] - drawn[:, 2]
        assert abs(np.corrcoef(heights, widths)[0, 1]) < 5 / draws**0.5


def test_minmax_with_one_side_is_that_side():
    images, target = TimmMixup(mixup_alpha=0, cutmix_minmax=(0.5, 0.5), label_smoothing=0, num_classes=5)(
        IMAGES, LABELS
    )
    assert (images != IMAGES).all(1).sum((1, 2)).tolist() == [6 * 8] * 6
    assert target[1].tolist() == pytest.approx([0, 0.75, 0, 0, 0.25])


def test_minmax_switches_cutmix_on_as_in_timm():
    mixup_fn = TimmMixup(mixup_alpha=0.8, cutmix_minmax=(0.2, 0.8), switch_prob=0.25)
    assert mixup_fn.policy.probs == pytest.approx([0.75, 0.25, 0.0])
    assert timm.data.Mixup(mixup_alpha=0.8, cutmix_minmax=(0.2, 0.8)).cutmix_alpha == 1.0


def test_probabilities_are_those_of_timm():
    mixup_fn = TimmMixup(mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.6, switch_prob=0.25)
    assert mixup_fn.policy.probs == pytest.approx([0.45, 0.15, 0.4])
    assert mixup_fn.policy.rate == pytest.approx(0.6)
    assert TimmMixup(cutmix_alpha=1.0, mixup_alpha=0.0).policy.probs == [1.0, 0.0]


def test_an_odd_batch_is_mixed_and_the_images_are_kept():
    before = IMAGES.clone()
    images, target = TimmMixup(num_classes=5)(IMAGES[:5], LABELS[:5])
    assert images.shape == (5, 3, 12, 16)
    torch.testing.assert_close(target.sum(1), torch.ones(5))
    assert torch.equal(IMAGES, before)


def test_mixup_enabled_switches_off_as_in_timm():
    mixup_fn = TimmMixup(num_classes=5)
    mixup_fn.mixup_enabled = False
    theirs = timm.data.Mixup(num_classes=5)
    theirs.mixup_enabled = False
    images, target = mixup_fn(IMAGES, LABELS)
    assert torch.equal(images, IMAGES)
    torch.testing.assert_close(target, theirs(IMAGES.clone(), LABELS)[1])
    mixup_fn.mixup_enabled = True
    assert not torch.equal(mixup_fn(IMAGES, LABELS)[0], IMAGES)


@pytest.mark.parametrize(('options', 'match'), [
    ({'mode': 'pair'}, "mode='pair'"),
    ({'cutmix_minmax': (0.8, 0.2)}, r'minmax=\(0.8, 0.2\)'),
    ({'cutmix_minmax': 0.5}, 'minmax=0.5'),
    ({'mixup_alpha': 0.0}, 'above 0'),
    ({'prob': 1.5}, 'prob=1.5'),
    ({'prob': 'a'}, "prob='a'"),
    ({'switch_prob': None}, 'switch_prob=None'),
    ({'label_smoothing': float('nan')}, 'label_smoothing=nan'),
    ({'mixup_alpha': None}, 'mixup_alpha=None.: expected a number, 0 for no Mixup'),
    ({'cutmix_alpha': '1'}, "cutmix_alpha='1'.: expected a number, 0 for no CutMix"),
    ({'mixup_alpha': float('nan')}, 'mixup_alpha=nan'),
])  # fmt: skip
def test_what_is_not_offered_is_refused(options, match):
    with pytest.raises(InputError, match=match):
        TimmMixup(**options)


def loader(policy, workers=0, start=None, collate=None, count=24):
    data = TensorDataset(torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 1, 4, 4), torch.arange(count))
    mix = MixCollate(policy, num_classes=count, collate=collate)
    return DataLoader(data, batch_size=6, collate_fn=mix, num_workers=workers, multiprocessing_context=start)


def lams(batches):
    return [round(float(target.max(1).values.median()), 6) for _, target in batches]


@pytest.mark.parametrize(('workers', 'start'), [
    (0, None), (2, 'fork'), pytest.param(2, 'spawn', marks=pytest.mark.slow),
])  # fmt: skip
def test_collate_draws_anew_for_each_batch_worker_and_epoch(workers, start):
    torch.manual_seed(0)
    batches = loader(Mixup(pairing='derangement'), workers, start)
    first, second = lams(batches), lams(batches)
    assert len({*first, *second}) == 8
    for images, target in batches:
        values = target @ torch.arange(24.0)
        torch.testing.assert_close(images[:, 0, 0, 0], values)
    if workers:  # with the same seed the whole epoch again, whichever worker is faster
        torch.manual_seed(0)
        assert lams(loader(Mixup(pairing='derangement'), workers, start)) == first


def test_collate_is_picklable_and_keeps_further_columns():
    collate = pickle.loads(pickle.dumps(MixCollate(CutMix(), num_classes=3)))
    samples = [(torch.randn(3, 8, 8), index % 3, index) for index in range(5)]
    images, target, numbers = collate(samples)
    assert images.shape == (5, 3, 8, 8)
    assert target.shape == (5, 3)
    assert numbers.tolist() == [0, 1, 2, 3, 4]


def test_collate_tells_the_epoch():
    collate = MixCollate(RandomChoice([{'type': 'Mixup', 'pairing': 'derangement'}], epochs=[(1, None)]), num_classes=3)
    samples = [(torch.randn(3, 8, 8), index % 3) for index in range(4)]
    before, _ = collate(samples)
    assert torch.equal(before, torch.stack([image for image, _ in samples]))
    collate.set_epoch(1)
    after, _ = collate(samples)
    assert not torch.equal(after, before)


@pytest.mark.parametrize('start', ['fork', pytest.param('spawn', marks=pytest.mark.slow)])
def test_workers_that_stay_are_told_the_epoch(start):
    policy = RandomChoice([Mixup(pairing='derangement')], epochs=[(1, None)])
    data = TensorDataset(torch.arange(8.0).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), torch.arange(8))
    collate = copy.deepcopy(MixCollate(policy, num_classes=8))
    batches = DataLoader(
        data, 4, collate_fn=collate, num_workers=1, persistent_workers=True, multiprocessing_context=start
    )
    assert all(target.max(1).values.eq(1).all() for _, target in batches)
    collate.set_epoch(1)
    assert collate.epoch == 1
    assert all(target.max(1).values.lt(1).all() for _, target in batches)


@pytest.mark.parametrize('policy', ['Mixup', {'type': 'Mixup'}, Mixup, None])
def test_collate_refuses_what_is_no_policy(policy):
    with pytest.raises(InputError, match=r'expected a mixing policy, such as Mixup\(\)'):
        MixCollate(policy, 5)


def test_collate_refuses_what_has_no_labels():
    with pytest.raises(InputError, match=r'expected \(images, labels, ...\)'):
        MixCollate(Mixup())([torch.randn(3, 8, 8)] * 2)
    with pytest.raises(InputError, match='num_classes is missing'):
        MixCollate(Mixup())([(torch.randn(3, 8, 8), 1)] * 2)
