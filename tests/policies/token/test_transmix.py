"""TransMix: weights from where the network looks, pairs and pictures of the inner policy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, CutMix, ManifoldMix, MixPolicy, Mixup, RandomChoice, TransMix, Vanilla
from openmixup.policies.mixture import Mixture, Plan, View
from openmixup.policies.token.transmix import attention_shares

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
OPTIONS = {'img_size': 16, 'patch_size': 4, 'depth': 2, 'embed_dim': 24, 'num_heads': 3}
VIT = {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': OPTIONS}


@dataclass
class Seen:
    """What a pass gives, as far as the policy looks at it."""

    attention: Tensor | None = None
    logits: Tensor | None = None


class Given(MixPolicy):
    """Views that the test writes down."""

    def __init__(self, *views: View) -> None:
        super().__init__()
        self.views = views

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        return Plan(batch, self.views, self)


def attention(seed: int = 0, grid: tuple[int, int] = (4, 4)) -> Tensor:
    return torch.rand(6, 3, *grid, generator=torch.Generator().manual_seed(seed))


def plan(policy: MixPolicy, seed: int = 0) -> Plan:
    return policy(Batch(IMAGES, LABELS), Context(seed=seed))


def finished(policy: MixPolicy, looked: Tensor | None, seed: int = 0) -> tuple[View, View]:
    """The only view before and after its pass."""
    before = plan(policy, seed)
    after = policy.finish(before, (Seen(looked),), Context(seed=seed))
    return before.views[0], after.views[0]


def three_sources() -> tuple[View, Tensor]:
    """Left half, upper right and lower right quarter: areas 1/2, 1/4 and 1/4."""
    masks = torch.zeros(3, 16, 16)
    masks[0, :, :8], masks[1, :8, 8:], masks[2, 8:, 8:] = 1, 1, 1
    own = torch.arange(6)
    index = torch.stack([own, own.roll(1), own.roll(2)], 1)
    weight = torch.tensor([0.5, 0.25, 0.25]).expand(6, -1)
    return View(IMAGES, Mixture(index, weight), lambda: masks.expand(6, -1, -1, -1)), masks


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_even_attention_gives_the_area(per):
    """With a patch for each pixel: exactly, since no box ends inside a patch."""
    for seed in range(30):
        before, after = finished(TransMix(CutMix(per=per), ratio=1.0), torch.full((6, 3, 16, 16), 0.01), seed)
        torch.testing.assert_close(after.mixture.weight, before.mixture.weight)


@pytest.mark.parametrize('ratio', [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize('source', [0, 1, 2])
def test_attention_on_one_source_gives_it_the_ratio(source, ratio):
    view, masks = three_sources()
    looked = masks[source, ::4, ::4].expand(6, 3, -1, -1)
    _, after = finished(TransMix(Given(view), ratio), looked)
    expected = (1 - ratio) * torch.tensor([0.5, 0.25, 0.25]) + ratio * F.one_hot(torch.tensor(source), 3)
    torch.testing.assert_close(after.mixture.weight, expected.expand(6, -1))


def test_the_formula_of_the_paper():
    """lam = (area + sum(m a) / sum(a)) / 2 for each sample, m the mask at the first pixel of each patch."""
    for seed in range(10):
        before, after = finished(TransMix(CutMix(per='sample')), attention(seed), seed)
        for i in range(6):
            a, m = attention(seed)[i].mean(0), before.masks[i, 0, ::4, ::4]
            lam = (float(before.mixture.weight[i, 0]) + float((m * a).sum() / a.sum())) / 2
            torch.testing.assert_close(after.mixture.weight[i], torch.tensor([lam, 1 - lam]))


def test_heads_are_averaged_and_what_the_class_token_gives_itself_does_not_count():
    looked, masks = attention(), plan(CutMix()).views[0].masks
    shares = attention_shares(looked, masks)
    torch.testing.assert_close(attention_shares(looked.mean(1, keepdim=True), masks), shares)
    torch.testing.assert_close(attention_shares(looked * torch.rand(6, 1, 1, 1), masks), shares)
    assert float((attention_shares(looked[:, :1], masks) - shares).abs().max()) > 1e-3


@pytest.mark.parametrize('grid', [(4, 4), (16, 16), (2, 8), (5, 5), (3, 7), (1, 1)])
def test_masks_are_taken_at_the_nearest_pixel(grid):
    masks = torch.rand(6, 3, 16, 16)
    looked = attention(grid=grid)
    a = looked.mean(1, keepdim=True)
    expected = (F.interpolate(masks, grid, mode='nearest') * a).sum((2, 3)) / a.sum((2, 3))
    torch.testing.assert_close(attention_shares(looked, masks), expected)


@pytest.mark.parametrize('policy', [
    CutMix(), CutMix(per='sample'), RandomChoice([{'type': 'Mixup'}, {'type': 'CutMix'}]), Given(three_sources()[0]),
], ids=['batch', 'sample', 'choice', 'three'])  # fmt: skip
def test_weights_sum_to_one(policy):
    for seed in range(10):
        _, after = finished(TransMix(policy, 0.7), attention(seed), seed)
        torch.testing.assert_close(after.mixture.weight.sum(1), torch.ones(6))
        assert bool((after.mixture.weight >= 0).all())


def test_pairs_and_pictures_are_those_of_the_inner_policy():
    """No second permutation is drawn: index, image and masks stay, only the weights change."""
    for seed in range(5):
        inner = plan(CutMix(), seed).views[0]
        before, after = finished(TransMix(CutMix()), attention(), seed)
        for view in (before, after):
            assert torch.equal(view.inputs, inner.inputs)
            assert torch.equal(view.mixture.index, inner.mixture.index)
            assert torch.equal(view.masks, inner.masks)
        assert torch.equal(before.mixture.weight, inner.mixture.weight)
        assert after.inputs is before.inputs
        assert after.mixture.index is before.mixture.index


def test_no_gradient_flows_into_the_attention_or_the_masks_but_into_the_weights_of_the_policy():
    view, masks = three_sources()
    masks.requires_grad_(True)
    weight = view.mixture.weight.clone().requires_grad_(True)
    view = replace(view, mixture=Mixture(view.mixture.index, weight))
    looked = attention().requires_grad_(True)
    _, after = finished(TransMix(Given(view), 0.25), looked)
    after.mixture.weight.sum().backward()
    assert looked.grad is None
    assert masks.grad is None
    torch.testing.assert_close(weight.grad, torch.full((6, 3), 0.75))


@pytest.mark.parametrize('policy', [
    Mixup(), Mixup(per='sample'), Vanilla(), ManifoldMix(layers=(0, 1)), ManifoldMix(layers=(1, 2)),
    RandomChoice([{'type': 'Mixup'}]), CutMix().eval(),
], ids=repr)  # fmt: skip
def test_images_without_regions_keep_their_weights_and_cost_nothing(policy):
    inner = plan(policy).views[0]
    before, after = finished(TransMix(policy), None)
    for view in (before, after):
        assert view.read == ()
        assert torch.equal(view.mixture.weight, inner.mixture.weight)


def test_masks_are_made_once():
    view, masks = three_sources()
    made = []
    counted = replace(view, lazy_masks=lambda: made.append(1) or masks.expand(6, -1, -1, -1))
    finished(TransMix(Given(counted)), attention())
    assert len(made) == 1


def test_each_view_is_weighed_by_its_own_pass():
    view, _ = three_sources()
    plain = View(IMAGES, Mixture(torch.arange(6)[:, None], torch.ones(6, 1)), lambda: torch.ones(6, 1, 16, 16))
    other = replace(view, read=('features', 'attention'))
    policy = TransMix(Given(view, plain, other), 1.0)
    before = plan(policy)
    assert [v.read for v in before.views] == [('attention',), (), ('features', 'attention')]
    first, last = attention(1), attention(2)
    after = policy.finish(before, (Seen(first), Seen(), Seen(last)), Context()).views
    torch.testing.assert_close(after[0].mixture.weight, attention_shares(first, view.masks))
    assert after[1].mixture is plain.mixture
    torch.testing.assert_close(after[2].mixture.weight, attention_shares(last, view.masks))


def test_weights_that_the_inner_policy_changes_after_the_pass_are_the_ones_to_blend():
    class Late(CutMix):
        def finish(self, plan, outputs, ctx):
            (view,) = plan.views
            changed = Mixture(view.mixture.index, torch.tensor([0.9, 0.1]).expand(6, -1))
            return replace(plan, views=(replace(view, mixture=changed),))

    for policy in (TransMix(Late(), 0.5), TransMix(RandomChoice([Late()]), 0.5), TransMix(TransMix(Late(), 0.0), 0.5)):
        before, after = finished(policy, attention())
        expected = 0.5 * torch.tensor([0.9, 0.1]) + 0.5 * attention_shares(attention(), before.masks)
        torch.testing.assert_close(after.mixture.weight, expected)


def test_the_published_choice_and_the_choice_inside():
    looked = attention()
    published = RandomChoice([Mixup(0.8), TransMix(CutMix(1.0))], [0.2, 0.8])
    inside = TransMix(RandomChoice([Mixup(0.8), CutMix(1.0)], [0.2, 0.8]))
    for policy in (published, inside):
        assert policy.needs == ('attention',)
        assert policy.rate == 1
        kinds = []
        for seed in range(40):
            made = plan(policy, seed)
            cut = isinstance(made.chosen, CutMix)
            kinds.append(cut)
            assert made.views[0].read == (('attention',) if cut else ())
            done = policy.finish(made, (Seen(looked if cut else None),), Context(seed=seed))
            assert done.policy is policy
            weight = made.views[0].mixture.weight
            if cut:
                weight = (weight + attention_shares(looked, made.views[0].masks)) / 2
            torch.testing.assert_close(done.views[0].mixture.weight, weight)
        assert 20 < sum(kinds) < 40


def learner(policy: MixPolicy | dict) -> MixClassifier:
    torch.manual_seed(0)
    return MixClassifier(dict(VIT), {'type': 'LinearHead', 'num_classes': 5}, policy)


@pytest.mark.parametrize('policy', [
    {'type': 'TransMix', 'policy': {'type': 'CutMix', 'alpha': 1.0, 'pairing': 'flip'}},
    {'type': 'RandomChoice', 'policies': [{'type': 'TransMix'}]},
    {'type': 'TransMix', 'policy': {'type': 'RandomChoice', 'policies': [{'type': 'CutMix'}]}},
])  # fmt: skip
def test_through_the_learner(policy):
    """The loss is the soft cross-entropy of the new weights, from one pass and its own attention."""
    model = learner(policy).eval()
    model.policy.train()
    passes = []
    model.student.register_forward_hook(lambda module, args, output: passes.append(1))
    terms = model.loss(IMAGES, LABELS)
    assert len(passes) == 1
    (view,) = model.last_plan.views
    seen = model.student(view.inputs, read=('attention',))
    area = view.masks.mean((2, 3))
    expected = (area + attention_shares(seen.attention, view.masks)) / 2
    torch.testing.assert_close(view.mixture.weight, expected)
    target = view.mixture.soft(LABELS, 5)
    torch.testing.assert_close(terms['loss_main'], F.cross_entropy(seen.logits, target))
    terms['loss_main'].backward()
    assert float((expected - area).abs().max()) > 1e-3


def test_in_eval_mode_and_alone_nothing_is_read():
    for policy, size in ((TransMix().eval(), 6), (TransMix(), 1)):
        made = policy(Batch(IMAGES[:size], LABELS[:size]), Context())
        assert made.views[0].read == ()
        done = policy.finish(made, (Seen(),), Context())
        assert torch.equal(done.views[0].mixture.weight, torch.ones(size, 1))


def test_nothing_is_read_from_the_device():
    for per in ('batch', 'sample'):
        policy = TransMix(CutMix(per=per))
        made = policy(Batch(IMAGES.to('meta'), LABELS.to('meta')), Context())
        done = policy.finish(made, (Seen(torch.empty(6, 3, 4, 4, device='meta')),), Context())
        assert done.views[0].mixture.weight.is_meta


def test_needs_and_names():
    policy = TransMix({'type': 'ManifoldMix'})
    assert set(policy.needs) == {'tap', 'attention'}
    assert TransMix().label == 'semantic'
    with pytest.raises(InputError, match='TransMix needs the attention of a class token'):
        MixClassifier({'type': 'CifarResNet'}, {'type': 'LinearHead', 'num_classes': 5}, {'type': 'TransMix'})


@pytest.mark.parametrize('ratio', [-0.1, 1.1, True, '0.5', None, float('nan')])
def test_wrong_ratios_are_refused(ratio):
    with pytest.raises(InputError, match=r'TransMix\(ratio='):
        TransMix(ratio=ratio)
