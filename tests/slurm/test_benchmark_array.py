"""A table trained by a job array of a real Slurm: submitted once, rows appended by the tasks, failures kept."""

import json
import os
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

    def call(*words):
        done = subprocess.run([*tool, *words, *trial], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ended():
        end = time.monotonic() + 600
        while 'queued' in call('status') or 'running' in call('status'):
            assert time.monotonic() < end, call('status')
            time.sleep(2)

    # what stands in the way of the first training of cutmix is taken away later
    (base / 'cutmix-2e-seed0').mkdir(parents=True)
    obstacle = base / 'cutmix-2e-seed0/epoch_1.pth'
    obstacle.mkdir()
    told = call('run', '--seeds', '0', '1', '--slurm', 'part', '--jobs', '2')
    assert 'an array of 4 runs in partition part' in told
    assert '4 of them are in the queue of Slurm already' in call('run', '--seeds', '0', '1', '--slurm', 'part')
    assert len(json.loads((base / 'slurm.jsonl').read_text())['runs']) == 4, 'submitted once'
    ended()
    rows = {(row['policy'], row['seed']) for row in read_rows(base / 'results.csv')}
    assert rows == {('mixup', '0'), ('mixup', '1'), ('cutmix', '1')}, (base / 'slurm-1.out').read_text()
    assert '3 done, 1 failed, 2 not begun' in call('status')
    assert (base / 'failures/cutmix-2e-seed0.txt').read_text().startswith('exit code ')
    os.rmdir(obstacle)
    assert 'an array of 1 runs' in call('run', '--seeds', '0', '1', '--slurm', 'part')
    ended()
    assert len(read_rows(base / 'results.csv')) == 4
    assert not (base / 'failures/cutmix-2e-seed0.txt').exists()
    assert '0 runs are missing' in call('run', '--seeds', '0', '1', '--slurm', 'part')
