"""SnapMix: boxes of their own in both images, and weights by class activation maps that need not sum to one."""

import pytest
import torch
import torch.nn.functional as F

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context
from openmixup.policies.guided.snapmix import SnapMix
from openmixup.policies.masks import cutmix_boxes

RESNET = {'type': 'TimmBackbone', 'model': 'resnet10t', 'stem': 'cifar'}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed))


class Maps:
    """A probe with class activation maps that a test has made."""

    def __init__(self, maps):
        self.maps, self.asked = maps, []

    def cam(self, images, labels):
        self.asked.append((images, labels))
        return self.maps


def view_of(policy, images, maps, labels=None, seed=0, bank=None):
    labels = torch.arange(len(images)) if labels is None else labels
    return policy.train()(Batch(images, labels, bank), Context(generator=rng(seed), probe=Maps(maps))).views[0]


def boxes_of(policy, count, size, seed=0, number=1):
    """The boxes that the policy draws, from the same stream."""
    generator = rng(seed)
    torch.randperm(count, generator=generator)
    lam = policy.draw_lam(number, generator)
    into = cutmix_boxes(lam, size, generator)
    return into, cutmix_boxes(policy.draw_lam(number, generator), size, generator)


def box(boxes, place):
    (top, left), (bottom, right) = boxes.low[place].tolist(), boxes.high[place].tolist()
    return slice(top, bottom), slice(left, right)


def scaled(maps, size):
    """(N, H, W) maps that sum to 1."""
    wide = F.interpolate(maps[:, None], size, mode='bilinear')[:, 0].double()
    wide = wide - wide.amin((1, 2), keepdim=True)
    return wide / wide.sum((1, 2), keepdim=True)


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('size', [(32, 32), (17, 40), (224, 224)])
def test_picture_and_weights_by_loops(size, per):
    images, maps = random(4, 3, *size), random(4, 5, 7)
    policy, sums = SnapMix(per=per), []
    for seed in range(6):
        view = view_of(policy, images, maps, seed=seed)
        into, out_of = boxes_of(policy, 4, size, seed, 4 if per == 'sample' else 1)
        energy = scaled(maps, size)
        for sample, other in view.mixture.index.tolist():
            a, b = (box(boxes, sample if per == 'sample' else 0) for boxes in (into, out_of))
            expected, mask, weights = images[sample].clone(), torch.ones(size), [1.0, 0.0]
            if images[0, 0][a].numel() and images[0, 0][b].numel():
                piece, room = images[other][(slice(None), *b)][None], mask[a].shape
                expected[(slice(None), *a)] = F.interpolate(piece, room, mode='bilinear', align_corners=True)[0]
                mask[a] = 0
                weights = [1 - float(energy[sample][a].sum()), float(energy[other][b].sum())]
                weights = [sum(weights)] * 2 if sample == other else weights
            torch.testing.assert_close(view.inputs[sample], expected, rtol=0, atol=1e-3)
            assert torch.equal(view.masks[sample, 0], mask)
            torch.testing.assert_close(view.mixture.weight[sample], torch.tensor(weights), rtol=0, atol=1e-5)
            sums.append(sum(weights))
    assert max(sums) > 1.1  # two weights, not normalised
    assert min(sums) < 0.9


@pytest.mark.parametrize('level', [0.0, 3.0])
def test_a_flat_map_weighs_by_area(level):
    policy = SnapMix(pairing='derangement')
    view = view_of(policy, random(3, 3, 20, 30), torch.full((3, 4, 6), level))
    into, out_of = boxes_of(policy, 3, (20, 30))
    areas = torch.stack([into.kept(), 1 - out_of.kept()], 1).float()
    torch.testing.assert_close(view.mixture.weight, areas.expand(3, 2))
    assert abs(float(areas.sum()) - 1) > 0.01


def test_boxes_have_a_lam_each():
    policy, drawn = SnapMix(pairing='derangement'), iter([0.36, 0.91])
    policy.draw_lam = lambda count, rng: torch.full((count,), next(drawn), dtype=torch.float64)
    view = view_of(policy, random(2, 1, 50, 50), torch.ones(2, 1, 1), seed=4)
    assert 14 * 14 < float(view.masks[0, 1].sum()) <= 40 * 40  # 0.64 of the pixels, clipped
    own = 1 - float(view.masks[0, 1].mean())
    assert float(view.mixture.weight[0, 0]) == pytest.approx(own, abs=1e-5)
    assert float(view.mixture.weight[0, 1]) <= 14 * 14 / 2500 + 1e-5  # 0.09 of the pixels, in whole pairs of pixels


@pytest.mark.parametrize('which', [0, 1])
@pytest.mark.parametrize('same_class', ['double', 'once'])
def test_without_pixels_in_a_box_nothing_is_mixed(which, same_class):
    policy = SnapMix(same_class=same_class)
    drawn = iter([1.0, 0.5] if which == 0 else [0.5, 1.0])
    policy.draw_lam = lambda count, rng: torch.full((count,), next(drawn), dtype=torch.float64)
    images = random(3, 3, 16, 16)
    view = view_of(policy, images, random(3, 4, 4), torch.zeros(3, dtype=torch.long))
    assert torch.equal(view.inputs, images)
    assert torch.equal(view.mixture.weight, torch.tensor([[1.0, 0.0]]).expand(3, 2))
    assert torch.equal(view.masks[:, 0], torch.ones(3, 16, 16))


@pytest.mark.parametrize(('same_class', 'factor'), [('double', 2), ('once', 1)])
def test_two_images_of_one_class(same_class, factor):
    images, maps = random(4, 3, 16, 16), random(4, 4, 4)
    labels = torch.tensor([5, 7, 7, 5])
    policies = [SnapMix(pairing='flip', same_class=same_class) for _ in range(2)]
    plain = view_of(policies[0], images, maps, torch.arange(4), seed=1).mixture.weight
    weight = view_of(policies[1], images, maps, labels, seed=1).mixture.weight
    torch.testing.assert_close(weight.sum(1), factor * plain.sum(1))
    assert torch.equal(weight[:, 0], weight[:, 1])
    assert float((plain[:, 0] - plain[:, 1]).abs().min()) > 0.01


def test_maps_are_those_of_the_own_labels_in_eval_mode():
    torch.manual_seed(0)
    policy = SnapMix(pairing='flip', per='sample')
    model = MixClassifier(RESNET, {'type': 'LinearHead', 'num_classes': 4}, policy=policy).train()
    images, labels = random(4, 3, 32, 32), torch.tensor([3, 1, 0, 1])
    seen = []
    maps = policy.maps
    policy.maps = lambda batch, ctx: seen.append(maps(batch, ctx)) or seen[-1]
    model.plan(images, labels)
    model.eval()
    features = model.student.backbone.features(images)
    rows = next(m for m in model.student.heads['main'].modules() if isinstance(m, torch.nn.Linear)).weight[labels]
    expected = scaled(torch.einsum('nchw,nc->nhw', features, rows).detach(), (32, 32)).float()
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-5)
    assert not seen[0].requires_grad


def test_partners_of_a_bank():
    images, bank, maps = random(2, 3, 12, 12), random(3, 3, 12, 12, seed=1), random(5, 3, 3)
    batch = Batch(images, torch.arange(2), Batch(bank, torch.tensor([8, 1, 9])))
    policy, probe = SnapMix(), Maps(maps)
    view = policy.view(batch, torch.tensor([2, 3]), torch.tensor([0.4]).double(), Context(generator=rng(), probe=probe))
    assert probe.asked[0][1].tolist() == [0, 1, 8, 1, 9]
    assert view.mixture.index.tolist() == [[0, 2], [1, 3]]
    first, second = view.mixture.weight
    assert float(second[0]) == float(second[1])  # both are of class 1
    assert float(first[0]) != float(first[1])


def test_large_half_precision_images_are_sampled_at_the_right_place():
    ramp = torch.linspace(-1, 1, 224).expand(2, 1, 224, 224).contiguous()
    policy = SnapMix(pairing='flip')
    plain, half = (view_of(policy, images, torch.ones(2, 1, 1)) for images in (ramp, ramp.bfloat16()))
    assert half.inputs.dtype == torch.bfloat16
    torch.testing.assert_close(half.inputs.float(), plain.inputs, rtol=0, atol=0.01)
    assert torch.equal(half.mixture.weight, plain.mixture.weight)


def test_gradient_flows_to_the_pixels_but_not_through_the_weights():
    images = random(3, 3, 12, 12).requires_grad_()
    view = view_of(SnapMix(), images, random(3, 4, 4).requires_grad_())
    assert not view.mixture.weight.requires_grad
    view.inputs.sum().backward()
    assert float((images.grad - 1).abs().max()) > 0
    assert float(images.grad.sum()) == pytest.approx(images.numel(), rel=1e-5)


def test_published_settings():
    policy = SnapMix()
    assert (policy.alpha, policy.prob, policy.rate, policy.same_class, policy.normalised) == (5, 1, 1, 'double', False)
    images = random(2, 1, 8, 8)
    assert SnapMix(prob=0.5).rate == 0.5
    assert view_of(SnapMix(prob=0), images, random(2, 2, 2)).inputs is images


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'alpha': 0}, 'alpha=0'), ({'prob': -0.1}, 'from 0 to 1'), ({'prob': '1'}, 'from 0 to 1'),
    ({'same_class': 'sum'}, "expected 'double'"),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SnapMix(**arguments)


@pytest.mark.parametrize('target', ['soft', 'multilabel'])
def test_labels_that_are_no_class_are_refused(target):
    with pytest.raises(InputError, match=f'the target is {target}'):
        MixClassifier(RESNET, {'type': 'LinearHead', 'num_classes': 4}, policy=SnapMix(), target=target)
