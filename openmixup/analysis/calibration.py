"""Whether a network is as often right as it is confident."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from openmixup.analysis.figures import figure, write_csv, write_figure
from openmixup.analysis.trained import Trained
from openmixup.errors import InputError

__all__ = ['Reliability', 'confidences', 'draw_reliability', 'reliability']


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence and accuracy in bins of the confidence; all tensors are (bins,) float64 on the CPU.

    Attributes:
        low: least confidence of a bin: its lower edge, or of bins of equal size that of its first image.
        high: the greatest one.
        count: images in it.
        confidence: mean confidence of these, NaN without images.
        accuracy: share of these that is recognised, NaN without images.
    """

    low: Tensor
    high: Tensor
    count: Tensor
    confidence: Tensor
    accuracy: Tensor

    @property
    def gaps(self) -> Tensor:
        """How far each bin is too confident, 0 without images; negative if it is more often right than confident."""
        return (self.confidence - self.accuracy).nan_to_num()

    @property
    def ece(self) -> float:
        """Expected calibration error in [0, 1]: the mean size of the gaps over all images."""
        return float((self.gaps.abs() * self.count).sum() / self.count.sum())

    @property
    def mce(self) -> float:
        """Maximum calibration error in [0, 1]: the largest gap."""
        return float(self.gaps.abs().max())

    @property
    def overconfidence(self) -> float:
        """Mean confidence less the accuracy over all images, in [-1, 1]."""
        return float((self.gaps * self.count).sum() / self.count.sum())


def reliability(confidence: Tensor, right: Tensor, bins: int = 15, equal: str = 'width') -> Reliability:
    """The bins of a reliability diagram.

    Args:
        confidence: (N,) probability of the class that was told, in [0, 1].
        right: (N,) bool, whether it is the true one.
        bins: number of bins; at most N of equal size.
        equal: 'width': the bins have equal widths, as of ECE (Guo et al., ICML 2017); 'count': equal numbers of images,
            up to one, as of the adaptive ECE (Nguyen and O'Connor, EMNLP 2015), which a crowd near 1 does not blur.
            Of images that are equally sure each counts as their mean, so that their order does not matter.

    Raises:
        InputError: no image, another number of bins or kind of them.
    """
    if equal not in ('width', 'count'):
        raise InputError(f"equal={equal!r}: expected 'width' or 'count' (adaptive).")
    size = len(confidence)
    if not size or not 1 <= bins <= (size if equal == 'count' else 10**6):
        raise InputError(
            f'bins={bins} for {size} images: expected at least one image, and bins from 1 to their number.'
        )
    order = confidence.double().cpu().argsort(stable=True)
    ranked, hits = confidence.double().cpu()[order], right.double().cpu()[order]
    _, tie, many = ranked.unique_consecutive(return_inverse=True, return_counts=True)
    hits = (torch.zeros(len(many), dtype=torch.float64).index_add(0, tie, hits) / many)[tie]  # no matter in which order
    if equal == 'width':
        edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
        bin_of = (ranked * bins).long().clamp_(0, bins - 1)
        low, high = edges[:-1], edges[1:]
    else:
        bin_of = torch.arange(size) * bins // size
        first = torch.searchsorted(bin_of, torch.arange(bins))
        last = torch.searchsorted(bin_of, torch.arange(bins), right=True) - 1
        low, high = ranked[first], ranked[last]
    zero = torch.zeros(bins, dtype=torch.float64)
    count = zero.index_add(0, bin_of, torch.ones_like(ranked))
    return Reliability(
        low, high, count, zero.index_add(0, bin_of, ranked) / count, zero.index_add(0, bin_of, hits) / count
    )


def confidences(network: Trained) -> tuple[Tensor, Tensor]:
    """(N,) float64 confidence, by softmax, in the class that is told, and (N,) bool whether it is right, on the CPU."""
    parts = []
    for logits, labels in network.outputs():
        confidence, told = logits.double().softmax(1).max(1)  # float32 has nothing between 1 - 6e-8 and 1
        parts.append((confidence, told == labels))
    confidence, right = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    if not confidence.isfinite().all():
        raise InputError('the outputs of the network are not finite on this data: training diverged.')
    return confidence, right


def draw_reliability(curves: Mapping[str, Reliability], path: str | Path, error: str = 'ECE') -> tuple[Path, Path]:
    """Reliability diagrams side by side, and the numbers of the bins beside them as CSV.

    Args:
        curves: bins by name.
        path: .svg, .png or .pdf file to write; the table has the same name and ends in .csv.
        error: name of the error of these bins.

    Returns:
        Both files.
    """
    drawn, axes = figure(len(curves), 3.2, 3.9, rows=2, heights=(3, 1))
    for place, (name, curve) in enumerate(curves.items()):
        above, below = axes[0][place], axes[1][place]
        low, width, count, confidence, accuracy = (
            values.numpy()
            for values in (curve.low, curve.high - curve.low, curve.count, curve.confidence, curve.accuracy)
        )
        filled = count > 0
        above.plot([0, 1], [0, 1], color='0.6', linewidth=1)
        above.bar(low[filled], accuracy[filled], width[filled], align='edge', color='#3b6ea5', edgecolor='white')
        above.plot(confidence[filled], accuracy[filled], 'o', color='#c23b22', markersize=2.5)
        above.set(xlim=(0, 1), ylim=(0, 1), title=name)
        above.text(0.04, 0.9, f'{error} {100 * curve.ece:.2f} %\nMCE {100 * curve.mce:.2f} %', va='top', fontsize=8)
        below.bar(low, count / count.sum(), width, align='edge', color='0.6')
        below.set(xlim=(0, 1), xlabel='confidence')
    axes[0][0].set_ylabel('accuracy')
    axes[1][0].set_ylabel('share of images')
    lines = (
        (name, *row)
        for name, curve in curves.items()
        for row in zip(*(values.tolist() for values in vars(curve).values()), strict=True)
    )
    return write_figure(drawn, path), write_csv(path, ('name', 'low', 'high', 'count', 'confidence', 'accuracy'), lines)
