"""Errors of a regression against scikit-learn and NumPy."""

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_absolute_percentage_error, mean_squared_error, r2_score

from openmixup.errors import InputError
from openmixup.evaluation import RegressionMetric, regression


def test_all_figures_of_batches_of_unequal_size():
    rng = np.random.default_rng(0)
    y = rng.normal(40, 7, 101).astype(np.float32)
    p = (y + rng.normal(2, 3, 101)).astype(np.float32)
    metric = RegressionMetric()
    for part in (slice(0, 60), slice(60, 61), slice(61, 101)):
        metric.update(torch.tensor(p[part])[:, None], torch.tensor(y[part]))
    found = metric.compute()
    y, p = y.astype(np.float64), p.astype(np.float64)
    assert tuple(found) == metric.names(None) == metric.names(3)
    assert found == pytest.approx(
        {
            'mae': mean_absolute_error(y, p),
            'mse': mean_squared_error(y, p),
            'rmse': mean_squared_error(y, p) ** 0.5,
            'mape': 100 * mean_absolute_percentage_error(y, p),
            'r2': r2_score(y, p),
            'pearson': np.corrcoef(p, y)[0, 1],
        },
        rel=1e-9,
    )


def test_several_targets_count_alike():
    y = torch.tensor([[1.0, 10.0], [3.0, 40.0], [5.0, 10.0]])
    p = torch.tensor([[2.0, 10.0], [3.0, 30.0], [4.0, 20.0]])
    metric = RegressionMetric()
    metric.update(p, y)
    found = metric.compute()
    assert found['mae'] == pytest.approx(22 / 6)
    assert found['r2'] == pytest.approx(r2_score(y.numpy(), p.numpy()), rel=1e-6)
    assert found['pearson'] == pytest.approx(
        np.mean([np.corrcoef(p[:, d], y[:, d])[0, 1] for d in (0, 1)]), rel=1e-6
    )  # fmt: skip


def test_what_is_not_defined_is_none():
    metric = RegressionMetric()
    metric.update(torch.tensor([[1.0], [2.0]]), torch.zeros(2))
    assert metric.compute() == {'mae': 1.5, 'mse': 2.5, 'rmse': 2.5**0.5, 'mape': None, 'r2': None, 'pearson': None}
    metric.reset()
    metric.update(torch.tensor([[1.0], [1.0]]), torch.tensor([0.0, 2.0]))
    found = metric.compute()
    assert found['mape'] == 50, 'targets of 0 are left out'
    assert found['r2'] == 0
    assert found['pearson'] is None


@pytest.mark.parametrize('sign', [1, -1])
def test_a_correlation_is_never_beyond_one(sign):
    y = 2e4 + torch.randn(1000, 1, generator=torch.Generator().manual_seed(1)) * 0.5
    metric = RegressionMetric()
    metric.update(sign * (y + 0.1), y)  # the sums alone give 1.0000001
    assert metric.compute()['pearson'] == pytest.approx(sign, abs=1e-5)
    assert abs(metric.compute()['pearson']) <= 1


def test_refusals():
    metric = RegressionMetric()
    with pytest.raises(InputError, match='nothing was evaluated'):
        metric.compute()
    with pytest.raises(InputError, match='floating targets only'):
        metric.update(torch.zeros(2, 1), torch.zeros(2).long())
    with pytest.raises(InputError, match=r'outputs of shape \(2, 3\)'):
        metric.update(torch.zeros(2, 3), torch.zeros(2))
    metric.update(torch.tensor([[float('nan')]]), torch.zeros(1))
    with pytest.raises(InputError, match='not finite'):
        metric.compute()


def test_sums_of_all_processes_are_added(monkeypatch):
    """Two processes have 1 and 3 samples: the figures are those of all four."""
    y, p = torch.tensor([1.0, 2.0, 3.0, 5.0]), torch.tensor([[1.5], [2.0], [4.0], [4.0]])
    whole, first, second = RegressionMetric(), RegressionMetric(), RegressionMetric()
    whole.update(p, y)
    first.update(p[:1], y[:1])
    second.update(p[1:], y[1:])
    monkeypatch.setattr(regression.dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(regression.dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(regression.dist, 'all_reduce', lambda sums: sums.add_(second._sums))
    found = first.compute()
    monkeypatch.undo()
    assert found == pytest.approx(whole.compute())
