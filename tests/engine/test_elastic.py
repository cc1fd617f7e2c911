"""torchrun starts a run again after one of its processes was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.test_preemption import equal, final

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
KILLER = """
import os, signal
from pathlib import Path
from mmengine.hooks import Hook
from openmixup.registry import HOOKS

@HOOKS.register_module()
class Killer(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        asked = Path(runner.work_dir + '.kill')
        if batch_idx == 6 and runner.rank == 1 and asked.exists():
            asked.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_is_started_again_and_the_run_ends_as_the_undisturbed_one(config_file, tmp_path):
    (tmp_path / 'killer.py').write_text(KILLER)
    config_file.write_text(
        config_file.read_text() + "custom_imports = dict(imports=['killer'])\ncustom_hooks = [dict(type='Killer')]\n"
        "default_hooks['checkpoint'] = dict(type='CheckpointHook', interval=1, by_epoch=False)\n"
    )
    environ = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{tmp_path}:{ROOT}', 'MAX_RESTARTS': '2'}
    environ['PATH'] = f'{Path(sys.executable).parent}:{environ["PATH"]}'
    for name, port in (('whole', '29611'), ('killed', '29612')):
        if name == 'killed':
            (tmp_path / 'killed.kill').touch()
        command = ['bash', str(ROOT / 'tools/dist_train.sh'), str(config_file), '2', '--work-dir', str(tmp_path / name)]
        done = subprocess.run(
            command, env={**environ, 'PORT': port}, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
    assert not (tmp_path / 'killed.kill').exists()
    assert 'resumed from' in done.stdout + done.stderr
    assert equal(final(tmp_path / 'whole'), final(tmp_path / 'killed'))
