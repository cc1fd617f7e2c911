"""A regression from the config to the summary, and what does not fit together."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import pytest
import torch

from openmixup.cli.predict import main as predict
from openmixup.datasets import Digits, InMemoryDataset
from openmixup.engine.data_checks import set_outputs
from openmixup.engine.hooks import CheckpointHook
from openmixup.engine.inference import init_model
from openmixup.errors import InputError
from openmixup.registry import DATASETS


@pytest.fixture
def numbers():
    """Registers digits whose target is their value as a number."""

    def build(split: str = 'train') -> InMemoryDataset:
        data = Digits(split, per_class=16)
        return InMemoryDataset(data.images, data.labels.float() / 9, target='regression')

    DATASETS.register_module(name='DigitValues', module=build)
    yield
    del DATASETS.module_dict['DigitValues']


OPTIONS = (
    "train_dataloader.dataset={'type': 'DigitValues'}",
    "val_dataloader.dataset={'type': 'DigitValues', 'split': 'test'}",
    "test_dataloader.dataset={'type': 'DigitValues', 'split': 'test'}",
    "val_evaluator=[{'type': 'RegressionMetric'}]",
    "test_evaluator=[{'type': 'RegressionMetric'}]",
    "model.policy={'type': 'CMixup', 'sigma': 0.2}",
    "model.loss={'type': 'RegressionLoss'}",
    'model.target=regression',
    'default_hooks.checkpoint.save_best=mae',
)


@pytest.mark.usefixtures('numbers')
def test_a_regression_is_trained_evaluated_and_summed_up(train, capsys):
    work = train('run', *OPTIONS)
    summary = json.loads((work / 'summary.json').read_text())
    history = json.loads((work / 'history.json').read_text())
    assert {'mae', 'rmse', 'mape', 'r2', 'pearson', 'teacher/mae'} <= set(summary['last'])
    errors = [entry['val/mae'] for entry in history]
    assert len(errors) == 3
    assert summary['best']['mae'] == min(errors), 'the smallest error is the best'
    assert summary['median_last10'] == {'mae': sorted(errors)[1], 'count': 3}
    assert f'MAE {errors[-1]:.4g} after the last epoch' in capsys.readouterr().out
    weights = torch.load(work / 'best.pth', weights_only=True)['state_dict']
    assert weights['student.heads.main.fc.weight'].shape[0] == 1, 'one output, from the data'


@pytest.mark.usefixtures('numbers')
def test_a_regression_predicts_the_values_of_image_files(train, tmp_path, capsys):
    work = train('run', *OPTIONS)
    images = DATASETS.build({'type': 'DigitValues', 'split': 'test'}).images[:3]
    files = [tmp_path / f'{k}.png' for k in range(3)]
    for file, image in zip(files, images, strict=True):
        cv2.imwrite(str(file), image[0].numpy())
    (config,) = work.glob('*.py')
    model = init_model(config, work / 'epoch_3.pth', device='cpu')
    told = model(files)
    learner = model.learner
    with torch.no_grad():
        values = learner(learner.data_preprocessor({'inputs': images}, training=False)['inputs'])
    assert [row['path'] for row in told] == [str(file) for file in files]
    assert torch.tensor([row['values'] for row in told]).equal(values)
    assert values.shape == (3, 1)
    capsys.readouterr()
    predict([str(config), str(work / 'epoch_3.pth'), *map(str, files), '--device', 'cpu'])
    lines = [line.split('\t') for line in capsys.readouterr().out.splitlines()]
    assert lines == [[str(file), f'{float(value):.6g}'] for file, value in zip(files, values, strict=True)]
    predict([str(config), str(work / 'epoch_3.pth'), str(files[0]), '--device', 'cpu', '--json'])
    row = json.loads(capsys.readouterr().out)
    assert row == {'path': str(files[0]), 'values': pytest.approx(told[0]['values'], rel=1e-5)}


@pytest.mark.usefixtures('numbers')
@pytest.mark.parametrize(
    ('changed', 'says'),
    [
        ({'model.target=regression': 'model.target=class'}, "set it to 'regression'"),
        ({'model.target=regression': 'model.head.num_classes=3'}, "set it to 'regression'"),
        ({'default_hooks.checkpoint.save_best=mae': 'default_hooks.checkpoint.save_best=top1'}, 'mae, rmse|mae, mse'),
        ({OPTIONS[0]: "train_dataloader.dataset={'type': 'Digits'}"}, 'has regression targets|10 classes'),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(train, changed, says):
    with pytest.raises(InputError, match=says):
        train('run', *(changed.get(option, option) for option in OPTIONS))


def test_a_regression_of_classes_is_refused(train):
    with pytest.raises(InputError, match='has 10 classes: leave it out'):
        train('run', 'model.target=regression')


def test_each_target_of_an_image_has_an_output():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    data = InMemoryDataset(images, torch.rand(4, 2), target='regression')
    model = {'target': 'regression', 'head': {'num_classes': None}}
    set_outputs(model, None, data)
    assert model['head']['num_classes'] == 2
    set_outputs(model, None, data)
    with pytest.raises(InputError, match='num_classes=2, but the data has 1 targets an image'):
        set_outputs(model, None, InMemoryDataset(images, torch.rand(4), target='regression'))


def test_what_has_no_value_cannot_choose_the_best():
    runner = SimpleNamespace(train_loop=object(), best={})
    with pytest.raises(InputError, match="save_best='mape'.: it has no value on this data"):
        CheckpointHook(save_best='mape').after_val_epoch(runner, {'mae': 0.5, 'mape': None})
