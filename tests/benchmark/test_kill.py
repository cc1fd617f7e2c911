"""A sweep that is killed again and again loses nothing, trains nothing twice, and ends with the undisturbed rows."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openmixup.benchmark import read_rows
from tests.benchmark.conftest import LONG, ROOT, until

NOISE = ('seconds', 'images_per_second', 'peak_memory_mb', 'date', 'commit')


def _children(pid):
    """Process numbers of the trainers: each leads a session of its own, and outlives the sweep."""
    found = subprocess.run(['ps', '--ppid', str(pid), '-o', 'pid='], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


def _kill_again_and_again(command, times, begun, longest, environment=None):
    """Start the command and kill it while it trains, with its trainings at every other time; then let it end.

    ``begun()`` grows with every training that begins; ``longest`` is how long it then may go on, in seconds.
    """
    rng = random.Random(0)
    for turn in range(times):
        before = begun()
        sweep = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            until(lambda before=before: begun() > before)
            time.sleep(rng.uniform(0.0, longest))
            children = _children(sweep.pid) if turn % 2 == 0 else []
            assert sweep.poll() is None, 'there was too little to train'
        except BaseException:
            sweep.terminate()  # or it trains on for the next one who uses this folder
            raise
        for pid in [sweep.pid, *children]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # it had just ended
                assert pid != sweep.pid
        sweep.wait(LONG)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _assert_whole(results, folder, keys):
    with open(results, newline='', encoding='utf-8') as stream:
        lines = list(csv.reader(stream))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert sorted((row['policy'], int(row['seed'])) for row in read_rows(results)) == sorted(keys), 'each row once'
    for log in Path(folder).glob('*.log'):
        text = log.read_text()
        assert text.count('summary:') == 1, 'no training ends twice'
        assert '$ ' not in text.partition('summary:')[2], 'nothing is trained after its end'


def test_killed_at_random_with_a_trainer_that_only_writes_a_summary(toy):
    (toy.path / 'fault.txt').write_text('brief')
    table = toy.path / 'benchmarks/toy.py'
    table.write_text(table.read_text().replace('(0, 1)', 'tuple(range(4))'))
    toy.write_leaves()
    code = 'import sys\nfrom openmixup.cli.benchmark import main; sys.exit(main(sys.argv[2:], sys.argv[1].split()))'
    args = ['run', 'toy', '--jobs', '2', *toy.folders, f'--work-dir={toy.path}/work']
    command = [sys.executable, '-c', code, ' '.join(toy.trainer), *args]
    _kill_again_and_again(command, 2, lambda: len(toy.calls()), 0.7)
    _assert_whole(toy.results, toy.work, [(policy, seed) for policy in ('vanilla', 'mixup') for seed in range(4)])
    assert len(toy.calls()) > 8, 'some were cut'
    assert any(call[2] for call in toy.calls()), 'and continued'


@pytest.mark.slow
def test_killed_at_random_five_times_while_it_really_trains(tmp_path):
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-m', 'openmixup', 'benchmark', 'run', 'digits', '--jobs', '2', '--epochs', '40']
    start = time.monotonic()
    undisturbed = subprocess.run(
        [*command, f'--work-dir={tmp_path}/whole'],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert undisturbed.returncode == 0, undisturbed.stderr
    longest = (time.monotonic() - start) / 20  # on any machine, too short for five times to get through all nine
    logs = tmp_path / 'killed/digits/trial-40e'

    def begun():  # trainings, or continuations of them, that have told of an epoch
        return sum('epoch ' in part for log in logs.glob('*.log') for part in log.read_text().split('$ ')[1:])

    _kill_again_and_again([*command, f'--work-dir={tmp_path}/killed'], 5, begun, longest, environment)
    keys = [(policy, seed) for policy in ('vanilla', 'mixup', 'cutmix') for seed in (0, 1, 2)]
    whole, killed = (tmp_path / name / 'digits/trial-40e' for name in ('whole', 'killed'))
    _assert_whole(killed / 'results.csv', killed, keys)
    expected, found = (
        sorted(
            [{k: v for k, v in row.items() if k not in NOISE} for row in read_rows(folder / 'results.csv')],
            key=lambda row: (row['policy'], row['seed']),
        )
        for folder in (whole, killed)
    )
    assert found == expected
    attempts = sum(log.read_text().count('$ ') for log in killed.glob('*.log'))
    assert attempts > len(keys), 'some were cut and continued'
