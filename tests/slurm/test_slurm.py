"""Training through a real Slurm: ranks from srun, the signal of the time limit, requeue, and a rank that is killed."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from openmixup.engine.checkpoint import checkpoint_files, read_checkpoint
from tests.engine.conftest import CONFIG
from tests.engine.test_preemption import equal, final

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CALM = """
import os, signal, time
from pathlib import Path
from mmengine.hooks import Hook
from openmixup.registry import HOOKS

@HOOKS.register_module()
class Trouble(Hook):
    '''What the file trouble asks for, once: "wait" until the signal comes, or "kill" the second process.'''
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        asked = Path(os.environ['TROUBLE'])
        if batch_idx != 6 or not asked.exists():
            return
        kind = asked.read_text()
        if kind == 'wait':
            runner.preemption.grace = 200
            while runner.preemption.signal is None:
                time.sleep(0.1)
            if runner.rank == 0:
                asked.unlink()
        elif runner.rank == 1:
            asked.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def job(slurm, tmp_path):
    """Queue a training of two processes and wait for its end: ``job(name, trouble, **environ)`` returns its output."""
    (tmp_path / 'trouble.py').write_text(CALM)
    config = tmp_path / 'tiny.py'
    config.write_text(
        CONFIG + "custom_imports = dict(imports=['trouble'])\ncustom_hooks = [dict(type='Trouble')]\n"
        "default_hooks['checkpoint'] = dict(type='CheckpointHook', interval=1, by_epoch=False)\n"
    )

    def run(name: str, trouble: str = '', **changes: str) -> str:
        asked = tmp_path / f'{name}.trouble'
        if trouble:
            asked.write_text(trouble)
        environ = {
            **slurm, 'GPUS': '2', 'GPUS_PER_NODE': '0', 'CPUS_PER_TASK': '1', 'TROUBLE': str(asked),
            'PYTHONPATH': f'{ROOT}:{tmp_path}', 'SBATCH_ARGS': f'--parsable --output={tmp_path}/{name}.out', **changes,
        }  # fmt: skip
        command = ['bash', str(ROOT / 'tools/slurm_submit.sh'), 'part', name, str(config)]
        queued = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
        number, end, seen = queued.stdout.strip(), time.monotonic() + 300, 0
        while time.monotonic() < end:
            shown = subprocess.run(
                ['scontrol', 'show', 'job', number], env=environ, capture_output=True, text=True, check=False
            ).stdout
            for record in shown.split('\n\n'):
                if 'JobState=PENDING' in record and 'Restarts=0' not in record:  # a requeued job waits for two minutes
                    time.sleep(5)  # the node must have forgotten the job that ended
                    one = re.search(r'JobId=(\d+)', record)[1]
                    subprocess.run(
                        ['scontrol', 'update', f'jobid={one}', 'StartTime=now'], env=environ, check=False,
                        capture_output=True,
                    )  # fmt: skip
            states = re.findall(r'JobState=(\w+)', shown)
            over = bool(states) and all(state in ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT') for state in states)
            seen = seen + 1 if over else 0  # a job looks failed for a moment while it is put back into the queue
            if seen == 5:
                break
            time.sleep(1)
        text = (tmp_path / f'{name}.out').read_text()
        assert set(states) == {'COMPLETED'}, shown + text[-3000:]
        return text

    run.folder = tmp_path
    return run


def test_a_job_is_saved_before_its_limit_requeued_and_ends_as_the_undisturbed_one(job):
    job('whole')
    whole = final(job.folder / 'work_dirs/whole')
    assert read_checkpoint(checkpoint_files(job.folder / 'work_dirs/whole')[0])['progress']['world_size'] == 2
    limit = (
        f'--parsable --time=2 --output={job.folder}/limited.out'  # told 30 s before the end, or up to a minute earlier
    )
    told = job('limited', 'wait', SBATCH_ARGS=limit, SIGNAL_SECONDS='30')
    assert 'SIGUSR1: the run was saved after step' in told
    assert 'requeued after exit code 143' in told
    assert 'resumed from' in told
    assert equal(whole, final(job.folder / 'work_dirs/limited'))
    killed = job('killed', 'kill')
    assert 'requeued after exit code' in killed
    assert equal(whole, final(job.folder / 'work_dirs/killed'))


def test_the_jobs_of_an_array_have_seeds_and_are_requeued_by_themselves(job):
    job('whole')
    told = job('array', 'kill', SBATCH_ARGS=f'--parsable --array=0-1 --output={job.folder}/array.out')
    assert told.count('requeued after exit code') == 1
    first, second = (final(job.folder / f'work_dirs/array/seed{seed}') for seed in (0, 1))
    assert equal(final(job.folder / 'work_dirs/whole'), first)
    assert not equal(first, second)
