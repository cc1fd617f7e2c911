"""Configs as JSON and YAML: the same as those in Python, without any code."""

from __future__ import annotations

import json

import pytest
import yaml

from openmixup.cli.show_mix import main as show_mix
from openmixup.engine.config import load_config
from openmixup.engine.data_config import read_data_config
from openmixup.engine.resume import config_hash

DIGITS = 'digits/resnet8_mixup_1xb50-30e_digits'


@pytest.fixture
def recipe(tmp_path):
    """A shipped config as JSON and as YAML."""
    load_config(DIGITS).dump(tmp_path / 'recipe.json')
    (tmp_path / 'recipe.yaml').write_text(yaml.safe_dump(json.loads((tmp_path / 'recipe.json').read_text())))
    return tmp_path


@pytest.mark.parametrize('name', ['recipe.json', 'recipe.yaml'])
def test_it_computes_what_the_config_in_python_does(recipe, name):
    assert config_hash(load_config(recipe / name)) == config_hash(load_config(DIGITS))


def test_a_base_is_changed_key_by_key(recipe):
    (recipe / 'mine.yml').write_text(
        '_base_: recipe.yaml\n_helper: &rate 5e-3\noptim_wrapper: {optimizer: {lr: *rate}}\n'
        'model: {policy: {_delete_: true, type: CutMix, alpha: 2}}\nparam_scheduler: null\n'
    )
    config = load_config(recipe / 'mine.yml', ['train_cfg.max_epochs=3'])
    assert config.optim_wrapper.optimizer.lr == 0.005
    assert config.optim_wrapper.optimizer.type == 'SGD'
    assert config.model.policy == {'type': 'CutMix', 'alpha': 2}
    assert config.param_scheduler is None
    assert config.train_cfg.max_epochs == 3
    assert '_helper' not in config


def test_several_bases_and_folders(tmp_path):
    (tmp_path / 'parts').mkdir()
    (tmp_path / 'parts' / 'a.json').write_text('{"a": {"x": 1, "y": 1}, "b": [1]}')
    (tmp_path / 'parts' / 'b.json').write_text('{"_base_": "a.json", "a": {"y": 2}, "b": [2, 3]}')
    (tmp_path / 'c.json').write_text('{"_base_": ["parts/b.json"], "a": {"z": {"_delete_": true, "w": 3}}}')
    assert read_data_config(tmp_path / 'c.json').to_dict() == {'a': {'x': 1, 'y': 2, 'z': {'w': 3}}, 'b': [2, 3]}


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1e-3', 1e-3),
        ('1E5', 1e5),
        ('-2.5e+3', -2500.0),
        ('.5', 0.5),
        ('3', 3),
        ('"1e-3"', '1e-3'),
        ('e3', 'e3'),
        ('~', None),
    ],
)
def test_numbers_of_yaml(tmp_path, text, value):
    (tmp_path / 'a.yaml').write_text(f'a: {text}')
    found = read_data_config(tmp_path / 'a.yaml')['a']
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merges_of_yaml(tmp_path):
    (tmp_path / 'a.yaml').write_text('a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, y: 3}')
    assert read_data_config(tmp_path / 'a.yaml')['c'] == {'x': 1, 'y': 3}


@pytest.mark.parametrize('name', ['recipe.json', 'recipe.yaml'])
def test_it_is_written_as_it_was_read(recipe, name):
    config = load_config(recipe / name, ['val_evaluator.0.topk=(1,)'])
    config.dump(recipe / f'again_{name}')
    again = load_config(recipe / f'again_{name}')
    assert again.val_evaluator[0].topk == [1]
    assert config_hash(again) == config_hash(config)
    assert (yaml.safe_load if name.endswith('yaml') else json.loads)(config.dump())['train_cfg'] == config.train_cfg


def test_a_policy_of_it_is_shown(recipe, tmp_path, capsys):
    assert show_mix([str(recipe / 'recipe.yaml'), '--out', str(tmp_path / 'mix.png'), '--size', '32']) == 0
    assert (tmp_path / 'mix.png').exists()
