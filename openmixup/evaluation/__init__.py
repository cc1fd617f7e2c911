"""Metrics; importing this package registers them in ``METRICS``."""

from openmixup.evaluation.metrics import ClassificationMetric

__all__ = ['ClassificationMetric']
