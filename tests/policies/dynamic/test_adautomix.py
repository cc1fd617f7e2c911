import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import AdAutoMix, Batch, Context, Mixture, Vanilla
from openmixup.policies.dynamic.adautomix import blend, mixed_similarity
from openmixup.policies.dynamic.k_mix_block import KMixBlock
from openmixup.testing.devices import _Counter
from tests.policies.dynamic import conftest
from tests.policies.dynamic.conftest import IMAGES, LABELS, NETWORK, plan_of
from tests.policies.dynamic.test_k_mix_block import noise, opaque


def learner_of(policy, **options):
    """A learner whose teacher is another network than its student, with masks as after training."""
    learner = conftest.learner_of(policy, bn='batch', **options)
    opaque(policy.mix_block)
    return learner


def fix_draws(policy, *values):
    """Let ``draw_lam`` give these values in turn."""
    drawn = itertools.cycle(values)
    policy.draw_lam = lambda count, rng: torch.tensor(list(itertools.islice(drawn, count)), dtype=torch.float64)


# --- what a plan holds


def test_all_masks_reach_the_classifier():
    """The trap: a test of the margin that is almost always true left it with constant masks."""
    learner, learned = learner_of(AdAutoMix()), 0
    for step in range(20):
        plan = plan_of(learner, step=step)
        view = plan.views[plan.mixed]
        assert view.head == 'mix'
        assert view.masks.shape == (6, 3, 16, 16)
        again = (view.masks[:, :, None] * IMAGES[view.mixture.index]).sum(1)
        torch.testing.assert_close(again, view.inputs, rtol=0, atol=1e-5)
        assert not view.inputs.requires_grad
        constant = float(view.mixture.weight.min()) <= 0.03
        deviations = view.masks.std((2, 3)).amax(0)  # of each of the K masks, in the sample that shows it best
        assert bool((deviations < 1e-6).all()) == constant
        learned += bool((deviations > 1e-3).all())
    assert learned >= 17


@pytest.mark.parametrize(
    ('drawn', 'constant'),
    [([0.45, 0.5, 0.05], False), ([0.9, 0.05, 0.05], False), ([0.94, 0.03, 0.03], True), ([0.5, 0.01, 0.49], True)],
)
def test_masks_are_constant_where_the_least_weight_is_small(drawn, constant):
    learner = learner_of(AdAutoMix())
    fix_draws(learner.policy, *drawn)
    view = plan_of(learner).views[1]
    torch.testing.assert_close(view.mixture.weight[3].tolist(), drawn, rtol=1e-5, atol=1e-6)
    linear = torch.einsum('nk,nkchw->nchw', view.mixture.weight, IMAGES[view.mixture.index])
    assert torch.allclose(view.inputs, linear, atol=1e-5) == constant


@pytest.mark.parametrize(('generator', 'classifier', 'constant'), [(0.5, 0.01, True), (0.99, 0.5, False)])
def test_the_margin_looks_at_the_weights_of_the_classifier_only(generator, classifier, constant):
    """Two images have weights of their own in each branch."""
    learner = learner_of(AdAutoMix(k=2))
    fix_draws(learner.policy, generator, classifier)
    view = plan_of(learner).views[1]
    torch.testing.assert_close(view.mixture.weight[0], torch.tensor([classifier, 1 - classifier]))
    assert (float(view.masks[:, 0].std((1, 2)).max()) < 1e-6) == constant


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_the_margin_holds_for_each_sample(dtype):
    learner = learner_of(AdAutoMix(per='sample')).to(dtype)
    fix_draws(learner.policy, 0.4, 0.4, 0.2, 0.01, 0.5, 0.49)
    view = plan_of(learner, IMAGES.to(dtype)).views[1]
    assert view.inputs.dtype == dtype
    masks = view.masks.float().flatten(2)
    assert (masks.amax(2) - masks.amin(2) > 1e-3).tolist() == [[True] * 3, [False] * 3] * 3
    torch.testing.assert_close(masks[1, :, 0].tolist(), [0.01, 0.5, 0.49])


def test_each_branch_asks_for_the_masks_of_its_own_mixture():
    learner, asked, terms = learner_of(AdAutoMix(block={'embedding': 'concat'})), [], []
    fix_draws(learner.policy, 0.5, 0.2, 0.3)
    learner.policy.mix_block.register_forward_hook(lambda module, args, output: asked.append((args, output)))
    inner = learner.policy._terms
    learner.policy._terms = lambda *given: terms.append(given) or inner(*given)
    view = plan_of(learner).views[1]
    ((mixed, _, _, first, _),) = terms
    assert len(asked) == 2
    for (args, masks), mixture, picture in zip(asked, (first, view.mixture), (mixed, view.inputs), strict=True):
        assert torch.equal(args[1], mixture.index)
        assert torch.equal(args[2], mixture.weight)
        torch.testing.assert_close(picture, (masks[:, :, None] * IMAGES[mixture.index]).sum(1))
    assert torch.equal(asked[1][1], view.masks)


def test_plain_mixed_and_linear_views_share_the_losses():
    learner = learner_of(AdAutoMix(classifier={'mixed': 2.0, 'linear': 0.25}))
    plain, mixed, linear = plan_of(learner).views
    assert [(view.head, view.share) for view in (plain, mixed, linear)] == [('main', 0.75), ('mix', 2), ('main', 0.25)]
    assert plain.inputs is IMAGES
    assert linear.mixture is mixed.mixture
    expected = torch.einsum('nk,nkchw->nchw', linear.mixture.weight, IMAGES[linear.mixture.index])
    torch.testing.assert_close(linear.inputs, expected)
    found = learner_of(AdAutoMix())
    assert [view.share for view in plan_of(found).views] == [0.5, 1, 0.5]
    two = plan_of(learner_of(AdAutoMix(k=2))).views
    assert [(view.head, view.share) for view in two] == [('main', 1), ('mix', 1)]
    assert set(learner.loss(IMAGES, LABELS)) >= {'loss_main', 'loss_mix', 'loss_generator_term', 'loss_cosine_term'}


def test_weights_are_draws_divided_by_their_sum():
    policy = AdAutoMix(per='sample')
    fix_draws(policy, 0.2, 0.6, 0.4, 0.0, 0.9, 0.1)
    expected = [[1 / 6, 1 / 2, 1 / 3], [0.0, 0.9, 0.1]]
    torch.testing.assert_close(policy._weights(2, None).tolist(), expected)
    fix_draws(policy, 0.0)
    torch.testing.assert_close(policy._weights(1, None).tolist(), [[1 / 3] * 3])
    fix_draws(policy := AdAutoMix(k=2), 0.3)
    torch.testing.assert_close(policy._weights(1, None).tolist(), [[0.3, 0.7]])
    weights = AdAutoMix()._weights(4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights.sum(1), torch.ones(4000).double())
    drawn = torch.rand(100_000, 3, generator=torch.Generator().manual_seed(1))
    assert float(weights.var()) == pytest.approx(float((drawn / drawn.sum(1, keepdim=True)).var()), rel=0.05)
    assert float(weights.var()) < 0.8 / 18  # of Dirichlet(1, 1, 1)


@pytest.mark.parametrize('count', [2, 3, 5])
@pytest.mark.parametrize('size', [2, 3, 7])
def test_who_is_mixed(count, size):
    rng, own = torch.Generator().manual_seed(0), torch.arange(size)
    for pairing in ('permutation', 'derangement'):
        policy = AdAutoMix(k=count, pairing=pairing)
        for _ in range(10):
            index = policy._sources(size, rng)
            assert index.shape == (size, count)
            assert torch.equal(index[:, 0], own)
            assert all(torch.equal(column.sort().values, own) for column in index.unbind(1))
            if pairing == 'derangement':
                assert all(len(set(row)) == min(count, size) for row in index.tolist())
    drawn = [AdAutoMix()._sources(4, rng)[:, 1:] for _ in range(300)]
    assert any(bool((index == torch.arange(4)[:, None]).any()) for index in drawn)


@pytest.mark.parametrize('count', [2, 3])
def test_branches_have_partners_of_their_own_and_share_the_weights_of_more_than_two(count):
    policy = AdAutoMix(k=count)
    learner_of(policy)
    for step in range(5):
        first, second = policy._drawn(Batch(IMAGES, LABELS), Context(step=step)).mixtures
        assert not torch.equal(first.index, second.index)
        assert torch.equal(first.weight, second.weight) == (count == 3)


def test_the_blend_by_hand():
    masks, index = noise(6, 3, 16, 16).softmax(1), torch.stack([torch.arange(6).roll(i) for i in range(3)], 1)
    found = blend(IMAGES, masks, Mixture(index, masks.mean((2, 3))))
    for n in range(6):
        expected = sum(masks[n, i] * IMAGES[index[n, i]] for i in range(3))
        torch.testing.assert_close(found[n], expected)


# --- the losses of the block


def test_the_similarity_by_hand():
    logits, clean = noise(4, 5), noise(4, 5, seed=1)
    index, weight = torch.tensor([[0, 1, 2], [1, 1, 3], [2, 0, 0], [3, 2, 1]]), noise(4, 3, seed=2).softmax(1)
    found = mixed_similarity(logits, clean, Mixture(index, weight))
    for n in range(4):
        cosines = [logits[n] @ clean[i] / logits[n].norm() / clean[i].norm() for i in index[n].tolist()]
        expected = sum(w * c for w, c in zip(weight[n], cosines, strict=True))
        assert float(found[n]) == pytest.approx(float(expected), abs=1e-6)
    assert mixed_similarity(logits.bfloat16(), clean.bfloat16(), Mixture(index, weight)).dtype == torch.float32


def teachers_view(policy, **context):
    """What a step's losses were made of: CE and cosine, both computed here from the pictures that the teacher saw."""
    learner, seen = learner_of(policy), []
    network = learner.teacher.network
    learner.policy._terms_of = learner.policy._terms
    learner.policy._terms = lambda mixed, clean, batch, mixture, ctx: (
        seen.append((mixed.detach(), mixture)) or learner.policy._terms_of(mixed, clean, batch, mixture, ctx)
    )
    losses = {name: float(value.detach()) for name, value in plan_of(learner, **context).losses.items()}
    ((mixed, mixture),) = seen
    with torch.no_grad():
        for module in network.modules():  # by the statistics of the batch
            if isinstance(module, torch.nn.BatchNorm2d):
                module.training, module.momentum = True, 0.0
        z, clean = (network.heads['mix'](network.backbone(images)) for images in (mixed, IMAGES))
    rows = torch.arange(6)
    log = z.log_softmax(1)
    ce = -sum(mixture.weight[:, i] * log[rows, LABELS[mixture.index[:, i]]] for i in range(policy.k)).mean()
    near = sum(
        mixture.weight[:, i] * torch.cosine_similarity(z, clean[mixture.index[:, i]]) for i in range(policy.k)
    ).mean()
    return losses, float(ce), float(near)


@pytest.mark.parametrize('count', [2, 3])
@pytest.mark.parametrize(('cosine', 'beta', 'weight'), [('published', 0.3, 1.0), ('preserve', 0.1, 2.0)])
def test_every_second_step_is_adversarial_and_the_first_is(count, cosine, beta, weight):
    generator = {'cosine': cosine, 'beta': beta, 'loss_weight': weight}
    for step in range(4):
        losses, ce, near = teachers_view(AdAutoMix(k=count, generator=generator), step=step)
        if step % 2:
            assert losses == {'generator': pytest.approx(weight * ce, rel=1e-4)}
            continue
        term = near if cosine == 'published' else 1 - near
        assert losses == {
            'generator': pytest.approx(-weight * beta * ce, rel=1e-4),
            'cosine': pytest.approx(weight * (1 - beta) * term, rel=1e-4, abs=1e-5),
        }


@pytest.mark.parametrize(
    ('generator', 'expected'),
    [
        ({}, 'acacac'), ({'adversarial': 0}, 'cccccc'), ({'adversarial': 1}, 'aaaaaa'), ({'adversarial': 3}, 'accacc'),
        ({'every': 2}, 'a-c-a-'), ({'until': 0.5}, 'aca---'),
    ],
)  # fmt: skip
def test_when_the_block_is_trained_and_how(generator, expected):
    learner, found = learner_of(AdAutoMix(generator=generator)), ''
    for step in range(6):
        names = set(plan_of(learner, step=step, progress=step / 6).losses)
        found += {frozenset(): '-', frozenset({'generator'}): 'c'}.get(frozenset(names), 'a')
    assert found == expected


def gradients(learner, total):
    learner.zero_grad()
    total.backward()
    parts = (learner.student, learner.teacher, learner.policy.mix_block)
    return [any(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) for part in parts]


@pytest.mark.parametrize('step', [0, 1])
@pytest.mark.parametrize('count', [2, 3])
def test_one_backward_sends_each_gradient_its_way(step, count):
    learner = learner_of(AdAutoMix(k=count))
    learner.context = Context(step=step)
    for name in plan_of(learner, step=step).losses:
        assert gradients(learner, plan_of(learner, step=step).losses[name]) == [False, False, True]
    terms = learner.loss(IMAGES, LABELS)
    assert gradients(learner, terms['loss_main'] + terms['loss_mix']) == [True, False, False]
    total, _ = learner.parse_losses(learner.loss(IMAGES, LABELS))
    assert gradients(learner, total) == [True, False, True]
    assert all(parameter.grad is None for parameter in learner.teacher.parameters())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in learner.policy.mix_block.parameters())


@pytest.mark.parametrize(('cosine', 'falls'), [('published', True), ('preserve', False)])
def test_the_sign_of_the_cosine_drives_mixtures_away_or_holds_them(cosine, falls):
    learner = learner_of(AdAutoMix(generator={'cosine': cosine, 'beta': 0.0, 'adversarial': 1}))
    optimizer = torch.optim.Adam(learner.policy.mix_block.parameters(), 0.01)
    values = []
    for _ in range(25):
        optimizer.zero_grad()
        losses = plan_of(learner).losses
        assert float(losses['generator'].detach()) == 0
        losses['cosine'].backward()
        values.append(float(losses['cosine'].detach()) if falls else 1 - float(losses['cosine'].detach()))
        optimizer.step()
    assert (values[-1] < values[0] - 0.01) if falls else (values[-1] > values[0] + 0.01)


# --- costs


def test_plain_logits_come_from_the_pass_that_gives_the_features():
    """Not from K further passes on permutations of the batch."""
    learner, passes = learner_of(AdAutoMix()), []
    learner.teacher.network.backbone.stem.register_forward_hook(lambda *given: passes.append(1))
    for step in range(2):
        plan_of(learner, step=step)
    assert len(passes) == 4


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_nothing_is_read_from_the_device_and_few_operators_are_launched(per):
    learner = learner_of(AdAutoMix(per=per)).to('meta')
    fix_draws(learner.policy, *([0.4, 0.4, 0.2] + ([0.01, 0.5, 0.49] if per == 'sample' else [])))
    images, labels = IMAGES.to('meta'), LABELS.to('meta')
    learner.context = Context()
    learner.parse_losses(learner.loss(images, labels))[0].backward()
    with _Counter(images.device) as passes:
        learner.probe().features_and_logits(images, 2, 'mix', 'teacher')
        learner.probe().logits(torch.empty_like(images, requires_grad=True), 'mix', 'teacher')
    with _Counter(images.device) as counter:
        plan, _ = learner.plan(images, labels)
    assert 20 < len(counter.names) - len(passes.names) <= AdAutoMix.operators
    assert all(view.inputs.is_meta for view in plan.views)


@pytest.mark.slow
def test_cost_of_a_step():
    """A ResNet-18 of CIFAR: multiplications of a whole adversarial step, the dearest, against one without mixing."""

    def cost(policy):
        learner = MixClassifier(
            {'type': 'TimmBackbone', 'model': 'resnet18', 'stem': 'cifar'}, {'type': 'LinearHead', 'num_classes': 100},
            policy, teacher={'decay': 0.999} if 'teacher' in policy.needs else None,
        ).train().to('meta')  # fmt: skip
        if isinstance(policy, AdAutoMix):
            fix_draws(policy, 0.4, 0.4, 0.2)
        images, labels = torch.empty(100, 3, 32, 32, device='meta'), torch.zeros(100, dtype=torch.long, device='meta')
        with FlopCounterMode(display=False) as flops:
            learner.parse_losses(learner.loss(images, labels))[0].backward()
        return flops.get_total_flops()

    assert cost(AdAutoMix()) / cost(Vanilla()) <= 4.1


# --- the block and the network, arguments


def test_a_block_can_be_saved_loaded_and_bound():
    for block in (None, {'embedding': 'concat', 'norm': True}):
        saved, fresh = AdAutoMix(block=block), AdAutoMix(block=block)
        saved.bind(NETWORK)
        assert isinstance(saved.mix_block, KMixBlock)
        fresh.load_state_dict(saved.state_dict())
        fresh.bind(NETWORK)
        assert fresh.mix_block.channels == 32
        assert torch.equal(fresh.mix_block.key[0].weight, saved.mix_block.key[0].weight)
        assert not torch.equal(saved.mix_block.key[0].weight, saved.mix_block.query[0].weight)


def test_soft_and_multilabel_targets_train_the_block():
    for target, labels in (('soft', noise(6, 5).softmax(1)), ('multilabel', (noise(6, 5) > 0).float())):
        learner = learner_of(AdAutoMix(), target=target)
        terms = learner.loss(IMAGES, labels)
        assert bool(terms['loss_generator_term'].isfinite())
        assert bool(terms['loss_main'].isfinite())


def test_adversarial_steps_of_a_regression_are_refused():
    with pytest.raises(InputError, match=r'target is regression: give generator=dict\(adversarial=0\)'):
        learner_of(AdAutoMix(), target='regression', loss={'type': 'RegressionLoss'})
    policy = AdAutoMix(generator={'adversarial': 0})
    terms = learner_of(policy, target='regression', loss={'type': 'RegressionLoss'}).loss(IMAGES, noise(6, 5))
    assert bool(terms['loss_generator_term'].isfinite())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'k': 1}, r'AdAutoMix\(k=1\)'),
        ({'k': True}, 'k=True'),
        ({'pairing': 'flip'}, 'k=2'),
        ({'alpha': 0}, r'AdAutoMix\(alpha=0\)'),
        ({'block': {'joint': True}}, "no entry 'joint'"),
        ({'block': {'embedding': 'multiply'}}, "embedding='multiply'"),
        ({'classifier': {'linear': 1.0}}, r'linear=1.0.*\[0, 1\)'),
        ({'classifier': {'linear': 'half'}}, "linear='half'"),
        ({'classifier': {'lam_margin': 0.34}}, r'lam_margin=0.34.*1/3'),
        ({'classifier': {'mixed': 0}}, 'mixed=0'),
        ({'classifier': {'clean': 0.5}}, "no entry 'clean'"),
        ({'generator': {'beta': 1.1}}, 'beta=1.1'),
        ({'generator': {'adversarial': -1}}, 'adversarial=-1'),
        ({'generator': {'adversarial': 1.5}}, 'adversarial=1.5'),
        ({'generator': {'cosine': 'preserved'}}, "did you mean 'preserve'"),
        ({'generator': {'every': 0}}, r'AdAutoMix\(generator=dict\(every=0\)\)'),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, message):
    with pytest.raises(InputError, match=message):
        AdAutoMix(**arguments)
