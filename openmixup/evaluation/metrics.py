"""Metrics that count on the device and are read once at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_whole
from openmixup.errors import InputError
from openmixup.registry import METRICS

__all__ = ['ClassificationMetric']


@METRICS.register_module()
class ClassificationMetric:
    """Top-k accuracy, accuracy per class, cross entropy and expected calibration error.

    Sums stay on the device; over processes they are reduced as one tensor, never as pickled objects.

    Args:
        topk: which k; those above the number of classes are left out.
        bins: equal bins of the confidence for the calibration error (Guo et al., ICML 2017, use 15).
    """

    def __init__(self, topk: Sequence[int] = (1, 5), bins: int = 15) -> None:
        if not topk or not all(is_whole(k, 1) for k in topk):
            raise InputError(f'ClassificationMetric(topk={topk!r}): expected whole numbers of at least 1.')
        if not is_whole(bins, 1):
            raise InputError(f'ClassificationMetric(bins={bins!r}): expected a whole number of at least 1.')
        self.topk, self.bins = tuple(topk), bins
        self.reset()

    def names(self, num_classes: int | None) -> tuple[str, ...]:
        """Names of what :meth:`compute` gives for so many classes; None: for any number."""
        tops = (f'top{k}' for k in self.topk if num_classes is None or k <= num_classes)
        return (*tops, 'loss', 'ece', 'per_class')

    def reset(self) -> None:
        """Forget all samples."""
        self._sums: dict[str, Tensor] | None = None

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch.

        Args:
            logits: (N, C).
            labels: (N,) class indices.
        """
        if labels.ndim != 1 or labels.is_floating_point():
            raise InputError(
                f'labels of shape {tuple(labels.shape)} and type {labels.dtype} are no class indices (N,): '
                'ClassificationMetric evaluates plain class labels only.'
            )
        logits = logits.float()
        classes = logits.shape[1]
        confidence = logits.softmax(1).amax(1)
        rank = logits.topk(min(max(self.topk), classes), 1).indices == labels[:, None]
        right = rank[:, 0]  # of the same order, for classes with equal logits
        bin_of = (confidence.nan_to_num() * self.bins).long().clamp_(0, self.bins - 1)
        one = torch.ones_like(confidence, dtype=torch.float64)
        sums = {
            'count': one.sum()[None],
            'loss': F.cross_entropy(logits, labels, reduction='none').double().sum()[None],
            'top': torch.stack([rank[:, :k].any(1).double().sum() for k in self.topk]),
            'class_right': one.new_zeros(classes).index_add_(0, labels, right.double()),
            'class_count': one.new_zeros(classes).index_add_(0, labels, one),
            'bin_gap': one.new_zeros(self.bins).index_add_(0, bin_of, right.double() - confidence.double()),
        }
        if self._sums is None:
            self._sums = sums
        else:
            for name, value in sums.items():
                self._sums[name] += value

    def compute(self) -> dict[str, Any]:
        """Results over all processes: ``top1`` ... in percent, ``loss`` in nats, ``ece`` in percent, ``per_class``.

        ``per_class`` lists the accuracy of each class in percent, None for a class without samples.

        Raises:
            InputError: nothing was counted, or logits were infinite or NaN.
        """
        if self._sums is None:
            raise InputError('nothing was evaluated: the validation set is empty on this process.')
        names, values = list(self._sums), list(self._sums.values())
        flat = torch.cat(values)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(flat)
        sums = dict(zip(names, flat.cpu().split([len(value) for value in values]), strict=True))
        if not math.isfinite(sums['loss']):
            raise InputError(
                f"the network's outputs are not finite on the evaluation data (loss {float(sums['loss'])}): training "
                'diverged or the weights are damaged; lower the learning rate or clip gradients.'
            )
        count = float(sums['count'])
        classes = len(sums['class_count'])
        tops = zip(self.topk, sums['top'].tolist(), strict=True)
        result: dict[str, Any] = {f'top{k}': 100 * top / count for k, top in tops if k <= classes}
        result['loss'] = float(sums['loss']) / count
        result['ece'] = 100 * float(sums['bin_gap'].abs().sum()) / count
        per_class = zip(sums['class_right'].tolist(), sums['class_count'].tolist(), strict=True)
        result['per_class'] = [100 * right / number if number else None for right, number in per_class]
        return result
