"""The runs of a table as a job array of Slurm."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from openmixup.benchmark.runs import Run
from openmixup.errors import InputError

__all__ = ['queued_runs', 'submit']

SCRIPT = Path(__file__).parents[2] / 'tools' / 'slurm_submit.sh'


def _ask(command: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError(
            f'there is no program {command[0]}: --slurm works on a machine from which jobs of Slurm are submitted.'
        ) from error


def queued_runs(folder: str | Path) -> set[str]:
    """Names of the work folders below ``folder`` whose runs wait or go on in a job array that :func:`submit` has made.

    Arrays that Slurm does not know any more have ended.
    """
    record = Path(folder) / 'slurm.jsonl'
    arrays = dict(_arrays(record))
    if not arrays:
        return set()
    try:
        asked = _ask(['squeue', '--noheader', '--array', '--me', '--format=%F %K %j'])
    except InputError as error:
        raise InputError(
            f'{record} says that job arrays were submitted, and without squeue nobody can tell whether they go on: ask '
            'on a machine of the cluster, or remove that file if they have ended.'
        ) from error
    if asked.returncode != 0:
        raise InputError(f'squeue does not tell what is queued: {asked.stderr.strip()}; try again later.')
    names: set[str] = set()
    for line in asked.stdout.splitlines():
        job, index, name = (*line.split(maxsplit=2), '', '')[:3]
        table, runs = arrays.get(job, ('', []))
        if name == table and index.isdecimal() and int(index) < len(runs):
            names.add(runs[int(index)])
    return names


def _arrays(record: Path) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    """Number of the job, table and runs of each array that was submitted; a torn line is left out."""
    for line in record.read_text(encoding='utf-8').splitlines() if record.is_file() else ():
        try:
            array = json.loads(line)
            yield array['job'], (array['table'], array['runs'])
        except (ValueError, KeyError, TypeError):
            continue


def _plan(runs: Sequence[Run], command: Callable[[str], list[str]], data: str | None) -> str:
    """A file that tools/slurm_submit.sh reads: for each task of the array its log, and two commands.

    The first one prints the arguments of tools/train.py, or nothing if the run has ended meanwhile; it is asked when
    the task begins, for only then is known whether there is something to continue. The second one collects the row.
    """
    given = ['--data', data] if data else []
    begin = [shlex.join([*command('arguments'), *given, '--rows', run.row]) for run in runs]
    end = [shlex.join([*command('collect'), '--rows', run.row]) for run in runs]
    lines = ['# Runs of a job array: the log of each, the command that tells its arguments, and the one behind it.']
    for name, texts in (('logs', [str(run.log) for run in runs]), ('beginnings', begin), ('ends', end)):
        lines += [f'{name}=(', *(f'  {shlex.quote(text)}' for text in texts), ')']
    return '\n'.join(lines) + '\n'


def submit(
    runs: Sequence[Run],
    partition: str,
    command: Callable[[str], list[str]],
    jobs: int | None = None,
    data: str | None = None,
) -> str:
    """Submit the runs as one job array; what is to be known about it is remembered beside the work folders.

    Each task trains one run, is saved and requeued at its time limit, and appends its row when it has ended. GPUs a
    node, CPUs and more options of ``sbatch`` come from the environment, as ``tools/slurm_submit.sh`` says.

    Args:
        runs: runs of one table that take the same number of processes.
        partition: partition of the cluster.
        command: gives the command line of ``tools/benchmark.py`` for a sub-command; the choice of one run follows it.
        jobs: tasks at once; None: as many as the cluster gives.
        data: root folder of the data; None: that of the configs.

    Returns:
        The number of the job.

    Raises:
        InputError: there is no Slurm, or it refuses the job.
    """
    processes = {run.processes for run in runs}
    if len(processes) != 1:
        raise InputError(f'a job array has runs of one size; these take {sorted(processes)} processes.')
    if not SCRIPT.is_file():
        raise InputError(f'there is no {SCRIPT}: --slurm needs a checkout of openmixup.')
    folder = runs[0].work_dir.parent
    for run in runs:
        run.work_dir.mkdir(parents=True, exist_ok=True)
    plan = _new_file(folder, _plan(runs, command, data))
    size = processes.pop()
    per_node = min(size, int(os.environ.get('GPUS_PER_NODE', '8')))
    tasks = f'--array=0-{len(runs) - 1}' + (f'%{jobs}' if jobs else '')
    environment = os.environ | {
        'GPUS': str(size),
        'GPUS_PER_NODE': str(per_node),
        'SBATCH_ARGS': f'{os.environ.get("SBATCH_ARGS", "")} --parsable {tasks}',
        'OUTPUT': str(plan.with_suffix('.out')).replace('%', '%%'),
    }
    asked = _ask(['bash', str(SCRIPT), partition, runs[0].table, f'@{plan.resolve()}'], environment)
    job = re.match(r'\d+', asked.stdout)
    if asked.returncode != 0 or job is None:
        plan.unlink()
        raise InputError(f'sbatch refuses the job: {asked.stderr.strip() or asked.stdout.strip()}.')
    with open(folder / 'slurm.jsonl', 'a', encoding='utf-8') as stream:
        stream.write(json.dumps({'job': job[0], 'table': runs[0].table, 'runs': [run.row for run in runs]}) + '\n')
    return job[0]


def _new_file(folder: Path, text: str) -> Path:
    """A file of its own for each plan, also when two are written at once."""
    for number in itertools.count(1):
        path = folder / f'slurm-{number}.sh'
        try:
            with open(path, 'x', encoding='utf-8') as stream:
                stream.write(text)
        except FileExistsError:
            continue
        return path
    raise AssertionError  # the numbers have no end
