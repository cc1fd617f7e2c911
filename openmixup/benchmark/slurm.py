"""The runs of a table as a job array of Slurm."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
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
    if not record.is_file():
        return set()
    names: set[str] = set()
    for line in record.read_text(encoding='utf-8').splitlines():
        array = json.loads(line)
        asked = _ask(['squeue', '--noheader', '--array', '--format=%K', f'--jobs={array["job"]}'])
        if asked.returncode == 0:
            names |= {array['runs'][int(index)] for index in asked.stdout.split() if index.isdecimal()}
        elif 'Invalid job id' not in asked.stderr:
            raise InputError(f'squeue does not tell what is queued: {asked.stderr.strip()}.')
    return names


def _plan(runs: Sequence[Run], collect: Sequence[str], data: str | None) -> str:
    """A file that tools/slurm_submit.sh reads: for each task of the array its log and its commands' arguments."""
    train = [shlex.join(run.arguments(data)) for run in runs]
    after = [shlex.join([*collect, '--rows', run.row]) for run in runs]
    lines = ['# Runs of a job array: the log, the arguments of tools/train.py, and the command behind it, of each.']
    for name, words in (('logs', [str(run.log) for run in runs]), ('trainings', train), ('commands', after)):
        lines += [f'{name}=(', *(f'  {shlex.quote(word)}' for word in words), ')']
    return '\n'.join(lines) + '\n'


def submit(
    runs: Sequence[Run],
    partition: str,
    collect: Sequence[str],
    jobs: int | None = None,
    data: str | None = None,
) -> str:
    """Submit the runs as one job array; what is to be known about it is remembered beside the work folders.

    Each task trains one run, is saved and requeued at its time limit, and appends its row when it has ended. GPUs a
    node, CPUs and more options of ``sbatch`` come from the environment, as ``tools/slurm_submit.sh`` says.

    Args:
        runs: runs of one table that take the same number of processes.
        partition: partition of the cluster.
        collect: command that appends rows; the choice of one run follows it.
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
    number = 1 + max((int(path.stem.rpartition('-')[2]) for path in folder.glob('slurm-*.sh')), default=0)
    plan = folder / f'slurm-{number}.sh'
    plan.write_text(_plan(runs, collect, data), encoding='utf-8')
    size = processes.pop()
    per_node = min(size, int(os.environ.get('GPUS_PER_NODE', '8')))
    tasks = f'--array=0-{len(runs) - 1}' + (f'%{jobs}' if jobs else '')
    environment = os.environ | {
        'GPUS': str(size),
        'GPUS_PER_NODE': str(per_node),
        'SBATCH_ARGS': f'{os.environ.get("SBATCH_ARGS", "")} --parsable {tasks} --output={plan.with_suffix(".out")}',
    }
    asked = _ask(['bash', str(SCRIPT), partition, runs[0].table, f'@{plan.resolve()}'], environment)
    job = re.match(r'\d+', asked.stdout)
    if asked.returncode != 0 or job is None:
        plan.unlink()
        raise InputError(f'sbatch refuses the job: {asked.stderr.strip() or asked.stdout.strip()}.')
    with open(folder / 'slurm.jsonl', 'a', encoding='utf-8') as stream:
        stream.write(json.dumps({'job': job[0], 'runs': [run.row for run in runs]}) + '\n')
    return job[0]
