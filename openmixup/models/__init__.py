"""Networks, heads and losses; importing this package registers all of them in ``MODELS``."""

from openmixup.models.backbones import (
    Backbone,
    CifarResNet,
    LeNet5,
    TimmBackbone,
    TorchvisionBackbone,
    WideResNet,
)
from openmixup.models.heads import LinearHead
from openmixup.models.losses import (
    BinaryCrossEntropy,
    ConfidenceCrossEntropy,
    DecoupledCrossEntropy,
    SoftCrossEntropy,
    TwoHotBinaryCrossEntropy,
)
from openmixup.models.mix_classifier import MixClassifier
from openmixup.models.preprocessor import BatchPreprocessor
from openmixup.models.student import Output, Student

__all__ = [
    'Backbone', 'BatchPreprocessor', 'BinaryCrossEntropy', 'CifarResNet', 'ConfidenceCrossEntropy',
    'DecoupledCrossEntropy', 'LeNet5', 'LinearHead', 'MixClassifier', 'Output', 'SoftCrossEntropy', 'Student',
    'TimmBackbone', 'TorchvisionBackbone', 'TwoHotBinaryCrossEntropy', 'WideResNet',
]  # fmt: skip
