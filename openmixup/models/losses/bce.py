"""Binary cross-entropy with the targets of a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from openmixup.errors import InputError, did_you_mean
from openmixup.registry import MODELS

if TYPE_CHECKING:
    from openmixup.policies.mixture import Mixture

__all__ = ['BinaryCrossEntropy']


@MODELS.register_module()
class BinaryCrossEntropy(nn.Module):
    """A sigmoid cross-entropy per class, for multi-label data and for the RSB recipes (Wightman et al., 2021).

    The target of a sample is the weighted sum of the labels of its sources. Label smoothing by ``e`` makes it
    ``(1 - e)`` times itself plus ``e / C`` times the sum of the weights. It is then clamped at 1, which matters only
    for weights that sum to more than one.

    Args:
        label_smoothing: ``e``, in [0, 1).
        scale: ``'mean'`` averages over the classes, as timm does; ``'sum'`` adds them up and so is larger by the number
            of classes, which matters to SGD and to gradient clipping.
        threshold: if given, in [0, 1), the target becomes 1 where it is above it and 0 elsewhere.

    Shape:
        ``logits`` (N, C); ``labels`` of the S sources, (S,) integer class indices or (S, C) floating targets;
        ``mixture.index`` and ``mixture.weight`` (N, K). The result is (N,): one loss per sample, not reduced.

    Raises:
        InputError: an argument is out of its range, or the labels are of another kind.
    """

    def __init__(self, label_smoothing: float = 0.0, scale: str = 'mean', threshold: float | None = None) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise InputError(f'label_smoothing={label_smoothing} is not in [0, 1).')
        if scale not in ('mean', 'sum'):
            hint = did_you_mean(scale, ('mean', 'sum'))
            raise InputError(f"scale={scale!r} of BinaryCrossEntropy is neither 'mean' nor 'sum'{hint}.")
        if threshold is not None and not 0 <= threshold < 1:
            raise InputError(f'threshold={threshold} of BinaryCrossEntropy is not in [0, 1).')
        self.label_smoothing = label_smoothing
        self.scale = scale
        self.threshold = threshold

    def forward(self, logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
        """One loss per sample, (N,), in float32 (float64 for float64 logits)."""
        num_classes = logits.shape[1]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = mixture.soft(labels, num_classes).to(logits.dtype)
        if self.label_smoothing:
            share = mixture.weight.sum(1, keepdim=True) / num_classes
            target = target * (1 - self.label_smoothing) + share * self.label_smoothing
        target = target.clamp(max=1)
        if self.threshold is not None:
            target = target.gt(self.threshold).to(logits.dtype)
        loss = functional.binary_cross_entropy_with_logits(logits, target, reduction='none')
        return loss.mean(1) if self.scale == 'mean' else loss.sum(1)

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f'label_smoothing={self.label_smoothing}, scale={self.scale!r}, threshold={self.threshold}'
