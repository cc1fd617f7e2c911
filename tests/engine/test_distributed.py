"""Two processes on the CPU, as torchrun starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.distributed import init_processes, slurm_environment
from openmixup.errors import InputError

ROOT = Path(__file__).parents[2]
HOOK = """
from pathlib import Path
import torch
from mmengine.hooks import Hook
from openmixup.engine.loops import learner_of
from openmixup.registry import HOOKS

@HOOKS.register_module()
class Witness(Hook):
    def before_run(self, runner):
        self.lines = []
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        plan = learner_of(runner).last_plan
        weight = plan.views[0].mixture.weight
        self.lines.append(f'{type(plan.chosen).__name__} {weight[0, 0].item()}')
    def after_train(self, runner):
        weights = torch.cat([p.detach().flatten() for p in learner_of(runner).student.parameters()])
        teacher = torch.cat([p.flatten() for p in learner_of(runner).teacher.parameters()])
        buffers = float(runner.val_loop.run()['top1'])
        self.lines.append(f'{weights.double().sum().item()} {teacher.double().sum().item()} {buffers}')
        Path(runner.work_dir, f'rank{runner.rank}.txt').write_text('\\n'.join(self.lines))
"""


def launch(config: Path, work: Path, *argv: str, processes: int = 2) -> subprocess.CompletedProcess:
    environ = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(config.parent)}
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={processes}']
    command += [str(ROOT / 'tools/train.py'), str(config), '--launcher', 'pytorch', '--work-dir', str(work), *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=300, check=False)


def test_two_processes_agree_on_weights_and_draw_their_own_mixtures(config_file, tmp_path):
    (tmp_path / 'witness.py').write_text(HOOK)
    text = config_file.read_text()
    config_file.write_text(
        text + "custom_imports = dict(imports=['witness'])\ncustom_hooks = [dict(type='Witness', priority='LOWEST')]\n"
    )
    done = launch(config_file, tmp_path / 'work')
    assert done.returncode == 0, done.stderr[-6000:]
    first, second = ((tmp_path / 'work' / f'rank{rank}.txt').read_text().splitlines() for rank in (0, 1))
    assert first[-1] == second[-1]  # weights, teacher and accuracy over all samples
    policies = [[line.split()[0] for line in lines[:-1]] for lines in (first, second)]
    assert policies[0] == policies[1]  # the choice of a policy is shared
    assert len(set(policies[0])) == 2
    drawn = list(zip(first[:-1], second[:-1], strict=True))
    assert sum(a == b for a, b in drawn) <= 2  # lam is not; two boxes on 8x8 pixels may be as large by chance
    summary = json.loads((tmp_path / 'work' / 'summary.json').read_text())
    assert summary['steps'] == 9  # 80 images, 2 processes of batch 16, 3 epochs
    assert read_checkpoint(tmp_path / 'work' / 'epoch_3.pth')['progress']['world_size'] == 2
    again = launch(config_file, tmp_path / 'work', '--resume', processes=1)
    assert 'world_size=2, this run has 1' in again.stderr


def test_slurm_variables_become_those_of_torch():
    environ = {'SLURM_JOB_ID': '40123', 'SLURM_PROCID': '5', 'SLURM_NTASKS': '8', 'SLURM_LOCALID': '1'}
    assert slurm_environment(environ, 'node7') == {
        'RANK': '5', 'WORLD_SIZE': '8', 'LOCAL_RANK': '1', 'MASTER_ADDR': 'node7', 'MASTER_PORT': '20123',
    }  # fmt: skip
    with pytest.raises(InputError, match='SLURM_PROCID.*srun'):
        slurm_environment({'SLURM_JOB_ID': '1'}, 'node7')


def test_a_launcher_without_its_environment_is_refused(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(InputError, match='start with torchrun'):
        init_processes('pytorch')
    with pytest.raises(InputError, match="launcher='mpi'"):
        init_processes('mpi')


@pytest.mark.parametrize(('script', 'arguments'), [
    ('dist_train.sh', []), ('dist_test.sh', ['config.py']), ('slurm_train.sh', ['part', 'job']),
])  # fmt: skip
def test_the_launch_scripts_say_how_they_are_used(script, arguments):
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'usage:' in done.stderr
