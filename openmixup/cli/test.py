"""Evaluate a checkpoint on the test set of a config."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ['main']


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tools/test.py``."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument('config', help='config file, or name of a shipped one')
    made.add_argument('checkpoint', help='file written by training')
    made.add_argument('--work-dir', help='where the log goes (default: work_dirs/CONFIG/test)')
    made.add_argument('--data', metavar='DIR', help='root folder of the data, instead of the one of the config')
    made.add_argument('--out', metavar='FILE', help='write the metrics, accuracies per class included, as JSON')
    made.add_argument('--launcher', default='none', choices=('none', 'pytorch', 'slurm'))
    made.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes of the config')
    made.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    args = parser().parse_args(argv)
    from openmixup.engine.config import find_config, load_config
    from openmixup.engine.launch import build_runner

    config = load_config(args.config, args.cfg_options, data=args.data)
    config['work_dir'] = args.work_dir or os.path.join('work_dirs', find_config(args.config).stem, 'test')
    config['launcher'], config['default_hooks'], config['custom_hooks'] = args.launcher, {}, []
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        config.pop(key, None)
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        config.pop(key, None)
    runner = build_runner(config)
    runner.load_weights(args.checkpoint)
    metrics = runner.test()
    if runner.rank == 0:
        for name, value in metrics.items():
            if isinstance(value, float) and name != 'seconds':
                print(f'{name:12s} {value:.4f}')
        if args.out:
            Path(args.out).write_text(json.dumps(metrics, indent=1) + '\n')
    return 0
