"""What is measured, and what of it is known before the first step."""

from __future__ import annotations

import pytest
from torch import Tensor

from openmixup.engine.loops import TrainLoop
from openmixup.errors import InputError
from openmixup.registry import METRICS


@pytest.mark.parametrize(
    ('option', 'match'),
    [
        ('val_evaluator.0.bins=0', r'bins=0\): expected a whole number of at least 1'),
        ('val_evaluator.0.bins=1.5', r'bins=1.5\): expected a whole number'),
        (
            'default_hooks.checkpoint.save_best=top3',
            r"save_best='top3'\): .* is measured \(top1, top5, teacher/top1, teacher/top5\)",
        ),
        (
            'default_hooks.checkpoint.save_best=loss',
            r"save_best='loss'\): expected None or an accuracy or error that is measured",
        ),
        ('val_evaluator.0.topk=(5,11)', r"save_best='top1'\): .* is measured \(top5, teacher/top5\)\.$"),
    ],
)
def test_a_wrong_metric_is_refused_before_the_first_step(train, monkeypatch, option, match):
    monkeypatch.setattr(TrainLoop, 'step', lambda self, batch: pytest.fail('too late'))
    with pytest.raises(InputError, match=match):
        train('run', option)


def test_a_metric_that_does_not_name_its_values_is_checked_by_the_first_evaluation(train):
    @METRICS.register_module(force=True)
    class Silent:
        def update(self, logits: Tensor, labels: Tensor) -> None:
            pass

        def compute(self) -> dict[str, float]:
            return {'mytop': 1.0}

    assert (
        train('run', "val_evaluator=[{'type': 'Silent'}]", 'default_hooks.checkpoint.save_best=mytop') / 'best.pth'
    ).exists()
    with pytest.raises(InputError, match=r"save_best='top1'\): .* is measured \(mytop, teacher/mytop\)"):
        train('other', "val_evaluator=[{'type': 'Silent'}]")
