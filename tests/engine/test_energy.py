"""The energy of a run, from a driver that the tests make: each step draws a known number of watt hours."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from openmixup.engine import energy
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.energy import EnergyMeter, gpu_uuid
from openmixup.engine.hooks import EnergyHook
from openmixup.registry import HOOKS

OWN = 'GPU-5b1e'
# a driver with two GPUs, that of the run the second; millijoules since it was loaded
NVML = """
class NVMLError(Exception):
    pass

counters, processes, error = {'GPU-other': 10**9, 'GPU-5b1e': 7 * 10**9}, ['this'], None

def nvmlInit():
    counters['inits'] = counters.get('inits', 0) + 1

def nvmlDeviceGetHandleByUUID(uuid):
    if uuid not in counters:
        raise NVMLError('Not Found')
    return uuid

def nvmlDeviceGetComputeRunningProcesses(handle):
    return processes

def nvmlDeviceGetTotalEnergyConsumption(handle):
    if error:
        raise NVMLError(error)
    return counters[handle]
"""


@pytest.fixture
def nvml(monkeypatch) -> Any:
    module: Any = ModuleType('pynvml')
    exec(NVML, module.__dict__)
    monkeypatch.setitem(sys.modules, 'pynvml', module)
    monkeypatch.setattr(energy, 'gpu_uuid', lambda: OWN)
    monkeypatch.delenv(energy.SHARED_GPUS, raising=False)
    return module


@HOOKS.register_module(force=True)
class Draws(Hook):
    """Draws 2 Wh a step; ``at`` says what happens when a step begins."""

    at: dict[int, Any] = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.train_loop.iter in self.at:
            self.at.pop(runner.train_loop.iter)()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        sys.modules['pynvml'].counters[OWN] += 7_200_000


HOOK = 'custom_hooks=[{"type": "Draws"}]'


def watt_hours(work):
    return json.loads((work / 'summary.json').read_text())['energy_wh']


def cut():
    raise RuntimeError('cut')


def test_a_run_sums_its_steps_and_those_before_it_was_cut(train, nvml, monkeypatch, capsys):
    """3 epochs of 5 steps with 2 Wh each; of the second epoch 3 steps are lost, and others use the GPU meanwhile."""
    monkeypatch.setattr(Draws, 'at', {})
    assert watt_hours(train('whole', HOOK)) == pytest.approx(30.0)
    assert ' s, 30 Wh of its GPUs, ' in capsys.readouterr().out
    monkeypatch.setattr(Draws, 'at', {8: cut})
    begin = nvml.counters[OWN]
    with pytest.raises(RuntimeError, match='cut'):
        train('run', HOOK)
    assert nvml.counters[OWN] - begin == 8 * 7_200_000
    nvml.counters[OWN] = 0  # the machine was started again
    work = train('run', HOOK, argv=('--resume',))
    assert watt_hours(work) == pytest.approx(30.0)
    assert read_checkpoint(work / 'epoch_2.pth')['energy_wh'] == pytest.approx(20.0)
    assert nvml.counters['GPU-other'] == 10**9


@pytest.mark.parametrize('how', ['part', 'old'])
def test_a_part_that_is_not_known_leaves_the_whole_unknown(train, nvml, monkeypatch, how):
    monkeypatch.setattr(Draws, 'at', {8: cut})
    if how == 'part':
        monkeypatch.setenv(energy.SHARED_GPUS, '1')
    else:
        monkeypatch.setattr(EnergyHook, 'before_save_checkpoint', lambda self, runner, checkpoint: None)
    with pytest.raises(RuntimeError, match='cut'):
        train('run', HOOK)
    monkeypatch.delenv(energy.SHARED_GPUS, raising=False)
    assert watt_hours(train('run', HOOK, argv=('--resume',))) is None


@pytest.mark.parametrize(
    ('fault', 'says'),
    [
        (lambda nvml: setattr(nvml, 'error', 'Not Supported'), r'the driver does not tell it \(Not Supported\)'),
        (lambda nvml: nvml.processes.append('another'), '2 processes share its GPU'),
        (lambda nvml: nvml.counters.__setitem__(OWN, 5), 'the counter of the GPU was set back'),
    ],
)
def test_what_goes_wrong_in_training_is_said_once_and_ends_no_run(nvml, fault, says):
    warnings: list[str] = []
    meter = EnergyMeter(warnings.append)
    nvml.counters[OWN] += 1_800_000
    assert meter.watt_hours() == 0.5
    fault(nvml)
    assert meter.watt_hours() is None
    nvml.error, nvml.counters[OWN] = None, 10**12
    del nvml.processes[1:]
    assert meter.watt_hours() is None, 'what was missed cannot be known later'
    (warning,) = warnings
    assert re.search(f'^the energy of this run stays unknown: {says}', warning)


def test_a_driver_that_fails_leaves_the_energy_out_of_the_summary(train, nvml, monkeypatch, capsys):
    monkeypatch.setattr(Draws, 'at', {7: lambda: setattr(nvml, 'error', 'GPU is lost')})
    work = train('run', HOOK)
    assert watt_hours(work) is None
    log = next(work.glob('*/*.log')).read_text()
    assert log.count('the energy of this run stays unknown: the driver does not tell it (GPU is lost)') == 1
    assert 'Wh' not in capsys.readouterr().out


def test_the_gpu_is_looked_up_by_its_uuid(nvml, monkeypatch):
    warnings: list[str] = []
    monkeypatch.setattr(energy, 'gpu_uuid', lambda: 'MIG-77')
    assert EnergyMeter(warnings.append).watt_hours() is None
    assert warnings == ['the energy of this run stays unknown: NVML does not find the GPU MIG-77 (Not Found)']


def test_no_gpu_no_package_and_a_shared_gpu_say_nothing(nvml, monkeypatch):
    warnings: list[str] = []
    with monkeypatch.context() as patch:
        patch.setenv(energy.SHARED_GPUS, '1')
        assert EnergyMeter(warnings.append).watt_hours() is None
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'pynvml', None)
        assert EnergyMeter(warnings.append).watt_hours() is None
    monkeypatch.setattr(energy, 'gpu_uuid', lambda: None)
    assert EnergyMeter(warnings.append).watt_hours() is None
    assert (warnings, 'inits' in nvml.counters) == ([], False)


def test_the_uuid_is_that_of_the_current_device(monkeypatch):
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 3)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda k: SimpleNamespace(uuid=f'0a-{k}'))
    assert gpu_uuid() == 'GPU-0a-3'
    monkeypatch.setattr(torch.version, 'cuda', None)  # ROCm
    assert gpu_uuid() is None


@pytest.mark.parametrize(('others', 'total'), [(2.5, 4.0), (math.nan, None)])
def test_the_processes_of_a_run_add_up(nvml, monkeypatch, caplog, others, total):
    runner = SimpleNamespace(logger=logging.getLogger('test'), world_size=2)
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda tensor: tensor.add_(others))
    hook = EnergyHook()
    hook.after_load_checkpoint(runner, {'energy_wh': 1})
    hook.before_train(runner)
    nvml.counters[OWN] += 1_800_000
    hook.after_load_checkpoint(runner, {'energy_wh': 0.0})  # back to a checkpoint: what was drawn since counts
    hook.after_train(runner)
    assert hook.watt_hours == total
    assert ('another of its processes' in caplog.text) == (total is None)


@pytest.mark.slow
def test_two_processes_with_a_gpu_each(config_file, tmp_path, launch):
    """Rank 0 draws 1 Wh a step, rank 1 2 Wh: 9 steps of both, 27 Wh."""
    (tmp_path / 'pynvml.py').write_text(NVML)
    (tmp_path / 'draws.py').write_text("""
import os
import pynvml
from mmengine.hooks import Hook
from openmixup.engine import energy
from openmixup.registry import HOOKS

rank = int(os.environ['RANK'])
own = ('GPU-other', 'GPU-5b1e')[rank]
energy.gpu_uuid = lambda: own

@HOOKS.register_module()
class RankDraws(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        pynvml.counters[own] += 3_600_000 * (rank + 1)
""")
    text = "custom_imports = dict(imports=['draws'])\ncustom_hooks = [dict(type='RankDraws')]\n"
    config_file.write_text(config_file.read_text() + text)
    done = launch(config_file, tmp_path / 'work')
    assert done.returncode == 0, done.stderr[-6000:]
    assert watt_hours(tmp_path / 'work') == pytest.approx(27.0)
