"""Predict the classes of image files, or the values of a regression, with a trained model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from openmixup.cli import whole

__all__ = ['main']


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tools/predict.py``."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument('config', help='config that the model was trained with')
    made.add_argument('checkpoint', help='file written by training or by publish_model')
    made.add_argument('images', nargs='+', help='image files')
    made.add_argument('--device', help='cpu, cuda ... (default: the GPU if there is one)')
    made.add_argument('--batch-size', type=whole(1), default=64)
    made.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes of the config')
    made.add_argument('--json', action='store_true', help='one JSON object per line')
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Predict; returns the exit code."""
    args = parser().parse_args(argv)
    from openmixup import init_model
    from openmixup.engine.config import load_config

    model = init_model(load_config(args.config, args.cfg_options), args.checkpoint, device=args.device)
    for start in range(0, len(args.images), args.batch_size):
        for result in model(args.images[start : start + args.batch_size]):
            if args.json:
                print(json.dumps(result))
            elif 'values' in result:
                print('\t'.join([result['path'], *(f'{value:.6g}' for value in result['values'])]))
            else:
                print(f'{result["path"]}\t{result["class"]}\t{100 * result["probability"]:.1f}%')
    return 0
