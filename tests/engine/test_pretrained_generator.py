"""A run whose generator is that of an earlier run, through the whole engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from openmixup import init_model
from openmixup.cli.publish_model import main as publish_model
from openmixup.cli.show_mix import main as show_mix
from openmixup.cli.test import main as evaluate
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.loops import TrainLoop
from openmixup.engine.published import publish
from openmixup.errors import InputError

SAMIX = """
_base_ = './base.py'
model = dict(_delete_=True, type='MixClassifier', backbone=dict(type='CifarResNet', depth=8, width=4, in_channels=1),
    head=dict(type='LinearHead', num_classes=None), policy=dict(type='SAMix'),
    teacher=dict(decay=0.9, end=0.99, hold=0.1, bn='batch'))
optim_wrapper = dict(policy=dict(lr=0.1, momentum=0.0))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=3, eta_min=0.02, by_epoch=True, part='network'),
                   dict(type='CosineAnnealingLR', T_max=3, eta_min=0.001, by_epoch=True, part='policy')]
"""


@pytest.fixture
def earlier(config_file: Path, train) -> Path:
    """The checkpoint of an earlier run; ``train`` and ``config_file`` have its config."""
    config_file.with_name('base.py').write_text(config_file.read_text())
    config_file.write_text(SAMIX)
    return train('earlier', 'train_cfg.max_epochs=1') / 'epoch_1.pth'


def option(path: Path) -> str:
    """The one line that makes SAMix-P of SAMix."""
    return f"model.policy.generator={{'pretrained': '{path}'}}"


def tensors(path: Path, *parts: str) -> dict[str, torch.Tensor]:
    found = read_checkpoint(path)['state_dict']
    return {name: value for name, value in found.items() if not parts or name.startswith(parts)}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_one_line_keeps_the_generator_and_a_continued_run_is_the_same(earlier, train, monkeypatch):
    options = (option(earlier), 'train_cfg.max_epochs=2', 'default_hooks.checkpoint.by_epoch=False')
    last = train('whole', *options, 'randomness.seed=5') / 'iter_10.pth'
    assert equal(tensors(last, 'policy.', 'teacher.'), tensors(earlier, 'policy.', 'teacher.'))
    assert not equal(tensors(last, 'student.'), tensors(earlier, 'student.'))
    parts = [group.get('part') for group in read_checkpoint(last)['optimizer']['param_groups']]
    assert set(parts) == {'network'}

    plain = TrainLoop.step
    monkeypatch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 7 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train('cut', *options, 'randomness.seed=5')
    monkeypatch.setattr(TrainLoop, 'step', plain)
    resumed = train('cut', *options, 'randomness.seed=5', argv=('--resume',)) / 'iter_10.pth'
    assert equal(tensors(resumed), tensors(last))


def test_weights_to_start_from_are_for_the_student_only(earlier, train):
    other = train('other', 'train_cfg.max_epochs=1', 'randomness.seed=7') / 'epoch_1.pth'
    for name, weights in (('whole', other), ('student', publish(other, other.parent))):
        options = (option(earlier), 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0')
        last = train(name, *options, argv=('--load-from', str(weights))) / 'epoch_1.pth'
        assert equal(tensors(last, 'policy.', 'teacher.'), tensors(earlier, 'policy.', 'teacher.'))
        mine, theirs = (
            {key: value for key, value in tensors(path, 'student.').items() if value.ndim > 1} for path in (last, other)
        )
        assert equal(mine, theirs)


def test_a_published_generator_stands_for_the_checkpoint_and_is_not_needed_later(earlier, train, config_file, capsys):
    assert publish_model([str(earlier), str(earlier.parent / 'block'), '--branch', 'generator']) == 0
    (file,) = earlier.parent.glob('block-*.safetensors')
    kept = tensors(earlier, 'policy.', 'teacher.network.')
    assert equal(tensors(file), kept)
    runs = [train(path.stem, option(path), 'train_cfg.max_epochs=1') / 'epoch_1.pth' for path in (earlier, file)]
    assert equal(tensors(runs[0]), tensors(runs[1]))
    file.unlink()
    assert evaluate([str(config_file), str(runs[1]), '--work-dir', str(earlier.parent / 'test'), '--cfg-options',
                     option(file)]) == 0  # fmt: skip
    config = next(runs[1].parent.glob('*.py'))
    assert 'pretrained' in config.read_text()
    assert init_model(config, runs[1], 'cpu').learner.teacher is not None
    with pytest.raises(InputError, match='is not a file'):
        train('again', option(file), 'train_cfg.max_epochs=1')
    with pytest.raises(InputError, match=r'is the generator of a run, .* generator=dict\(pretrained=...\)'):
        train('student', 'train_cfg.max_epochs=1', argv=('--load-from', str(published(earlier))))


def test_what_a_checkpoint_holds_needs_no_file(earlier, train, config_file, monkeypatch, capsys):
    options = (option(earlier), 'train_cfg.max_epochs=2', 'default_hooks.checkpoint.by_epoch=False')
    last = train('whole', *options) / 'iter_10.pth'
    plain = TrainLoop.step
    monkeypatch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 7 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train('cut', *options)
    monkeypatch.setattr(TrainLoop, 'step', plain)
    earlier.unlink()
    assert equal(tensors(train('cut', *options, argv=('--resume',)) / 'iter_10.pth'), tensors(last))
    config = next(last.parent.glob('*.py'))
    picture = earlier.parent / 'mix.png'
    assert show_mix([str(config), '--checkpoint', str(last), '--size', '8', '--out', str(picture)]) == 0
    assert picture.exists()
    student = publish(last, last.parent)  # has no generator
    with pytest.raises(InputError, match=r'is not a file, and no checkpoint has brought the generator'):
        show_mix([str(config), '--checkpoint', str(student), '--size', '8', '--out', str(picture)])
    for argv in ((), ('--resume',), ('--load-from', str(last))):
        with pytest.raises(InputError, match=r'is not a file, and no checkpoint has brought the generator'):
            train('new', *options, argv=argv)
    assert not list((last.parent.parent / 'new').glob('iter_*'))


def published(checkpoint: Path) -> Path:
    return publish(checkpoint, checkpoint.parent / 'block', 'generator')


def test_a_run_goes_on_with_its_own_generator_whatever_the_file(earlier, train, monkeypatch, capsys):
    same = earlier.with_name('moved.pth')
    same.write_bytes(earlier.read_bytes())
    other = train('other', 'train_cfg.max_epochs=1', 'randomness.seed=9') / 'epoch_1.pth'
    options = ('train_cfg.max_epochs=2', 'default_hooks.checkpoint.by_epoch=False')
    undisturbed = train('whole', option(earlier), *options) / 'iter_10.pth'
    plain = TrainLoop.step
    for path in (same, other):
        monkeypatch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 7 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(path.stem, option(earlier), *options)
        monkeypatch.setattr(TrainLoop, 'step', plain)
        capsys.readouterr()
        last = train(path.stem, option(path), *options, argv=('--resume',)) / 'iter_10.pth'
        assert 'the generator stays that of the checkpoint' in capsys.readouterr().out
        assert equal(tensors(last), tensors(undisturbed))


@pytest.mark.parametrize('now', ['damaged', 'of another network'])
def test_a_run_goes_on_whatever_became_of_the_file(earlier, train, monkeypatch, capsys, now):
    """Nobody would look for the mistake in a file that is not needed any more."""
    options = (option(earlier), 'train_cfg.max_epochs=2', 'default_hooks.checkpoint.by_epoch=False')
    plain = TrainLoop.step
    monkeypatch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 7 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train('cut', *options)
    monkeypatch.setattr(TrainLoop, 'step', plain)
    kept = tensors(earlier, 'policy.', 'teacher.')
    content = torch.load(earlier, weights_only=True)
    content['state_dict'] = {name: value[:1] for name, value in content['state_dict'].items() if value.ndim}
    torch.save(content, earlier)
    if now == 'damaged':
        earlier.write_bytes(earlier.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"pretrained='.*' (does not fit SAMix|could not be read)"):
        train('new', *options)
    last = train('cut', *options, argv=('--resume',)) / 'iter_10.pth'
    assert equal(tensors(last, 'policy.', 'teacher.'), kept)
    picture = earlier.parent / 'mix.png'
    config = next(last.parent.glob('*.py'))
    assert show_mix([str(config), '--checkpoint', str(last), '--size', '8', '--out', str(picture)]) == 0


def test_a_teacher_out_of_a_generator_is_a_network_like_any_other(earlier):
    teacher = publish(published(earlier), earlier.parent / 'teacher', 'teacher')
    assert read_checkpoint(teacher)['meta']['branch'] == 'teacher'
    assert equal(tensors(teacher), tensors(publish(earlier, earlier.parent / 'direct', 'teacher')))


def test_only_a_run_with_learned_parts_has_a_generator_to_publish(config_file, train):
    work = train('plain', 'train_cfg.max_epochs=1')  # with a teacher, and a policy that learns nothing
    with pytest.raises(InputError, match=r'has no weights of a generator: use --branch student'):
        publish(work / 'epoch_1.pth', work, 'generator')


@pytest.mark.slow
def test_two_processes_need_not_look_for_unused_parameters(earlier, config_file, tmp_path, launch):
    done = launch(config_file, tmp_path / 'two', '--cfg-options', option(earlier), 'train_cfg.max_epochs=1')
    assert done.returncode == 0, done.stderr[-2000:]
    last = tmp_path / 'two/epoch_1.pth'
    assert equal(tensors(last, 'policy.', 'teacher.'), tensors(earlier, 'policy.', 'teacher.'))
    assert not equal(tensors(last, 'student.'), tensors(earlier, 'student.'))
