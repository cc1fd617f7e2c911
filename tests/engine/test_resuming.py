"""A run that goes on: cut, copied, damaged, changed."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from openmixup.engine.checkpoint import read_checkpoint
from openmixup.errors import InputError
from openmixup.policies import Batch, Context, MixPolicy, Plan, View
from openmixup.registry import POLICIES
from tests.engine.conftest import same, weights


@POLICIES.register_module(force=True)
class LastBatch(MixPolicy):
    """Adds the mean of the batch before; the first batch of a run has none."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        images = batch.images if self.last is None else batch.images + self.last.to(batch.images).mean(0)
        self.last = batch.images.half()
        return Plan(batch, (View(images, self.unmixed(batch).views[0].mixture),), self)

    def rank_state(self) -> dict[str, Tensor]:
        return {} if self.last is None else {'last': self.last, 'count': torch.tensor(len(self.last))}

    def load_rank_state(self, state: dict[str, Tensor]) -> None:
        self.last = state['last']
        assert len(self.last) == int(state['count'])


@pytest.mark.parametrize(
    'step', [1, 5, 8, pytest.param(4, marks=pytest.mark.slow), pytest.param(14, marks=pytest.mark.slow)]
)
def test_a_run_cut_at_any_step_continues_bit_for_bit(train, step, monkeypatch):
    """In the middle of an epoch, at its end, and with gradients half accumulated (2 micro-batches a step)."""
    options = ('default_hooks.checkpoint.by_epoch=False', 'optim_wrapper.accumulative_counts=2')
    whole = train('whole', *options)

    class Cut(Exception):
        pass

    from openmixup.engine.loops import TrainLoop

    plain = TrainLoop.step

    def cut(self, batch):
        if self.iter == step:
            raise Cut
        plain(self, batch)

    monkeypatch.setattr(TrainLoop, 'step', cut)
    with pytest.raises(Cut):
        train('cut', *options)
    monkeypatch.setattr(TrainLoop, 'step', plain)
    resumed = train('cut', *options, argv=('--resume',))
    first, second = read_checkpoint(whole / 'iter_15.pth'), read_checkpoint(resumed / 'iter_15.pth')
    assert same(first['state_dict'], second['state_dict'])
    assert [entry['val/top1'] for entry in first['history']] == [entry['val/top1'] for entry in second['history']]
    assert first['best'] == second['best']


def test_a_run_by_steps_continues_bit_for_bit(train, monkeypatch):
    options = (
        "train_cfg={'type': 'IterLoop', 'max_iters': 12, 'val_interval': 6}", 'default_hooks.checkpoint.interval=4',
        'default_hooks.checkpoint.by_epoch=False',
        "param_scheduler=[{'type': 'CosineAnnealingLR', 'T_max': 12, 'by_epoch': False}]",
    )  # fmt: skip
    whole = train('whole', *options)
    from openmixup.engine.loops import TrainLoop

    plain = TrainLoop.step
    monkeypatch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 9 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train('cut', *options)
    monkeypatch.setattr(TrainLoop, 'step', plain)
    resumed = train('cut', *options, argv=('--resume',))
    assert same(weights(whole / 'iter_12.pth'), weights(resumed / 'iter_12.pth'))
    assert json.loads((resumed / 'summary.json').read_text())['steps'] == 12


def test_resume_refuses_another_seed_or_batch_size(train):
    train('run')
    with pytest.raises(InputError, match='seed: 0 -> 5'):
        train('run', argv=('--resume', '--seed', '5'))
    with pytest.raises(InputError, match='batch_size: 16 -> 8'):
        train('run', 'train_dataloader.batch_size=8', argv=('--resume',))
    with pytest.raises(InputError, match='samples: 80 -> 100'):
        train('run', 'train_dataloader.dataset.per_class=10', argv=('--resume',))
    with pytest.raises(InputError, match=r'weight_decay: None -> 0\.5'):
        train('run', 'optim_wrapper.optimizer.weight_decay=0.5', argv=('--resume',))


def test_resume_passes_over_a_damaged_checkpoint(train, capsys):
    work = train('run')
    newest = work / 'epoch_3.pth'
    before = weights(newest)
    newest.write_bytes(newest.read_bytes()[:1000])
    again = train('run', argv=('--resume',))
    assert same(weights(again / 'epoch_3.pth'), before)


def test_the_log_of_a_continued_epoch_is_that_of_the_whole(train, monkeypatch):
    options = ('default_hooks.checkpoint.by_epoch=False',)
    whole = train('whole', *options)
    from openmixup.engine.loops import TrainLoop

    plain = TrainLoop.step
    monkeypatch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 8 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train('cut', *options)
    monkeypatch.setattr(TrainLoop, 'step', plain)
    cut = train('cut', *options, argv=('--resume',))
    keys = ('loss', 'agreement', 'lr')
    entries = [json.loads((work / 'history.json').read_text()) for work in (whole, cut)]
    assert [[e[k] for k in keys] for e in entries[0]] == [[e[k] for k in keys] for e in entries[1]]
    assert entries[0][0]['lr'] == 0.05


@pytest.mark.parametrize('step', [1, 8])
def test_a_policys_history_is_continued(train, monkeypatch, step):
    from openmixup.engine.loops import TrainLoop

    options = ('default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.keep=20')
    whole = train('whole', *options, argv=('--policy', 'LastBatch'))
    plain = TrainLoop.step
    with monkeypatch.context() as patch:
        patch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < step else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train('cut', *options, argv=('--policy', 'LastBatch'))
    saved = read_checkpoint(whole / f'iter_{step}.pth')
    assert [{name: tensor.shape for name, tensor in state.items()} for state in saved['rank_states']] == [
        {'last': (16, 1, 8, 8), 'count': ()}
    ]
    assert saved['rank_states'][0]['last'].dtype == torch.float16
    resumed = train('cut', *options, argv=('--policy', 'LastBatch', '--resume'))
    assert same(weights(whole / 'iter_15.pth'), weights(resumed / 'iter_15.pth'))


def test_a_policy_without_history_leaves_none_behind(train):
    assert 'rank_states' not in read_checkpoint(train('run', 'train_cfg.max_epochs=1') / 'epoch_1.pth')


def test_an_optimizer_of_timm_trains_and_continues(train, monkeypatch):
    from openmixup.engine.loops import TrainLoop

    options = (
        'default_hooks.checkpoint.by_epoch=False',
        "optim_wrapper.optimizer={'type': 'Lamb', 'lr': 0.01, 'weight_decay': 0.02}",
    )
    whole = train('whole', *options)
    plain = TrainLoop.step
    with monkeypatch.context() as patch:
        patch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 7 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train('cut', *options)
    resumed = train('cut', *options, argv=('--resume',))
    assert same(weights(whole / 'iter_15.pth'), weights(resumed / 'iter_15.pth'))


def test_a_change_of_the_evaluation_is_told_and_changes_no_weights(train, capsys):
    whole = train('whole')
    train('run', 'train_cfg.val_interval=1')
    (whole.with_name('run') / 'epoch_3.pth').unlink()
    capsys.readouterr()
    resumed = train('run', 'train_cfg.val_interval=2', argv=('--resume',))
    assert 'another evaluation (train_cfg.val_interval: 1 -> 2)' in capsys.readouterr().out
    assert same(weights(whole / 'epoch_3.pth'), weights(resumed / 'epoch_3.pth'))
    assert 'inexact' not in json.loads((resumed / 'summary.json').read_text())


def test_an_inexact_continuation_takes_the_new_config_and_remembers_it(train):
    work = train('run')
    (work / 'epoch_3.pth').unlink()
    options = ('optim_wrapper.optimizer.lr=0.01', 'param_scheduler.0.T_max=6', 'train_cfg.max_epochs=6')
    with pytest.raises(InputError, match=r'optimizer\.lr: 0\.05 -> 0\.01.*--allow-inexact-resume'):
        train('run', *options, argv=('--resume',))
    train('run', *options, argv=('--resume', '--allow-inexact-resume'))
    fresh = train('fresh', *options)
    rates = [[entry['lr'] for entry in json.loads((x / 'history.json').read_text())] for x in (work, fresh)]
    assert rates[0][2:] == pytest.approx(rates[1][2:])
    assert len(rates[0]) == 6
    told = json.loads((work / 'summary.json').read_text())['inexact']
    assert 'optim_wrapper.optimizer.lr: 0.05 -> 0.01' in told
    assert read_checkpoint(work / 'epoch_6.pth')['inexact'] == told


@pytest.mark.parametrize('by_step', [False, True])
def test_each_sample_is_seen_once_an_epoch_also_with_batches_of_another_size(train, monkeypatch, by_step):
    """80 samples: 3 steps of 16, then steps of 8; in a run by steps the stream goes on in the same way."""
    from openmixup.datasets.samplers import EpochBatchSampler, InfiniteBatchSampler
    from openmixup.engine.loops import TrainLoop

    options: tuple[str, ...] = ('default_hooks.checkpoint.by_epoch=False',)
    if by_step:
        options += (
            "train_cfg={'type': 'IterLoop', 'max_iters': 17, 'val_interval': 100}",
            "param_scheduler=[{'type': 'CosineAnnealingLR', 'T_max': 17, 'by_epoch': False}]",
        )
    seen: list[int] = []
    kind = InfiniteBatchSampler if by_step else EpochBatchSampler
    draw, plain = kind.__iter__, TrainLoop.step

    def noted(self):
        for batch in draw(self):
            if self.shuffle:
                seen.extend(batch)
            yield batch

    monkeypatch.setattr(kind, '__iter__', noted)
    with monkeypatch.context() as cut:
        cut.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 3 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train('run', *options)
    del seen[48:]  # drawn for the step that failed
    argv = ('--resume', '--allow-inexact-resume')
    work = train('run', *options, 'train_dataloader.batch_size=8', argv=argv)
    assert sorted(seen[:80]) == list(range(80))
    assert sorted(seen[80:160]) == list(range(80))
    done = json.loads((work / 'summary.json').read_text())
    assert done['steps'] == (17 if by_step else 30)  # 30: three epochs of ten steps, as counted in steps of 8
    assert done['inexact'] == ['batch_size: 16 -> 8', 'train_dataloader.batch_size: 16 -> 8']


def test_a_run_from_given_weights_is_resumed_as_itself(train, tmp_path):
    first = train('first')
    whole = train('tuned', argv=('--load-from', str(first / 'epoch_3.pth'), '--seed', '4'))
    expected = weights(whole / 'epoch_3.pth')
    (whole / 'epoch_3.pth').unlink()
    train('tuned', argv=('--load-from', str(first / 'epoch_3.pth'), '--seed', '4', '--resume'))
    assert same(expected, weights(whole / 'epoch_3.pth'))


def test_weights_of_the_own_work_dir_are_read_before_they_are_moved_aside(train):
    work = train('run')
    best = weights(work / 'best.pth')
    again = train('run', 'train_cfg.max_epochs=1', argv=('--load-from', str(work / 'best.pth')))
    assert same(best, weights(next(again.glob('before_*')) / 'best.pth'))
    assert (again / 'epoch_1.pth').exists()


def test_what_another_run_left_is_moved_aside_when_a_run_of_elsewhere_goes_on_here(train):
    first, other = train('first'), train('other', argv=('--seed', '1'))
    (first / 'epoch_3.pth').unlink()
    train('other', argv=('--resume', str(first / 'epoch_2.pth')))
    assert sorted(path.name for path in next(other.glob('before_*')).glob('*.pth')) == [
        'best.pth', 'epoch_2.pth', 'epoch_3.pth',
    ]  # fmt: skip
    assert [path.name for path in other.glob('epoch_*.pth')] == ['epoch_3.pth']


def test_a_damaged_or_planted_file_is_passed_over(train, capsys):
    """A bit that flips in the newest one; leftovers of a crash block nothing and are removed."""
    work = train('run')
    data = bytearray((work / 'epoch_3.pth').read_bytes())
    data[len(data) // 2] ^= 1
    (work / 'epoch_3.pth').write_bytes(data)
    (work / '.epoch_3.pth.123.tmp').write_bytes(b'half')
    capsys.readouterr()
    train('run', argv=('--resume',))
    out = capsys.readouterr().out
    assert 'passed over: checkpoint' in out
    assert 'has another SHA-256 than what was written: it is damaged' in out
    assert 'resumed from' in out
    assert not list(work.glob('.*.tmp'))


def test_a_copy_of_a_work_dir_continues_from_its_newest_checkpoint(train, tmp_path):
    import os
    import shutil

    work = train('run')
    shutil.copytree(work, tmp_path / 'copy', copy_function=shutil.copyfile)
    for number, name in enumerate(('epoch_3.pth', 'epoch_2.pth')):  # the older one has the later time now
        os.utime(tmp_path / 'copy' / name, (1000 + number, 1000 + number))
    from openmixup.engine.checkpoint import latest_checkpoint

    found = latest_checkpoint(tmp_path / 'copy')
    assert found is not None
    assert found[0].name == 'epoch_3.pth'
