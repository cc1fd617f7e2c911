"""KeepAugment: what is cut has little input gradient, what is pasted back has much, and the label stays."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, CutMix, Mixup, RandomChoice, Vanilla
from openmixup.policies.guided.keepaugment import CANDIDATES, KeepAugment
from openmixup.policies.static.augmix import AugMix
from openmixup.policies.static.cutout import Cutout
from openmixup.policies.static.gridmask import GridMask
from openmixup.policies.static.hideandseek import HideAndSeek
from openmixup.policies.static.randomerasing import RandomErasing
from openmixup.testing import check_policy, count_operators

RESNET = {'type': 'CifarResNet', 'depth': 8, 'width': 4}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed))


IMAGES, LABELS = random(6, 3, 12, 16) + 20, torch.tensor([0, 1, 2, 3, 3, 0])  # no pixel is 0
GRADIENT = random(6, 3, 12, 16, seed=1)


class Gradients:
    """A probe with input gradients that a test has made."""

    def __init__(self, gradient):
        self.gradient, self.asked = gradient, []

    def input_grad(self, images, labels):
        self.asked.append((images, labels))
        return self.gradient


def view_of(policy, images=IMAGES, gradient=GRADIENT, seed=0):
    batch = Batch(images, torch.arange(len(images)))
    return policy.train()(batch, Context(generator=rng(seed), probe=Gradients(gradient))).views[0]


def square_by_loops(gradient, draws, length, threshold, paste=False):
    """Rows and columns of the first of the squares of one image that may be taken, in NumPy."""
    importance = np.abs(gradient.double().numpy()).max(0)
    height, width = importance.shape
    side = max(round(length * min(height, width)), 1)
    places, scores = [], []
    for down, across in draws:
        top, left = int(down * height) - side // 2, int(across * width) - side // 2
        place = (
            slice(max(top, 0), max(min(top + side, height), 0)),
            slice(max(left, 0), max(min(left + side, width), 0)),
        )
        places.append(place)
        scores.append(importance[place].mean() if importance[place].size else 0.0)
    count, ranked = round(threshold * CANDIDATES), np.sort(scores)
    if paste:
        return next(p for p, s in zip(places, scores, strict=True) if s >= ranked[min(count, CANDIDATES - 1)])
    return next(p for p, s in zip(places, scores, strict=True) if s <= ranked[max(count, 1) - 1])


@pytest.mark.parametrize('size', [(12, 16), (32, 32), (7, 20), (2, 2)])
@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize('length', [0.5, 0.25])
def test_cut_by_loops(size, threshold, length):
    images, gradient = random(5, 3, *size) + 20, random(5, 3, *size, seed=3)
    policy = KeepAugment({'type': 'Cutout', 'length': length}, threshold=threshold)
    view = view_of(policy, images, gradient)
    draws = torch.rand(5, CANDIDATES, 2, generator=rng(), dtype=torch.float64).tolist()
    for sample in range(5):
        expected = images[sample].clone()
        rows, columns = square_by_loops(gradient[sample], draws[sample], length, threshold)
        expected[:, rows, columns] = 0
        assert torch.equal(view.inputs[sample], expected)
        assert torch.equal(view.masks[sample, 0], (expected[0] != 0).float())


@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize('length', [0.5, 0.25])
@pytest.mark.parametrize('inner', [Cutout(0.75), HideAndSeek(), GridMask(), RandomErasing(1.0)], ids=repr)
def test_paste_by_loops(inner, threshold, length):
    view = view_of(KeepAugment(inner, 'paste', threshold, length))
    stream = rng()
    augmented = inner.train()(Batch(IMAGES, LABELS), Context(generator=stream)).views[0]
    draws = torch.rand(6, CANDIDATES, 2, generator=stream, dtype=torch.float64).tolist()
    restored = 0
    for sample in range(6):
        expected, mask = augmented.inputs[sample].clone(), augmented.masks[sample].clone()
        place = square_by_loops(GRADIENT[sample], draws[sample], length, threshold, paste=True)
        expected[:, place[0], place[1]] = IMAGES[sample][:, place[0], place[1]]
        mask[:, place[0], place[1]] = 1
        assert torch.equal(view.inputs[sample], expected)
        assert torch.equal(view.masks[sample], mask)
        restored += int((expected != augmented.inputs[sample]).any())
    assert restored > 0


def hot_spot(row, column, size=(6, 3, 32, 32)):
    gradient = torch.full(size, 1e-3)
    gradient[:, 1, row, column] = -5  # of one channel, and negative
    return gradient


@pytest.mark.parametrize(('row', 'column'), [(16, 16), (3, 28), (0, 0)])
def test_the_spot_that_matters_survives(row, column):
    """Cutout deletes the centre of an image in a quarter of the draws; with the important spot there, nearly never."""
    images, gradient = torch.ones(6, 3, 32, 32), hot_spot(row, column)

    def lost(policy):
        views = [view_of(policy, images, gradient, seed) for seed in range(40)]
        return float(torch.stack([view.inputs[:, 0, row, column] == 0 for view in views]).float().mean())

    assert lost(KeepAugment()) <= 0.01
    everything = HideAndSeek([1], 1.0)
    assert lost(everything) == 1
    assert lost(KeepAugment(everything, 'paste', threshold=1.0)) <= 0.05  # if one of the squares holds it
    if row == 16:
        assert lost(Cutout()) == pytest.approx(0.25, abs=0.1)


def test_importance_is_the_greatest_absolute_gradient_of_the_channels():
    ctx = Context(probe=Gradients(GRADIENT))
    found = KeepAugment().importance(Batch(IMAGES, LABELS), ctx)
    assert torch.equal(found, torch.from_numpy(np.abs(GRADIENT.numpy()).max(1)))
    ((images, labels),) = ctx.probe.asked
    assert images is IMAGES
    assert labels is LABELS


@pytest.mark.parametrize('length', [0.1, 0.5])
def test_without_differences_the_first_square_is_taken_so_it_is_cutout(length):
    for level in (0.0, 1.0):
        view = view_of(KeepAugment({'type': 'Cutout', 'length': length}), gradient=torch.full((6, 3, 12, 16), level))
        first = torch.rand(6, CANDIDATES, 2, generator=rng(), dtype=torch.float64)[:, 0]
        side, size = max(round(length * 12), 1), torch.tensor([12, 16])
        low = (first * size).long() - side // 2
        expected = torch.ones(6, 12, 16)
        for n, (top, left) in enumerate(low.tolist()):
            expected[n, max(top, 0) : top + side, max(left, 0) : left + side] = 0
        assert torch.equal(view.masks[:, 0], expected)


def test_where_noise_is_all_there_is_squares_are_as_large_as_those_of_cutout():
    """A square that the border cuts off is not unimportant because it is small."""
    images, areas = torch.rand(64, 3, 16, 16, generator=rng()), []
    for policy in (KeepAugment(), Cutout()):
        gradient = torch.randn(64, 3, 16, 16, generator=rng(5))
        masks = [view_of(policy, images, gradient, seed).masks for seed in range(20)]
        areas.append(1 - float(torch.stack(masks).mean()))
    assert areas[0] == pytest.approx(areas[1], abs=0.01)


def test_policies_that_mix_later_or_trust_less_are_refused():
    late = RandomChoice([HideAndSeek(), CutMix()], epochs=[(0, 1), (1, None)])
    policy = KeepAugment(late, 'paste')
    batch = Batch(IMAGES, LABELS)
    policy.plan(batch, Context(generator=rng(), probe=Gradients(GRADIENT)))
    with pytest.raises(InputError, match=r'has a step in which images are mixed'):
        policy.plan(batch, Context(epoch=1, generator=rng(), probe=Gradients(GRADIENT)))
    with pytest.raises(InputError, match=r'SoftAugmentation.* changes how far they are trusted'):
        KeepAugment({'type': 'SoftAugmentation'}, 'paste')


def test_a_plain_view_stays_the_batch_itself():
    batch = Batch(IMAGES, LABELS)
    plan = KeepAugment(Vanilla(), 'paste').plan(batch, Context(generator=rng(), probe=Gradients(GRADIENT)))
    assert plan.views[0].inputs is IMAGES


def test_which_share_of_the_squares_is_taken():
    """The first below the 0.6 quantile is an even draw of the lower 60 %, the first above it one of the upper 40 %."""
    scores = torch.rand(4000, CANDIDATES, generator=rng())
    for mode, low, high in (('cut', 0.0, 0.6), ('paste', 0.6, 1.0)):
        policy = KeepAugment({'type': 'Cutout'}, mode)
        taken = policy.first(scores)
        rank = scores.argsort(1).argsort(1).gather(1, taken[:, None])[:, 0].double() / CANDIDATES
        assert (float(rank.min()), float(rank.max())) == pytest.approx((low, high - 1 / CANDIDATES))
        assert float(rank.mean()) == pytest.approx((low + high - 1 / CANDIDATES) / 2, abs=0.02)
        share = high - low
        assert float((taken == 0).double().mean()) == pytest.approx(
            share, abs=5 * math.sqrt(share * (1 - share) / 4000)
        )


@pytest.mark.parametrize('prob', [0.0, 0.4, 1.0])
def test_the_probability_of_the_cutout_holds(prob):
    size = (3000, 1, 8, 8)
    view = view_of(KeepAugment({'type': 'Cutout', 'prob': prob}), torch.ones(size), random(*size))
    share = float((view.inputs.amin((1, 2, 3)) == 0).float().mean())
    assert share == pytest.approx(prob, abs=5 * (prob * (1 - prob) / 3000) ** 0.5 + 1e-9)


@pytest.mark.parametrize(('resolution', 'small'), [(0.5, (8, 12)), (0.01, (1, 1)), (1.0, (16, 24))])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_a_smaller_image_may_be_looked_at(resolution, small, dtype):
    """Each of its pixels is a mean of the image's, and its map is brought back to the image's size."""
    images, gradient = random(4, 3, 16, 24).to(dtype), random(4, 3, *small, seed=2)
    ctx = Context(probe=Gradients(gradient))
    found = KeepAugment(resolution=resolution).importance(Batch(images, LABELS[:4]), ctx)
    ((seen, _),) = ctx.probe.asked
    assert (seen.shape, seen.dtype) == ((4, 3, *small), dtype)
    torch.testing.assert_close(seen, F.adaptive_avg_pool2d(images, small))
    assert found.shape == (4, 16, 24)
    assert found.dtype == torch.float32
    maps = gradient.abs().amax(1)
    if small == (8, 12):  # at a pixel of the image, 3/4 of the nearest one of the map along each side
        by_hand = (9 * maps[:, 2, 3] + 3 * (maps[:, 1, 3] + maps[:, 2, 2]) + maps[:, 1, 2]) / 16
        torch.testing.assert_close(found[:, 4, 6], by_hand)


def test_the_gradient_is_that_of_the_loss_in_eval_mode():
    torch.manual_seed(0)
    policy = KeepAugment()
    model = MixClassifier(RESNET, {'type': 'LinearHead', 'num_classes': 4}, policy=policy).train()
    images, labels = random(4, 3, 32, 32), torch.tensor([3, 1, 0, 1])
    seen, importance = [], policy.importance
    policy.importance = lambda *args: seen.append(importance(*args)) or seen[-1]
    model.plan(images, labels)
    model.eval()
    leaf = images.clone().requires_grad_()
    loss = F.cross_entropy(model.student(leaf).logits, labels, reduction='sum')
    (gradient,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(seen[0], gradient.abs().amax(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('policy', [KeepAugment(), KeepAugment({'type': 'Cutout'}, 'paste')], ids=repr)
def test_labels_and_gradients_stay(policy):
    images = IMAGES.clone().requires_grad_()
    view = view_of(policy, images)
    assert torch.equal(view.mixture.index, torch.arange(6)[:, None])
    assert torch.equal(view.mixture.weight, torch.ones(6, 1))
    view.inputs.sum().backward()
    assert torch.equal(images.grad, view.masks.expand_as(images))
    assert policy.rate == 0


@pytest.mark.parametrize('policy', [
    KeepAugment(), KeepAugment(resolution=0.5), KeepAugment({'type': 'HideAndSeek'}, 'paste'),
    KeepAugment({'type': 'AugMix', 'jsd': False}, 'paste', resolution=0.5), KeepAugment({'type': 'AugMix'}, 'paste'),
], ids=repr)  # fmt: skip
def test_does_what_it_says(policy):
    only = [
        'inputs_are_not_touched', 'one_image_is_left_alone', 'memory_layout_does_not_matter', 'dtype_is_kept',
        'draws_come_from_the_generator', 'eval_mode_never_mixes', 'arguments_are_stored', 'repr_can_be_built_again',
        'nothing_is_read_from_the_device', 'few_operators_are_launched', 'finish_is_sound', 'weights_are_sound',
        'a_look_leaves_no_trace', 'gradients_go_where_they_should', 'all_target_kinds_mix_alike',
    ]  # fmt: skip
    check_policy(policy, only=only, raise_on_failure=True)


def test_a_loss_of_the_inner_policy_is_kept_and_the_square_is_in_each_view():
    """AugMix has two augmented views and a clean one; finish gives their divergence, and pictures stay."""
    policy = KeepAugment(AugMix(), 'paste', threshold=0.0, length=1.0)
    model = MixClassifier(RESNET, {'type': 'LinearHead', 'num_classes': 4}, policy).train()
    model.context = Context(step=1)
    plan, context = model.plan(IMAGES, LABELS)
    done = policy.finish(plan, model.run_views(plan), context)
    assert len(done.losses) == 1
    assert len(plan.views) == len(done.views) == 3
    for before, after, inner in zip(plan.views, done.views, plan.inner.views, strict=True):
        assert after.inputs is before.inputs
        back = (before.inputs == IMAGES).all(1).float().mean()
        assert float(back) == 1 or float(back) >= float((inner.inputs == IMAGES).all(1).float().mean()) + 0.1
    assert bool(model(IMAGES, LABELS, mode='loss')['loss_main'].isfinite())


@pytest.mark.parametrize(('policy', 'most'), [(KeepAugment(), 22), (KeepAugment(resolution=0.5), 24)], ids=repr)
def test_few_operators(policy, most):
    assert count_operators(policy.train(), IMAGES.to('meta'), LABELS.to('meta')) <= most


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'mode': 'past'}, "did you mean 'paste'"), ({'mode': None}, 'mode=None'), ({'threshold': 1.1}, 'threshold=1.1'),
    ({'threshold': True}, 'threshold=True'), ({'threshold': float('nan')}, 'threshold=nan'),
    ({'length': 0}, 'length=0'), ({'length': 16}, 'length=16'),
    ({'resolution': 0}, 'resolution=0'), ({'resolution': '1'}, "resolution='1'"),
    ({'policy': {'type': 'GridMask'}}, 'chooses the square of a Cutout'),
    ({'policy': Mixup(), 'mode': 'paste'}, 'mixes images'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        KeepAugment(**arguments)
