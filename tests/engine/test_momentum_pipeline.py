"""A learned generator and its momentum teacher through the whole engine: routing, resume, precision, processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.distributed import learner_of
from openmixup.engine.loops import TrainLoop
from openmixup.errors import InputError
from openmixup.policies import Context
from openmixup.registry import MODELS

WITNESS = """
from pathlib import Path
import torch
from mmengine.hooks import Hook
from openmixup.engine.distributed import learner_of
from openmixup.registry import HOOKS

@HOOKS.register_module()
class Witness(Hook):
    def after_train(self, runner):
        learner = learner_of(runner)
        sums = [sum(p.detach().double().sum().item() for p in part.parameters())
                for part in (learner.student, learner.policy, learner.teacher)]
        Path(runner.work_dir, f'rank{runner.rank}.txt').write_text(repr(sums))
"""
AUTOMIX = """
model = dict(_delete_=True, type='MixClassifier', backbone=dict(type='CifarResNet', depth=8, width=4, in_channels=1),
    head=dict(type='LinearHead', num_classes=None), policy=POLICY,
    teacher=dict(decay=0.9, end=0.99, hold=0.1, bn='batch'))
optim_wrapper = dict(policy=dict(lr=0.1, momentum=0.0))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=3, eta_min=0.02, by_epoch=True, part='network'),
                   dict(type='CosineAnnealingLR', T_max=3, eta_min=0.001, by_epoch=True, part='policy')]
"""


@pytest.fixture
def automix_file(config_file: Path) -> Path:
    """A config of AutoMix that inherits from the tiny one; also the one that ``train`` runs."""
    base = config_file.with_name('base.py')
    base.write_text(config_file.read_text())
    config_file.write_text("_base_ = './base.py'\n" + AUTOMIX.replace('POLICY', "dict(type='AutoMix')"))
    return config_file


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path)['state_dict']


def test_all_heads_and_branches_are_evaluated_and_the_generator_learns(automix_file, train):
    work = train('run')
    last = json.loads((work / 'summary.json').read_text())['last']
    assert {'top1', 'student/mix/top1', 'teacher/top1', 'teacher/mix/top1'} <= set(last)
    first, final = tensors(work / 'epoch_2.pth'), tensors(work / 'epoch_3.pth')
    block = [name for name in final if name.startswith('policy.')]
    assert block
    assert any(not torch.equal(first[name], final[name]) for name in block)
    assert (work / 'mix_gallery.png').stat().st_size > 0


@pytest.mark.parametrize('step', [4, pytest.param(8, marks=pytest.mark.slow)])
def test_it_continues_bit_for_bit_with_gradients_half_accumulated(automix_file, train, monkeypatch, step):
    options = ('default_hooks.checkpoint.by_epoch=False', 'optim_wrapper.accumulative_counts=2')
    whole = train('whole', *options)
    plain = TrainLoop.step
    monkeypatch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < step + 1 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train('cut', *options)
    monkeypatch.setattr(TrainLoop, 'step', plain)
    resumed = train('cut', *options, argv=('--resume',))
    first, second = tensors(whole / 'iter_15.pth'), tensors(resumed / 'iter_15.pth')
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_teacher_moves_once_for_each_optimizer_step(automix_file, train, monkeypatch):
    from openmixup.models.teacher import Teacher

    moved = []
    plain = Teacher.update
    monkeypatch.setattr(
        Teacher, 'update', lambda self, student, progress: (moved.append(progress), plain(self, student, progress))
    )
    train('run', 'optim_wrapper.accumulative_counts=2')
    assert len(moved) == 8  # 15 micro-batches: after each second one and after the last
    assert moved == sorted(moved)
    assert moved[0] == pytest.approx(1 / 15)


def test_mixed_precision_trains_it(automix_file, train):
    work = train('run', argv=('--amp',))
    assert all(value.isfinite().all() for value in tensors(work / 'epoch_3.pth').values())


def test_a_compiled_student_is_the_same_network():
    """Its state has the same names, and a plain pass and one with a tap give what the eager one gives."""
    config = {
        'type': 'MixClassifier', 'backbone': {'type': 'CifarResNet', 'width': 4},
        'head': {'type': 'LinearHead', 'num_classes': 5}, 'teacher': {'decay': 0.9},
    }  # fmt: skip
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = MODELS.build({**config, 'policy': {'type': 'AutoMix'}, 'compile': compiled}).train()
        model.context = Context(seed=3)
        torch._dynamo.reset()
        counters.clear()
        terms = model(images, labels, mode='loss')
        total, _ = model.parse_losses(terms)
        total.backward()
        assert (counters['frames']['ok'] > 0) == compiled
        losses.append(
            (list(model.state_dict()), total.detach(), [p.grad for p in model.student.parameters() if p.requires_grad])
        )
    (names, eager, gradients), (again, fused, others) = losses
    assert names == again
    torch.testing.assert_close(eager, fused)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_two_processes_agree_on_student_generator_and_teacher(automix_file, tmp_path, launch):
    """Equal weights after several steps: so the gradients of both parts were averaged over the processes."""
    (tmp_path / 'witness.py').write_text(WITNESS)
    text = automix_file.read_text()
    automix_file.write_text(
        text + "custom_imports = dict(imports=['witness'])\ncustom_hooks = [dict(type='Witness', priority='LOWEST')]\n"
    )
    done = launch(automix_file, tmp_path / 'work')
    assert done.returncode == 0, done.stderr[-6000:]
    first, second = ((tmp_path / 'work' / f'rank{rank}.txt').read_text() for rank in (0, 1))
    assert first == second


def test_a_choice_with_a_learned_member_trains(automix_file, train):
    choice = "dict(type='RandomChoice', policies=[dict(type='Mixup'), dict(type='AutoMix')])"
    automix_file.write_text("_base_ = './base.py'\n" + AUTOMIX.replace('POLICY', choice))
    work = train('run')
    assert 'student/mix/top1' in json.loads((work / 'summary.json').read_text())['last']


@pytest.mark.slow
def test_a_choice_with_a_learned_member_needs_the_flag_of_distributed_training(automix_file, tmp_path, launch):
    choice = "dict(type='RandomChoice', policies=[dict(type='Mixup'), dict(type='AutoMix')])"
    text = "_base_ = './base.py'\n" + AUTOMIX.replace('POLICY', choice)
    automix_file.write_text(text)
    refused = launch(automix_file, tmp_path / 'refused')
    assert refused.returncode != 0
    assert 'find_unused_parameters=True' in refused.stderr
    automix_file.write_text(text + 'find_unused_parameters = True\n')
    done = launch(automix_file, tmp_path / 'work')
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.slow
def test_a_last_batch_of_one_is_refused_in_a_distributed_run(automix_file, tmp_path, launch):
    text = automix_file.read_text() + 'train_dataloader = dict(batch_size=13)\n'  # 80 images: 40 for each process
    automix_file.write_text(text)
    refused = launch(automix_file, tmp_path / 'refused')
    assert refused.returncode != 0
    assert 'has one sample (40 samples of a process in batches of 13): set train_dataloader.drop_last' in refused.stderr
    automix_file.write_text(text.replace('=13', '=13, drop_last=True'))
    done = launch(automix_file, tmp_path / 'work')
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.parametrize(
    ('policy', 'message'),
    [
        ("dict(type='AutoMix', stage=7)", 'stage 7'),
        ("dict(type='AutoMix', block=dict(channels=99))", '99'),
        ("dict(type='TransMix')", 'attention of a class token'),
        ("dict(type='ManifoldMix', layers=(0, 9))", 'stage'),
    ],
)
def test_what_the_network_lacks_is_refused_when_the_model_is_built(automix_file, train, policy, message):
    automix_file.write_text("_base_ = './base.py'\n" + AUTOMIX.replace('POLICY', policy))
    with pytest.raises(InputError, match=message) as error:
        train('run')
    assert '\n' not in str(error.value)


def test_without_a_teacher_it_is_refused(automix_file, train):
    automix_file.write_text(
        automix_file.read_text().replace("teacher=dict(decay=0.9, end=0.99, hold=0.1, bn='batch')", '')
    )
    with pytest.raises(InputError, match=r'AutoMix needs a momentum teacher.*add model.teacher=dict'):
        train('run')


def test_a_loss_that_is_not_finite_is_reported(automix_file, train, monkeypatch):
    """A broken mask is not replaced by anything: it surfaces as the loss."""
    plain = TrainLoop.step

    def broken(self, batch):
        if self.iter == 4:
            with torch.no_grad():
                next(learner_of(self.runner).policy.parameters()).fill_(float('nan'))
        plain(self, batch)

    monkeypatch.setattr(TrainLoop, 'step', broken)
    with pytest.raises(InputError, match=r'the loss became nan.*AutoMix'):
        train('run')
