"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from openmixup.errors import InputError
from openmixup.evaluation import ClassificationMetric


def log_probabilities(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows).log()


def test_top_k_loss_and_accuracy_per_class():
    metric = ClassificationMetric(topk=(1, 2))
    logits = log_probabilities([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    labels = torch.tensor([0, 1, 2, 2])
    metric.update(logits[:3], labels[:3])
    metric.update(logits[3:], labels[3:])
    result = metric.compute()
    assert result['top1'] == 50
    assert result['top2'] == 75
    assert result['per_class'] == [100, 0, 50]
    assert result['loss'] == pytest.approx(F.cross_entropy(logits, labels).item())


def test_calibration_error_by_hand():
    """Bins of width 0.5: five of confidence 0.9 with 3 right, and five of 0.4 with 2 right."""
    metric = ClassificationMetric(topk=(1,), bins=2)
    sure = log_probabilities([[0.9, 0.05, 0.05]] * 5)
    unsure = log_probabilities([[0.4, 0.3, 0.3]] * 5)
    metric.update(torch.cat([sure, unsure]), torch.tensor([0, 0, 0, 1, 2, 0, 0, 1, 1, 2]))
    assert metric.compute()['ece'] == pytest.approx(100 * (5 * abs(0.6 - 0.9) + 5 * abs(0.4 - 0.4)) / 10, abs=1e-4)


def test_order_and_batches_do_not_matter():
    logits, labels = torch.randn(97, 10), torch.randint(0, 10, (97,))
    whole, parts = ClassificationMetric(), ClassificationMetric()
    whole.update(logits, labels)
    for part in torch.randperm(97).split(13):
        parts.update(logits[part], labels[part])
    for name, value in whole.compute().items():
        assert parts.compute()[name] == pytest.approx(value)


def test_a_class_without_samples_and_few_classes():
    metric = ClassificationMetric(topk=(1, 5))
    metric.update(torch.eye(3)[:2], torch.tensor([0, 1]))
    result = metric.compute()
    assert result['per_class'] == [100, 100, None]
    assert 'top5' not in result
    assert metric.names(3) == tuple(result)
    assert metric.names(5) == metric.names(None) == ('top1', 'top5', 'loss', 'ece', 'per_class')


def test_equal_logits_are_right_or_wrong_in_all_figures_alike():
    metric = ClassificationMetric(topk=(1,))
    metric.update(torch.zeros(100, 10), torch.arange(100) % 10)
    found = metric.compute()
    assert found['top1'] == pytest.approx(sum(found['per_class']) / 10) == 10
    assert found['ece'] == pytest.approx(0, abs=1e-4)  # confidence 0.1, one in ten right


def test_reset_forgets():
    metric = ClassificationMetric()
    metric.update(torch.eye(3), torch.tensor([1, 2, 0]))
    metric.reset()
    metric.update(torch.eye(3), torch.tensor([0, 1, 2]))
    assert metric.compute()['top1'] == 100


def test_bfloat16_logits_are_counted_in_float32():
    logits, labels = torch.randn(64, 10).bfloat16(), torch.randint(0, 10, (64,))
    low, high = ClassificationMetric(), ClassificationMetric()
    low.update(logits, labels)
    high.update(logits.float(), labels)
    assert low.compute() == high.compute()


def test_mistakes_are_refused():
    with pytest.raises(InputError, match='nothing was evaluated'):
        ClassificationMetric().compute()
    with pytest.raises(InputError, match='no class indices'):
        ClassificationMetric().update(torch.eye(3), torch.eye(3))
    with pytest.raises(InputError, match='topk'):
        ClassificationMetric(topk=(0,))
    with pytest.raises(InputError, match='bins=True'):
        ClassificationMetric(bins=True)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_outputs_that_are_not_finite_are_told_in_one_sentence(value):
    metric = ClassificationMetric()
    metric.update(torch.eye(3), torch.tensor([0, 1, 2]))
    metric.update(torch.full((2, 3), value), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="the network's outputs are not finite"):
        metric.compute()
