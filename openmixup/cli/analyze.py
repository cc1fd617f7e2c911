"""``tools/analyze.py``: what trained networks are like beside their accuracy."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openmixup.cli import whole
from openmixup.errors import InputError

if TYPE_CHECKING:
    from openmixup.analysis.trained import Trained

__all__ = ['main']


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tools/analyze.py``."""
    made = argparse.ArgumentParser(prog='analyze', description='Measure trained networks and draw them side by side.')
    commands = made.add_subparsers(dest='command', required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('pairs', nargs='+', metavar='CONFIG CHECKPOINT', help='one pair for each network')
    common.add_argument('--names', nargs='+', help='in the figure (default: folders of the checkpoints)')
    common.add_argument(
        '--split',
        default='test',
        choices=('test', 'val', 'train'),
        help='default: %(default)s; train: with random crops',
    )
    common.add_argument('--branch', default='student', help='student, teacher ... (default: %(default)s)')
    common.add_argument('--data', metavar='DIR', help='root folder of all data sets')
    common.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes of all configs')
    bins = commands.add_parser('calibration', parents=[common], help='reliability diagrams and errors, by softmax')
    bins.add_argument('--bins', type=whole(1), default=15, help='number of bins (default: %(default)s)')
    bins.add_argument('--adaptive', action='store_true', help='bins of equal numbers of images, not of equal widths')
    bins.add_argument('--out', default='calibration.svg', help='.svg, .png or .pdf; .csv beside it (%(default)s)')
    land = commands.add_parser('landscape', parents=[common], help='loss along random filter-normalised directions')
    land.add_argument('--plane', action='store_true', help='two directions, drawn as contours')
    land.add_argument(
        '--range', nargs=2, type=float, default=(-1.0, 1.0), metavar=('FROM', 'TO'), help='steps (default: -1 1)'
    )
    land.add_argument('--points', type=whole(2), help='steps along a direction (default: 21, of a plane 11)')
    land.add_argument('--images', type=whole(1), default=1000, help='at even distances (default: %(default)s)')
    land.add_argument('--seed', type=int, default=0, help='of the directions (default: %(default)s)')
    land.add_argument('--out', default='landscape.svg', help='.svg, .png or .pdf; .csv beside it (%(default)s)')
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, draw and say where the figure is."""
    args = parser().parse_args(argv)
    if len(args.pairs) % 2:
        raise InputError(f'{len(args.pairs)} files: expected pairs of CONFIG CHECKPOINT; {args.pairs[-1]} has none.')
    names = args.names or names_of(args.pairs[1::2])
    if len(names) != len(args.pairs) // 2 or len(set(names)) < len(names):
        raise InputError(f'--names {" ".join(names)}: expected {len(args.pairs) // 2} different names.')

    from openmixup.analysis.figures import check_figure

    check_figure(args.out)
    files = (calibration if args.command == 'calibration' else landscapes)(args, names)
    print(f'written: {" and ".join(map(str, files))}')
    return 0


def names_of(checkpoints: Sequence[str]) -> list[str]:
    """Names that tell checkpoints apart: their folder, or file, or both."""
    paths = [Path(checkpoint).resolve() for checkpoint in checkpoints]
    for choice in ([path.parent.name for path in paths], [path.stem for path in paths]):
        if len(set(choice)) == len(choice):
            return choice
    return [f'{path.parent.name}/{path.stem}' for path in paths]


def networks(args: argparse.Namespace, names: Sequence[str]) -> Iterator[tuple[str, Trained]]:
    """One trained network after the other, with its name."""
    from openmixup.analysis.trained import trained
    from openmixup.engine.config import load_config

    for name, config, checkpoint in zip(names, args.pairs[::2], args.pairs[1::2], strict=True):
        loaded = load_config(config, args.cfg_options, data=args.data)
        with trained(loaded, checkpoint, args.split, args.branch, getattr(args, 'images', None)) as network:
            yield name, network


def calibration(args: argparse.Namespace, names: Sequence[str]) -> Sequence[Path]:
    """Reliability diagrams; prints the errors."""
    from openmixup.analysis.calibration import confidences, draw_reliability, reliability

    curves: dict[str, Any] = {}
    kind = 'adaptive ECE' if args.adaptive else 'ECE'
    for name, network in networks(args, names):
        confidence, right = confidences(network)
        curves[name] = curve = reliability(confidence, right, args.bins, 'count' if args.adaptive else 'width')
        print(
            f'{name}: {len(right)} images, top-1 {100 * right.double().mean():.2f} %, {kind} {100 * curve.ece:.2f} %, '
            f'MCE {100 * curve.mce:.2f} %, overconfidence {100 * curve.overconfidence:+.2f} %'
        )
    return draw_reliability(curves, args.out, kind)


def landscapes(args: argparse.Namespace, names: Sequence[str]) -> Sequence[Path]:
    """Loss landscapes; prints the least and the greatest loss."""
    from openmixup.analysis.landscape import draw_landscape, landscape

    (least, most), points = args.range, args.points or (11 if args.plane else 21)
    found: dict[str, Any] = {}
    for name, network in networks(args, names):
        found[name] = each = landscape(network, least, most, points, args.plane, args.seed)
        print(f'{name}: least loss {float(each.loss.min()):.4f}, greatest {float(each.loss.max()):.4f} nats')
    return draw_landscape(found, args.out)
