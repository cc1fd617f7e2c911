"""Take the tensors out of an old file of weights that holds Python objects too; none of these is built or run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ['main']


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tools/import_weights.py``."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument('old', help='file written by torch.save: of mmcv, mmengine, timm or an older toolbox')
    made.add_argument('new', help='the file to write, NAME.safetensors')
    made.add_argument(
        '--key', metavar='NAME', help='where the state dict is (default: state_dict, model, model_ema, or the file)'
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tensors and say what was left out."""
    args = parser().parse_args(argv)
    from openmixup.engine.imported import import_weights
    from openmixup.errors import printable

    count, dropped = import_weights(args.old, args.new, args.key)
    if dropped:
        names = ', '.join(printable(name) for name in dropped[:10])
        print(f'left out: {names}{f" and {len(dropped) - 10} more" if len(dropped) > 10 else ""}')
    print(f'written: {args.new} ({count} tensors; use it as model.backbone.pretrained={args.new})')
    return 0
