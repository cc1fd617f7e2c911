"""A run that is told to end is saved where it stands, ends with 143, and continues as if nothing had happened."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from openmixup.datasets.memory import InMemoryDataset
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.loops import TrainLoop
from openmixup.engine.preemption import Preempted, Preemption
from openmixup.errors import InputError
from openmixup.models import MixClassifier

ROOT = Path(__file__).parents[2]
MICRO = ('optim_wrapper.accumulative_counts=2',)
BY_STEP = (
    "train_cfg={'type': 'IterLoop', 'max_iters': 15, 'val_interval': 5}",
    "param_scheduler=[{'type': 'CosineAnnealingLR', 'T_max': 15, 'by_epoch': False}]",
)


def told(monkeypatch, owner: type, method: str, call: int, number: int = signal.SIGTERM) -> None:
    """Let this process get a signal in the given call of a method, counted from 0."""
    plain, calls = getattr(owner, method), []

    def signalled(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call + 1:
            os.kill(os.getpid(), number)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(owner, method, signalled)


def final(work: Path) -> dict:
    """What must not depend on an interruption: weights, optimizer, schedules, scores."""
    content = read_checkpoint(max(work.glob('*.pth'), key=lambda path: (path.name != 'best.pth', path.stat().st_mtime)))
    history = [{k: v for k, v in entry.items() if k != 'images_per_second'} for entry in content['history']]
    progress = {key: value for key, value in content['progress'].items() if key != 'seconds'}
    kept = {key: content[key] for key in ('state_dict', 'optimizer', 'param_schedulers', 'best')}
    return {**kept, 'history': history, 'progress': progress}


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


CASES = {
    'first step': (TrainLoop, 'step', 0, MICRO, 1),
    'between two micro-batches': (TrainLoop, 'step', 6, MICRO, 7),
    'last step of an epoch': (TrainLoop, 'step', 9, (), 10),
    'last step of the run': (TrainLoop, 'step', 14, (), 15),
    'validation': (MixClassifier, 'predict', 2, (), 5),
    'last validation': (MixClassifier, 'predict', 40, (), 15),
    'wait for data': (InMemoryDataset, '__getitems__', 3, (), 3),
    'wait for data of a validation': (InMemoryDataset, '__getitems__', 6, (), 5),
    'step of a run by steps': (TrainLoop, 'step', 6, BY_STEP, 7),
    'validation of a run by steps': (MixClassifier, 'predict', 20, BY_STEP, 10),
}


@pytest.mark.parametrize('case', CASES)
def test_a_run_told_to_end_is_saved_and_continues_bit_for_bit(train, monkeypatch, case):
    owner, method, call, options, step = CASES[case]
    whole = train('whole', *options)
    with monkeypatch.context() as patched:
        told(patched, owner, method, call, signal.SIGUSR1 if 'data' in case else signal.SIGTERM)
        with pytest.raises(Preempted) as ended:
            train('cut', *options)
    assert ended.value.code == 143
    saved = read_checkpoint(max((ended_dir := whole.with_name('cut')).glob('*_*.pth'), key=lambda p: p.stat().st_mtime))
    assert saved['progress']['iter'] == step
    resumed = train('cut', *options, argv=('--resume',))
    assert resumed == ended_dir
    assert equal(final(whole), final(resumed))


def test_handlers_are_put_back_and_nothing_is_saved_twice(train, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    writes = []
    from openmixup.engine import runner

    plain = runner.write_checkpoint
    monkeypatch.setattr(
        runner, 'write_checkpoint', lambda state, path: (writes.append(path.name), plain(state, path))[1]
    )
    told(monkeypatch, TrainLoop, 'step', 6)
    with pytest.raises(Preempted):
        train('cut', 'default_hooks.checkpoint.by_epoch=False')
    assert signal.getsignal(signal.SIGTERM) == before
    assert writes == [f'iter_{step}.pth' for step in range(1, 8)]


def test_a_process_without_a_safe_point_ends_in_time():
    code = (
        'import os, signal, time\n'
        'from openmixup.engine.preemption import Preemption\n'
        'with Preemption(grace=0.3).listening():\n'
        '    os.kill(os.getpid(), signal.SIGTERM)\n'
        '    time.sleep(60)\n'
    )
    start = time.monotonic()
    ended = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 143
    assert 'SIGTERM: no step ended within 0.3 s' in ended.stderr
    assert time.monotonic() - start < 50


@pytest.mark.parametrize('grace', [0, -1, '5', True, None, float('inf')])
def test_a_grace_that_is_no_time_is_refused(grace):
    with pytest.raises(InputError, match='env_cfg.preemption_grace=.*expected a number of seconds above 0'):
        Preemption(grace)


SLOW_RANK = """
import os
from mmengine.hooks import Hook
from openmixup.registry import HOOKS

@HOOKS.register_module()
class Slow(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 3 and runner.rank == 1 and not os.environ.get('CALM'):
            os.kill(os.getpid(), 15)
"""


def start_two(config: Path, work: Path, *argv: str, **environ: str) -> list[subprocess.Popen]:
    """Two processes of one run, without anything that watches over them."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    shared = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{config.parent}:{ROOT}', 'WORLD_SIZE': '2'}
    shared |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), **environ}
    command = [
        sys.executable,
        '-m',
        'openmixup',
        'train',
        str(config),
        '--launcher',
        'pytorch',
        '--work-dir',
        str(work),
    ]
    return [
        subprocess.Popen([*command, *argv], env={**shared, 'RANK': rank, 'LOCAL_RANK': rank}, cwd=config.parent)
        for rank in '01'
    ]


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_at_the_same_step(config_file, tmp_path, left_threads):
    (tmp_path / 'slow_rank.py').write_text(SLOW_RANK)
    config_file.write_text(
        config_file.read_text()
        + "custom_imports = dict(imports=['slow_rank', 'threads_left'])\ncustom_hooks = [dict(type='Slow')]\n"
    )
    assert [process.wait(120) for process in start_two(config_file, tmp_path / 'whole', CALM='1')] == [0, 0]
    assert [process.wait(120) for process in start_two(config_file, tmp_path / 'cut')] == [143, 143]
    assert left_threads() == [0, 0]  # one could abort the process in place of the 143
    saved = read_checkpoint(max((tmp_path / 'cut').glob('*_*.pth'), key=lambda path: path.stat().st_mtime))
    assert saved['progress']['iter'] == 5  # the step after the one with the signal
    assert [process.wait(120) for process in start_two(config_file, tmp_path / 'cut', '--resume', CALM='1')] == [0, 0]
    assert equal(final(tmp_path / 'whole'), final(tmp_path / 'cut'))
