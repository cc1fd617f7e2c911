"""The figure that the policies of a table are ranked by: top-1, or the mean absolute error of a regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ['HEADLINES', 'MAE', 'TOP1', 'Headline', 'headline_of', 'measured', 'told']


@dataclass(frozen=True)
class Headline:
    """A metric of a run, and how it is told.

    Attributes:
        name: in ``summary.json``; the columns of the results are ``NAME_last``, ``NAME_median10`` and ``NAME_best``.
        label: in a sentence.
        title: above its columns.
        unit: behind a value.
        step: what differences are counted in.
        digits: behind the point, in tables.
        form: of a value in a sentence.
        sign: 1 if more is better, -1 if less is; gains are differences times the sign, so that above 0 is better.
    """

    name: str
    label: str
    title: str
    unit: str
    step: str
    digits: int
    form: str
    sign: int

    def column(self, score: str) -> str:
        """Column of ``'last'``, ``'median10'`` or ``'best'``, or of another metric in the last epoch (``'rmse'``)."""
        return f'{self.name}_{score}' if score in ('last', 'median10', 'best') else f'{score}_last'


TOP1 = Headline('top1', 'top-1', 'Top-1 in percent', ' %', 'points', 2, '.2f', 1)
MAE = Headline('mae', 'MAE', 'Mean absolute error (MAE), lower is better', '', 'MAE', 4, '.4g', -1)
HEADLINES = (TOP1, MAE)


def headline_of(evaluators: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Headline:
    """The headline figure of what a config evaluates: the error if it has a ``RegressionMetric``, else top-1."""
    entries = [evaluators] if isinstance(evaluators, Mapping) else evaluators
    return MAE if any(entry['type'] == 'RegressionMetric' for entry in entries) else TOP1


def measured(scores: Mapping[str, Any]) -> Headline | None:
    """Which of the headline figures is among the scores of a run; None if there is none."""
    return next((figure for figure in HEADLINES if figure.name in scores), None)


def told(summary: Mapping[str, Any]) -> str:
    """``top-1 97.50`` or ``MAE 0.0123``: the last epoch of a run by its summary."""
    figure = measured(summary['last']) or TOP1
    return f'{figure.label} {summary["last"][figure.name]:{figure.form}}'
