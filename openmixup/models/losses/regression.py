"""Losses of mixed regression targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openmixup.errors import InputError, did_you_mean
from openmixup.policies import Mixture
from openmixup.registry import MODELS

__all__ = ['RegressionLoss']

KINDS = {'l1': F.l1_loss, 'mse': F.mse_loss, 'smooth_l1': F.smooth_l1_loss}


@MODELS.register_module()
class RegressionLoss(nn.Module):
    r"""Distance between the outputs and the mixed targets :math:`\sum_k w_{ik}\,y_{j(i,k)}`.

    Mixup as published mixes the targets as it mixes the images (Zhang et al., "mixup: Beyond Empirical Risk
    Minimization", ICLR 2018), and so does C-Mixup (Yao et al., NeurIPS 2022). For several targets an image it is the
    mean over them.

    Args:
        kind: 'l1' (absolute error), 'mse' (squared error) or 'smooth_l1' (squared below an error of 1, absolute above).

    Shape:
        ``logits`` (N, D); ``labels`` of the S sources, floating, (S, D), or (S,) for D = 1; ``mixture.index`` and
        ``mixture.weight`` (N, K). The result is (N,): one loss per sample, not reduced.

    Raises:
        InputError: another kind, or labels that are no regression targets of D values.
    """

    def __init__(self, kind: str = 'l1') -> None:
        super().__init__()
        if kind not in KINDS:
            hint = did_you_mean(str(kind), KINDS)
            raise InputError(f'RegressionLoss(kind={kind!r}): expected one of {", ".join(KINDS)}{hint}.')
        self.kind = kind

    def forward(self, logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
        """One loss per sample, (N,), in float32 (float64 for float64 logits)."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        values = labels[:, None] if labels.ndim == 1 else labels
        if not labels.is_floating_point() or values.shape[1:] != logits.shape[1:]:
            raise InputError(
                f'RegressionLoss gets labels of shape {tuple(labels.shape)} and type {labels.dtype} for '
                f'{logits.shape[1]} outputs an image: expected as many floating targets; correct the head.'
            )
        return KINDS[self.kind](logits, mixture.of(values.to(logits.dtype)), reduction='none').mean(1)

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f'kind={self.kind!r}'
