"""``tools/show_mix.py``: what policies do to two real images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openmixup.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from openmixup.policies import MixPolicy

__all__ = ['main']


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the picture and say where it is."""
    parser = argparse.ArgumentParser(
        prog='show_mix', description='Show what mixing policies do to two images, one row for each lam.'
    )
    parser.add_argument(
        'policies', nargs='+', metavar='POLICY | CONFIG', help='registered policies, or configs (.py) with model.policy'
    )
    parser.add_argument('--image', nargs=2, metavar=('A', 'B'), help='two image files (default: two of scikit-learn)')
    parser.add_argument('--out', default='mix.png', help='PNG file to write (default: %(default)s)')
    parser.add_argument('--lam', nargs='+', type=float, default=[0.3, 0.5, 0.7], help='shares of A (default: .3 .5 .7)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the draws (default: %(default)s)')
    parser.add_argument('--size', type=int, default=128, help='side of the images in pixels (default: %(default)s)')
    args = parser.parse_args(argv)
    for lam in args.lam:
        if not 0 <= lam <= 1:
            raise InputError(f'--lam {lam}: expected numbers from 0 to 1.')
    if args.size < 1:
        raise InputError(f'--size {args.size}: expected at least one pixel.')

    import torch

    from openmixup.analysis.gallery import write_png

    policies = [_policy(name) for name in args.policies]
    images, names = _images(args.image, args.size)
    parts = [_group(policy, torch.stack(images), names, args.lam, args.seed) for policy in policies]
    print(f'written: {write_png(args.out, _stacked(parts))}')
    return 0


def _policy(name: str) -> MixPolicy:
    """A registered policy with its defaults, or that of a config."""
    from openmixup.registry import POLICIES

    if not name.endswith('.py'):
        return POLICIES.build({'type': name})
    from openmixup.engine.config import load_config

    policy = load_config(name)['model'].get('policy')
    if policy is None:
        raise InputError(f'{name} has no model.policy to show: give a config of a MixClassifier.')
    return POLICIES.build(policy)


def _images(paths: Sequence[str] | None, size: int) -> tuple[list[Tensor], list[str]]:
    """Two square images (3, size, size) in [0, 1], cut from the centre, and their names."""
    from pathlib import Path

    import torch

    if paths is None:
        from sklearn.datasets import load_sample_images

        samples = load_sample_images()
        raw = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in samples.images]
        names = [Path(name).stem for name in samples.filenames]
    else:
        from openmixup.datasets.decode import read_image

        raw, names = [read_image(path) for path in paths], [Path(path).stem for path in paths]
    squares = []
    for image in raw:
        side = min(image.shape[1:])
        top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
        square = image[None, :, top : top + side, left : left + side].float() / 255
        squares.append(torch.nn.functional.interpolate(square, (size, size), mode='bilinear', antialias=True)[0])
    return squares, names


def _group(policy: MixPolicy, images: Tensor, names: list[str], lams: Sequence[float], seed: int) -> np.ndarray:
    """A title and one row for each lam."""
    import numpy as np
    import torch

    from openmixup.analysis.gallery import mix_gallery

    rows: list[np.ndarray] = []
    title, labels = repr(policy), torch.arange(len(images))
    for number, lam in enumerate(lams if policy.rate > 0 else [1.0]):
        # With a fixed lam the same place in all rows is easier to compare; without, the rows are several draws.
        row_seed = seed if _fix(policy, lam) else seed + number
        view = policy.mix(images, labels, torch.Generator().manual_seed(row_seed))
        rows.append(mix_gallery(images, view, labels, class_names=names, rows=1))
    grid = _stacked(rows)
    return np.concatenate([_title(title, grid.shape[1]), grid])


def _fix(policy: MixPolicy, lam: float) -> bool:
    """Let a policy and its members draw ``lam``, and no image meet itself; False if none of them draws a lam."""
    import torch

    fixed = False
    for member in policy.modules():
        inner: Any = member
        if hasattr(member, 'draw_lam'):
            inner.draw_lam = lambda count, rng: torch.full((count,), lam, dtype=torch.float64)  # noqa: ARG005
            fixed = True
        if hasattr(member, 'pairing'):
            inner.pairing = 'flip'
    return fixed


def _title(text: str, width: int) -> np.ndarray:
    """Black bars with as many lines of text as are needed."""
    import cv2
    import numpy as np

    per_line = max(width // 7, 10)
    lines = [text[start : start + per_line] for start in range(0, len(text), per_line)]
    bar: Any = np.zeros((6 + 14 * len(lines), width, 3), np.uint8)
    for number, line in enumerate(lines):
        at = (4, 14 + 14 * number)
        cv2.putText(bar, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return bar


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, the narrow ones filled up with white."""
    import numpy as np

    width = max(part.shape[1] for part in parts)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    )
