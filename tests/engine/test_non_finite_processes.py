"""Two processes of which only the second sees a value that is not finite: both do the same."""

from __future__ import annotations

import json

import pytest
import torch

from openmixup.datasets import Digits
from openmixup.datasets.loading import build_dataloader
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.replay import sample_ids

BAD = 53
PLANTED = f"""
import os
from pathlib import Path
import torch
from mmengine.hooks import Hook
from openmixup.datasets import Digits
from openmixup.engine.hooks import NonFiniteHook
from openmixup.engine.distributed import learner_of
from openmixup.registry import DATASETS, HOOKS

@DATASETS.register_module()
class SecondRankDigits(Digits):
    def __getitems__(self, indices):
        batch = super().__getitems__(indices)
        batch['inputs'] = batch['inputs'].float()
        if os.environ['RANK'] == '1' and {BAD} in indices:
            batch['inputs'][indices.index({BAD})] = float('nan')
        return batch

@HOOKS.register_module()
class Ending(Hook):
    priority = 'LOWEST'
    def after_train(self, runner):
        learner = learner_of(runner)
        own = next(hook for hook in runner.hooks if isinstance(hook, NonFiniteHook))
        total = sum(value.double().sum().item() for value in learner.parameters())
        finite = all(bool(value.isfinite().all()) for value in learner.state_dict().values())
        Path(runner.work_dir, f'rank{{runner.rank}}.txt').write_text(f'{{own.left_out}} {{total}} {{finite}}')
"""


def bad_steps() -> list[int]:
    loader = build_dataloader(Digits(per_class=8), 16, shuffle=True, rank=1, world_size=2)
    return [step for step in range(9) if BAD in sample_ids(loader, step)[0]]


@pytest.fixture
def planted(config_file, tmp_path):
    (tmp_path / 'planted.py').write_text(PLANTED)
    text = config_file.read_text().replace(
        "dict(type='Digits', split='train'", "dict(type='SecondRankDigits', split='train'"
    )
    config_file.write_text(
        text + "custom_imports = dict(imports=['planted'])\ncustom_hooks = [dict(type='Ending')]\n"
        "val_dataloader = val_cfg = val_evaluator = None\n"
        "default_hooks['checkpoint'].update(by_epoch=False, keep=20)\ndefault_hooks['log'].update(interval=4)\n"
    )  # fmt: skip
    return config_file


def test_the_second_process_meets_the_bad_sample_twice():
    """Once as the second, once as the first micro-batch of two."""
    assert [step % 2 for step in bad_steps()] == [1, 0]


@pytest.mark.parametrize(
    ('how', 'accumulation'),
    [pytest.param('skip', 1, marks=pytest.mark.slow), pytest.param('skip', 2, marks=pytest.mark.slow), ('rollback', 2)],
)
def test_both_leave_out_the_same_updates(planted, tmp_path, launch, how, accumulation):
    options = [f'default_hooks.non_finite.action={how}', f'optim_wrapper.accumulative_counts={accumulation}']
    done = launch(planted, tmp_path / 'work', '--cfg-options', *options)
    assert done.returncode == 0, done.stderr[-6000:]
    ends = [(tmp_path / 'work' / f'rank{rank}.txt').read_text() for rank in (0, 1)]
    assert ends[0] == ends[1]
    assert ends[0].startswith(str(bad_steps()))
    assert ends[0].endswith('True')
    for step in bad_steps():
        files = sorted(path.name for path in (tmp_path / 'work' / f'non_finite_step_{step}').iterdir())
        assert files == ['batch_rank1.pth', 'report_rank1.json']  # of the process that saw it
        content = json.loads((tmp_path / 'work' / f'non_finite_step_{step}' / files[1]).read_text())
        assert content['bad_samples'] == [BAD]
        assert content['first_non_finite'] == 'loaded inputs'
    saved = read_checkpoint(tmp_path / 'work' / 'iter_9.pth')
    assert all(torch.as_tensor(value).isfinite().all() for value in saved['state_dict'].values())


def test_both_end_at_the_same_step(planted, tmp_path, launch):
    step = bad_steps()[0]
    done = launch(planted, tmp_path / 'work')
    assert done.returncode != 0
    assert f'train: the loss became nan at step {step}, counted from 0 (first not finite: ' in done.stderr
    folder = tmp_path / 'work' / f'non_finite_step_{step}'
    assert sorted(path.name for path in folder.iterdir()) == ['batch_rank1.pth', 'report_rank1.json']
    assert json.loads((folder / 'report_rank1.json').read_text())['bad_samples'] == [BAD]
