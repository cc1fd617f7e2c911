"""ConfidenceCrossEntropy, the loss of Soft Augmentation."""

import math

import pytest
import torch
from torch.nn import functional as F

from openmixup.errors import InputError
from openmixup.models import ConfidenceCrossEntropy
from openmixup.policies import Mixture
from openmixup.registry import MODELS

C = 5
LOGITS = torch.randn(3, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([1, 4, 0])


def mixture(*weights):
    weight = torch.tensor(weights, dtype=torch.float64)
    return Mixture(torch.stack([torch.arange(3), torch.tensor([2, 0, 1])], 1)[:, : weight.shape[1]], weight)


@pytest.mark.parametrize('reweight', [True, False])
def test_the_loss_is_the_divergence_from_the_smoothed_target(reweight):
    """Written out number by number: p at the label, (1 - p) / (C - 1) elsewhere, times p."""
    shares = (0.7525, 0.4431, 0.2)
    found = ConfidenceCrossEntropy(reweight)(LOGITS, LABELS, mixture(*([p] for p in shares)))
    for row, (p, label) in enumerate(zip(shares, LABELS.tolist(), strict=True)):
        z = LOGITS[row].tolist()
        norm = sum(math.exp(v) for v in z)
        targets = [p if at == label else (1 - p) / (C - 1) for at in range(C)]
        loss = sum(t * math.log(t / (math.exp(v) / norm)) for t, v in zip(targets, z, strict=True))
        assert found[row].item() == pytest.approx(loss * (p if reweight else 1), rel=1e-9)


@pytest.mark.parametrize('reweight', [True, False])
def test_full_confidence_is_plain_cross_entropy(reweight):
    loss = ConfidenceCrossEntropy(reweight)(LOGITS, LABELS, mixture([1.0], [1.0], [1.0]))
    torch.testing.assert_close(loss, F.cross_entropy(LOGITS, LABELS, reduction='none'))


def test_of_a_mixture_the_target_keeps_the_ratio_of_its_labels():
    loss = ConfidenceCrossEntropy(reweight=False)(LOGITS, LABELS, mixture([0.3, 0.3], [0.5, 0.5], [0.8, 0.4]))
    q = torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0.5, 0, 0, 0.5], [2 / 3, 0, 0, 0, 1 / 3]], dtype=torch.float64)
    p = torch.tensor([[0.6], [1.0], [1.0]], dtype=torch.float64)
    target = p * q + (1 - p) * (1 - q) / (C - 1)
    assert target.sum(1).allclose(torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(loss, F.kl_div(LOGITS.log_softmax(1), target, reduction='none').sum(1))


def test_the_loss_of_its_own_target_is_zero():
    target = torch.tensor([0.8, 0.05, 0.05, 0.05, 0.05], dtype=torch.float64)
    loss = ConfidenceCrossEntropy()(
        target.log().expand(3, -1), torch.zeros(3, dtype=torch.int64), mixture(*[[0.8]] * 3)
    )
    torch.testing.assert_close(loss, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_dense_labels_equal_class_indices_and_no_weight_at_all_is_finite():
    weights = mixture([0.6, 0.1], [0.0, 0.0], [0.2, 0.3])
    dense = ConfidenceCrossEntropy()(LOGITS, F.one_hot(LABELS, C).double(), weights)
    torch.testing.assert_close(ConfidenceCrossEntropy()(LOGITS, LABELS, weights), dense)
    assert dense.isfinite().all()


def test_low_precision_logits_and_gradients():
    logits = LOGITS.half().requires_grad_()
    weight = Mixture(torch.arange(3)[:, None], torch.tensor([[0.5], [1.0], [0.0]]))
    loss = ConfidenceCrossEntropy()(logits, LABELS, weight)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert logits.grad.isfinite().all()


def test_it_is_built_from_a_config_and_refuses_other_values():
    assert MODELS.build({'type': 'ConfidenceCrossEntropy', 'reweight': False}).reweight is False
    with pytest.raises(InputError, match="reweight='no'"):
        ConfidenceCrossEntropy('no')


def test_of_several_labels_an_image_the_confidence_is_that_of_the_image():
    """Not multiplied by the number of labels."""
    labels = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [1, 0, 0, 0, 0]], dtype=torch.float64)
    weights = mixture([0.5], [1.0], [0.2])
    p = weights.weight
    q = labels / labels.sum(1, keepdim=True)
    target = p * q + (1 - p) * (1 - q) / (C - 1)
    expected = p[:, 0] * F.kl_div(LOGITS.log_softmax(1), target, reduction='none').sum(1)
    torch.testing.assert_close(ConfidenceCrossEntropy()(LOGITS, labels, weights), expected)


def test_weights_that_are_learned_get_finite_gradients():
    weight = torch.tensor([[0.3, 0.7], [1.0, 0.0], [0.5, 0.2]], dtype=torch.float64, requires_grad=True)
    index = torch.stack([torch.arange(3), torch.tensor([2, 0, 1])], 1)
    ConfidenceCrossEntropy()(LOGITS, LABELS, Mixture(index, weight)).sum().backward()
    assert weight.grad.isfinite().all()
    assert weight.grad.abs().sum() > 0
