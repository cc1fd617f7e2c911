"""``tools/browse_data.py``: the batches of a config behind its loader, transforms and mixing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from openmixup.errors import InputError

__all__ = ['main']


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the batches and say where the picture is."""
    parser = argparse.ArgumentParser(
        prog='browse_data',
        description='Show the batches that a config trains on, with the labels of each picture. (show_mix shows what '
        'a policy does to two images of your choice.)',
    )
    parser.add_argument('config', help='config file or name of a shipped config')
    parser.add_argument('--out', default='batches.png', help='.png or .jpg file to write (default: %(default)s)')
    parser.add_argument('--split', default='train', choices=['train', 'val'], help='data (default: %(default)s)')
    parser.add_argument('--batches', type=int, default=1, help='number of batches (default: %(default)s)')
    parser.add_argument('--pictures', type=int, default=16, help='pictures shown of each batch (default: %(default)s)')
    parser.add_argument('--checkpoint', help='trained weights, for policies that look at a network')
    parser.add_argument('--data', metavar='DIR', help='root folder of all data sets')
    parser.add_argument('--policy', help='policy to use in place of the one of the config, with its defaults')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes of the config')
    args = parser.parse_args(argv)
    for name in ('batches', 'pictures'):
        if getattr(args, name) < 1:
            raise InputError(f'--{name} {getattr(args, name)}: expected at least one.')
    ending = Path(args.out).suffix.lower()
    if ending not in ('.png', '.jpg'):
        raise InputError(f'--out {args.out} is no name for a picture: it must end in .png or .jpg.')

    from openmixup.analysis.batches import browse
    from openmixup.analysis.gallery import write_jpeg, write_png
    from openmixup.engine.config import load_config

    config = load_config(args.config, args.cfg_options, args.policy, args.data)
    picture, untrained = browse(config, args.split, args.batches, args.pictures, args.checkpoint)
    if untrained:
        print('the policy looks at a network, which is not trained: give --checkpoint FILE to see a trained one')
    print(f'written: {(write_png if ending == ".png" else write_jpeg)(args.out, picture)}')
    return 0
