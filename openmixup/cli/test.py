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
    made.add_argument('checkpoint', help='file written by training or by publish_model')
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
    from openmixup.engine.checkpoint import read_checkpoint
    from openmixup.engine.config import find_config, load_config
    from openmixup.engine.inference import without_downloads
    from openmixup.engine.launch import build_runner
    from openmixup.engine.published import compare_classes, data_of
    from openmixup.errors import InputError

    config = load_config(args.config, args.cfg_options, data=args.data)
    if config.get('test_cfg') is None:
        raise InputError(f'{args.config} has no test_dataloader, test_cfg and test_evaluator: there is no test set.')
    if args.out:
        check_writable(Path(args.out))
    trained_on = data_of(read_checkpoint(args.checkpoint), args.checkpoint)[0]
    config['work_dir'] = args.work_dir or os.path.join('work_dirs', find_config(args.config).stem, 'test')
    config['launcher'], config['default_hooks'], config['custom_hooks'] = args.launcher, {}, []
    config['resume'], config['load_from'] = False, None
    if config['model']['backbone'].get('pretrained'):  # the checkpoint has the weights
        config['model']['backbone']['pretrained'] = None
    config['model'] = without_downloads(config['model'])
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        config.pop(key, None)
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        config.pop(key, None)
    runner = build_runner(config)
    compare_classes(args.checkpoint, trained_on, runner.classes)
    runner.load_weights(args.checkpoint)
    metrics = runner.test()
    if runner.rank == 0:
        for name, value in metrics.items():
            if isinstance(value, float) and name != 'seconds':
                print(f'{name:12s} {value:.4f}')
        if args.out:
            Path(args.out).write_text(json.dumps(metrics, indent=1) + '\n')
    return 0


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written after the evaluation."""
    from openmixup.errors import InputError

    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f'--out {path} cannot be written: give a file in an existing folder of yours.')
