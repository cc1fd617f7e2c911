"""Values that are not finite are found, reported and named; no file gets them."""

from __future__ import annotations

import pytest
import torch

from openmixup.datasets import Digits
from openmixup.datasets.loading import build_dataloader
from openmixup.engine.distributed import learner_of
from openmixup.engine.hooks import NonFiniteHook
from openmixup.engine.loops import TrainLoop
from openmixup.engine.replay import sample_ids
from openmixup.errors import InputError
from tests.engine.planted import BAD, BY_STEP, PLANTED, action, bad_steps, plant, report, spoil


def test_the_first_bad_step_of_an_interval_is_named_with_its_samples(train, tmp_path):
    step = bad_steps(5)[0]
    assert 0 < step < 4  # neither at an end of the interval
    with pytest.raises(
        InputError, match=rf'became nan at step {step}, counted from 0 \(first not finite: loaded inputs'
    ) as caught:
        train('run', PLANTED, 'default_hooks.log.interval=50')
    assert '\n' not in str(caught.value)
    assert 'RandomChoice' in str(caught.value)
    content, saved = report(tmp_path / 'run', step)
    assert (content['step'], content['epoch'], content['rank'], content['seed']) == (step, 0, 0, 0)
    assert content['found'] == 'loss'
    assert content['first_non_finite'] == 'loaded inputs'
    assert content['bad_samples'] == [BAD]
    loader = build_dataloader(Digits(per_class=8), 16, shuffle=True, seed=0)
    assert content['samples'] == sample_ids(loader, step)[0]
    row = content['samples'].index(BAD)
    assert saved['batch']['inputs'][row].isnan().sum() == 1
    assert saved['batch']['inputs'].isnan().sum() == 1
    assert content['losses']['loss'] == 'nan'
    (view,) = content['views']
    assert torch.tensor(view['weight']).sum(1).allclose(torch.ones(16))
    assert [first for first, _ in view['index']] == list(range(16))
    assert [path.name for path in (tmp_path / 'run').glob('non_finite_*')] == [f'non_finite_step_{step}']
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_the_report_of_a_later_epoch_uses_the_weights_of_the_checkpoint(train, tmp_path, monkeypatch):
    """Those of the step are gone when it is found."""
    from openmixup.models import MixClassifier

    plain = MixClassifier.run_views

    def views(self, plan):
        outputs = plain(self, plan)
        return tuple(type(o)(o.logits * float('inf')) for o in outputs) if self.context.step == 7 else outputs

    monkeypatch.setattr(MixClassifier, 'run_views', views)
    with pytest.raises(
        InputError, match=r'at step 7, counted from 0 \(first not finite: logits of view 0 \(head main\)'
    ):
        train('run')
    content, _ = report(tmp_path / 'run', 7)
    assert content['made_again_with'] == 'the weights of epoch_1.pth'
    assert content['epoch'] == 1
    assert content['bad_samples'] == []


def test_weights_that_are_not_finite_are_named(train, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        plant(patch, {7}, spoil)
        with pytest.raises(
            InputError, match=r'at step 7, .*loss, which is finite when made again with the weights of epoch_1\.pth'
        ):
            train('run')
        assert 'student.heads.main.fc.weight' in report(tmp_path / 'run', 7)[0]['non_finite_weights']
        with pytest.raises(
            InputError, match=r'at step 7, .*so are the weights student\.heads\.main\.fc\.weight, .* cannot help'
        ):
            train('skip', *action('skip'))
    assert report(tmp_path / 'skip', 7)[0]['non_finite_weights'] == ['student.heads.main.fc.weight']
    plant(monkeypatch, {2}, spoil)
    with pytest.raises(InputError, match='at step 2, .*first not finite: loss term loss_main'):
        train('early')


def test_weights_that_no_loss_showed_are_neither_saved_nor_evaluated(train, tmp_path, monkeypatch):
    plain = TrainLoop.after_step_hooks
    monkeypatch.setattr(
        TrainLoop, 'after_step_hooks',
        lambda self: (spoil(self.runner, learner_of(self.runner)) if self.iter == 3 else None, plain(self)),
    )  # fmt: skip
    with pytest.raises(InputError, match=r'weights are not finite behind step 2 \(student\.heads\.main\.fc\.weight\)'):
        train('run', *BY_STEP)
    assert sorted(path.name for path in (tmp_path / 'run').glob('*.pth')) == ['iter_1.pth', 'iter_2.pth']
    assert report(tmp_path / 'run', 2)[0]['found'] == 'weights'


@pytest.mark.parametrize('how', ['skip', 'raise'])
def test_a_mask_of_a_learned_policy_that_is_not_finite_is_named(train, tmp_path, monkeypatch, how):
    from openmixup.policies.dynamic.mix_block import MixBlock

    plain = MixBlock.forward

    def forward(self, *args, **kwargs):
        masks = plain(self, *args, **kwargs)
        return masks * float('nan') if current['learner'].context.step == 7 else masks

    current = {}
    plant(monkeypatch, set(range(30)), lambda runner, learner: current.update(learner=learner))
    monkeypatch.setattr(MixBlock, 'forward', forward)
    options = (*action(how), 'model.policy.classifier={"lam_margin": 0.0}')
    if how == 'raise':
        with pytest.raises(
            InputError, match=r'step 7, counted from 0 \(first not finite: mask of view 1; policy AutoMix'
        ):
            train('run', *options, argv=('--policy', 'AutoMix'))
    else:
        train('run', *options, argv=('--policy', 'AutoMix'))
    content, _ = report(tmp_path / 'run', 7)
    assert content['first_non_finite'] == 'mask of view 1'
    assert content['non_finite'][:2] == ['mask of view 1', 'mixed images of view 1']
    assert content['losses']['loss_mix'] == 'nan'
    assert content['losses']['loss_main'] != 'nan'


def test_other_arguments_are_refused(train):
    with pytest.raises(InputError, match="action='ignore'"):
        NonFiniteHook('ignore')
    with pytest.raises(InputError, match='max_skips=0'):
        NonFiniteHook('skip', max_skips=0)
    with pytest.raises(InputError, match='needs the LogHook'):
        train('run', *action('rollback'), 'default_hooks.log=None')


def test_a_run_without_the_hook_still_ends(train, tmp_path):
    with pytest.raises(InputError, match='the loss became nan between step'):
        train('run', PLANTED, 'default_hooks.non_finite=None')


def test_a_new_run_moves_reports_aside(train, tmp_path):
    step = bad_steps(5)[0]
    for _ in range(2):
        with pytest.raises(InputError, match='became nan'):
            train('run', PLANTED)
    work = tmp_path / 'run'
    assert len(list(work.glob(f'before_*/non_finite_step_{step}/report_rank0.json'))) == 1
    assert (work / f'non_finite_step_{step}' / 'report_rank0.json').exists()
