"""A run small enough for every test: a few digits, LeNet-sized network, seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from openmixup.engine.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[2]

CONFIG = """
default_scope = 'openmixup'
randomness = dict(seed=0)
data_preprocessor = dict(
    type='BatchPreprocessor', mean=(0.3,), std=(0.4,), train=[dict(type='RandomCrop', size=8, padding=1)], test=[])
train_dataloader = dict(dataset=dict(type='Digits', split='train', per_class=8), batch_size=16)
val_dataloader = dict(dataset=dict(type='Digits', split='test', per_class=10), batch_size=50)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
model = dict(
    type='MixClassifier', backbone=dict(type='CifarResNet', depth=8, width=4, in_channels=1),
    head=dict(type='LinearHead', num_classes=None, dropout=0.2), loss=dict(type='SoftCrossEntropy'),
    policy=dict(type='RandomChoice', policies=[dict(type='Mixup'), dict(type='CutMix')]), teacher=dict(decay=0.9))
train_cfg = dict(type='EpochLoop', max_epochs=3)
val_cfg = dict(type='EvalLoop')
test_cfg = dict(type='EvalLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=3, eta_min=0.0, by_epoch=True)]
default_hooks = dict(
    log=dict(type='LogHook', interval=2), checkpoint=dict(type='CheckpointHook', interval=1, keep=2),
    gallery=dict(type='MixGalleryHook'), summary=dict(type='SummaryHook'), non_finite=dict(type='NonFiniteHook'))
visualizer = dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')])
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG)
    return path


@pytest.fixture
def train(config_file: Path, tmp_path: Path):
    """Train in this process: ``train('name', 'key=value', ..., argv=[...])`` returns the work dir."""
    from openmixup.cli.train import main

    def run(name: str, *options: str, argv: tuple[str, ...] = ()) -> Path:
        arguments = [str(config_file), '--work-dir', str(tmp_path / name), *argv]
        main([*arguments, '--cfg-options', *options] if options else arguments)
        return tmp_path / name

    return run


@pytest.fixture
def launch() -> Callable[..., subprocess.CompletedProcess]:
    """Train, or ``tool='test'``, in processes of their own: ``launch(config, work_dir, *argv, processes=2)``."""

    def run(
        config: Path, work: Path, *argv: str, processes: int = 2, tool: str = 'train'
    ) -> subprocess.CompletedProcess:
        environ = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{config.parent}{os.pathsep}{ROOT}'}
        command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={processes}']
        command += [str(ROOT / f'tools/{tool}.py'), str(config), '--launcher=pytorch', f'--work-dir={work}', *argv]
        return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300, check=False)

    return run


THREADS = """
import atexit, os
from pathlib import Path

@atexit.register
def tell():
    names = [path.read_text() for path in Path('/proc/self/task').glob('*/comm')]
    Path(__file__).with_name('left' + os.environ['RANK']).write_text(str(sum('gloo' in name for name in names)))
"""


@pytest.fixture
def left_threads(tmp_path: Path) -> Callable[[], list[int]]:
    """Writes the module ``threads_left`` to be imported by a config; the call takes what two processes told by it.

    That is how many threads of their process group there were when Python ended, of which one that lets go of a tensor
    then would abort the process; 0 on a system without /proc.
    """
    (tmp_path / 'threads_left.py').write_text(THREADS)

    def take() -> list[int]:
        told = sorted(tmp_path.glob('left?'))
        counts = [int(path.read_text()) for path in told]
        for path in told:
            path.unlink()
        return counts

    return take


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)['state_dict']


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
