"""Errors of predicted numbers, summed on the device and read once at the end."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from openmixup.errors import InputError
from openmixup.registry import METRICS

__all__ = ['RegressionMetric']

NAMES = ('mae', 'mse', 'rmse', 'mape', 'r2', 'pearson')


@METRICS.register_module()
class RegressionMetric:
    r"""Mean absolute, squared and percentage error, coefficient of determination and correlation.

    With predictions :math:`p` and targets :math:`y`: ``mae`` is :math:`\overline{|p-y|}`, ``mse``
    :math:`\overline{(p-y)^2}`, ``rmse`` its root, ``mape`` :math:`100\,\overline{|p-y|/|y|}` in percent over the
    targets that are not 0, ``r2`` :math:`1-\mathrm{mse}/\mathrm{var}(y)`, ``pearson`` the correlation of p and y.
    Several targets an image count alike, and ``r2`` and ``pearson`` are means over them; what is not defined, such as
    a correlation with a constant, is None.

    Sums are of float64, stay on the device, and are reduced over processes as one tensor.
    """

    def __init__(self) -> None:
        self.reset()

    def names(self, num_classes: int | None) -> tuple[str, ...]:  # noqa: ARG002  (as those of other metrics)
        """Names of what :meth:`compute` gives."""
        return NAMES

    def reset(self) -> None:
        """Forget all samples."""
        self._sums: Tensor | None = None

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch.

        Args:
            logits: (N, D) predictions.
            labels: (N, D) targets, or (N,) for D = 1, floating.

        Raises:
            InputError: the labels are none of these.
        """
        targets = labels[:, None] if labels.ndim == 1 else labels
        if not labels.is_floating_point() or targets.shape != logits.shape:
            raise InputError(
                f'labels of shape {tuple(labels.shape)} and type {labels.dtype} are no regression targets for outputs '
                f'of shape {tuple(logits.shape)}: RegressionMetric evaluates floating targets only.'
            )
        p, y = logits.double(), targets.double()
        error, there = (p - y).abs(), y != 0
        rows = (
            torch.ones_like(y),
            error,
            error**2,
            torch.where(there, error / y.abs(), 0),
            there,
            y,
            y**2,
            p,
            p**2,
            p * y,
        )
        sums = torch.stack([row.double().sum(0) for row in rows])
        self._sums = sums if self._sums is None else self._sums + sums

    def compute(self) -> dict[str, float | None]:
        """Results over all processes, by the names of :meth:`names`.

        Raises:
            InputError: nothing was counted, or predictions were infinite or NaN.
        """
        if self._sums is None:
            raise InputError('nothing was evaluated: the validation set is empty on this process.')
        sums = self._sums.clone()
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(sums)
        sums = sums.cpu()
        if not bool(sums.isfinite().all()):
            raise InputError(
                "the network's outputs are not finite on the evaluation data: training diverged or the weights are "
                'damaged; lower the learning rate or clip gradients.'
            )
        count, absolute, squared, relative, there, y, yy, p, pp, py = sums
        mae, mse = float(absolute.sum() / count.sum()), float(squared.sum() / count.sum())
        # n times variance and covariance; below the rounding of their sums they are none
        spread_y, spread_p, common = yy - y**2 / count, pp - p**2 / count, py - p * y / count
        varies = (spread_y > 1e-12 * yy) & (spread_p > 1e-12 * pp)
        correlation = (common / (spread_y * spread_p).sqrt()).clamp(-1, 1)  # rounding may lead beyond
        return {
            'mae': mae,
            'mse': mse,
            'rmse': mse**0.5,
            'mape': float(100 * relative.sum() / there.sum()) if bool(there.sum() > 0) else None,
            'r2': float((1 - squared / spread_y).mean()) if bool((spread_y > 1e-12 * yy).all()) else None,
            'pearson': float(correlation.mean()) if bool(varies.all()) else None,
        }
