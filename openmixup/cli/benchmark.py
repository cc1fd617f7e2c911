"""Train the rows of a benchmark table that are missing, or print the table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

__all__ = ['main']


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} is below 1')
    return value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='benchmark.py', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train what is missing in the results; run it again to continue')
    run.add_argument('--policies', nargs='+', metavar='NAME', help='only these policies of the table')
    run.add_argument('--seeds', nargs='+', type=int, metavar='N', help='only these seeds of the table')
    run.add_argument('--jobs', type=_positive, default=1, metavar='N', help='runs at once (default: 1)')
    run.add_argument('--data', metavar='DIR', help='root folder of the data, instead of the one of the configs')
    run.add_argument('--gpus', type=_positive, metavar='N', help='give each process of a run one of N GPUs in turn')
    report = commands.add_parser('report', help='print the results as Markdown')
    for command in (run, report):
        command.add_argument('table', metavar='TABLE', help='name of a table, or path of one')
        command.add_argument(
            '--epochs', type=_positive, metavar='E', help='a trial of another length, kept out of the results'
        )
        command.add_argument('--work-dir', default='work_dirs/benchmarks', help='(default: %(default)s)')
        command.add_argument('--configs', default='configs', help='folder of the configs (default: %(default)s)')
        command.add_argument('--benchmarks', default='benchmarks', help='folder of the tables (default: %(default)s)')
        command.add_argument('--results', metavar='DIR', help='folder of the results (default: results/ by the table)')
    return parser.parse_args(argv)


TRAINER = (sys.executable, '-m', 'openmixup', 'train')


def main(argv: Sequence[str] | None = None, trainer: Sequence[str] = TRAINER) -> int:
    """Run the tool.

    Args:
        argv: arguments of the command line.
        trainer: the command that trains one config.

    Returns:
        0; 1 if a run failed; 130 after Ctrl-C or SIGTERM.
    """
    args = _arguments(argv)
    from openmixup.benchmark.leaves import recipe_numbers
    from openmixup.benchmark.report import report
    from openmixup.benchmark.results import read_rows
    from openmixup.benchmark.runs import missing_runs, results_file
    from openmixup.benchmark.sweep import Sweep
    from openmixup.benchmark.table import load_table

    table = load_table(args.table, args.benchmarks)
    trial = args.epochs
    if not table.vary and trial == recipe_numbers(f'{args.configs}/{table.recipe}')['epochs']:
        trial = None  # the recipe itself
    results = results_file(table, args.work_dir, args.results, trial)
    if args.command == 'report':
        print(report(table, read_rows(results), args.configs, trial))
        return 0
    runs = missing_runs(table, results, args.work_dir, args.configs, args.policies, args.seeds, trial)
    print(f'{table.name}: {len(runs)} runs are missing in {results}.', flush=True)
    say = partial(print, flush=True)
    sweep = Sweep(runs, results, args.jobs, trainer, say=say, data=args.data, gpus=args.gpus)
    try:
        failures = sweep.run()
    except KeyboardInterrupt:
        print('stopped; the same command continues.', file=sys.stderr)
        return 130
    for run, reason in failures:
        print(f'failed: {run.name} ({reason}): {run.log}', file=sys.stderr)
    return int(bool(failures))
