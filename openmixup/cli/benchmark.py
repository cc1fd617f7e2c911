"""Train the rows of a benchmark table that are missing, or report tables as Markdown and as a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openmixup.benchmark import Table

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
    report = commands.add_parser('report', help='print the results as Markdown, or write them as a page')
    run.add_argument('table', metavar='TABLE', help='name of a table, or path of one')
    report.add_argument('tables', nargs='+', metavar='TABLE', help='names of tables, or paths; several are also ranked')
    report.add_argument('--html', metavar='FILE', help='write one page with sortable tables and plots')
    report.add_argument('--markdown', metavar='FILE', help='write the Markdown instead of printing it')
    report.add_argument(
        '--costs',
        metavar='FILE',
        default='docs/costs.json',
        help='counted FLOPs, if it is there (default: %(default)s)',
    )
    for command in (run, report):
        command.add_argument(
            '--epochs', type=_positive, metavar='E', help='a trial of another length, kept out of the results'
        )
        command.add_argument('--work-dir', default='work_dirs/benchmarks', help='(default: %(default)s)')
        command.add_argument('--configs', default='configs', help='folder of the configs (default: %(default)s)')
        command.add_argument('--benchmarks', default='benchmarks', help='folder of the tables (default: %(default)s)')
        command.add_argument('--results', metavar='DIR', help='folder of the results (default: results/ by the table)')
    return parser.parse_args(argv)


def _results_of(name: str, args: argparse.Namespace) -> tuple[Table, int | None, Path]:
    """A table, the epochs if a trial of it is asked for, and the file of its results."""
    from openmixup.benchmark.leaves import recipe_numbers
    from openmixup.benchmark.runs import results_file
    from openmixup.benchmark.table import load_table

    table, trial = load_table(name, args.benchmarks), args.epochs
    if not table.vary and trial == recipe_numbers(f'{args.configs}/{table.recipe}')['epochs']:
        trial = None  # the recipe itself
    return table, trial, results_file(table, args.work_dir, args.results, trial)


def _report(args: argparse.Namespace) -> int:
    """Print the tables, or write them to the files asked for."""
    from openmixup.benchmark.curves import curves_file, curves_for, read_curves
    from openmixup.benchmark.page import page
    from openmixup.benchmark.ranking import rank_over
    from openmixup.benchmark.report import board_report, ranking_markdown
    from openmixup.benchmark.results import read_rows
    from openmixup.benchmark.runs import planned_runs
    from openmixup.benchmark.scores import read_flops
    from openmixup.benchmark.standings import boards
    from openmixup.engine.disk import write_text

    flops = read_flops(args.costs)
    texts, shown, curves = [], [], []
    for name in dict.fromkeys(args.tables):
        table, trial, results = _results_of(name, args)
        found = boards(table, read_rows(results), args.configs, trial, flops)
        texts.append(board_report(found))
        shown += found
        if args.html:
            saved = read_curves(curves_file(results))
            runs = planned_runs(table, args.work_dir, args.configs, epochs=trial)
            curves += [
                curves_for([row for standing in board.standings for row in standing.rows], saved, runs)
                for board in found
            ]
    if len(shown) > 1:
        texts.append(ranking_markdown(rank_over(shown)))
    text = '\n\n'.join(texts) + '\n'
    files = {args.markdown: text} if args.markdown else {}
    files |= {args.html: page(shown, curves)} if args.html else {}
    for path, content in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(path), content)
        print(f'written: {path}')
    if not files:
        print(text, end='')
    return 0


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
    if args.command == 'report':
        return _report(args)
    from openmixup.benchmark.runs import missing_runs
    from openmixup.benchmark.sweep import Sweep

    table, trial, results = _results_of(args.table, args)
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
