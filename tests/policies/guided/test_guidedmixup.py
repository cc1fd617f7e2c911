"""GuidedMixup: shares of the saliency at each pixel, and partners that are really those of the greedy cycle."""

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context
from openmixup.policies.guided.greedy_cycle import far_partners, groups
from openmixup.policies.guided.guidedmixup import GuidedMixup
from openmixup.policies.saliency import blur, spectral_residual
from openmixup.testing import check_policy, count_operators

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed))


class Gradients:
    """A probe that gives what a test has made."""

    def __init__(self, gradient):
        self.gradient, self.asked = gradient, []

    def input_grad(self, images, labels):
        self.asked.append((images, labels))
        return self.gradient


def plan_of(policy, images, seed=0, gradient=None, **options):
    context = Context(generator=rng(seed), mean=MEAN, std=STD, probe=Gradients(gradient), **options)
    return policy.train()(Batch(images, torch.arange(len(images))), context)


def scaled(maps):
    return maps / maps.sum((1, 2), keepdim=True)


@pytest.mark.parametrize('saliency', ['spectral', 'gradient'])
@pytest.mark.parametrize('size', [(24, 24), (18, 31), (150, 140)])
def test_each_pixel_shows_the_shares_of_the_saliency(saliency, size):
    fade = torch.linspace(0.01, 1, size[1]) ** torch.arange(5).view(5, 1, 1, 1)  # salient regions of several sizes
    images, gradient = random(5, 3, *size) * fade, random(5, 3, *size, seed=1) * fade
    view = plan_of(GuidedMixup(saliency, prob=1.0), images, gradient=gradient).views[0]
    raw = spectral_residual(images, STD) if saliency == 'spectral' else blur((gradient**2).mean(1).sqrt())
    maps, index = scaled(raw.double()), view.mixture.index
    assert index[:, 0].tolist() == [0, 1, 2, 3, 4]
    for sample, other in index.tolist():
        share = maps[sample] / (maps[sample] + maps[other])
        expected = share * images[sample] + (1 - share) * images[other]
        torch.testing.assert_close(view.inputs[sample].double(), expected, rtol=0, atol=2e-4)
        torch.testing.assert_close(view.masks[sample, 0].double(), share, rtol=0, atol=1e-4)
        weights = torch.tensor([share.mean(), 1 - share.mean()])
        torch.testing.assert_close(view.mixture.weight[sample].double(), weights.double(), rtol=0, atol=1e-5)
    assert float(view.mixture.weight[:, 0].std()) > 1e-3  # weights of each sample, not of the batch


@pytest.mark.parametrize('distance', ['l2', 'l1', 'cosine'])
def test_images_and_labels_are_those_of_the_greedy_partner(distance):
    """Salient stripes at other columns: the partner of each is the one that the cycle says, in picture and label."""
    images = random(7, 3, 12, 16) * 0.01
    gradient = torch.zeros(7, 3, 12, 16)
    for sample, column in enumerate((0, 1, 3, 5, 9, 12, 15)):
        gradient[sample, :, :, column] = 1
    policy = GuidedMixup('gradient', prob=1.0, distance=distance)
    view = plan_of(policy, images, gradient=gradient).views[0]
    maps = scaled(blur(gradient[:, 0]))
    partner = far_partners(maps.flatten(1), groups(7, 128, rng()), distance)
    assert torch.equal(view.mixture.index[:, 1], partner)
    assert len(set(partner.tolist())) == 7
    soft = view.mixture.soft(torch.arange(7), 7)
    torch.testing.assert_close(soft.gather(1, partner[:, None])[:, 0], 1 - soft.diagonal())
    shown = view.masks[:, :1] * images + view.masks[:, 1:] * images[partner]
    torch.testing.assert_close(view.inputs, shown, rtol=0, atol=1e-6)


def test_pairs_lie_farther_apart_than_by_chance():
    images = random(40, 3, 16, 16)
    maps = scaled(spectral_residual(images, STD)).flatten(1)
    apart = {}
    for pairing in ('greedy', 'derangement'):
        index = plan_of(GuidedMixup(prob=1.0, pairing=pairing), images).views[0].mixture.index
        apart[pairing] = float((maps[index[:, 0]] - maps[index[:, 1]]).norm(dim=1).mean())
    assert apart['greedy'] > 1.02 * apart['derangement']


def test_pairs_stay_in_their_group():
    images = random(10, 3, 8, 8)
    seen = set()
    for seed in range(4):
        index = plan_of(GuidedMixup(prob=1.0, group=4), images, seed).views[0].mixture.index
        generator = rng(seed)
        torch.rand((), generator=generator)
        for group in groups(10, 4, generator).tolist():
            assert {int(index[i, 1]) for i in group if i < 10} == {i for i in group if i < 10}
        seen.add(tuple(index[:, 1].tolist()))
    assert len(seen) == 4


@pytest.mark.parametrize('gradient', [0.0, 1.0, 1e-14, 1e8])
def test_images_without_saliency_show_alike(gradient):
    images = random(4, 3, 9, 9)
    view = plan_of(GuidedMixup('gradient', prob=1.0), images, gradient=torch.full_like(images, gradient)).views[0]
    torch.testing.assert_close(view.masks, torch.full_like(view.masks, 0.5), rtol=0, atol=1e-5)
    torch.testing.assert_close(view.mixture.weight, torch.full((4, 2), 0.5))


def test_an_image_without_saliency_is_an_even_one():
    images, gradient = random(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    gradient[0, :, 2, 3] = 5
    view = plan_of(GuidedMixup('gradient', prob=1.0), images, gradient=gradient).views[0]
    peaked = scaled(blur(gradient[:1, 0]))[0]
    torch.testing.assert_close(view.masks[0, 0], peaked / (peaked + 1 / 64), rtol=0, atol=1e-5)


@pytest.mark.parametrize(('saliency', 'prob', 'rate'), [
    ('spectral', None, 0.5), ('gradient', None, 0.8), ('spectral', 0.0, 0.0), ('spectral', 1, 1.0),
])  # fmt: skip
def test_published_probabilities(saliency, prob, rate):
    policy = GuidedMixup(saliency, prob)
    assert policy.rate == rate
    images = random(2, 1, 4, 4)
    plans = [plan_of(policy, images, seed, images) for seed in range(300)]
    mixed = sum(plan.views[0].mixture.index.shape[1] == 2 for plan in plans)
    assert abs(mixed - 300 * rate) <= 5 * (300 * rate * (1 - rate)) ** 0.5
    assert all(plan.views[0].inputs is images for plan in plans if plan.views[0].mixture.index.shape[1] == 1)


def test_all_ranks_mix_in_the_same_steps():
    policy, images = GuidedMixup().train(), random(2, 1, 4, 4)
    for step in range(12):
        plans = [policy(Batch(images, torch.arange(2)), Context(seed=3, step=step, rank=rank)) for rank in range(3)]
        assert len({plan.views[0].mixture.index.shape[1] for plan in plans}) == 1


def test_plain_images_are_a_second_view_with_its_weight():
    images = random(3, 3, 8, 8)
    plan = plan_of(GuidedMixup(prob=1.0, clean_lam=0.7), images)
    assert [view.share for view in plan.views] == [1.0, 0.7]
    assert plan.views[1].inputs is images
    assert plan.mixed == 0
    unmixed = plan_of(GuidedMixup(prob=0.0, clean_lam=0.7), images)
    assert [view.share for view in unmixed.views] == [1.0]


def test_gradients_are_those_of_the_learner():
    torch.manual_seed(0)
    backbone = {'type': 'TimmBackbone', 'model': 'resnet10t', 'stem': 'cifar'}
    policy = GuidedMixup('gradient', prob=1.0, pairing='flip')
    model = MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 4}, policy=policy).train()
    images, labels = random(4, 3, 32, 32), torch.arange(4)
    view = model.plan(images, labels)[0].views[0]
    model.eval()
    pixels = images.clone().requires_grad_()
    torch.nn.functional.cross_entropy(model(pixels), labels, reduction='sum').backward()
    maps = scaled(blur(pixels.grad.square().mean(1).sqrt()))
    torch.testing.assert_close(view.masks[:, 0], maps / (maps + maps.flip(0)), rtol=0, atol=1e-3)


def test_gradient_flows_to_both_images():
    images = random(3, 3, 8, 8).requires_grad_()
    view = plan_of(GuidedMixup(prob=1.0), images).views[0]
    view.inputs.sum().backward()
    partner = view.mixture.index[:, 1]
    expected = view.masks[:, 0] + view.masks[partner.argsort(), 1]
    torch.testing.assert_close(images.grad[:, 1], expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_gives_about_the_same(dtype):
    images = random(6, 3, 16, 16).to(dtype)
    policy = GuidedMixup(prob=1.0)
    plain, half = (plan_of(policy, given).views[0] for given in (images.float(), images))
    assert half.inputs.dtype == dtype
    assert torch.equal(half.mixture.weight, plain.mixture.weight)
    torch.testing.assert_close(half.inputs.float(), plain.inputs, rtol=0, atol=0.05)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(plan_of(policy, images.float()).views[0].inputs, plain.inputs)


def test_operators_grow_by_three_for_each_image_of_a_group():
    policy = GuidedMixup(prob=1.0).train()
    counts = [
        count_operators(policy, torch.zeros(size, 3, 12, 12, device='meta'), torch.arange(size, device='meta'))
        for size in (6, 7, 128)
    ]
    assert counts[0] <= policy.operators
    assert counts[1] - counts[0] == 3
    assert counts[2] - counts[0] == 3 * 122


def test_the_gradient_form_passes_the_checks():
    check_policy(GuidedMixup('gradient', clean_lam=1.0), raise_on_failure=True)


def test_only_the_gradient_needs_a_network():
    assert GuidedMixup().needs == ()
    with pytest.raises(InputError, match='needs input_grad of a network'):
        GuidedMixup('gradient').mix(random(4, 3, 8, 8), torch.arange(4), rng())


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'saliency': 'spectrel'}, "did you mean 'spectral'"), ({'pairing': 'greed'}, "did you mean 'greedy'"),
    ({'distance': 'l3'}, 'expected one of l2, l1, cosine'), ({'prob': 1.5}, 'from 0 to 1'),
    ({'prob': float('nan')}, 'from 0 to 1'), ({'prob': True}, 'from 0 to 1'), ({'group': 2}, 'at least 3'),
    ({'group': 8.0}, 'at least 3'), ({'clean_lam': -1}, 'at least 0'), ({'clean_lam': float('inf')}, 'at least 0'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        GuidedMixup(**arguments)
