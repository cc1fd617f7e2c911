import copy

import pytest
import torch
import torchvision
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, Network
from openmixup.policies.masks import Boxes
from openmixup.policies.static.recursivemix import RecursiveMix, roi_line

IMAGES = torch.randn(6, 3, 16, 24, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 4, 2, 2])
NETWORK = Network(5, 30, ('only',), (9,), (1,), map_channels=8)


class Output:
    """What a network of a fixed answer gives."""

    def __init__(self, size=6, seed=0, grid=(4, 6)):
        generator = torch.Generator().manual_seed(seed)
        self.logits = torch.randn(size, 5, generator=generator, requires_grad=True)
        self.features = torch.randn(size, 8, *grid, generator=generator, requires_grad=True)


def bound(**options):
    torch.manual_seed(0)
    policy = RecursiveMix(**options)
    policy.bind(NETWORK)
    return policy


def step(policy, images=IMAGES, labels=LABELS, number=0, epoch=0, target='class', output=None):
    ctx = Context(seed=5, step=number, epoch=epoch)
    plan = policy(Batch(images, labels, target=target), ctx)
    return policy.finish(plan, (output or Output(len(images), number),), ctx)


def targets(plan):
    return plan.views[0].mixture.soft(plan.batch.source_labels)


def is_mixed(plan):
    return plan.batch.bank is not None


@pytest.mark.parametrize('number', range(1, 8))
def test_pixel_mean_is_lam(number):
    """History 0, batch 1."""
    policy = bound(alpha=1.0)
    step(policy, torch.zeros(6, 3, 16, 24))
    plan = step(policy, torch.ones(6, 3, 16, 24), number=number)
    view = plan.views[0]
    torch.testing.assert_close(view.mixture.weight[:, 0], view.inputs.mean((1, 2, 3)))
    torch.testing.assert_close(view.masks[:, 0], view.inputs[:, 0])
    assert torch.equal(view.mixture.weight, view.mixture.weight[:1].expand(6, 2))
    assert 0 < float(view.mixture.weight[0, 1]) < 1
    torch.testing.assert_close(view.mixture.weight.sum(1), torch.ones(6))


def test_the_same_image_of_the_history_is_resized_into_the_box():
    policy = bound()
    first = step(policy)
    policy.draw_lam = lambda count, rng: torch.full((count,), 0.5, dtype=torch.float64)
    view = step(policy, IMAGES + 50, number=1).views[0]
    assert torch.equal(view.mixture.index, torch.stack([torch.arange(6), 6 + torch.arange(6)], 1))
    rows, columns = view.masks[0, 1].nonzero().T
    top, left, bottom, right = int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1
    inside = view.inputs[:, :, top:bottom, left:right]
    small = functional.interpolate(first.views[0].inputs, size=(bottom - top, right - left), mode='nearest')
    assert torch.equal(inside, small)
    outside = (IMAGES + 50)[:, :, view.masks[0, 0].bool()]
    assert torch.equal(view.inputs[:, :, view.masks[0, 0].bool()], outside)


@pytest.mark.parametrize('alpha', [0.5, 1.0])
def test_area_is_uniform_up_to_alpha(alpha):
    area = 1 - RecursiveMix(alpha).draw_lam(20_000, torch.Generator().manual_seed(0))
    assert 0 <= float(area.min()) < 0.001
    assert 0.999 * alpha < float(area.max()) < alpha
    assert float(area.mean()) == pytest.approx(alpha / 2, abs=5 * alpha / 12**0.5 / 20_000**0.5)
    assert float(area.std()) == pytest.approx(alpha / 12**0.5, rel=0.02)


def test_targets_stay_shares_and_gather_one_class_a_step():
    policy, size = bound(alpha=1.0), 5
    for number in range(12):
        plan = step(policy, labels=(torch.arange(6) + number) % 5, number=number)
        target = targets(plan)
        torch.testing.assert_close(target.sum(1), torch.ones(6))
        assert float(target.min()) >= 0
        assert int((target > 0).sum(1).max()) <= min(number + 1, size)
        assert is_mixed(plan) == (number > 0)
    assert int((target > 0).sum(1).min()) == 5


def test_targets_follow_the_recursion():
    policy = bound()
    by_hand = None
    for number in range(4):
        plan = step(policy, labels=LABELS.roll(number), number=number)
        own = functional.one_hot(LABELS.roll(number), 5).float()
        lam = plan.views[0].masks[:, 0].mean((1, 2))[:, None]
        by_hand = own if by_hand is None else lam * own + (1 - lam) * by_hand
        torch.testing.assert_close(targets(plan), by_hand)


@pytest.mark.parametrize('target', ['soft', 'multilabel'])
def test_dense_targets_stay_what_they_are(target):
    policy = bound()
    labels = torch.rand(6, 5, generator=torch.Generator().manual_seed(3))
    step(policy, labels=labels, target=target)
    plan = step(policy, labels=labels.flip(0), number=1, target=target)
    assert plan.batch.target == target
    assert plan.batch.labels is not None
    lam = plan.views[0].mixture.weight[:, :1]
    torch.testing.assert_close(targets(plan), lam * labels.flip(0) + (1 - lam) * labels)


def test_the_history_has_no_gradient_and_is_what_the_network_saw():
    policy = bound()
    images = IMAGES.clone().requires_grad_()
    for number in range(3):
        output = Output(seed=number)
        plan = step(policy, images, number=number, output=output)
        assert not any(value.requires_grad for value in policy.history[:3])
        assert torch.equal(policy.history.images, plan.views[0].inputs)
        assert torch.equal(policy.history.logits, output.logits)
        assert torch.equal(policy.history.targets, targets(plan))
    assert not list(policy.buffers())
    assert set(policy.state_dict()) == {'head.weight', 'head.bias'}


def test_the_first_step_of_an_epoch_is_not_mixed():
    policy = bound()
    found = [is_mixed(step(policy, number=n, epoch=e)) for n, e in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 2))]
    assert found == [False, True, False, True, True, False]
    plan = step(policy, number=6, epoch=3)
    assert torch.equal(plan.views[0].inputs, IMAGES)
    assert torch.equal(targets(plan), functional.one_hot(LABELS, 5).float())


def test_batches_of_another_size():
    policy = bound(alpha=1.0)
    step(policy)
    small = step(policy, IMAGES[:2] + 9, LABELS[:2], number=1)
    assert len(small.batch.bank) == 2
    assert torch.equal(small.batch.bank.images, IMAGES[:2])
    large = step(policy, IMAGES, number=2)
    view = large.views[0]
    assert view.mixture.index.tolist() == [[0, 6], [1, 7], [2, 2], [3, 3], [4, 4], [5, 5]]
    assert torch.equal(view.inputs[2:], IMAGES[2:])
    assert torch.equal(view.mixture.weight[2:], torch.tensor([[1.0, 0.0]]).expand(4, 2))
    assert torch.equal(view.masks[2:, 0], torch.ones(4, 16, 24))
    assert float(view.mixture.weight[0, 1]) > 0
    torch.testing.assert_close(view.masks.mean((2, 3)), view.mixture.weight)
    assert is_mixed(step(policy, IMAGES[:1], LABELS[:1], number=3))  # one image has a partner here
    policy = bound()
    step(policy, IMAGES[:, :, :8, :8])
    assert step(policy, number=1).views[0].inputs.shape == IMAGES.shape  # images that grow during an epoch


@pytest.mark.parametrize('grid', [(4, 6), (2, 3), (1, 1), (16, 24)])
def test_pooling_is_roi_align(grid):
    """One bin, half-pixel centres, a sample for each cell that the box covers."""
    features = torch.randn(2, 8, *grid, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        low = torch.cat(
            [torch.randint(0, 16, (1,), generator=generator), torch.randint(0, 24, (1,), generator=generator)]
        )
        high = low + torch.cat([
            torch.randint(1, 17 - int(low[0]), (1,), generator=generator),
            torch.randint(1, 25 - int(low[1]), (1,), generator=generator),
        ])  # fmt: skip
        down = roi_line(int(low[0]), int(high[0]), 16, grid[0])
        across = roi_line(int(low[1]), int(high[1]), 24, grid[1])
        (top, left), (bottom, right) = low.tolist(), high.tolist()
        boxes = torch.tensor([[i, left, top, right, bottom] for i in range(2)], dtype=torch.float64)
        scale = grid[0] / 16
        expected = torchvision.ops.roi_align(features, boxes, 1, scale, sampling_ratio=-1, aligned=True)
        torch.testing.assert_close((features @ across) @ down, expected[:, :, 0, 0])
    whole = roi_line(0, 16, 16, 4)
    torch.testing.assert_close(whole, torch.full((4,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(roi_line(5, 5, 16, 4).sum(), torch.ones((), dtype=torch.float64))  # an empty box


def test_the_consistency_term():
    policy = bound(omega=0.3)
    before = Output(seed=1)
    first = step(policy, output=before)
    assert first.losses['recursive'].item() == 0
    output = Output(seed=2)
    plan = step(policy, number=1, output=output)
    (top, left), (bottom, right) = plan.box.low[0].tolist(), plan.box.high[0].tolist()
    boxes = torch.tensor([[i, left, top, right, bottom] for i in range(6)], dtype=torch.float32)
    pooled = torchvision.ops.roi_align(output.features, boxes, 1, 4 / 16, sampling_ratio=-1, aligned=True)[:, :, 0, 0]
    seen = pooled @ policy.head.weight.T + policy.head.bias
    lam = plan.views[0].mixture.weight[0, 0]
    loss = -(before.logits.softmax(1) * seen.log_softmax(1)).sum(1)
    torch.testing.assert_close(plan.losses['recursive'], 0.3 * (1 - lam) * loss.mean())
    plan.losses['recursive'].backward()
    assert float(output.features.grad.abs().max()) > 0
    assert before.logits.grad is None
    assert output.logits.grad is None
    assert float(policy.head.weight.grad.abs().max()) > 0


def test_samples_without_a_history_have_no_part_in_the_term():
    policy = bound(omega=1.0)
    step(policy, IMAGES[:2], LABELS[:2])
    output = Output(seed=2)
    step(policy, number=1, output=output).losses['recursive'].backward()
    assert float(output.features.grad[:2].abs().max()) > 0
    assert float(output.features.grad[2:].abs().max()) == 0


def test_the_extra_head_has_a_gradient_in_every_step():
    """So that distributed training waits for none in vain."""
    policy = bound()
    step(policy).losses['recursive'].backward()
    assert torch.equal(policy.head.weight.grad, torch.zeros(5, 8))
    assert not policy.sometimes_unused


@pytest.mark.parametrize('stops', [1, 2, 3])
def test_rank_state_goes_on_bit_for_bit(stops, tmp_path):
    """Through a file, as a checkpoint would keep it; ``stops`` steps before the next one."""
    straight, cut = bound(), bound()
    for number in range(stops):
        for policy in (straight, cut):
            step(policy, number=number, epoch=number // 2)
    torch.save(cut.rank_state(), tmp_path / 'rank.pt')
    again = bound()
    again.load_rank_state(torch.load(tmp_path / 'rank.pt', weights_only=True))
    expected, got = (step(policy, number=stops, epoch=stops // 2) for policy in (straight, again))
    assert torch.equal(expected.views[0].inputs, got.views[0].inputs)
    assert torch.equal(targets(expected), targets(got))
    assert torch.equal(expected.losses['recursive'], got.losses['recursive'])
    assert is_mixed(got) == (stops % 2 == 1)
    fresh = bound()
    assert fresh.rank_state() == {}
    again.load_rank_state({})
    assert not is_mixed(step(again))


def test_copies_have_a_history_of_their_own():
    policy = bound()
    step(policy)
    other = copy.deepcopy(policy)
    step(other, IMAGES + 1, number=1)
    assert torch.equal(policy.history.images, IMAGES)


def test_binding_again_keeps_the_head():
    policy = bound()
    head = policy.head
    policy.bind(copy.deepcopy(NETWORK))
    assert policy.head is head
    policy.bind(Network(7, 8, (), (), (), 8))
    assert policy.head.out_features == 7


def test_nothing_is_read_from_the_device():
    policy = bound()
    policy.head.to('meta')
    images, labels = IMAGES.to('meta'), LABELS.to('meta')
    for number in range(2):
        output = Output()
        output.logits, output.features = output.logits.to('meta'), output.features.to('meta')
        plan = step(policy, images, labels, number=number, output=output)
        assert plan.views[0].inputs.is_meta
        assert plan.views[0].masks.is_meta
        assert plan.losses['recursive'].is_meta
    assert is_mixed(plan)


def test_eval_mode_neither_mixes_nor_remembers():
    policy = bound()
    step(policy)
    kept = policy.history
    plan = step(policy.eval(), IMAGES + 1, number=1)
    assert plan.views[0].inputs.shape == IMAGES.shape
    assert not is_mixed(plan)
    assert policy.history is kept


def test_images_are_not_written_to():
    policy = bound(alpha=1.0)
    images, before = IMAGES.clone(), IMAGES.clone()
    for number in range(4):
        step(policy, images, number=number)
    assert torch.equal(images, before)
    assert images._version == 0


def test_trains_in_the_learner():
    torch.manual_seed(0)
    model = MixClassifier(
        {'type': 'CifarResNet', 'depth': 8, 'width': 4},
        {'type': 'LinearHead', 'num_classes': 5},
        RecursiveMix(1.0, 0.5),
    ).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    assert model.policy.head.in_features == 16
    before = model.policy.head.weight.detach().clone()
    values = []
    for number in range(40):
        model.context = Context(step=number, epoch=number // 20)
        losses = model(IMAGES, LABELS, mode='loss')
        total, _ = model.parse_losses(losses)
        plan = model.last_plan
        expected = functional.cross_entropy(model(plan.views[0].inputs), targets(plan))
        torch.testing.assert_close(losses['loss_main'], expected)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(float(losses['loss_recursive_term'].detach()))
        assert is_mixed(plan) == (number % 20 > 0)
    assert values[0] == values[20] == 0 < min(values[1], values[21])
    assert float((model.policy.head.weight.detach() - before).abs().max()) > 0.01


@pytest.mark.parametrize(('options', 'match'), [
    ({'alpha': 0.0}, 'above 0 and at most 1'),
    ({'alpha': 1.5}, 'above 0 and at most 1'),
    ({'omega': -1.0}, 'at least 0'),
    ({'omega': float('inf')}, 'at least 0'),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        RecursiveMix(**options)


def test_wrong_use_is_one_sentence():
    with pytest.raises(InputError, match='has not seen the network yet'):
        step(RecursiveMix())
    with pytest.raises(InputError, match='the target is regression and labels are values'):
        step(bound(), labels=torch.randn(6), target='regression')
    with pytest.raises(InputError, match='labels are missing'):
        step(bound(), labels=None)
    with pytest.raises(InputError, match='needs features of a network'):
        RecursiveMix().mix(IMAGES, LABELS)
    with pytest.raises(InputError, match='last feature map, which the network does not have'):
        RecursiveMix().bind(Network(5, 9, (), (), ()))


def test_an_empty_box_leaves_the_image():
    policy = bound()
    step(policy)
    policy.draw_lam = lambda count, rng: torch.full((count,), 0.9999, dtype=torch.float64)
    plan = step(policy, IMAGES + 1, number=1)
    assert isinstance(plan.box, Boxes)
    assert torch.equal(plan.views[0].inputs, IMAGES + 1)
    assert torch.equal(plan.views[0].mixture.weight, torch.tensor([[1.0, 0.0]]).expand(6, 2))
    assert plan.losses['recursive'].item() == 0
