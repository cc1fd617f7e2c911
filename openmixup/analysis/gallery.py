"""Mixed images beside what they were made of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.policies.mixture import View

__all__ = ['mix_gallery', 'write_jpeg', 'write_png']

CELL = 96  # least side of a picture, so that the text above it can be read
GAP = 6
LINE = 14
LETTER = 6  # width of a letter of the font at the size below
FONT_SIZE = 0.38
MOST_PARTNERS = 3
LETTERS = 'ABCD'


def mix_gallery(
    images: Tensor,
    view: View,
    labels: Tensor | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    class_names: Sequence[str] | None = None,
    rows: int = 4,
) -> np.ndarray:
    """A grid with one sample a row: its sources, the share of the first one as grey, and the mixed image.

    Args:
        images: (S, C, H, W) the sources, normalised, with 1 or 3 channels.
        view: a view of them, as from ``policy.mix``.
        labels: (S,) class indices or (S, C) targets to print; None: letters only.
        mean: that the images were normalised by, in the range 0 to 1, one number or one a channel.
        std: the same.
        class_names: names to print instead of indices.
        rows: most samples to show.

    Returns:
        (height, width, 3) uint8, RGB.

    Example:
        >>> from openmixup.policies import CutMix
        >>> images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
        >>> mix_gallery(images, CutMix().mix(images, labels), labels, rows=2).shape
        (260, 408, 3)
    """
    count = min(rows, len(view.mixture))
    index, weight = view.mixture.index[:count].cpu(), view.mixture.weight[:count].detach().float().cpu()
    shown = min(index.shape[1], 1 + MOST_PARTNERS)
    sources = pictures(images, mean, std)
    mixed = pictures(view.inputs[:count], mean, std)
    masks = None if view.masks is None else view.masks[:count].detach().float().cpu()
    height, width = mixed.shape[1:3]
    scale = max(1, -(-CELL // min(height, width)))
    names = label_texts(images, labels, class_names)
    grid = []
    for row in range(count):
        cells = [
            _cell(sources[source], [f'{letter} {names[source]}'], shown, scale)
            for letter, source in zip(LETTERS, index[row, :shown].tolist(), strict=False)
        ]
        cells += [_cell(np.full_like(mixed[0], 255), [], shown, scale)] * (2 - shown)
        mask = np.full_like(mixed[0], 255) if masks is None else _grey(masks[row, 0])
        lam = f'lam {float(weight[row, 0]):.2f}'
        cells.append(_cell(mask, [lam if masks is not None else f'{lam}, no mask'], shown, scale))
        parts = zip(LETTERS, weight[row].tolist(), index[row].tolist(), strict=False)
        target = [f'{share:.2f} x {names[source] or letter}' for letter, share, source in parts]
        cells.append(_cell(mixed[row], target[:shown], shown, scale))
        tallest = max(len(cell) for cell in cells)  # a picture may be larger than its sources
        cells = [np.pad(cell, ((0, tallest - len(cell)), (0, 0), (0, 0)), constant_values=255) for cell in cells]
        grid.append(np.concatenate(cells, 1))
    return np.concatenate(grid, 0)


def write_png(path: str | os.PathLike[str], picture: np.ndarray) -> Path:
    """Write an RGB picture (height, width, 3) of uint8 and return where it is."""
    return _written(path, '.png', picture, ())


def write_jpeg(path: str | os.PathLike[str], picture: np.ndarray, quality: int = 85) -> Path:
    """The same in a fraction of the bytes, with losses.

    Args:
        path: of the file.
        picture: (height, width, 3) uint8, RGB.
        quality: from 1 to 100.
    """
    import cv2

    return _written(path, '.jpg', picture, (cv2.IMWRITE_JPEG_QUALITY, quality))


def _written(path: str | os.PathLike[str], ending: str, picture: np.ndarray, options: Sequence[int]) -> Path:
    import cv2

    target = Path(path)
    if target.suffix.lower() != ending:
        raise InputError(f'{target} is no name for a picture: it must end in {ending}.')
    data = cv2.imencode(ending, picture[..., ::-1], options)[1].tobytes()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)  # not cv2.imwrite: that returns False and says nothing
    except OSError as error:
        raise InputError(f'{target} cannot be written ({error.strerror}): give another path.') from error
    return target


def pictures(images: Tensor, mean: float | Sequence[float], std: float | Sequence[float]) -> np.ndarray:
    """(N, H, W, 3) uint8 of normalised images with 1 or 3 channels."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f'images are of shape {tuple(images.shape)}: a gallery shows (N, 1 or 3, H, W).')
    scale = [torch.as_tensor(value, dtype=torch.float32).view(-1, 1, 1) for value in (mean, std)]
    raw = images.detach().float().cpu() * scale[1] + scale[0]
    raw = raw.clamp(0, 1).mul(255).round().to(torch.uint8)
    return raw.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def _grey(mask: Tensor) -> np.ndarray:
    levels = mask.clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels[..., None].expand(-1, -1, 3).numpy()


def label_texts(images: Tensor, labels: Tensor | None, class_names: Sequence[str] | None) -> list[str]:
    """What to print for each source."""
    if labels is None:
        return [''] * len(images)
    if labels.ndim == 1 and not labels.is_floating_point():
        classes = labels.tolist()
        return [str(c) if class_names is None else class_names[c] for c in classes]
    if labels.ndim == 2 and class_names is not None:
        return [class_names[c] for c in labels.argmax(1).tolist()]
    return [', '.join(f'{value:.2g}' for value in row.flatten().tolist()) for row in labels]


def _cell(picture: np.ndarray, lines: Sequence[str], header_lines: int, scale: int) -> np.ndarray:
    """A picture with lines of text above and a margin around, on white."""
    import cv2

    big = picture.repeat(scale, 0).repeat(scale, 1)
    header = max(header_lines, 2) * LINE
    canvas: Any = np.full((header + big.shape[0] + GAP, big.shape[1] + GAP, 3), 255, np.uint8)
    left, below, right = GAP // 2, header + big.shape[0], GAP // 2 + big.shape[1]
    cv2.rectangle(canvas, (left - 1, header - 1), (right, below), (160, 160, 160), 1)  # where a mask is white
    canvas[header:below, left:right] = big
    most = big.shape[1] // LETTER
    for number, line in enumerate(lines):
        text = line.strip().encode('ascii', 'replace').decode()  # the font knows no other letters
        text = text if len(text) <= most else f'{text[: most - 2]}..'
        at = (left, header - LINE * (len(lines) - 1 - number) - 4)
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, FONT_SIZE, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas
