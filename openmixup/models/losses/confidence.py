"""Cross-entropy with targets whose weights are a confidence (Soft Augmentation, Liu et al., CVPR 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.registry import MODELS

if TYPE_CHECKING:
    from openmixup.policies.mixture import Mixture

__all__ = ['ConfidenceCrossEntropy']


@MODELS.register_module()
class ConfidenceCrossEntropy(nn.Module):
    r"""What a sample's weights lack to one is spread over the other classes, and lowers the weight of its loss.

    With q the weighted label scaled to sum to one and p the sum of the weights, the target is
    :math:`T = p\,q + (1 - p) (1 - q) / (C - 1)`: for one label p at its class and :math:`(1 - p) / (C - 1)` at each
    other. The loss is :math:`w\,\mathrm{KL}(T \,\|\, \mathrm{softmax}(z))` with w = p, or 1 without ``reweight``. For
    weights that sum to one or more nothing is spread, and p counts as one.

    This is the default loss of the authors of Soft Augmentation, for :class:`SoftAugmentation`; their variant 'target'
    is ``reweight=False``, and 'weight' is :class:`SoftCrossEntropy`.

    Args:
        reweight: weigh each sample's loss by its confidence.

    Shape:
        ``logits`` (N, C), C at least 2; ``labels`` of the S sources, (S,) integer class indices or (S, C) floating
        targets; ``mixture.index`` and ``mixture.weight`` (N, K). The result is (N,): one loss per sample, not reduced.

    Raises:
        InputError: ``reweight`` is no truth value, or the labels are of another kind.
    """

    def __init__(self, reweight: bool = True) -> None:
        super().__init__()
        if not isinstance(reweight, bool):
            raise InputError(f'ConfidenceCrossEntropy(reweight={reweight!r}): expected True or False.')
        self.reweight = reweight

    def forward(self, logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
        """One loss per sample, (N,), in float32 (float64 for float64 logits)."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weighted = mixture.soft(labels, logits.shape[1]).to(logits.dtype)
        tiny = torch.finfo(logits.dtype).tiny
        confidence = mixture.weight.sum(1, keepdim=True).to(logits.dtype).clamp(max=1)
        label = weighted / weighted.sum(1, keepdim=True).clamp_min(tiny)
        others = (1 - label) / max(logits.shape[1] - 1, 1)
        target = torch.lerp(others, label, confidence)
        # the logarithm of 0 has no slope, though 0 times it has
        divergence = (target * (target.clamp_min(tiny).log() - logits.log_softmax(1))).sum(1)
        return divergence * confidence[:, 0] if self.reweight else divergence

    def extra_repr(self) -> str:
        """The argument, for ``print``."""
        return f'reweight={self.reweight}'
