"""Updates with values that are not finite are left out, or a run goes back behind them, as the config says."""

from __future__ import annotations

import json

import pytest
import torch

from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.loops import TrainLoop
from openmixup.errors import InputError
from tests.engine.planted import (
    BAD,
    BY_STEP,
    PLANTED,
    action,
    bad_steps,
    everything,
    plant,
    report,
    same,
    weights,
)


def spoil_gradient(runner, learner):
    """Plant a NaN in the next gradient."""
    parameter = learner.student.heads['main'].fc.bias
    handle = parameter.register_hook(lambda gradient: (handle.remove(), gradient * float('nan'))[1])


def spoil_loss(runner, learner):
    """Make the next loss infinite, and none of its gradients."""
    plain = learner.train_step

    def train_step(*args, **kwargs):
        del learner.train_step
        outputs = plain(*args, **kwargs)
        return {**outputs, 'loss': outputs['loss'] + float('inf')}

    learner.train_step = train_step


@pytest.fixture
def around(monkeypatch):
    """The state before and behind each step, by its number."""
    states, plain = {}, TrainLoop.step

    def step(self, batch):
        number, before = self.iter, everything(self.runner)
        plain(self, batch)
        states[number] = before, everything(self.runner)

    monkeypatch.setattr(TrainLoop, 'step', step)
    return states


@pytest.mark.parametrize('policy', ['CutMix', 'RecursiveMix'])
def test_a_step_that_is_left_out_changes_nothing(train, tmp_path, around, policy):
    work = train('run', PLANTED, *action('skip'), argv=('--policy', policy))
    steps = bad_steps(15)
    for step in range(15):
        before, behind = around[step]
        assert same(before, behind) == (step in steps), step
    summary = json.loads((work / 'summary.json').read_text())
    assert summary['left_out_steps'] == steps
    history = json.loads((work / 'history.json').read_text())
    assert all(entry['loss'] == entry['loss'] for entry in history)
    lines = next(work.glob('*/*.log')).read_text()
    assert '(3 of at most 10)' in lines
    for step in steps:
        content, _ = report(work, step)
        assert content['first_non_finite'] == 'loaded inputs'
        assert content['bad_samples'] == [BAD]
        assert content['made_again_with'] == 'the weights of the step itself'


def test_a_run_that_ended_is_continued_with_another_action(train, tmp_path):
    options = (PLANTED.replace(f"'bad': {BAD}", "'bad': 50"), *BY_STEP)
    first = bad_steps(15, 50)[0]
    with pytest.raises(InputError, match=f'at step {first}, .*non_finite.action=skip'):
        train('run', *options)
    continued = train('run', *options, *action('skip'), argv=('--resume',))
    whole = train('whole', *options, *action('skip'))
    assert same(weights(continued / 'iter_15.pth'), weights(whole / 'iter_15.pth'))


def test_skips_are_bounded(train, tmp_path):
    steps = bad_steps(15)
    with pytest.raises(InputError, match=rf'max_skips=2 updates .*\(at steps {steps[0]}, {steps[1]}\)'):
        train('run', PLANTED, *action('skip', 'max_skips=2'))
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()


@pytest.mark.parametrize(
    'sample', [BAD, pytest.param(0, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.slow)]
)
def test_an_accumulated_update_is_left_out_whole(train, around, sample):
    """Whether the bad micro-batch is its first or its second; the others of the run are made."""
    planted = PLANTED.replace(f"'bad': {BAD}", f"'bad': {sample}")
    train('run', planted, *action('skip'), 'optim_wrapper.accumulative_counts=2')
    updates = [(first, min(first + 1, 14)) for first in range(0, 15, 2)]
    bad = bad_steps(15, sample)
    for update in updates:
        before, behind = around[update[0]][0], around[update[1]][1]
        trained = [name for name in before if name in behind and ('weight' in name or 'optimizer' in name)]
        left_out = all(torch.equal(before[name], behind[name]) for name in trained)
        assert left_out == any(step in bad for step in update), (update, bad)


def test_the_cases_of_accumulation_cover_both_places():
    places = {step % 2 for sample in (BAD, 0, 20) for step in bad_steps(15, sample) if step < 14}
    assert places == {0, 1}


@pytest.mark.parametrize('accumulation', [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_run_with_skips_continues_bit_for_bit(train, monkeypatch, accumulation):
    """Also between the micro-batches of an update that is left out."""
    options = (PLANTED, *action('skip'), *BY_STEP, f'optim_wrapper.accumulative_counts={accumulation}')
    whole = train('whole', *options)
    cut = bad_steps(15)[0] + 1
    plain = TrainLoop.step
    with monkeypatch.context() as patch:
        patch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < cut else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train('cut', *options)
    resumed = train('cut', *options, argv=('--resume',))
    first, second = read_checkpoint(whole / 'iter_15.pth'), read_checkpoint(resumed / 'iter_15.pth')
    assert same(first['state_dict'], second['state_dict'])
    assert first['non_finite'] == second['non_finite']
    assert first['log'] == second['log']


def test_gradients_that_are_not_finite_are_left_out_too(train, tmp_path, around, monkeypatch):
    plant(monkeypatch, {6}, spoil_gradient)
    work = train('run', *action('skip'))
    assert [step for step, (before, behind) in around.items() if same(before, behind)] == [6]
    assert report(work, 6)[0]['found'] == 'gradients'
    assert json.loads((work / 'summary.json').read_text())['left_out_steps'] == [6]


HALF = (*BY_STEP, 'optim_wrapper.accumulative_counts=4')  # a checkpoint between the micro-batches of an update


def test_half_accumulated_gradients_that_are_not_finite_overwrite_no_checkpoint(train, tmp_path, monkeypatch):
    """Neither weights nor loss tell of them before the update."""
    options = (*HALF, 'default_hooks.checkpoint.keep=1')
    with monkeypatch.context() as patch:
        plant(patch, {5}, spoil_gradient)
        with pytest.raises(
            InputError, match=r'gradients are not finite behind step 5 \(student\.heads\.main\.fc\.bias'
        ):
            train('run', *options)
    assert [path.name for path in (tmp_path / 'run').glob('iter_*.pth')] == ['iter_5.pth']
    resumed = train('run', *options, argv=('--resume',))
    assert same(weights(resumed / 'iter_15.pth'), weights(train('whole', *options) / 'iter_15.pth'))


def test_a_sum_of_losses_that_is_not_finite_overwrites_no_checkpoint(train, tmp_path, monkeypatch):
    """A run that went on from it would end at the next read."""
    options = (*BY_STEP, 'default_hooks.checkpoint.keep=1')
    with monkeypatch.context() as patch:
        plant(patch, {2}, spoil_loss)
        with pytest.raises(InputError, match='the loss became inf at step 2'):
            train('run', *options)
    assert [path.name for path in (tmp_path / 'run').glob('iter_*.pth')] == ['iter_2.pth']
    resumed = train('run', *options, argv=('--resume',))
    assert same(weights(resumed / 'iter_15.pth'), weights(train('whole', *options) / 'iter_15.pth'))


def test_a_rollback_watches_all_micro_batches_of_the_update_at_fault(train, monkeypatch):
    plant(monkeypatch, {5}, spoil_gradient)
    kept = read_checkpoint(train('run', *HALF, *action('rollback')) / 'iter_15.pth')['non_finite']
    assert (kept['rollbacks'], kept['left_out']) == (1, [7])


def test_a_rollback_ends_where_skipping_ends(train, tmp_path):
    """The update at fault is left out behind the checkpoint, and the rest is repeated."""
    planted = PLANTED.replace(f"'bad': {BAD}", "'bad': 50")
    steps = bad_steps(15, 50)
    options = (planted, *BY_STEP, 'default_hooks.checkpoint.interval=2', 'default_hooks.log.interval=3')
    skipped = train('skip', *options, *action('skip'))
    back = train('back', *options, *action('rollback'))
    assert same(weights(skipped / 'iter_15.pth'), weights(back / 'iter_15.pth'))
    summaries = [json.loads((work / 'summary.json').read_text()) for work in (skipped, back)]
    assert summaries[0]['left_out_steps'] == summaries[1]['left_out_steps'] == steps
    histories = [json.loads((work / 'history.json').read_text()) for work in (skipped, back)]
    keys = ('epoch', 'iter', 'loss', 'val/top1')
    assert [[entry[key] for key in keys] for entry in histories[0]] == [
        [entry[key] for key in keys] for entry in histories[1]
    ]
    assert report(back, steps[0])[0]['made_again_with'] == 'the weights of the step itself'
    lines = next(back.glob('*/*.log')).read_text()
    assert 'rollback 3 of at most 3' in lines


@pytest.mark.slow
def test_a_rollback_in_a_run_by_steps_reaches_its_last_step(train, tmp_path):
    steps = bad_steps(20)
    last = steps[-1] + 1
    options = (
        PLANTED, f"train_cfg={{'type': 'IterLoop', 'max_iters': {last}, 'val_interval': 4}}", 'param_scheduler=None',
        *BY_STEP, 'default_hooks.log.interval=50',
    )  # fmt: skip
    skipped, back = (
        train('skip', *options, *action('skip')),
        train('back', *options, *action('rollback', 'max_rollbacks=9')),
    )
    assert same(weights(skipped / f'iter_{last}.pth'), weights(back / f'iter_{last}.pth'))
    assert json.loads((back / 'summary.json').read_text())['left_out_steps'] == steps


def test_a_rollback_without_a_checkpoint_ends_the_run(train, tmp_path):
    with pytest.raises(InputError, match='no checkpoint to go back to'):
        train('run', PLANTED, *action('rollback'))
    assert report(tmp_path / 'run', bad_steps(5)[0])[0]['bad_samples'] == [BAD]


def test_rollbacks_are_bounded(train, tmp_path, monkeypatch):
    """A value that comes back at each pass, but only where nobody watches."""
    from openmixup.models import MixClassifier

    plain = MixClassifier.parse_losses

    def losses(self, terms):
        total, log = plain(self, terms)
        watched = current['runner'].optim_wrapper.guard is not None
        if self.context.step >= 8 and not watched:
            log['loss'] = log['loss'] * float('nan')
        return total, log

    current = {}
    plant(monkeypatch, set(range(99)), lambda runner, learner: current.update(runner=runner))
    monkeypatch.setattr(MixClassifier, 'parse_losses', losses)
    with pytest.raises(InputError, match='after 2 rollbacks'):
        train('run', *action('rollback', 'max_rollbacks=2'))


def test_skipping_reads_once_for_each_micro_batch_and_raising_never(train, monkeypatch):
    reads, counts = [], []
    tolist, item = torch.Tensor.tolist, torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, 'tolist', lambda self: (reads.append(1), tolist(self))[1])
    monkeypatch.setattr(torch.Tensor, 'item', lambda self: (reads.append(1), item(self))[1])
    plain = TrainLoop.step

    def step(self, batch):
        before = len(reads)
        plain(self, batch)
        counts.append(len(reads) - before)

    monkeypatch.setattr(TrainLoop, 'step', step)
    options = ('default_hooks.log.interval=100', 'train_cfg.max_epochs=1')
    for name, expected in (('raise', 0), ('skip', 1)):
        counts.clear()
        train(name, *options, *action(name), argv=('--policy', 'Vanilla'))
        assert counts[1:4] == [expected] * 3
