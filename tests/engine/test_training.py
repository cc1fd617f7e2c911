"""The main job from end to end, in this process."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from openmixup.engine.resume import finite
from openmixup.errors import InputError
from tests.engine.conftest import same, weights


def test_a_run_writes_all_its_files(train):
    work = train('run')
    summary = json.loads((work / 'summary.json').read_text())
    assert summary['epochs'] == 3
    assert summary['steps'] == 15
    assert summary['seed'] == 0
    assert 0 <= summary['last']['top1'] <= 100
    assert {'top1', 'top5', 'loss', 'ece', 'teacher/top1', 'per_class'} <= set(summary['last'])
    assert len(summary['last']['per_class']) == 10
    history = json.loads((work / 'history.json').read_text())
    assert [entry['epoch'] for entry in history] == [1, 2, 3]
    scores = sorted(entry['val/top1'] for entry in history)
    assert summary['median_last10']['top1'] == scores[1]
    assert summary['best']['top1'] == scores[2]
    assert sorted(path.name for path in work.glob('*.pth')) == ['best.pth', 'epoch_2.pth', 'epoch_3.pth']
    assert (work / 'mix_gallery.png').stat().st_size > 0
    assert list(work.glob('*/vis_data/events.out.*'))
    assert list(work.glob('*/environment.json'))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(train):
    first, again, other = train('a'), train('b'), train('c', argv=('--seed', '1'))
    assert same(weights(first / 'epoch_3.pth'), weights(again / 'epoch_3.pth'))
    assert not same(weights(first / 'epoch_3.pth'), weights(other / 'epoch_3.pth'))


def test_the_policy_of_the_command_line_replaces_that_of_the_config(train):
    work = train('run', 'model.policy.alpha=0.5', argv=('--policy', 'CutMix'))
    assert json.loads((work / 'summary.json').read_text())['policy'].startswith('CutMix(alpha=0.5')


def test_mixed_precision_on_the_cpu_trains(train):
    work = train('run', argv=('--amp',))
    assert all(value.isfinite().all() for value in weights(work / 'epoch_3.pth').values())


def test_training_learns(train):
    options = ('train_dataloader.dataset.per_class=80', 'train_cfg.max_epochs=6', 'param_scheduler.0.T_max=6')
    summary = json.loads((train('run', *options) / 'summary.json').read_text())
    assert summary['last']['top1'] > 60


def test_load_from_starts_a_new_run_from_given_weights(train):
    first = train('first')
    second = train('second', 'optim_wrapper.optimizer.lr=0', argv=('--load-from', str(first / 'best.pth')))
    ours, theirs = weights(second / 'epoch_3.pth'), weights(first / 'best.pth')
    assert torch.equal(ours['student.heads.main.fc.weight'], theirs['student.heads.main.fc.weight'])


def test_a_non_finite_loss_ends_the_run_with_one_sentence(train):
    with pytest.raises(InputError, match=r'the loss became (nan|inf).*learning rate'):
        train('run', 'optim_wrapper.optimizer.lr=1e12')


def test_accumulation_updates_the_teacher_once_per_optimizer_step(train, monkeypatch):
    from openmixup.models import MixClassifier

    calls = []
    plain = MixClassifier.update_teacher
    monkeypatch.setattr(MixClassifier, 'update_teacher', lambda self: (calls.append(1), plain(self)))
    train('run', 'optim_wrapper.accumulative_counts=5')
    assert len(calls) == 3


def test_nothing_is_read_from_the_device_between_logs(train, monkeypatch):
    """Each host read stops an accelerator's queue: only the log may, once per interval."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from openmixup.engine.loops import TrainLoop

    reads: list[int] = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
                reads.append(1)
            return func(*args, **(kwargs or {}))

    plain = TrainLoop.step
    counts: list[int] = []

    def step(self, batch):
        before = len(reads)
        if self.iter < 8:
            with Reads():
                plain(self, batch)
            counts.append(len(reads) - before)
        else:
            plain(self, batch)

    monkeypatch.setattr(TrainLoop, 'step', step)
    train('run', 'default_hooks.log.interval=100', argv=('--policy', 'Vanilla'))
    assert counts[1:] == [0] * 7


def test_a_new_run_in_an_old_work_dir_moves_the_old_files_aside(train):
    work = train('run')
    old = weights(work / 'epoch_3.pth')
    train('run', 'train_cfg.max_epochs=1', argv=('--seed', '1'))
    assert sorted(path.name for path in work.glob('*.pth')) == ['best.pth', 'epoch_1.pth']
    aside = next(work.glob('before_*'))
    assert same(weights(aside / 'epoch_3.pth'), old)
    assert json.loads((aside / 'summary.json').read_text())['epochs'] == 3
    assert json.loads((work / 'summary.json').read_text())['epochs'] == 1


def test_weights_that_are_not_finite_never_replace_a_checkpoint(train, tmp_path):
    """Without the hooks that would end the run before."""
    hooks = ('default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.keep=1', 'default_hooks.log=None')
    hooks += ('default_hooks.non_finite=None',)
    with pytest.raises(
        InputError, match=r'weights or gradients are not finite at step \d+, so that iter_\d+\.pth was not written'
    ):
        train('run', 'optim_wrapper.optimizer.lr=1e30', *hooks)
    kept = list((tmp_path / 'run').glob('*.pth'))
    assert len(kept) == 1
    assert all(value.isfinite().all() for value in weights(kept[0]).values())


def test_statistics_that_are_not_finite_count_as_weights_and_masks_do_not():
    network = torch.nn.BatchNorm2d(2)
    network.register_buffer('mask', torch.full((2, 2), float('-inf')).triu(1))
    assert finite(network)
    for name, value in (('running_var', float('inf')), ('running_mean', float('nan')), ('weight', float('-inf'))):
        broken = copy.deepcopy(network)
        getattr(broken, name).data[1] = value
        assert not finite(broken)
    assert finite(torch.nn.Identity())


def test_a_run_by_steps_without_evaluation_ends_with_its_files(train):
    work = train(
        'run', "train_cfg={'type': 'IterLoop', 'max_iters': 7}", 'param_scheduler=None', 'val_dataloader=None',
        'val_cfg=None', 'val_evaluator=None',
    )  # fmt: skip
    assert json.loads((work / 'summary.json').read_text())['last'] == {}
    assert json.loads((work / 'history.json').read_text())[-1]['iter'] == 7
    assert sorted(path.name for path in work.glob('*.pth')) == ['iter_5.pth', 'iter_7.pth']


def test_a_schedule_by_epochs_in_a_run_by_steps_is_refused(train):
    with pytest.raises(InputError, match='set by_epoch=False'):
        train('run', "train_cfg={'type': 'IterLoop', 'max_iters': 7}")


def test_a_hook_that_these_loops_do_not_serve_is_refused(train):
    with pytest.raises(InputError, match=r'EMAHook of mmengine .* use model\.teacher'):
        train('run', "custom_hooks=[{'type': 'EMAHook'}]")


def test_clipping_reads_nothing_and_its_norm_is_logged(train):
    work = train('run', "optim_wrapper.clip_grad={'max_norm': 0.1}")
    assert all(entry['grad_norm'] > 0 for entry in json.loads((work / 'history.json').read_text()))


def test_a_teacher_starts_from_loaded_weights(train, tmp_path):
    first = train('first', 'model.teacher=None')
    second = train('second', 'optim_wrapper.optimizer.lr=0', argv=('--load-from', str(first / 'best.pth')))
    state = weights(second / 'epoch_3.pth')
    assert torch.equal(state['teacher.network.heads.main.fc.weight'], state['student.heads.main.fc.weight'])


def test_a_network_without_buffers_has_a_teacher_too(train):
    train(
        'run',
        "model.backbone={'type': 'LeNet5', 'image_size': 16}",
        "data_preprocessor.train=[{'type': 'Pad', 'padding': 4}]",
        "data_preprocessor.test=[{'type': 'Pad', 'padding': 4}]",
    )


def test_schedulers_that_hold_functions_are_saved(train):
    scheduler = "{'type': 'OneCycleLR', 'eta_max': 0.1, 'total_steps': 15, 'by_epoch': False}"
    work = train('run', f'param_scheduler=[{scheduler}]')
    assert (work / 'epoch_3.pth').exists()


def test_the_picture_shows_the_first_batch_that_is_mixed(train, monkeypatch):
    from openmixup.analysis import gallery

    drawn = []
    plain = gallery.mix_gallery
    monkeypatch.setattr(
        gallery, 'mix_gallery', lambda *a, **k: (drawn.append(a[1].mixture.index.shape[1]), plain(*a, **k))[1]
    )
    late = "{'type': 'RandomChoice', 'policies': [{'type': 'CutMix'}], 'epochs': [(1, None)]}"
    train('run', f'model.policy={late}')
    assert drawn == [1, 2]
