"""Train the rows of a benchmark table that are missing, report tables, or train one row once more."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openmixup.cli import whole

if TYPE_CHECKING:
    from openmixup.benchmark import Table

__all__ = ['main']

TRAINER = (sys.executable, '-m', 'openmixup', 'train')


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='benchmark.py', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser(
        'run',
        help='train what is missing in the results; run it again to continue',
        epilog='Each training has one thread on the CPU, or as many as OMP_NUM_THREADS says.',
    )
    run.add_argument('--jobs', type=whole(1), metavar='N', help='runs at once (default: 1; with --slurm no limit)')
    run.add_argument('--gpus', type=whole(1), metavar='N', help='give each process of a run one of N GPUs in turn')
    run.add_argument('--slurm', metavar='PARTITION', help='submit the runs as a job array instead of training here')
    status = commands.add_parser('status', help='say which runs are done, go on, wait, or have failed')
    collect = commands.add_parser('collect', help='append the rows of finished runs, and train nothing')
    collect.add_argument('--exit-code', type=int, metavar='N', help='with which the runs ended, for a job array')
    arguments = commands.add_parser('arguments', help='print what the trainer of a run is told, for a job array')
    report = commands.add_parser('report', help='print the results as Markdown, or write them as a page')
    again = commands.add_parser('reproduce', help='train one row once more and compare; the results stay as they are')
    for command in (run, status, collect, arguments):
        command.add_argument('--policies', nargs='+', metavar='NAME', help='only these policies of the table')
        command.add_argument('--seeds', nargs='+', type=int, metavar='N', help='only these seeds of the table')
        command.add_argument('--rows', nargs='+', metavar='ROW', help='only these rows (cutmix-100e-seed0)')
    for command in (run, status, collect, arguments, again):
        command.add_argument('table', metavar='TABLE', help='name of a table, or path of one')
    for command in (run, arguments, again):
        command.add_argument('--data', metavar='DIR', help='root folder of the data, instead of the one of the config')
    report.add_argument('tables', nargs='+', metavar='TABLE', help='names of tables, or paths; several are also ranked')
    report.add_argument('--html', metavar='FILE', help='write one page with sortable tables and plots')
    report.add_argument('--markdown', metavar='FILE', help='write the Markdown instead of printing it')
    report.add_argument(
        '--costs',
        metavar='FILE',
        default='docs/costs.json',
        help='counted FLOPs, if it is there (default: %(default)s)',
    )
    for command in (run, status, collect, arguments, report, again):
        command.add_argument(
            '--epochs', type=whole(1), metavar='E', help='a trial of another length, kept out of the results'
        )
        command.add_argument('--work-dir', default='work_dirs/benchmarks', help='(default: %(default)s)')
        command.add_argument('--configs', default='configs', help='folder of the configs (default: %(default)s)')
        command.add_argument('--benchmarks', default='benchmarks', help='folder of the tables (default: %(default)s)')
        command.add_argument('--results', metavar='DIR', help='folder of the results (default: results/ by the table)')
    again.add_argument('row', metavar='ROW', help='a policy of the table, or a row of it (cutmix-100e-seed0)')
    again.add_argument(
        '--tolerance',
        type=float,
        metavar='POINTS',
        help='exit with 1 if top-1 (of a regression the MAE) in the last epoch differs by more',
    )
    return parser.parse_args(argv)


def _results_of(name: str, args: argparse.Namespace) -> tuple[Table, int | None, Path]:
    """A table, the epochs if a trial of it is asked for, and the file of its results."""
    from openmixup.benchmark.leaves import recipe_numbers
    from openmixup.benchmark.runs import results_file
    from openmixup.benchmark.table_files import load_table

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
    from openmixup.engine.disk import saving, write_text

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
        remedy = 'make room, or give a file in a folder that can be written'
        with saving(Path(path), remedy=remedy):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(path), content, remedy=remedy)
        print(f'written: {path}')
    if not files:
        print(text, end='')
    return 0


def main(argv: Sequence[str] | None = None, trainer: Sequence[str] = TRAINER) -> int:
    """Run the tool.

    Args:
        argv: arguments of the command line.
        trainer: the command that trains one config.

    Returns:
        0; 1 if a run failed or was not reproduced; 130 after Ctrl-C or SIGTERM.
    """
    args = _arguments(argv)
    commands = {
        'run': _run, 'status': _status, 'collect': _collect, 'arguments': _print_arguments, 'reproduce': _reproduce,
    }  # fmt: skip
    if args.command == 'report':
        return _report(args)
    table, args.epochs, results = _results_of(args.table, args)
    return commands[args.command](args, table, results, trainer)


def _choice(args: argparse.Namespace) -> dict[str, Any]:
    """Which runs are meant, as :func:`openmixup.benchmark.runs.planned_runs` takes it."""
    names = ('work_dir', 'configs', 'epochs', 'policies', 'seeds')
    return {name: getattr(args, name, None) for name in names} | {'names': getattr(args, 'rows', None)}


def _base(args: argparse.Namespace, table: Any) -> str:
    """The folder of the work folders."""
    return os.path.join(args.work_dir, table.name, *([f'trial-{args.epochs}e'] if args.epochs else []))


def _sweep(runs: Sequence[Any], results: Any, args: argparse.Namespace, trainer: Sequence[str], **options: Any) -> int:
    from openmixup.benchmark.screen import screen
    from openmixup.benchmark.sweep import Sweep

    sweep = Sweep(runs, results, trainer=trainer, screen=screen(), data=args.data, **options)
    try:
        sweep.run()
    except KeyboardInterrupt:
        print('stopped; the same command continues.', file=sys.stderr)
        return 130
    for run, reason in sweep.failures:
        place = f': {run.failure}' if run.failure.is_file() else ''
        print(f'failed: {run.name} ({reason}){place}', file=sys.stderr)
    for run, reason in sweep.not_kept:
        print(f'trained, but without a row: {run.name}: {reason}', file=sys.stderr)
    if sweep.not_kept and args.command == 'run':
        collect = shlex.join(_command(args, ['tools/benchmark.py'], 'collect'))
        print(
            f'their summaries are kept: when that is mended, {collect} or the same command appends the rows.',
            file=sys.stderr,
        )
    return int(bool(sweep.failures or sweep.not_kept))


def _run(args: argparse.Namespace, table: Any, results: Any, trainer: Sequence[str]) -> int:
    from openmixup.benchmark.outcome import check_results, trained_elsewhere
    from openmixup.benchmark.runs import missing_runs
    from openmixup.benchmark.slurm import queued_runs, submit

    runs = missing_runs(table, results, **_choice(args))
    print(f'{table.name}: {len(runs)} runs are missing in {results}.', flush=True)
    queued = queued_runs(_base(args, table)) if runs else set()
    if queued:
        print(f'{sum(run.row in queued for run in runs)} of them are in the queue of Slurm already.', flush=True)
        runs = [run for run in runs if run.row not in queued]
    if args.slurm is None:
        return _sweep(runs, results, args, trainer, jobs=args.jobs or 1, gpus=args.gpus)
    busy = [run for run in runs if trained_elsewhere(run)]
    if busy:
        print(f'{len(busy)} are trained by other processes now, and left to them.', flush=True)
        runs = [run for run in runs if run not in busy]
    if not runs:
        return 0
    check_results(results)
    command = partial(_command, args, [sys.executable, '-m', 'openmixup', 'benchmark'])
    job = submit(runs, args.slurm, command, args.jobs, args.data)
    again = shlex.join(_command(args, ['tools/benchmark.py'], 'status'))
    print(f'job {job}: an array of {len(runs)} runs in partition {args.slurm}; {again} says how far they are.')
    return 0


def _command(args: argparse.Namespace, tool: Sequence[str], name: str) -> list[str]:
    """The command line of another sub-command on this table, with the same folders."""
    command, default = [*tool, name, args.table], _arguments(['status', args.table])
    for option in ('epochs', 'work_dir', 'configs', 'benchmarks', 'results'):
        value = getattr(args, option)
        command += [f'--{option.replace("_", "-")}', str(value)] if value != getattr(default, option) else []
    return command


def _status(args: argparse.Namespace, table: Any, results: Any, _trainer: Sequence[str]) -> int:
    from openmixup.benchmark.runs import missing_runs, planned_runs
    from openmixup.benchmark.slurm import queued_runs
    from openmixup.benchmark.state import states_of, status

    chosen = _choice(args)
    states = states_of(
        planned_runs(table, **chosen), missing_runs(table, results, **chosen), queued_runs(_base(args, table))
    )
    print(status(states))
    return 0


def _collect(args: argparse.Namespace, table: Any, results: Any, _trainer: Sequence[str]) -> int:
    from openmixup.benchmark.outcome import check_results, keep_failure, keep_row
    from openmixup.benchmark.runs import missing_runs
    from openmixup.evaluation.headline import told

    runs = missing_runs(table, results, **_choice(args))
    finished = [run for run in runs if run.summary() is not None]
    if finished:
        check_results(results)
    for run in finished:
        summary = keep_row(run, results)
        print(f'{run.name}: {told(summary)} in the last epoch, collected', flush=True)
    for run in runs if args.exit_code is not None else []:
        if run not in finished:
            keep_failure(run, f'exit code {args.exit_code}, and no summary.json of this run and config')
    print(f'{table.name}: {len(finished)} rows appended to {results}, {len(runs) - len(finished)} are missing.')
    return 0


def _print_arguments(args: argparse.Namespace, table: Any, results: Any, _trainer: Sequence[str]) -> int:
    """Print what the trainer is told for each run that has not ended; its attempt begins now."""
    from openmixup.benchmark.runs import missing_runs

    for run in missing_runs(table, results, **_choice(args)):
        if run.summary() is None:
            run.failure.unlink(missing_ok=True)  # of an attempt before this one
            print(shlex.join(run.arguments(args.data)))
    return 0


def _reproduce(args: argparse.Namespace, table: Any, results: Any, trainer: Sequence[str]) -> int:
    from openmixup.benchmark.reproduce import compare, row_to_reproduce
    from openmixup.benchmark.results import key_of, read_rows, row_of, same_config
    from openmixup.benchmark.runs import planned_runs

    rows = read_rows(results)
    run, before = row_to_reproduce(args.row, planned_runs(table, **_choice(args)), rows)
    folder = run.work_dir.parent / 'reproduced'
    attempts = (dataclasses.replace(run, work_dir=folder / f'{run.row}-{number}') for number in itertools.count(1))
    again = next(attempt for attempt in attempts if attempt.summary() is None)  # one that was cut is continued
    code = _sweep([again], folder / 'results.csv', args, trainer)
    summary = again.summary()
    if code or summary is None:
        return code
    now = row_of(summary, run.table, run.policy, run.seed, run.epochs)
    alike = {key_of(row): row for row in rows if key_of(row)[:2] == run.key[:2] and same_config(row, run.config_hash)}
    text, difference = compare(before, now, list(alike.values()))
    print(f'{run.row} of {results}, trained once more in {again.work_dir}:\n{text}')
    return int(args.tolerance is not None and abs(difference) > args.tolerance)
