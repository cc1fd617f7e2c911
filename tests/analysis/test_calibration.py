"""Reliability by hand, against the metric of evaluation, and what is drawn."""

import csv
from types import SimpleNamespace

import pytest
import torch

from openmixup.analysis.calibration import confidences, draw_reliability, reliability
from openmixup.analysis.figures import check_figure
from openmixup.analysis.trained import Trained
from openmixup.errors import InputError
from openmixup.evaluation.metrics import ClassificationMetric


def test_bins_of_equal_width_by_hand():
    confidence = torch.tensor([0.95, 0.1, 0.9, 0.55, 0.2], dtype=torch.float64)
    right = torch.tensor([True, True, False, True, False])
    found = reliability(confidence, right, bins=4)
    assert found.low.tolist() == [0, 0.25, 0.5, 0.75]
    assert found.high.tolist() == [0.25, 0.5, 0.75, 1]
    assert found.count.tolist() == [2, 0, 1, 2]
    assert found.confidence[[0, 2, 3]].tolist() == pytest.approx([0.15, 0.55, 0.925])
    assert found.accuracy[[0, 2, 3]].tolist() == [0.5, 1, 0.5]
    assert found.confidence[1].isnan()
    assert found.gaps.tolist() == pytest.approx([-0.35, 0, -0.45, 0.425])
    assert found.ece == pytest.approx((2 * 0.35 + 0.45 + 2 * 0.425) / 5)
    assert found.mce == pytest.approx(0.45)
    assert found.overconfidence == pytest.approx((0.95 + 0.1 + 0.9 + 0.55 + 0.2 - 3) / 5)


def test_bins_of_equal_count_by_hand():
    confidence = torch.tensor([0.9, 0.1, 0.99, 0.98, 0.97], dtype=torch.float64)
    right = torch.tensor([False, True, True, True, False])
    found = reliability(confidence, right, bins=2, equal='count')
    assert found.count.tolist() == [3, 2]
    assert found.low.tolist() == [0.1, 0.98]
    assert found.high.tolist() == [0.97, 0.99]
    assert found.accuracy.tolist() == pytest.approx([1 / 3, 1])
    assert found.ece == pytest.approx((3 * abs(1.97 / 3 - 1 / 3) + 2 * 0.015) / 5)
    uneven = reliability(torch.rand(7), torch.ones(7, dtype=torch.bool), bins=3, equal='count')
    assert uneven.count.tolist() == [3, 2, 2]


def test_the_error_is_that_of_the_evaluation_and_order_does_not_matter():
    rng = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(500, 7, generator=rng), torch.randint(7, (500,), generator=rng)
    metric = ClassificationMetric(bins=15)
    metric.update(logits, labels)
    confidence, told = logits.softmax(1).max(1)
    order = torch.randperm(500, generator=rng)
    found = reliability(confidence[order], (told == labels)[order])
    assert 100 * found.ece == pytest.approx(metric.compute()['ece'], rel=1e-6)


def test_ties_do_not_depend_on_the_order():
    confidence, right = torch.full((1000,), 0.7), torch.arange(1000) < 700  # sorted by class
    for equal in ('width', 'count'):
        assert reliability(confidence, right, equal=equal).ece == pytest.approx(0, abs=1e-7)


def test_an_honest_network_has_no_error():
    rng = torch.Generator().manual_seed(0)
    confidence = torch.rand(200_000, generator=rng)
    right = torch.rand(200_000, generator=rng) < confidence
    for equal in ('width', 'count'):
        assert reliability(confidence, right, equal=equal).ece < 0.005
        assert reliability(confidence, ~right, equal=equal).ece > 0.4


@pytest.mark.parametrize(
    ('size', 'given', 'names'),
    [
        (0, {}, 'bins=15 for 0 images'),
        (3, {'bins': 4, 'equal': 'count'}, 'bins=4 for 3 images'),
        (3, {'bins': 0}, 'bins=0 for 3 images'),
        (3, {'equal': 'mass'}, "equal='mass'"),
    ],
)
def test_what_cannot_be_binned_is_told(size, given, names):
    with pytest.raises(InputError, match=names):
        reliability(torch.rand(size), torch.ones(size, dtype=torch.bool), **given)


def of(logits, labels):
    """A network that gives these logits, in batches of two."""
    learner = SimpleNamespace(
        data_preprocessor=lambda batch, training: batch, predict=lambda inputs: {'student': inputs}
    )
    loader = [{'inputs': a, 'labels': b} for a, b in zip(logits.split(2), labels.split(2), strict=True)]
    return Trained(learner, loader, 'student')


def test_confidences_of_a_network():
    logits = torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    confidence, right = confidences(of(logits, torch.tensor([1, 1, 0])))
    assert confidence.tolist() == pytest.approx([1 / (1 + 2.718281828**-2), 1 / (1 + 2.718281828**-1), 0.5])
    assert right.tolist() == [True, False, True]
    with pytest.raises(InputError, match='not finite'):
        confidences(of(logits.index_fill(0, torch.tensor([1]), float('nan')), torch.tensor([1, 1, 0])))


def test_the_figure_and_its_table(tmp_path):
    curves = {
        name: reliability(torch.tensor([0.3, 0.9]), torch.tensor(right), bins=3)
        for name, right in (('one', [True, False]), ('other', [True, True]))
    }
    figure, table = draw_reliability(curves, tmp_path / 'a.svg')
    text = figure.read_text()
    assert figure == tmp_path / 'a.svg'
    assert '<svg' in text
    rows = list(csv.DictReader(table.open()))
    assert [(row['name'], float(row['low'])) for row in rows[:4]] == [
        ('one', 0.0), ('one', pytest.approx(1 / 3)), ('one', pytest.approx(2 / 3)), ('other', 0.0),
    ]  # fmt: skip
    assert [float(row['count']) for row in rows] == [1, 0, 1, 1, 0, 1]
    assert float(rows[2]['accuracy']) == 0
    assert float(rows[5]['accuracy']) == 1
    assert draw_reliability(curves, tmp_path / 'b.svg')[0].read_text() == text, 'equal figures are equal files'


def test_names_that_are_no_figure(tmp_path):
    with pytest.raises(InputError, match='must end in .svg, .png, .pdf'):
        check_figure(tmp_path / 'a.txt')
    with pytest.raises(InputError, match='does not exist'):
        check_figure(tmp_path / 'no' / 'a.svg')
