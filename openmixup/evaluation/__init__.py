"""Metrics; importing this package registers them in ``METRICS``."""

from openmixup.evaluation.metrics import ClassificationMetric
from openmixup.evaluation.regression import RegressionMetric

__all__ = ['ClassificationMetric', 'RegressionMetric']
