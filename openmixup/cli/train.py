"""Train a model from a config."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ['main']


def parser() -> argparse.ArgumentParser:
    """The arguments of ``tools/train.py``."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument('config', help='config file, or name of a shipped one (digits/...)')
    made.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/CONFIG)')
    made.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT', help='continue the run of the work dir'
    )
    made.add_argument('--load-from', metavar='CHECKPOINT', help='start a new run from these weights')
    made.add_argument('--data', metavar='DIR', help='root folder of the data, instead of the one of the config')
    made.add_argument('--policy', metavar='NAME', help='mixing policy, instead of the one of the config')
    made.add_argument('--amp', action='store_true', help='mixed precision (bfloat16), on CPU or GPU')
    made.add_argument('--seed', type=int, help='seed of the run (default: that of the config)')
    made.add_argument('--deterministic', action='store_true', help='only deterministic kernels')
    made.add_argument('--launcher', default='none', choices=('none', 'pytorch', 'slurm'))
    made.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes of the config')
    made.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)  # given by old launchers
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit code."""
    args = parser().parse_args(argv)
    from openmixup.engine.config import find_config, load_config

    config = load_config(args.config, args.cfg_options, args.policy, args.data)
    name = find_config(args.config).stem
    suffix = f'-{args.policy.lower()}' if args.policy else ''
    config['work_dir'] = args.work_dir or config.get('work_dir') or os.path.join('work_dirs', name + suffix)
    config['launcher'] = args.launcher
    config['resume'] = bool(args.resume) or config.get('resume', False)
    config['load_from'] = args.load_from or config.get('load_from')
    if args.resume and args.resume != 'auto':
        config['load_from'] = args.resume
    randomness = dict(config.get('randomness') or {'seed': 0})
    if args.seed is not None:
        randomness['seed'] = args.seed
    randomness['deterministic'] = args.deterministic or randomness.get('deterministic', False)
    config['randomness'] = randomness
    if args.amp:
        config['optim_wrapper']['type'] = 'AutocastOptimWrapper'
    from openmixup.engine.launch import build_runner

    runner = build_runner(config)
    runner.train()
    if runner.rank == 0:
        report(Path(runner.work_dir), Path(runner.log_dir))
    return 0


def report(work_dir: Path, log_dir: Path) -> None:
    """Say what came out and where it lies."""
    import json

    summary = json.loads((work_dir / 'summary.json').read_text())
    last, median = summary['last'], summary['median_last10']
    if last:
        print(
            f'top-1 {last["top1"]:.2f}% after the last epoch, {median["top1"]:.2f}% median of the last ten, '
            f'{summary["best"]["top1"]:.2f}% best (epoch {summary["best"]["epoch"]}, chosen on the evaluation data)'
        )
    print(f'{summary["seconds"]:.0f} s, {summary["parameters"] / 1e6:.2f} M parameters, {summary["hardware"]}')
    places = {
        'log': next(iter(log_dir.glob('*.log')), None),
        'checkpoint': max(work_dir.glob('epoch_*.pth'), default=None, key=lambda path: path.stat().st_mtime)
        or max(work_dir.glob('iter_*.pth'), default=None, key=lambda path: path.stat().st_mtime),
        'best': work_dir / 'best.pth',
        'TensorBoard': next(iter(log_dir.glob('**/events.out.*')), None),
        'mixed samples': work_dir / 'mix_gallery.png',
        'summary': work_dir / 'summary.json',
    }
    for name, path in places.items():
        if path is not None and path.exists():
            print(f'{name + ":":15s}{os.path.relpath(path)}')
