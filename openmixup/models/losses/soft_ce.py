"""Cross-entropy with the targets of a mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.registry import MODELS

if TYPE_CHECKING:
    from openmixup.policies.mixture import Mixture

__all__ = ['SoftCrossEntropy']


@MODELS.register_module()
class SoftCrossEntropy(nn.Module):
    r"""Cross-entropy between the logits and the weighted labels of the sources of each sample.

    For class indices the loss of sample :math:`i` is
    :math:`-\sum_k w_{ik} \log p_i(y_{j(i,k)})`, from one log-softmax and without a dense target. It is exact for
    weights that differ from sample to sample, for any number of sources and for weights that do not sum to one. Label
    smoothing (Szegedy et al., 2016) by :math:`e` replaces each label by :math:`(1-e)` times itself plus :math:`e/C`
    for every class. The log-softmax is taken in float32 for logits of lower precision.

    Args:
        label_smoothing: :math:`e`, in [0, 1).

    Shape:
        ``logits`` (N, C); ``labels`` of the S sources, (S,) integer class indices or (S, C) floating targets;
        ``mixture.index`` and ``mixture.weight`` (N, K). The result is (N,): one loss per sample, not reduced.

    Raises:
        InputError: ``label_smoothing`` is out of its range, or the labels are of another kind.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise InputError(f'label_smoothing={label_smoothing} is not in [0, 1).')
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
        """One loss per sample, (N,), in float32 (float64 for float64 logits)."""
        e, weight = self.label_smoothing, mixture.weight
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        hard = labels.ndim == 1 and not labels.is_floating_point()
        targets = labels.long().take(mixture.index) if hard else labels
        if hard and weight.shape[1] == 1:  # the unmixed step, for which torch has one fused operator
            loss = functional.cross_entropy(logits, targets[:, 0], reduction='none', label_smoothing=e)
            return loss * weight[:, 0]
        logp = logits.log_softmax(1)
        if not hard:  # soft() refuses what is no target either
            loss = -(logp * mixture.soft(labels, logits.shape[1])).sum(1)
            return torch.lerp(loss, -logp.mean(1) * weight.sum(1), e) if e else loss
        picked = logp.gather(1, targets)
        if e:  # smoothing acts on each label alike, so it can be applied to the picked log-probabilities
            picked = picked.lerp(logp.mean(1, keepdim=True), e)
        return -(picked * weight).sum(1)

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f'label_smoothing={self.label_smoothing}'
