"""The decoupled regulariser of DecoupleMix and its two-hot form (Liu et al., NeurIPS 2023)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from openmixup.checks import is_number
from openmixup.errors import InputError, did_you_mean
from openmixup.models.losses.soft_ce import SoftCrossEntropy
from openmixup.registry import MODELS

if TYPE_CHECKING:
    from openmixup.policies.mixture import Mixture

__all__ = ['DecoupledCrossEntropy', 'TwoHotBinaryCrossEntropy']

SIDES = ('both', 'more', 'less')


@MODELS.register_module()
class DecoupledCrossEntropy(nn.Module):
    r"""DecoupleMix: mixed cross-entropy, and for each mixed class one in which the other mixed ones do not compete.

    For a sample with the set M of classes of positive weight (their weights summed over the sources) the loss is that
    of :class:`SoftCrossEntropy` plus :math:`\eta \sum_{c \in M} h(w_c) (-\log \phi_c)` with
    :math:`\phi_c = e^{z_c} / (e^{z_c} + \sum_{j \notin M} e^{z_j})` and :math:`h(v) = \min(1, v / t)^k`. A sample of
    one class only, such as an unmixed one or a pair of the same class, has no such term. Works with any policy and with
    weights that differ from sample to sample.

    The paper has a constant :math:`\eta` here (``power=0``); h is the choice of published training settings. For
    CIFAR-100 they use ``eta`` from 0.01 to 0.5 and another side and power for each policy and network.

    Deviations: more than two classes are allowed, each against all the others; the term stays at equal weights if
    ``side='both'``; the side is told by the weights of the sample, not by a lam of the batch.

    Args:
        eta: weight of the term, at least 0.
        side: 'both', or only the class with 'more' or 'less' than half of the sample's weight.
        power: k, at least 0; 0 makes h constant.
        threshold: t, above 0 and at most 1.
        label_smoothing: of the mixed cross-entropy only, in [0, 1).

    Shape:
        ``logits`` (N, C); ``labels`` of the S sources, (S,) integer class indices or (S, C) floating targets, of which
        the class of the largest share counts for the term; ``mixture.index`` and ``mixture.weight`` (N, K). The result
        is (N,): one loss per sample, not reduced.

    Raises:
        InputError: an argument is out of its range, or the labels are of another kind.
    """

    paper = 'https://arxiv.org/abs/2203.10761'

    def __init__(
        self,
        eta: float = 0.1,
        side: str = 'both',
        power: float = 1.0,
        threshold: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not is_number(eta, 0):
            raise InputError(f'eta={eta!r} of DecoupledCrossEntropy is no number of at least 0.')
        if side not in SIDES:
            hint = did_you_mean(side, SIDES)
            raise InputError(f'side={side!r} of DecoupledCrossEntropy is none of {", ".join(SIDES)}{hint}.')
        _check_rescaling('DecoupledCrossEntropy', power, threshold)
        self.eta, self.side, self.power, self.threshold = eta, side, power, threshold
        self.label_smoothing = label_smoothing
        self.mixed = SoftCrossEntropy(label_smoothing)

    def forward(self, logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
        """One loss per sample, (N,), in float32 (float64 for float64 logits)."""
        loss = self.mixed(logits, labels, mixture)
        if not self.eta or mixture.weight.shape[1] == 1:
            return loss
        return loss + self.eta * self.decoupled(logits, labels, mixture)

    def decoupled(self, logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
        """(N,) the term without its weight: 0 for samples of one class."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        classes = (labels.argmax(1) if labels.ndim == 2 else labels.long())[mixture.index]
        share = mixture.weight.to(logits.dtype)
        same = (classes[:, :, None] == classes[:, None, :]).to(logits.dtype)
        weight = (same * share[:, None, :]).sum(2)  # (N, K) of the class of each source
        shown = (weight > 0).to(logits.dtype)
        once = shown / same.sum(2)  # a class of several sources counts once
        once = once * (once.sum(1, keepdim=True) > 1.5)
        rate = rescaled(weight, self.power, self.threshold) * once
        if self.side != 'both':
            half = share.sum(1, keepdim=True) / 2
            rate = rate * (weight > half if self.side == 'more' else weight < half)
        mixed = torch.zeros_like(logits).scatter_add(1, classes, shown) > 0
        rest = logits.masked_fill(mixed, -math.inf).logsumexp(1, keepdim=True)
        return (functional.softplus(rest - logits.gather(1, classes)) * rate).sum(1)

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return f'eta={self.eta}, side={self.side!r}, power={self.power}, threshold={self.threshold}'


@MODELS.register_module()
class TwoHotBinaryCrossEntropy(nn.Module):
    r"""DecoupleMix with sigmoids: every mixed class becomes a positive by itself.

    The target of a class of weight w (summed over the sources) is :math:`h(w) = \min(1, w / t)^k`: ``power=0`` is the
    two-hot target, 1 for each class that is shown at all; ``power=1`` with ``threshold=1`` is
    :class:`BinaryCrossEntropy`. The targets of a sample need not sum to one.

    The form of h is that of public training code; the defaults are ours: no figures were published for them.

    Args:
        power: k, at least 0.
        threshold: t, above 0 and at most 1; a class of this weight or more has target 1.
        negative_weight: weight of the classes that no source has, in [0, 1].
        scale: ``'mean'`` averages over the classes, ``'sum'`` adds them up.

    Shape:
        As :class:`BinaryCrossEntropy`. Multi-hot labels are summed over the sources first, then rescaled. The result is
        (N,): one loss per sample, not reduced.

    Raises:
        InputError: an argument is out of its range, or the labels are of another kind.
    """

    paper = 'https://arxiv.org/abs/2203.10761'

    def __init__(
        self, power: float = 0.0, threshold: float = 1.0, negative_weight: float = 1.0, scale: str = 'mean'
    ) -> None:
        super().__init__()
        _check_rescaling('TwoHotBinaryCrossEntropy', power, threshold)
        if not is_number(negative_weight, 0, 1):
            raise InputError(f'negative_weight={negative_weight!r} of TwoHotBinaryCrossEntropy is not in [0, 1].')
        if scale not in ('mean', 'sum'):
            hint = did_you_mean(scale, ('mean', 'sum'))
            raise InputError(f"scale={scale!r} of TwoHotBinaryCrossEntropy is neither 'mean' nor 'sum'{hint}.")
        self.power, self.threshold, self.negative_weight, self.scale = power, threshold, negative_weight, scale

    def forward(self, logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
        """One loss per sample, (N,), in float32 (float64 for float64 logits)."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weight = mixture.soft(labels, logits.shape[1]).to(logits.dtype)
        shown = (weight > 0).to(logits.dtype)
        target = rescaled(weight, self.power, self.threshold) * shown
        loss = functional.binary_cross_entropy_with_logits(logits, target, reduction='none')
        if self.negative_weight != 1:
            loss = loss * (shown + (1 - shown) * self.negative_weight)
        return loss.mean(1) if self.scale == 'mean' else loss.sum(1)

    def extra_repr(self) -> str:
        """The arguments, for ``print``."""
        return (
            f'power={self.power}, threshold={self.threshold}, negative_weight={self.negative_weight}, '
            f'scale={self.scale!r}'
        )


def rescaled(weight: Tensor, power: float, threshold: float) -> Tensor:
    """min(1, weight / threshold) ** power, with a finite gradient at 0."""
    if power == 0:
        return torch.ones_like(weight)
    return (weight / threshold).clamp(torch.finfo(weight.dtype).tiny, 1) ** power


def _check_rescaling(name: str, power: Any, threshold: Any) -> None:
    if not is_number(power, 0):
        raise InputError(f'power={power!r} of {name} is no number of at least 0; 0 counts every mixed class alike.')
    if not is_number(threshold) or not 0 < threshold <= 1:
        raise InputError(f'threshold={threshold!r} of {name} is not above 0 and at most 1.')
