"""The linear classifier."""

from __future__ import annotations

from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.registry import MODELS

__all__ = ['LinearHead']


@MODELS.register_module()
class LinearHead(nn.Module):
    """One linear layer on the pooled vectors, with dropout in front if asked for.

    Weights start from N(0, 0.01), biases from zero.

    Args:
        in_features: length of the backbone's vectors; the learner fills it in from ``backbone.num_features``.
        num_classes: number of logits.
        dropout: share of the inputs that is dropped in training, in [0, 1).

    Shape:
        Input (N, in_features), output (N, num_classes).

    Raises:
        InputError: an argument is out of its range.
    """

    def __init__(self, in_features: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        if in_features < 1 or num_classes < 1:
            raise InputError(
                f'LinearHead needs in_features and num_classes of at least 1, got {in_features} and {num_classes}.'
            )
        if not 0 <= dropout < 1:
            raise InputError(f'dropout={dropout} of LinearHead is not in [0, 1).')
        self.in_features = in_features
        self.num_classes = num_classes
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.fc = nn.Linear(in_features, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits (N, num_classes) of ``vectors`` (N, in_features)."""
        return self.fc(self.dropout(vectors))
