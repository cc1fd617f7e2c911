import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import AutoMix, Batch, Context, Mixture, Network, SAMix
from openmixup.policies.dynamic.samix import exclusive_loss, local_loss

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [-1.0, 3.0, 0.5], [0.3, 0.2, 0.1]])
LABELS = torch.tensor([0, 1, 1])
PAIRS = torch.tensor([[0, 1], [1, 0], [2, 1]])  # classes 0 and 1, 1 and 0, 1 and 1
LAM = torch.tensor([0.3, 0.8, 0.6])
MIXTURE = Mixture(PAIRS, torch.stack([LAM, 1 - LAM], 1))


def log_sigmoid(x):
    return -math.log(1 + math.exp(-x))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_local_term_by_hand():
    expected = [
        -(0.3 * log_sigmoid(2 - 1) + 0.7 * log_sigmoid(1 - 2)),
        -(0.8 * log_sigmoid(3 + 1) + 0.2 * log_sigmoid(-1 - 3)),
        0.0,  # one class: nothing to tell apart
    ]
    assert local_loss(LOGITS, LABELS, MIXTURE).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_local_term_looks_at_the_two_classes_only():
    logits = LOGITS.clone().requires_grad_()
    local_loss(logits, LABELS, MIXTURE).sum().backward()
    assert logits.grad[:, 2].tolist() == [0, 0, 0]
    assert logits.grad[2].tolist() == [0, 0, 0]
    torch.testing.assert_close(logits.grad[:, 0], -logits.grad[:, 1])
    # least where sigmoid(z_a - z_b) = lam
    best = torch.tensor([[math.log(0.3 / 0.7), 0.0, 9.0]], requires_grad=True)
    local_loss(best, LABELS, Mixture(PAIRS[:1], MIXTURE.weight[:1])).sum().backward()
    assert float(best.grad.abs().max()) < 1e-6


def test_the_exclusive_term_by_hand():
    p = LOGITS.softmax(1)

    def term(n, a, b):
        return float(-p[n, a].log() + (1 - p[n, b]).log())

    expected = [
        0.3 * term(0, 0, 1) + 0.7 * term(0, 1, 0),
        0.8 * term(1, 1, 0) + 0.2 * term(1, 0, 1),
        float(-p[2, 1].log()),  # one class: the plain loss
    ]
    assert exclusive_loss(LOGITS, LABELS, MIXTURE).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_exclusive_term_is_the_cross_entropy_without_the_other_class():
    logits, labels, index = noise(8, 6), torch.arange(8) % 6, torch.stack([torch.arange(8), torch.arange(8).flip(0)], 1)
    lam = torch.rand(8, generator=torch.Generator().manual_seed(0))
    found = exclusive_loss(logits, labels, Mixture(index, torch.stack([lam, 1 - lam], 1)))
    for n in range(8):
        a, b = int(labels[n]), int(labels[7 - n])
        total = 0.0
        for weight, shown, hidden in ((lam[n], a, b), (1 - lam[n], b, a)):
            kept = [c for c in range(6) if c != hidden or a == b]
            total += float(-weight * logits[n, kept].log_softmax(0)[kept.index(shown)])
        assert float(found[n]) == pytest.approx(total, abs=1e-5)


def test_terms_keep_their_digits_where_one_class_is_certain():
    logits = torch.tensor([[0.0, 60.0, 1.0], [60.0, 0.0, 1.0]], requires_grad=True)
    mixture = Mixture(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0.5, 0.5]]).expand(2, 2))
    exclusive = exclusive_loss(logits, torch.tensor([0, 1]), mixture)
    expected = 0.5 * math.log(1 + math.e)  # class 0 against class 2; the other term is 0
    assert exclusive.tolist() == pytest.approx([expected] * 2, abs=1e-5)
    local = local_loss(logits, torch.tensor([0, 1]), mixture)
    assert local.tolist() == pytest.approx([30, 30])
    (exclusive + local).sum().backward()
    assert bool(logits.grad.isfinite().all())


def test_terms_are_computed_in_float32():
    for term in (local_loss, exclusive_loss):
        assert term(LOGITS.bfloat16(), LABELS, MIXTURE).dtype == torch.float32
        torch.testing.assert_close(
            term(LOGITS.bfloat16(), LABELS, MIXTURE), term(LOGITS, LABELS, MIXTURE), rtol=0.01, atol=0.01
        )
        bad = LOGITS.clone()
        bad[0, 0] = math.nan
        assert term(bad, LABELS, MIXTURE).isnan().tolist() == [True, False, False]


def plain(logits, labels, mixture):
    return -(logits.log_softmax(1).gather(1, labels[mixture.index]) * mixture.weight).sum(1)


@pytest.mark.parametrize('eta', [0.0, 0.5, 2.0])
def test_the_balanced_loss_weighs_the_global_term_by_eta(eta):
    batch, ctx = Batch(noise(3, 3, 4, 4), LABELS), Context(criterion=plain)
    local = local_loss(LOGITS, LABELS, MIXTURE)
    for term, whole in (('full', plain), ('exclusive', exclusive_loss)):
        policy = SAMix(generator={'eta': eta, 'global_term': term})
        found = policy.generator_loss(LOGITS, batch, MIXTURE, ctx)
        torch.testing.assert_close(found, local + eta * whole(LOGITS, LABELS, MIXTURE))
    found = SAMix(generator={'loss': 'plain', 'eta': eta}).generator_loss(LOGITS, batch, MIXTURE, ctx)
    torch.testing.assert_close(found, plain(LOGITS, LABELS, MIXTURE))
    torch.testing.assert_close(AutoMix().generator_loss(LOGITS, batch, MIXTURE, ctx), found)


def test_eta_changes_what_the_block_learns():
    """In the older toolbox it did not: weights on the entries of a cross-entropy that are 0."""
    images = noise(6, 3, 16, 16)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    directions = []
    for eta in (0.0, 0.5, 5.0):
        torch.manual_seed(0)
        learner = MixClassifier(
            {'type': 'CifarResNet', 'depth': 8, 'width': 8}, {'type': 'LinearHead', 'num_classes': 5},
            SAMix(generator={'eta': eta}, mask_loss={'weight': 0}), teacher={'decay': 0.9},
        ).train()  # fmt: skip
        torch.nn.init.normal_(learner.teacher.network.heads['mix'].fc.weight)
        learner.loss(images, labels)['loss_generator_term'].backward()
        gradient = torch.cat([p.grad.flatten() for p in learner.policy.mix_block.parameters()])
        directions.append(gradient / gradient.norm())
    for one, two in ((0, 1), (1, 2), (0, 2)):
        assert float(directions[one] @ directions[two]) < 0.9999


def test_defaults():
    policy, auto = SAMix(), AutoMix()
    network = Network(5, 32, ('a', 'b', 'c'), (8, 16, 32), (1, 1, 1))
    for each in (policy, auto):
        each.bind(network)
    block, other = policy.mix_block, auto.mix_block
    assert (block.embedding, block.remap, block.joint, block.modes) == ('multiply', 0.25, True, ['bilinear'])
    assert (other.embedding, other.joint, other.modes) == ('none', False, ['nearest'])
    assert [type(layer).__name__ for layer in block.value] == ['Conv2d', 'BatchNorm2d', 'ELU', 'Dropout', 'Conv2d']
    assert [type(layer).__name__ for layer in other.value] == ['Conv2d']
    assert (policy._mask_loss.kind, auto._mask_loss.kind) == ('l1_variance', 'l1')
    for each in (policy, auto):
        assert (each._mask_loss.weight, each._mask_loss.margin, each._mask_loss.per) == (0.1, 0.1, 'batch')
        assert (each.alpha, each._classifier['lam_margin']) == (2.0, 0.08)
    assert policy._generator['eta'] == 0.5
    assert SAMix(block={'remap': -1})._block == {**policy._block, 'remap': -1}


@pytest.mark.parametrize('target', ['soft', 'multilabel'])
def test_labels_that_are_no_class_indices_need_the_plain_loss(target):
    network = Network(5, 32, ('a', 'b', 'c'), (8, 16, 32), (1, 1, 1), target=target)
    with pytest.raises(InputError, match=f"{target} targets.*loss='plain'"):
        SAMix().bind(network)
    images, labels = noise(6, 3, 16, 16), noise(6, 5).softmax(1)
    learner = MixClassifier(
        {'type': 'CifarResNet', 'depth': 8, 'width': 8}, {'type': 'LinearHead', 'num_classes': 5},
        SAMix(generator={'loss': 'plain'}), teacher={'decay': 0.9}, target=target,
    ).train()  # fmt: skip
    terms = learner.loss(images, labels)
    assert bool(terms['loss_generator_term'].isfinite())
    with pytest.raises(InputError, match='soft targets'):  # labels that a policy around it made
        SAMix().generator_loss(LOGITS, Batch(images[:3], labels[:3], target='soft'), MIXTURE, Context(criterion=plain))


@pytest.mark.parametrize(
    ('generator', 'message'),
    [
        ({'loss': 'balance'}, "did you mean 'balanced'"),
        ({'global_term': 'all'}, 'full, exclusive'),
        ({'eta': -1}, 'eta=-1'),
        ({'eta': 'half'}, "eta='half'"),
        ({'etta': 1}, "did you mean 'eta'"),
        ({'every': 0}, r'SAMix\(generator=dict\(every=0\)\)'),
    ],
)
def test_wrong_arguments_are_one_sentence(generator, message):
    with pytest.raises(InputError, match=message):
        SAMix(generator=generator)
