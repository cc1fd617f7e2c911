"""Limits of containers, GPUs, installed copies and sizes, on planted files and faked devices."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import openmixup
from openmixup.analysis.doctor import Finding, limits, machine, packages, worst
from openmixup.analysis.doctor.report import attempt, counted, duration, size_text
from openmixup.engine.checkpoint import checkpoint_bytes, write_checkpoint
from openmixup.errors import InputError

GIB = 2**30


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_limits_of_the_second_version_of_control_groups(tmp_path, monkeypatch):
    root = plant(tmp_path, {
        'proc/self/cgroup': '0::/pod/box\n', 'proc/meminfo': f'MemTotal: 9\nMemAvailable: {8 * 2**20} kB\n',
        'sys/fs/cgroup/pod/box/cpu.max': 'max 100000\n', 'sys/fs/cgroup/pod/cpu.max': '150000 100000\n',
        'sys/fs/cgroup/pod/memory.max': f'{4 * GIB}\n', 'sys/fs/cgroup/pod/memory.current': f'{3 * GIB}\n',
        'sys/fs/cgroup/pod/memory.stat': f'anon 5\ninactive_file {GIB}\n', 'sys/fs/cgroup/pod/box/memory.max': 'max\n',
    })  # fmt: skip
    monkeypatch.setattr(limits, 'affinity', lambda: 16)
    assert limits.quota(root) == 1.5
    assert limits.cores(root) == 2
    assert limits.available_memory(root) == 2 * GIB


def test_limits_of_the_first_version_of_control_groups(tmp_path):
    root = plant(tmp_path, {
        'proc/self/cgroup': '4:memory:/a\n2:cpu,cpuacct:/b\n1:name=systemd:/c\n',
        'sys/fs/cgroup/cpu,cpuacct/b/cpu.cfs_quota_us': '50000', 'sys/fs/cgroup/cpu,cpuacct/b/cpu.cfs_period_us': '1e5',
        'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '-1', 'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000',
        'sys/fs/cgroup/memory/memory.limit_in_bytes': f'{2 * GIB}', 'sys/fs/cgroup/memory/memory.usage_in_bytes': '0',
    })  # fmt: skip
    assert limits.quota(root) == 0.5
    assert limits.cores(root) == 1
    assert limits.available_memory(root) == 2 * GIB
    assert limits.quota(tmp_path / 'nowhere') is None
    assert limits.available_memory(tmp_path / 'nowhere') is None


@pytest.mark.parametrize(
    ('known', 'capability', 'runs'),
    [
        (['sm_80', 'sm_90'], (8, 6), True),
        (['sm_80', 'sm_90a'], (7, 5), False),
        (['sm_80', 'sm_90'], (12, 0), False),
        (['sm_80', 'compute_90'], (12, 0), True),
    ],
)
def test_which_gpus_a_build_runs_on(monkeypatch, known, capability, runs):
    for name, value in {
        'is_available': True, 'device_count': 1, 'get_device_name': 'GPU', 'get_device_capability': capability,
        'mem_get_info': (8 * GIB, 16 * GIB), 'get_arch_list': known,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.version, 'hip', None)
    (finding,) = machine.gpus()
    assert finding.level == ('warn' if runs else 'FAIL')
    assert '8.0 GiB of 16.0 GiB free' in str(finding)
    assert ('end the other processes' if runs else f'for sm_{capability[0]}{capability[1]}') in finding.remedy


def test_a_gpu_without_cudnn(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, 'is_available', lambda: False)
    monkeypatch.setattr(machine, '_tried', lambda *_: 0.1)
    (finding,) = machine.cudnn()
    assert finding.level == 'FAIL'
    assert 'torch does not find it' in str(finding)


def test_the_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, 'DRIVER', tmp_path / 'version')
    assert machine._driver() == ''
    (tmp_path / 'version').write_text('NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5\nGCC 12.3')
    assert machine._driver() == '550.54.15'


def test_torch_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    (finding,) = packages.pair()
    assert (finding.name, finding.level) == ('torch', 'FAIL')


def install(site: Path, name: str, version: str, noted: dict | None = None) -> None:
    info = site / f'{name}-{version}.dist-info'
    plant(info, {'METADATA': f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'})
    if noted:
        (info / 'direct_url.json').write_text(json.dumps(noted))


def test_installed_copies(tmp_path, monkeypatch):
    own, here = openmixup.__version__, Path(openmixup.__file__).parents[1]
    monkeypatch.setattr(sys, 'path', [str(here), str(tmp_path)])
    noted = {'url': here.as_uri(), 'dir_info': {'editable': True}}
    install(tmp_path, 'openmixup', own, noted)
    (finding,) = packages.one_package()
    assert (finding.level, finding.values['others']) == ('ok', {})
    plant(tmp_path / 'copy', {'openmixup/__init__.py': f"__version__ = '{own}'\n"})
    monkeypatch.setattr(sys, 'path', [str(here), str(tmp_path), str(tmp_path / 'copy')])
    (finding,) = packages.one_package()
    assert finding.level == 'warn'
    plant(tmp_path / 'old', {'openmixup/core.py': ''})
    install(tmp_path / 'old', 'OpenMixup', '0.2.9')
    monkeypatch.setattr(sys, 'path', [str(here), str(tmp_path / 'old')])
    (finding,) = packages.one_package()
    assert finding.level == 'FAIL'
    assert f'and 0.2.9 in {tmp_path / "old" / "openmixup"}' in finding.found


def test_an_error_in_a_check_is_a_finding():
    def mistaken():
        yield Finding('a', 'ok', 'b')
        raise InputError('x=1: expected 2.')

    def broken():
        raise KeyError('y')
        yield

    assert [str(finding) for finding in attempt('c', mistaken)] == [
        f'ok    {"a":16s} b', f'FAIL  {"c":16s} x=1: expected 2.'
    ]  # fmt: skip
    (finding,) = attempt('c', broken, level='warn')
    assert str(finding) == f"warn  {'c':16s} KeyError: 'y'; expected no error: it could not be measured."
    assert worst([finding, Finding('a', 'ok', 'b')]) == 'warn'
    assert worst([]) == 'ok'


def test_numbers_have_units():
    assert [counted(1, 'process'), counted(2, 'process'), counted(0, 'core')] == ['1 process', '2 processes', '0 cores']
    assert [duration(40), duration(120), duration(9000), duration(1e6)] == ['40 s', '2.0 min', '2.5 h', '11.6 days']
    assert [size_text(2**19), size_text(3 * GIB)] == ['0.5 MiB', '3.0 GiB']


def test_the_size_of_a_checkpoint_is_known_before_it_is_written(tmp_path):
    content = {'weights': torch.randn(1000), 'plain': [1, 'two', None], 'half': torch.zeros(3, dtype=torch.bfloat16)}
    write_checkpoint(content, tmp_path / 'a.pth')
    assert abs(checkpoint_bytes(content) - (tmp_path / 'a.pth').stat().st_size) < 100
