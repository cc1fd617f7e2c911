"""Hooks of users are called where those of mmengine's own loops are."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.hooks import Hook

from openmixup.datasets.digits import Digits
from openmixup.engine.config import load_config
from openmixup.engine.launch import build_runner
from openmixup.registry import DATASETS, HOOKS

TRAIN = ['before_train_iter', 'after_train_iter']


@HOOKS.register_module(force=True)
class Recorder(Hook):
    """Notes each call: its name, its arguments, and what ``every_n_epochs(runner, 2)`` says then."""

    calls: list[tuple[str, dict[str, Any], bool]] = []


def note(stage: str) -> Any:
    def method(self: Recorder, runner: Any, **arguments: Any) -> None:
        every_second = runner._train_loop is not None and self.every_n_epochs(runner, 2)
        self.calls.append((stage, arguments, every_second))

    return method


for name in Hook.stages:
    if 'checkpoint' not in name:
        setattr(Recorder, name, note(name))


@pytest.fixture(autouse=True)
def calls() -> list[tuple[str, dict[str, Any], bool]]:
    Recorder.calls = []
    return Recorder.calls


def names(calls: list[tuple[str, dict[str, Any], bool]]) -> list[str]:
    return [stage for stage, _, _ in calls]


def shapes(calls: list[tuple[str, dict[str, Any], bool]], stage: str) -> list[tuple[Any, ...]]:
    """Number, shape of the images and of each branch's logits, of the calls after an evaluated batch."""
    given = [arguments for name, arguments, _ in calls if name == stage]
    return [
        (a['batch_idx'], (*a['data_batch']['inputs'].shape,), {n: (*x.shape,) for n, x in a['outputs'].items()})
        for a in given
    ]


SIZES = [50] * 15 + [47]
BATCHES = [(i, (n, 1, 8, 8), {'student': (n, 10), 'teacher': (n, 10)}) for i, n in enumerate(SIZES)]


def evaluation(part: str, batches: int = 16) -> list[str]:
    steps = [f'before_{part}_iter', f'after_{part}_iter'] * batches
    return [f'before_{part}', f'before_{part}_epoch', *steps, f'after_{part}_epoch', f'after_{part}']


def test_a_run_by_epochs(train, calls):
    train('run', 'custom_hooks=[{"type": "Recorder"}]')
    epoch = ['before_train_epoch', *TRAIN * 5, 'after_train_epoch', *evaluation('val')]
    assert names(calls) == ['before_run', 'before_train', *epoch * 3, 'after_train', 'after_run']
    assert [second for stage, _, second in calls if stage == 'after_train_epoch'] == [False, True, False]
    assert shapes(calls, 'after_val_iter') == BATCHES * 3


def test_a_run_by_steps_is_one_epoch(train, calls):
    train(
        'run', 'custom_hooks=[{"type": "Recorder"}]', 'param_scheduler=None',
        "train_cfg={'type': 'IterLoop', 'max_iters': 4, 'val_interval': 2}",
    )  # fmt: skip
    half = [*TRAIN * 2, *evaluation('val')]
    epoch = ['before_train_epoch', *half * 2, 'after_train_epoch']
    assert names(calls) == ['before_run', 'before_train', *epoch, 'after_train', 'after_run']


def test_a_test_calls_what_is_named_after_tests_and_is_no_evaluation_of_the_run(config_file, tmp_path, calls):
    config = load_config(config_file, ['custom_hooks=[{"type": "Recorder"}]'])
    config['work_dir'] = str(tmp_path / 'run')
    build_runner(config).test()
    assert names(calls) == ['before_run', *evaluation('test'), 'after_run']
    assert shapes(calls, 'after_test_iter') == BATCHES
    assert not list((tmp_path / 'run').glob('*.pth'))


@DATASETS.register_module(force=True)
class Stacked(Digits):
    """Digits with two equal channels."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.images = self.images.expand(-1, 2, -1, -1).contiguous()


@pytest.mark.parametrize('policy', ['Mixup', 'Vanilla'])
def test_images_that_cannot_be_shown_end_no_run(config_file, tmp_path, train, capsys, policy):
    config_file.write_text(config_file.read_text().replace("type='Digits'", "type='Stacked'"))
    options = ('model.backbone.in_channels=2', 'data_preprocessor.mean=(0.3,0.3)', 'data_preprocessor.std=(0.4,0.4)')
    train('run', *options, 'train_cfg.max_epochs=1', argv=('--policy', policy))
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()
    assert not (tmp_path / 'run' / 'mix_gallery.png').exists()
    said = [line for line in capsys.readouterr().out.splitlines() if 'mix_gallery' in line]
    assert said == [
        'mix_gallery.png is left out: images are of shape (16, 2, 8, 8): a gallery shows (N, 1 or 3, H, W).'
    ]
