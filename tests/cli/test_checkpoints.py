"""What the commands make of a checkpoint: one that is none, of another model, of other data, and what a run leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import DIGITS, jpeg, mistake

SHORT = ['train_dataloader.dataset.per_class=5', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=10']


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """The work directory of a short run on digits."""
    from openmixup.cli.train import main

    work = tmp_path_factory.mktemp('trained')
    assert main([DIGITS, '--work-dir', str(work), '--cfg-options', *SHORT]) == 0
    return work


def test_what_is_no_checkpoint(capsys, tmp_path):
    work = ('--work-dir', tmp_path / 'work')
    assert 'no such file' in mistake(capsys, 'test', DIGITS, tmp_path / 'no.pth', *work)
    assert 'is a folder: give a file in it' in mistake(capsys, 'test', DIGITS, tmp_path, *work)
    (tmp_path / 'notes.md').write_text('# Notes')
    assert 'it is damaged or of another form): give a file' in mistake(
        capsys, 'test', DIGITS, tmp_path / 'notes.md', *work
    )
    assert 'it is damaged or of another form' in mistake(
        capsys, 'import_weights', tmp_path / 'notes.md', tmp_path / 'x.safetensors'
    )


def test_a_checkpoint_that_holds_objects_is_refused_and_not_run(capsys, tmp_path):
    marker = tmp_path / 'ran'

    class Bomb:
        def __reduce__(self):
            return (open, (str(marker), 'w'))

    path = tmp_path / 'bomb.pth'
    torch.save({'state_dict': Bomb()}, path)
    assert 'never loaded' in mistake(capsys, 'test', DIGITS, path, '--work-dir', tmp_path / 'work')
    assert not marker.exists()


def test_a_checkpoint_of_another_model(capsys, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save({'state_dict': {'weight': torch.zeros(3)}}, path)
    error = mistake(capsys, 'test', DIGITS, path, '--work-dir', tmp_path / 'work')
    assert 'does not fit the model' in error


def test_the_checkpoint_under_test_is_the_one_that_is_named(capsys, tmp_path, trained):
    """``resume`` and ``load_from`` of a config are for training; a test would load the wrong weights by them."""
    from openmixup.cli.test import main

    def loss(name: str, *options: str) -> float:
        out = tmp_path / f'{name}.json'
        argv = [DIGITS, str(trained / 'epoch_1.pth'), '--work-dir', str(tmp_path / 'test'), '--out', str(out)]
        main([*argv, '--cfg-options', *options] if options else argv)
        return json.loads(out.read_text())['loss']

    content = torch.load(trained / 'epoch_1.pth', weights_only=True)
    other = tmp_path / 'other.pth'
    torch.save({'state_dict': {key: torch.zeros_like(value) for key, value in content['state_dict'].items()}}, other)
    assert loss('plain') == loss('led astray', f'load_from={other}')
    assert loss('plain') == loss('led astray', f'load_from={other}', 'resume=True')


def test_a_checkpoint_of_other_classes(capsys, tmp_path, trained):
    content = torch.load(trained / 'epoch_1.pth', weights_only=True)
    content['meta']['classes'][3] = 'horse'
    path = tmp_path / 'horses.pth'
    torch.save(content, path)
    error = mistake(capsys, 'test', DIGITS, path, '--work-dir', tmp_path / 'test')
    assert "was trained with 'horse' as class 3, the data has '3'" in error
    content['meta']['classes'].append('dog')
    torch.save(content, path)
    error = mistake(capsys, 'test', DIGITS, path, '--work-dir', tmp_path / 'test')
    assert 'was trained with 11 classes, the data has 10' in error


def test_a_file_that_cannot_be_written_is_refused_before_the_evaluation(capsys, tmp_path):
    for out in (tmp_path / 'no' / 'out.json', tmp_path):
        assert 'cannot be written' in mistake(capsys, 'test', DIGITS, tmp_path / 'no.pth', '--out', out)


def test_a_device_that_is_not_there(capsys, trained):
    argv = ['predict', DIGITS, trained / 'epoch_1.pth', 'a.png', '--device']
    for device in ('toaster', 'cuda:99'):
        assert f"device '{device}' cannot be used" in mistake(capsys, *argv, device)


def test_the_dumped_config_predicts(capsys, tmp_path, trained):
    from openmixup.cli.predict import main

    jpeg(tmp_path / 'digit.jpg', (8, 8))
    dumped = next(trained.glob('*.py'))
    main([str(dumped), str(trained / 'epoch_1.pth'), str(tmp_path / 'digit.jpg'), '--device', 'cpu', '--json'])
    assert json.loads(capsys.readouterr().out)['path'].endswith('digit.jpg')


def test_pretrained_files_are_not_needed_behind_a_training(capsys, tmp_path, trained):
    from openmixup.cli.predict import main as predict
    from openmixup.cli.test import main as test
    from openmixup.engine.config import load_config
    from openmixup.registry import MODELS

    backbone = {'type': 'TimmBackbone', 'model': 'resnet10t', 'in_channels': 1}
    option = f'model.backbone={ {**backbone, "pretrained": str(tmp_path / "gone.pth")} }'
    model = dict(load_config(DIGITS)['model'], backbone=backbone, head={'type': 'LinearHead', 'num_classes': 10})
    content = torch.load(trained / 'epoch_1.pth', weights_only=True)
    torch.save({**content, 'state_dict': MODELS.build(model).state_dict()}, tmp_path / 'model.pth')
    jpeg(tmp_path / 'digit.jpg', (8, 8))
    argv = [DIGITS, str(tmp_path / 'model.pth')]
    assert predict([*argv, str(tmp_path / 'digit.jpg'), '--device', 'cpu', '--cfg-options', option]) == 0
    assert test([*argv, '--work-dir', str(tmp_path / 'test'), '--cfg-options', option]) == 0
    assert 'top1' in capsys.readouterr().out


def test_the_frozen_networks_of_a_policy_are_not_needed_behind_a_training(capsys, tmp_path, trained):
    from openmixup.cli.predict import main as predict
    from openmixup.cli.test import main as test

    teacher = {'type': 'TimmBackbone', 'model': 'resnet10t', 'pretrained': str(tmp_path / 'gone.pth')}
    policy = {'type': 'RandomChoice', 'policies': [{'type': 'AttentiveMix', 'teacher': teacher}]}
    jpeg(tmp_path / 'digit.jpg', (8, 8))
    argv, options = [DIGITS, str(trained / 'epoch_1.pth')], ['--cfg-options', f'model.policy={policy}']
    assert predict([*argv, str(tmp_path / 'digit.jpg'), '--device', 'cpu', *options]) == 0
    assert test([*argv, '--work-dir', str(tmp_path / 'test'), *options]) == 0
    assert 'top1' in capsys.readouterr().out
    assert 'gone.pth' in mistake(capsys, 'train', DIGITS, '--work-dir', str(tmp_path / 'work'), *options)


@pytest.mark.parametrize(
    ('options', 'there', 'not_there'),
    [
        ([], ('top-1', 'checkpoint:', 'best:', 'summary:', 'median of the last 1 evaluations'), ()),
        (['val_evaluator.0.topk=(5,)', 'default_hooks.checkpoint.save_best=None'], ('checkpoint:',), ('top-1',)),
        (['default_hooks.summary=None'], ('checkpoint:', 'best:'), ('top-1', 'summary:')),
        (['default_hooks.checkpoint=None'], ('top-1', 'summary:'), ('checkpoint:', 'best:')),
    ],
)
def test_a_complete_run_ends_well_whatever_the_config_leaves_out(capsys, tmp_path, options, there, not_there):
    from openmixup.cli.train import main

    for name in ('epoch_99.pth', 'best.pth'):  # of an older run
        (tmp_path / name).write_text('')
    assert main([DIGITS, '--work-dir', str(tmp_path), '--cfg-options', *SHORT, *options]) == 0
    printed = capsys.readouterr().out
    printed = printed[printed.rindex('epoch 1/1') :]
    assert [text for text in there if text not in printed] == []
    assert [text for text in not_there if f'\n{text}' in printed] == []
    assert 'epoch_99.pth' not in printed
