"""The decoupled losses against loops over samples and classes."""

import math

import pytest
import torch
from torch.nn import functional as F

from openmixup.errors import InputError
from openmixup.models.losses import (
    BinaryCrossEntropy,
    DecoupledCrossEntropy,
    SoftCrossEntropy,
    TwoHotBinaryCrossEntropy,
)
from openmixup.policies.mixture import Mixture
from openmixup.registry import MODELS

N, C = 6, 5
LABELS = torch.tensor([0, 3, 1, 3, 2, 4])
LOGITS = torch.randn(N, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def pairs(*own):
    """Samples 0, 1, ... with their neighbours, by weights of the own image."""
    index = torch.tensor([[i, i + 1] for i in range(len(own))])
    own = torch.tensor(own, dtype=torch.float64)
    return Mixture(index, torch.stack([own, 1 - own], 1))


def by_loops(logits, labels, mixture, side, power, threshold):
    """The term of each sample: the written-out definition, in plain numbers."""
    terms = []
    for z, index, weights in zip(logits.tolist(), mixture.index.tolist(), mixture.weight.tolist(), strict=True):
        share = {}
        for source, weight in zip(index, weights, strict=True):
            share[labels[source].item()] = share.get(labels[source].item(), 0) + weight
        share = {c: w for c, w in share.items() if w > 0}
        term = 0.0
        for c, w in share.items():
            if (
                len(share) == 1
                or (side == 'more' and w <= sum(weights) / 2)
                or (side == 'less' and w >= sum(weights) / 2)
            ):
                continue
            rest = [math.exp(z[j]) for j in range(C) if j == c or j not in share]
            term -= min(1, w / threshold) ** power * math.log(math.exp(z[c]) / sum(rest))
        terms.append(term)
    return torch.tensor(terms, dtype=torch.float64)


@pytest.mark.parametrize('side', ['both', 'more', 'less'])
@pytest.mark.parametrize(('power', 'threshold'), [(1.0, 1.0), (0.5, 0.8), (0.0, 1.0), (2.0, 0.3)])
def test_equals_loops(side, power, threshold):
    generator = torch.Generator().manual_seed(3)
    index = torch.stack([torch.randperm(N, generator=generator) for _ in range(3)], 1)
    three = Mixture(index, torch.rand(N, 3, generator=generator, dtype=torch.float64).softmax(1))
    for mixture in (pairs(0.7, 0.2, 0.5, 0.45, 0.99), three):
        size = len(mixture)
        loss = DecoupledCrossEntropy(0.3, side, power, threshold)(LOGITS[:size], LABELS, mixture)
        expected = by_loops(LOGITS[:size], LABELS, mixture, side, power, threshold)
        assert expected.max() > 0.1
        torch.testing.assert_close(loss, SoftCrossEntropy()(LOGITS[:size], LABELS, mixture) + 0.3 * expected)


def test_weights_belong_to_their_class_whichever_index_is_larger():
    """Two pairs with the classes in both orders: the heavier class keeps the heavier weight."""
    labels, logits = torch.tensor([0, 3]), LOGITS[:1].repeat(2, 1)
    index = torch.tensor([[0, 1], [1, 0]])
    loss = DecoupledCrossEntropy().decoupled(logits, labels, Mixture(index, torch.tensor([[0.9, 0.1], [0.1, 0.9]])))
    torch.testing.assert_close(loss[0], loss[1])
    z = logits[0].exp()
    low, high = -(z[0] / (z.sum() - z[3])).log(), -(z[3] / (z.sum() - z[0])).log()
    torch.testing.assert_close(loss[0], 0.9 * low + 0.1 * high, atol=1e-7, rtol=1e-6)
    assert abs(loss[0] - (0.1 * low + 0.9 * high)) > 0.05


def test_the_identity_with_the_probability_of_the_other_class():
    """-log phi of a without b is -log p_a + log(1 - p_b)."""
    loss = DecoupledCrossEntropy(power=0).decoupled(LOGITS[:1], LABELS, pairs(0.6))
    p = LOGITS[0].softmax(0)
    expected = -p[0].log() + (1 - p[3]).log() - p[3].log() + (1 - p[0]).log()
    torch.testing.assert_close(loss[0], expected)


@pytest.mark.parametrize('weight', [[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 0.0]]])
def test_no_term_for_what_is_not_mixed(weight):
    mixture = Mixture(torch.tensor([[0, 1]]), torch.tensor(weight))
    assert DecoupledCrossEntropy().decoupled(LOGITS[:1], LABELS, mixture).item() == 0


def test_no_term_for_a_pair_of_one_class():
    mixture = Mixture(torch.tensor([[1, 3], [1, 0]]), torch.full((2, 2), 0.5))
    assert (DecoupledCrossEntropy(1.0).decoupled(LOGITS[:2], LABELS, mixture) > 0).tolist() == [False, True]
    plain = Mixture(torch.arange(N)[:, None], torch.ones(N, 1))
    assert torch.equal(DecoupledCrossEntropy()(LOGITS, LABELS, plain), SoftCrossEntropy()(LOGITS, LABELS, plain))


def test_equal_weights_count_on_both_sides_only():
    values = [
        DecoupledCrossEntropy(side=side).decoupled(LOGITS[:1], LABELS, pairs(0.5)) for side in ('both', 'more', 'less')
    ]
    assert values[0] > 0
    assert values[1] == values[2] == 0


def test_sure_predictions_stay_finite():
    """1 - p_b is 0 in float32 where the logits are far apart."""
    logits = torch.zeros(1, C)
    logits[0, 0] = 300
    logits.requires_grad_()
    mixture = Mixture(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]))
    term = DecoupledCrossEntropy(power=0).decoupled(logits, torch.tensor([0, 1]), mixture)
    torch.testing.assert_close(term, torch.tensor([math.log(4)]))  # class 0 costs nothing, class 1 stands among 4
    (gradient,) = torch.autograd.grad(term.sum(), logits)
    assert gradient.isfinite().all()


def test_two_classes_leave_nothing_to_compete_with():
    logits = torch.tensor([[0.3, 2.0]], requires_grad=True)
    loss = DecoupledCrossEntropy()(
        logits, torch.tensor([0, 1]), Mixture(torch.tensor([[0, 1]]), torch.tensor([[0.7, 0.3]]))
    )
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, logits.detach().softmax(1) - torch.tensor([[0.7, 0.3]]))


def test_smoothed_soft_labels_name_their_class():
    soft = 0.9 * F.one_hot(LABELS, C).double() + 0.1 / C
    term = DecoupledCrossEntropy()
    mixture = pairs(0.7, 0.2)
    assert torch.equal(term.decoupled(LOGITS[:2], soft, mixture), term.decoupled(LOGITS[:2], LABELS, mixture))
    torch.testing.assert_close(
        term(LOGITS[:2], soft, mixture), DecoupledCrossEntropy(label_smoothing=0.1)(LOGITS[:2], LABELS, mixture)
    )


def two_hot(mixture, power, threshold):
    target = torch.zeros(len(mixture), C, dtype=torch.float64)
    for i, (index, weights) in enumerate(zip(mixture.index.tolist(), mixture.weight.tolist(), strict=True)):
        for source, weight in zip(index, weights, strict=True):
            target[i, LABELS[source]] += weight
    return torch.where(target > 0, (target / threshold).clamp(max=1) ** power, 0.0)


@pytest.mark.parametrize(('power', 'threshold'), [(0.0, 1.0), (1.0, 0.5), (2.0, 0.8)])
@pytest.mark.parametrize('negative', [1.0, 0.25])
def test_two_hot_equals_a_dense_target(power, threshold, negative):
    mixture = pairs(0.7, 0.2, 1.0)
    target = two_hot(mixture, power, threshold)
    p = LOGITS[:3].sigmoid()
    each = -(target * p.log() + (1 - target) * (1 - p).log())
    each[target == 0] *= negative
    for scale, expected in (('sum', each.sum(1)), ('mean', each.mean(1))):
        loss = TwoHotBinaryCrossEntropy(power, threshold, negative, scale)(LOGITS[:3], LABELS, mixture)
        torch.testing.assert_close(loss, expected)


def test_two_hot_of_one_class_is_one_hot():
    """Weights of the same class are summed before they are rescaled: a power above 1 costs such a pair nothing."""
    mixture = Mixture(torch.tensor([[1, 3]]), torch.tensor([[0.4, 0.6]], dtype=torch.float64))
    expected = F.binary_cross_entropy_with_logits(LOGITS[:1], F.one_hot(LABELS[[1]], C).double())
    torch.testing.assert_close(TwoHotBinaryCrossEntropy(power=2.0)(LOGITS[:1], LABELS, mixture)[0], expected)


def test_power_one_is_the_binary_loss():
    mixture = pairs(0.7, 0.2)
    for labels in (LABELS, (LOGITS > 0).double()):
        expected = BinaryCrossEntropy()(LOGITS[:2], labels, mixture)
        torch.testing.assert_close(TwoHotBinaryCrossEntropy(power=1.0)(LOGITS[:2], labels, mixture), expected)


LOSSES = [
    DecoupledCrossEntropy(),
    DecoupledCrossEntropy(side='less', power=0.5),
    TwoHotBinaryCrossEntropy(0.5, 0.9, 0.5),
]


@pytest.mark.parametrize('loss', LOSSES)
def test_gradients_and_untouched_weights(loss):
    mixture = pairs(0.7, 0.2, 0.45)
    before = mixture.weight.clone()
    assert torch.autograd.gradcheck(
        lambda x, w: loss(x, LABELS, Mixture(mixture.index, w)),
        (LOGITS[:3].clone().requires_grad_(), mixture.weight.clone().requires_grad_()),
    )
    assert torch.equal(mixture.weight, before)
    none = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss(LOGITS[:1].float(), LABELS, Mixture(mixture.index[:1], none)).sum().backward()
    assert none.grad.isfinite().all()


@pytest.mark.parametrize('loss', LOSSES)
def test_low_precision_and_no_read_from_the_device(loss):
    mixture = Mixture(pairs(0.7).index, torch.tensor([[0.7, 0.3]]))
    coarse = LOGITS[:1].bfloat16()
    assert loss(coarse, LABELS, mixture).dtype == torch.float32
    torch.testing.assert_close(loss(coarse, LABELS, mixture), loss(coarse.float(), LABELS, mixture))
    with torch.device('meta'):
        empty = Mixture(torch.empty(N, 2, dtype=torch.int64), torch.empty(N, 2))
        for labels in (torch.empty(N, dtype=torch.int64), torch.empty(N, C)):
            assert loss(torch.empty(N, C), labels, empty).shape == (N,)


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'type': 'DecoupledCrossEntropy', 'eta': -1}, 'eta=-1'),
        ({'type': 'DecoupledCrossEntropy', 'eta': math.nan}, 'eta=nan'),
        ({'type': 'DecoupledCrossEntropy', 'side': 'mor'}, "did you mean 'more'"),
        ({'type': 'DecoupledCrossEntropy', 'power': -0.5}, 'power=-0.5'),
        ({'type': 'DecoupledCrossEntropy', 'threshold': 0}, 'threshold=0'),
        ({'type': 'DecoupledCrossEntropy', 'label_smoothing': 1.0}, r'label_smoothing=1.0 is not in \[0, 1\)'),
        ({'type': 'TwoHotBinaryCrossEntropy', 'power': True}, 'power=True'),
        ({'type': 'TwoHotBinaryCrossEntropy', 'threshold': 1.1}, 'threshold=1.1'),
        ({'type': 'TwoHotBinaryCrossEntropy', 'negative_weight': 2}, 'negative_weight=2'),
        ({'type': 'TwoHotBinaryCrossEntropy', 'scale': 'means'}, "did you mean 'mean'"),
    ],
)
def test_refuses_arguments(config, message):
    with pytest.raises(InputError, match=message):
        MODELS.build(config)


@pytest.mark.parametrize('loss', LOSSES)
def test_refuses_labels(loss):
    with pytest.raises(InputError, match='labels of shape'):
        loss(LOGITS[:1], LABELS.double(), pairs(0.7))
