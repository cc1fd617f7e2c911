"""Each check of the doctor finds its fault, says it in one line with the remedy, and the exit code follows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from openmixup.analysis.doctor import limits, machine, packages
from openmixup.cli.doctor import main
from openmixup.engine import peak
from openmixup.engine.loops import EpochLoop

ROOT = Path(__file__).parents[2]
DIGITS = 'digits/resnet8_mixup_1xb50-30e_digits.py'


def test_the_quick_start_passes_and_leaves_nothing_behind(doctor, tmp_path):
    code, lines = doctor(DIGITS)
    assert code == 0
    assert not [line for line in lines.values() if line.startswith('FAIL')]
    assert set(lines) == {
        'python', 'packages', 'torchvision', 'openmixup', 'threads', 'opencv', 'load', 'memory', 'shared memory', 'gpu',
        'amp', 'cudnn', 'config', 'work dir', 'model', 'data', 'classes', 'images', 'step', 'mixing', 'step memory',
        'loader', 'batches', 'disk',
    }  # fmt: skip
    assert 'train 1,000, val 797, test 797 images in 10 classes' in lines['data']
    assert 'for 50 images' in lines['step']
    assert 'Mixup takes' in lines['mixing']
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures('calm')
def test_json_is_all_that_is_printed(capsys):
    assert main(['--json', DIGITS, '--quick', '--cfg-options', 'model.head.num_classes=7']) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report['level'], report['counts']['FAIL']) == ('FAIL', 1)
    finding = report['findings'][-1]
    assert (finding['name'], finding['level']) == ('model', 'FAIL')
    assert 'but the data has 10 classes' in finding['found']
    threads = next(finding for finding in report['findings'] if finding['name'] == 'threads')
    assert threads['values']['cores'] == 2


def test_versions_out_of_their_range(doctor, monkeypatch):
    versions = {'timm': '0.9.2', 'opencv-python-headless': '4.9.0', 'numpy': None, 'opencv-python': None}
    monkeypatch.setattr(packages, '_version', lambda name: versions.get(name, '99.0'))
    monkeypatch.setattr('platform.python_version', lambda: '3.9.1')
    code, lines = doctor()
    assert code == 1
    assert lines['timm'] == "FAIL  timm             0.9.2; expected >=1.0.20: run `pip install 'timm>=1.0.20'`."
    assert 'not installed; expected >=1.26' in lines['numpy']
    assert lines['python'].startswith('FAIL  python           3.9.1; expected >=3.10: ')
    assert 'opencv-python' not in lines


def test_torchvision_of_another_torch(doctor, monkeypatch):
    monkeypatch.setattr(packages.metadata, 'requires', lambda _: ['numpy', 'torch==2.1.0'])
    code, lines = doctor()
    assert code == 1
    assert lines['torchvision'].startswith('FAIL')
    assert 'expected torch==2.1.0 for it' in lines['torchvision']
    assert '`pip install --upgrade torch torchvision`' in lines['torchvision']


def test_an_operator_of_torchvision_that_is_not_there(doctor, monkeypatch):
    def broken(*_):
        raise RuntimeError('operator torchvision::nms does not exist')

    monkeypatch.setattr('torchvision.ops.nms', broken)
    code, lines = doctor()
    assert code == 1
    assert 'nms stops (operator torchvision::nms does not exist)' in lines['torchvision']


def old_package(folder: Path) -> Path:
    (folder / 'openmixup').mkdir()
    (folder / 'openmixup' / '__init__.py').write_text("__version__ = '0.2.9'\n")
    return folder / 'openmixup'


def test_two_packages_of_the_name_on_the_path(doctor, tmp_path, monkeypatch):
    old = old_package(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path, str(tmp_path)])
    code, lines = doctor()
    assert code == 1
    assert lines['openmixup'].startswith('FAIL')
    assert f'and 0.2.9 in {old}; expected one package of that name: run `pip uninstall' in lines['openmixup']


@pytest.mark.slow
def test_the_tool_ends_with_the_exit_code(tmp_path):
    old = old_package(tmp_path)
    environ = {**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{tmp_path}', 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(ROOT / 'tools/doctor.py')]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 1, done.stderr
    assert f'and 0.2.9 in {old}' in done.stdout
    assert done.stdout.splitlines()[-1].endswith(' ok')


@pytest.mark.parametrize(('setting', 'shown'), [(None, 'unset'), ('64', '64')])
def test_more_threads_than_cores(doctor, monkeypatch, setting, shown):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 64)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    if setting:
        monkeypatch.setenv('OMP_NUM_THREADS', setting)
    code, lines = doctor()
    assert code == 1
    assert f'64 threads x 1 process on 2 cores (OMP_NUM_THREADS={shown}, ' in lines['threads']
    assert lines['threads'].endswith(': export OMP_NUM_THREADS=2.')


def test_threads_of_several_processes_and_a_quota(doctor, monkeypatch):
    code, lines = doctor('--processes', 3)
    assert (code, lines['threads'][:4]) == (0, 'warn')
    assert 'start at most 2 processes' in lines['threads']
    monkeypatch.setattr(limits, 'affinity', lambda: 16)
    monkeypatch.setattr(limits, 'quota', lambda *_: 1.5)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 16)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    code, lines = doctor()
    assert code == 1
    assert '16 threads x 2 processes on 2 cores' in lines['threads']
    assert 'quota 1.5 cores' in lines['threads']
    assert 'export OMP_NUM_THREADS=1' in lines['threads']


def test_a_busy_and_a_small_machine(doctor, monkeypatch):
    monkeypatch.setattr('cv2.getNumThreads', lambda: 64)
    monkeypatch.setattr(os, 'getloadavg', lambda: (500.0, 0.0, 0.0))
    monkeypatch.setattr(machine, 'SHARED', Path('/'))
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=2**26))
    code, lines = doctor()
    assert code == 0
    assert [lines[name][:4] for name in ('opencv', 'load', 'shared memory')] == ['warn'] * 3
    assert 'cv2.setNumThreads(2)' in lines['opencv']
    assert '500.0 running threads' in lines['load']
    assert '64.0 MiB free in /; expected at least 1 GiB' in lines['shared memory']
    monkeypatch.setattr(limits, 'available_memory', lambda: 2**27)
    monkeypatch.setitem(sys.modules, 'cv2', None)
    code, lines = doctor()
    assert code == 1
    assert '128.0 MiB free for 1 process; expected at least 2 GiB' in lines['memory']
    assert 'apt-get install libgl1' in lines['opencv']


def test_a_driver_without_a_gpu_for_torch(doctor, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(machine, '_driver', lambda: '550.54')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    code, lines = doctor()
    assert code == 1
    assert 'sees none, although the driver 550.54 is loaded; expected the GPUs of this machine: ' in lines['gpu']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    code, lines = doctor()
    assert (code, lines['gpu'][:4]) == (0, 'warn')
    assert "unset CUDA_VISIBLE_DEVICES, which is ''" in lines['gpu']


def test_mixed_precision_that_does_not_work(doctor, monkeypatch):
    def tried(device, dtype):
        if dtype is not None:
            raise RuntimeError('no bfloat16 here')
        return 0.001

    monkeypatch.setattr(machine, '_tried', tried)
    code, lines = doctor()
    assert (code, lines['amp'][:4]) == (0, 'warn')
    assert 'bfloat16 does not work here (no bfloat16 here)' in lines['amp']


@pytest.mark.parametrize(
    ('argv', 'name', 'said'),
    [
        (['digits/resnet8.py'], 'config', 'no such file'),
        ([DIGITS, '--policy', 'CutMux'], 'config', "did you mean 'CutMix'?"),
        ([DIGITS, '--policy', 'CMO'], 'model', 'which train_dataloader does not have: add bank'),
        ([DIGITS, '--amp', '--cfg-options', 'optim_wrapper.dtype=float16'], 'config', 'has no key'),
        ([DIGITS, '--cfg-options', 'load_from=no.pth'], 'training', 'no such file'),
        ([DIGITS, '--work-dir', __file__], 'work dir', 'choose another --work-dir'),
        (['--work-dir', __file__], 'work dir', 'cannot be written'),
        (['--data', 'nowhere'], 'data', "root='nowhere' is not a folder"),
    ],
)
def test_a_run_that_cannot_begin(doctor, argv, name, said):
    code, lines = doctor('--quick', *argv)
    assert code == 1
    assert lines[name].startswith('FAIL')
    assert said in lines[name]


def test_steps_that_do_not_fit_or_do_not_end_well(doctor, monkeypatch):
    monkeypatch.setattr(peak, 'read', lambda _: 2**40)
    code, lines = doctor(DIGITS, '--processes', 2, '--cfg-options', 'optim_wrapper.optimizer.lr=1e30')
    assert code == 1
    assert 'the weights are not finite; expected finite weights: lower the learning rate' in lines['step']
    assert lines['step memory'].startswith('FAIL')
    assert '1024.0 GiB at the peak of a step' in lines['step memory']

    def step(*_):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20 GiB')

    monkeypatch.setattr(EpochLoop, 'step', step)
    code, lines = doctor(DIGITS)
    assert code == 1
    assert 'out of memory with 50 images; expected a step that fits: halve train_dataloader.batch' in lines['step']


def test_a_last_batch_of_one(doctor):
    size = 'train_dataloader.batch_size=27'
    code, lines = doctor(DIGITS, '--quick', '--cfg-options', size)
    assert (code, lines['batches'][:4]) == (0, 'warn')
    assert '27 images in a batch, 1 in the last, 9 BatchNorm layers; expected at least 8' in lines['batches']
    assert 'drop_last=True' in lines['batches']
    backbone = "model.backbone={'type': 'TimmBackbone', 'model': 'resnet10t', 'in_channels': 1}"
    code, lines = doctor(DIGITS, '--quick', '--cfg-options', size, backbone)  # its last maps have one pixel
    assert code == 1
    assert 'a batch of one stops (Expected more than 1 value per channel' in lines['batches']
