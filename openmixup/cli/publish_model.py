"""Write the trained network of a checkpoint for others: weights and class names as .safetensors, nothing else."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ['main']


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tools/publish_model.py``."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument('checkpoint', help='file written by training')
    made.add_argument('out', help='name of the new file, to which 8 digits of its SHA-256 are added; or a folder')
    made.add_argument(
        '--branch', default='student', choices=('student', 'teacher', 'generator'),
        help='the trained network, its moving average, or that and what a policy learned (default: %(default)s)',
    )  # fmt: skip
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file and say where it is."""
    args = parser().parse_args(argv)
    from openmixup.engine.published import publish

    print(f'written: {publish(args.checkpoint, args.out, args.branch)}')
    return 0
