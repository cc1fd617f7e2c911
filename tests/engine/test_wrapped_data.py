"""Runs over wrapped data: a step of training, what the log says, resume, and configs."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from openmixup.engine.config import load_config
from openmixup.engine.resume import config_hash
from openmixup.errors import InputError

WRAPPERS = {
    'Subset': {'per_class': 4},
    'LongTail': {'factor': 4},
    'ClassBalanced': {'power': 0.0},
    'LabelNoise': {'rate': 0.5},
}
DIGITS = {'type': 'Digits', 'split': 'train', 'per_class': 8}


def wrapped(kind: str, part: str = 'train', **inner) -> str:
    return f'{part}_dataloader.dataset={ {"type": kind, **WRAPPERS[kind], "dataset": DIGITS | inner}!r}'


def log_of(work) -> str:
    return next(work.rglob('*.log')).read_text()


@pytest.mark.parametrize('kind', WRAPPERS)
def test_a_run_trains_over_a_wrapper(train, kind):
    work = train('run', wrapped(kind), 'train_cfg.max_epochs=1', 'train_dataloader.bank={}')
    summary = json.loads((work / 'summary.json').read_text())
    assert len(summary['last']['per_class']) == 10
    assert 'data is changed' not in log_of(work)


def test_wrapped_evaluation_data_is_said(train):
    work = train('run', wrapped('LabelNoise', 'val', split='test'), 'train_cfg.max_epochs=1')
    assert 'the val data is changed (LabelNoise, symmetric, rate 0.5), and so are its figures' in log_of(work)


def test_a_continued_run_sees_the_same_wrapped_data(train, tmp_path):
    options = (wrapped('LabelNoise'), 'train_cfg.max_epochs=2', 'default_hooks.checkpoint.keep=3')
    whole = train('whole', *options)
    (tmp_path / 'cut').mkdir()
    shutil.copy(whole / 'epoch_1.pth', tmp_path / 'cut')
    cut = train('cut', *options, argv=('--resume',))
    assert 'resumed from' in log_of(cut)
    weights = [torch.load(folder / 'epoch_2.pth', weights_only=True)['state_dict'] for folder in (whole, cut)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_another_wrapper_is_another_run(train):
    train('run', wrapped('LabelNoise'), 'train_cfg.max_epochs=1')
    with pytest.raises(InputError, match='rate'):
        train('run', wrapped('LabelNoise').replace('0.5', '0.2'), 'train_cfg.max_epochs=1', argv=('--resume',))


def test_another_draw_of_a_wrapper_is_another_run(train, config_file):
    """Its seed is one of the data; that of the run is compared apart and is no part of the hash."""
    drawn = wrapped('LabelNoise').replace("'rate'", "'seed': 1, 'rate'")
    train('run', drawn, 'train_cfg.max_epochs=1')
    other = drawn.replace("'seed': 1", "'seed': 2")
    with pytest.raises(InputError, match=r'train_dataloader.dataset.seed: 1 -> 2'):
        train('run', other, 'train_cfg.max_epochs=1', argv=('--resume',))
    hashes = [config_hash(load_config(config_file, [each])) for each in (drawn, other)]
    assert hashes[0] != hashes[1]
    assert hashes[0] == config_hash(load_config(config_file, [drawn, 'randomness.seed=7']))


def test_a_config_is_checked_inside_the_wrapper(config_file):
    with pytest.raises(InputError, match="no argument 'splt'; did you mean 'split'"):
        load_config(config_file, [wrapped('LongTail', splt='test')])
    with pytest.raises(InputError, match='not a registered dataset'):
        load_config(config_file, [wrapped('LongTail', type='Digit')])
    assert load_config(config_file, [wrapped('LongTail'), 'train_dataloader.dataset.dataset.size=16'])


def test_the_data_folder_of_the_command_line_reaches_the_innermost(config_file):
    inner = {'type': 'CIFAR10', 'root': 'data'}
    nested = {'type': 'LabelNoise', 'rate': 0.2, 'dataset': {'type': 'LongTail', 'dataset': inner}}
    text = config_file.read_text().replace("dict(type='Digits', split='train', per_class=8)", repr(nested))
    config_file.write_text(text.replace("dict(type='Digits', split='test', per_class=10)", repr(inner)))
    config = load_config(config_file, data='elsewhere')
    assert config.train_dataloader.dataset.dataset.dataset.root == 'elsewhere'
    assert 'root' not in config.train_dataloader.dataset
