"""A small table with a trainer that only writes a summary."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch

from openmixup.benchmark import load_table, planned_runs, read_rows, row_of
from openmixup.cli import benchmark, make_configs
from openmixup.engine.config import load_config
from openmixup.engine.resume import settings

ROOT = Path(__file__).parents[2]
TABLE = """
recipe = 'toy/resnet8_1xb4-20e_digits.py'
policies = dict(vanilla=dict(type='Vanilla'), mixup=dict(type='Mixup', alpha=1.0))
seeds = (0, 1)
published = dict(mixup=(90.5, 'a page'))
"""
RECIPE = f"""
_base_ = {str(ROOT / 'configs/digits/resnet8_1xb50-30e_digits.py')!r}
train_dataloader = dict(batch_size=4)
train_cfg = dict(max_epochs=20, val_begin=11)
"""
LONG = 600  # seconds that are never reached, unless something hangs
# Writes its arguments to calls.txt; its behaviour is chosen by a file beside the work folders.
TRAINER = """
import json, os, pathlib, shutil, signal, sys, time
config, args = sys.argv[1], sys.argv[2:]
work = pathlib.Path(args[args.index('--work-dir') + 1])
seed = int(args[args.index('--seed') + 1])
policy = 'mixup' if '_mixup_' in config else 'vanilla'
base = pathlib.Path(os.environ['TOY'])
with open(base / 'calls.txt', 'a') as f:
    f.write(json.dumps([policy, seed, '--resume' in args, os.environ['OMP_NUM_THREADS'], args,
                        os.environ.get('CUDA_VISIBLE_DEVICES'),
                        os.environ.get('OPENMIXUP_SHARED_GPUS')]) + chr(10))
fault = (base / 'fault.txt').read_text() if (base / 'fault.txt').exists() else ''
if fault == f'{policy}{seed}':
    print('boom'); sys.exit(3)
if fault == 'deaf':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (base / 'pid.txt').write_text(str(os.getpid()))
if fault == f'{policy}{seed} untold':
    (base / f'work/toy/failures/{policy}-20e-seed{seed}.txt').mkdir(parents=True); sys.exit(3)
if fault == 'block':
    (base / 'benchmarks/results/toy.csv').mkdir(exist_ok=True)
if fault in ('sleep', 'deaf'):
    shutil.copy(base / f'{policy}.pth', work / 'epoch_1.pth'); time.sleep(600)
if fault == 'brief':
    time.sleep(0.4); shutil.copy(base / f'{policy}.pth', work / 'epoch_1.pth'); time.sleep(0.4)
epochs = next((int(a.split('=')[1]) for a in args if a.startswith('train_cfg.max_epochs')), 20)
hashes = json.loads((base / 'hashes.json').read_text())
top1 = (90.0 if policy == 'mixup' else 88.0) + seed
json.dump({'epochs': epochs, 'seed': seed, 'commit': 'abcdef0123456789', 'config_hash': hashes[f'{policy}-{epochs}'],
           'seconds': 10 + seed, 'energy_wh': 1.5 + seed,
           'last': {'top1': top1, 'top5': 99.0, 'loss': 0.5, 'ece': 1.0}, 'best': {'epoch': 15, 'top1': top1 + 1},
           'median_last10': {'top1': top1 - 1}, 'hardware': 'CPU, 2 cores', 'versions': {'torch': '2'}},
          open(work / 'summary.json', 'w'))
print('summary: there')
"""


class Toy:
    """A table, its recipe and a trainer in a folder of their own."""

    def __init__(self, path):
        self.path = path
        for name, text in {
            'benchmarks/toy.py': TABLE,
            'configs/toy/resnet8_1xb4-20e_digits.py': RECIPE,
            'trainer.py': TRAINER,
        }.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(text)
        self.results = path / 'benchmarks/results/toy.csv'
        self.work = path / 'work/toy'
        self.folders = [f'--benchmarks={path}/benchmarks', f'--configs={path}/configs']
        self.trainer = (sys.executable, str(path / 'trainer.py'))
        self.write_leaves()

    def write_leaves(self):
        assert make_configs.main(self.folders) == 0
        self.hashes = {}
        for epochs in (None, 5):
            for run in self.planned(epochs=epochs):
                self.hashes[f'{run.policy}-{run.epochs}'] = run.config_hash
        (self.path / 'hashes.json').write_text(json.dumps(self.hashes))
        for run in self.planned(seeds=[0]):
            torch.save(
                {'settings': settings(load_config(run.config)) | {'randomness.deterministic': False}},
                self.path / f'{run.policy}.pth',
            )

    def planned(self, **options):
        return planned_runs(self.table(), self.path / 'work', self.path / 'configs', **options)

    def table(self):
        return load_table('toy', self.path / 'benchmarks')

    def change_alpha(self):
        file = self.path / 'benchmarks/toy.py'
        file.write_text(file.read_text().replace('alpha=1.0', 'alpha=0.5'))
        self.write_leaves()

    def summary(self, name, seed, **changes):
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        content = {'epochs': 20, 'seed': seed, 'last': {'top1': 77.0}, 'config_hash': self.hashes['mixup-20']}
        (folder / 'summary.json').write_text(json.dumps(content | changes))

    def checkpoint(self, name):
        (self.work / name).mkdir(parents=True)
        shutil.copy(self.path / 'mixup.pth', self.work / name / 'epoch_3.pth')

    def main(self, *args):
        return benchmark.main([*args, *self.folders, f'--work-dir={self.path}/work'], trainer=self.trainer)

    def calls(self):
        file = self.path / 'calls.txt'
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def keys(self):
        return sorted((row['policy'], int(row['seed'])) for row in read_rows(self.results))


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.setenv('TOY', str(tmp_path))
    return Toy(tmp_path)


def until(true):
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def result_row(policy='vanilla', seed=0, top1=88.0):
    return row_of({'last': {'top1': top1}, 'hardware': 'a, "b"\nc'}, 'toy', policy, seed, 20)
