"""Losses of mixed samples: one value per sample, never reduced."""

from openmixup.models.losses.bce import BinaryCrossEntropy
from openmixup.models.losses.confidence import ConfidenceCrossEntropy
from openmixup.models.losses.decoupled import DecoupledCrossEntropy, TwoHotBinaryCrossEntropy
from openmixup.models.losses.regression import RegressionLoss
from openmixup.models.losses.soft_ce import SoftCrossEntropy

__all__ = [
    'BinaryCrossEntropy',
    'ConfidenceCrossEntropy',
    'DecoupledCrossEntropy',
    'RegressionLoss',
    'SoftCrossEntropy',
    'TwoHotBinaryCrossEntropy',
]
