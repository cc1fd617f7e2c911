"""A table trained by a job array of a real Slurm: submitted once, rows appended by the tasks, failures kept."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openmixup.benchmark import read_rows

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_a_table_is_trained_by_a_job_array(slurm, tmp_path):
    environment = slurm | {'PYTHONPATH': str(ROOT), 'GPUS_PER_NODE': '0', 'CPUS_PER_TASK': '1', 'MAX_REQUEUES': '0'}
    tool = [sys.executable, '-m', 'openmixup', 'benchmark']
    trial = ['digits', '--epochs', '2', '--policies', 'mixup', 'cutmix', f'--work-dir={tmp_path}/work']
    base = tmp_path / 'work/digits/trial-2e'

    def call(*words, **changes):
        done = subprocess.run(
            [*tool, *words, *trial], cwd=ROOT, env=environment | changes, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ended():
        end = time.monotonic() + 900
        while 'queued' in call('status') or 'running' in call('status'):
            assert time.monotonic() < end, call('status')
            time.sleep(2)

    submitted = call('run', '--rows', 'cutmix-2e-seed0', '--slurm', 'part', SRUN_ARGS='--no-such-option')
    assert 'an array of 1 runs in partition part' in submitted
    ended()
    assert '1 failed, 5 not begun' in call('status')
    apart = base / 'failures/cutmix-2e-seed0.txt'
    assert apart.read_text().startswith('exit code ')
    assert 'no-such-option' in apart.read_text()
    assert 'an array of 4 runs' in call('run', '--seeds', '0', '1', '--slurm', 'part', '--jobs', '2')
    assert '4 of them are in the queue of Slurm already' in call('run', '--seeds', '0', '1', '--slurm', 'part')
    arrays = [json.loads(line)['runs'] for line in (base / 'slurm.jsonl').read_text().splitlines()]
    assert [len(runs) for runs in arrays] == [1, 4], 'submitted once'
    ended()
    rows = {(row['policy'], row['seed']) for row in read_rows(base / 'results.csv')}
    assert rows == {(policy, seed) for policy in ('mixup', 'cutmix') for seed in '01'}, call('status')
    assert not apart.exists()
    assert '0 runs are missing' in call('run', '--seeds', '0', '1', '--slurm', 'part')
