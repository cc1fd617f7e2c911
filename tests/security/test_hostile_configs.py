"""Configs as data that want to run code: each is refused in one sentence, and nothing is imported."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from openmixup.cli import run
from openmixup.cli.train import main as train
from openmixup.engine.config import load_config
from openmixup.errors import InputError

BASE: dict[str, Any] = {
    'data_preprocessor': {
        'type': 'BatchPreprocessor', 'mean': [0.3], 'std': [0.4],
        'train': [{'type': 'RandomCrop', 'size': 8, 'padding': 1}], 'test': [],
    },
    'train_dataloader': {'dataset': {'type': 'Digits', 'split': 'train', 'per_class': 8}, 'batch_size': 16},
    'val_dataloader': {'dataset': {'type': 'Digits', 'split': 'test', 'per_class': 10}, 'batch_size': 50},
    'val_evaluator': [{'type': 'ClassificationMetric', 'topk': [1, 5]}],
    'model': {
        'type': 'MixClassifier', 'backbone': {'type': 'CifarResNet', 'depth': 8, 'width': 4, 'in_channels': 1},
        'head': {'type': 'LinearHead', 'num_classes': None}, 'loss': {'type': 'SoftCrossEntropy'},
        'policy': {'type': 'RandomChoice', 'policies': [{'type': 'Mixup'}, {'type': 'CutMix'}]},
    },
    'train_cfg': {'type': 'EpochLoop', 'max_epochs': 1},
    'val_cfg': {'type': 'EvalLoop'},
    'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.05}},
    'param_scheduler': [{'type': 'CosineAnnealingLR', 'T_max': 3, 'by_epoch': True}],
    'default_hooks': {'log': {'type': 'LogHook'}, 'checkpoint': {'type': 'CheckpointHook'}},
    'custom_hooks': [{'type': 'SummaryHook'}],
    'visualizer': {'type': 'Visualizer', 'vis_backends': [{'type': 'TensorboardVisBackend'}]},
}  # fmt: skip
PLACES = {
    'model': 'model', 'backbone': 'model.backbone', 'head': 'model.head', 'loss': 'model.loss',
    'policy': 'model.policy', 'member': 'model.policy.policies.0', 'preprocessor': 'data_preprocessor',
    'transform': 'data_preprocessor.train.0', 'dataset': 'train_dataloader.dataset', 'metric': 'val_evaluator.0',
    'loop': 'train_cfg', 'evaluation': 'val_cfg', 'wrapper': 'optim_wrapper', 'optimizer': 'optim_wrapper.optimizer',
    'schedule': 'param_scheduler.0', 'hook': 'default_hooks.log', 'hook of ours': 'custom_hooks.0',
    'visualizer': 'visualizer', 'backend': 'visualizer.vis_backends.0',
}  # fmt: skip
INJECTED = "a': __import__('planted'), 'b"  # a key that closes its own quotes
CALLABLES = ['os.system', 'builtins.eval', 'subprocess.Popen', 'planted.mod.Bomb']


def changed(place: str, **values: Any) -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    here: Any = config
    for name in filter(None, place.split('.')):
        here = here[int(name) if name.isdecimal() else name]
    here.update(values)
    return config


def written(content: Any, name: str = 'config.json') -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    Path(name).write_text(text)
    return name


def refused(config: str, said: str, *argv: str) -> None:
    with pytest.raises(InputError) as caught:
        train([config, '--work-dir', 'work', *argv])
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


def test_the_config_itself_is_fine():
    assert load_config(written(BASE)).model.policy.policies[1].type == 'CutMix'
    assert load_config(written(yaml.safe_dump(BASE), 'config.yaml')).to_dict() == load_config('config.json').to_dict()


@pytest.mark.parametrize('name', CALLABLES)
@pytest.mark.parametrize('place', PLACES)
def test_a_type_names_registered_classes_only(place, name):
    refused(written(changed(PLACES[place], type=name)), f'type={name!r} is not a registered')


@pytest.mark.parametrize('name', CALLABLES)
@pytest.mark.parametrize(
    ('place', 'key', 'value'),
    [
        ('model', 'policy', lambda name: {'type': 'RegMixup', 'policy': {'type': name}}),
        ('model', 'policy', lambda name: {'type': 'AttentiveMix', 'teacher': {'type': name}}),
        ('optim_wrapper', 'constructor', lambda name: name),
        ('data_preprocessor', 'train', lambda name: [{'type': 'Compose', 'transforms': [{'type': name}]}]),
    ],
    ids=['around a policy', 'teacher', 'constructor', 'in a transform'],
)
def test_a_type_further_inside_too(place, key, value, name):
    refused(written(changed(place, **{key: value(name)})), f'type={name!r} is not a registered')


@pytest.mark.parametrize('place', ['', *PLACES.values()])
@pytest.mark.parametrize('scope', ['planted', 'mmengine', 'os'])
def test_a_scope_imports_no_package(place, scope):
    key = '_scope_' if place else 'default_scope'
    refused(written(changed(place, **{key: scope})), f'{key}={scope!r}')


@pytest.mark.parametrize(
    ('place', 'key', 'value', 'said'),
    [
        ('model', 'policy', 'os.system', "write {'type': 'os.system'}"),
        ('model.backbone', 'type', ['os.system'], 'is no model'),
        ('model', 'backbone', {'type': 'TimmBackbone', 'model': 'hf-hub:evil/model'}, 'is not a timm model'),
        ('model', 'backbone', {'type': 'TimmBackbone', 'model': 'local-dir:planted'}, 'is not a timm model'),
        ('model', 'backbone', {'type': 'TimmBackbone', 'model': 'os.system'}, 'is not a timm model'),
        ('model', 'backbone', {'type': 'TorchvisionBackbone', 'model': 'os.system'}, 'is not a torchvision'),
        *(
            ('model', 'backbone', {'type': 'TimmBackbone', 'model': 'resnet18', 'options': {key: 'x'}}, f"'{key}'")
            for key in ('pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay', 'checkpoint_path', 'cache_dir')
        ),
        *(
            ('model', 'backbone', {'type': 'TorchvisionBackbone', 'model': 'vgg11', 'options': {key: 'x'}}, f"'{key}'")
            for key in ('weights', 'pretrained')
        ),
        ('model', 'init_cfg', {'type': 'Pretrained', 'checkpoint': 'http://x'}, "no argument 'init_cfg'"),
        ('', 'custom_imports', {'imports': ['planted']}, 'custom_imports, which run code'),
        ('', 'launcher', 'os.system', ''),
        ('', 'import planted', 'planted', "has the key 'import planted'"),
        ('optim_wrapper', 'paramwise_cfg', {'custom_keys': {INJECTED: {}}}, 'has the key'),
        ('optim_wrapper', 'paramwise_cfg', {'custom_keys': {'import': {}}}, "has the key 'import'"),
        ('default_hooks', 'a\n=1\nimport planted', {'type': 'SummaryHook'}, 'has the key'),
    ],
)  # fmt: skip
def test_other_texts_run_nothing(place, key, value, said):
    refused(written(changed(place, **{key: value})), said, *(() if key != 'launcher' else ('--policy', 'os.system')))


YAML = {
    'apply': ("a: !!python/object/apply:os.system ['touch ran']", 'python/object/apply:os.system'),
    'apply exec': ("a: !!python/object/apply:builtins.exec ['import planted']", 'builtins.exec'),
    'new': ("a: !!python/object/new:subprocess.Popen [['touch', 'ran']]", 'subprocess.Popen'),
    'object': ('a: !!python/object:planted.Bomb {}', 'planted.Bomb'),
    'name': ('a: !!python/name:planted.Bomb', 'planted.Bomb'),
    'module': ('a: !!python/module:planted', 'planted'),
    'tuple': ('a: !!python/tuple [1, 2]', 'python/tuple'),
    'own tag': ('a: !planted 1', '!planted'),
    'binary': ('a: !!binary aGVsbG8=', 'has a bytes at a'),
    'set': ('a: !!set {x, y}', 'has a set at a'),
    'date': ('a: 2020-01-01', 'has a date at a'),
    'key that is no text': ('1: 2', "has the key '1'"),
    'key that is a list': ('? [1, 2]\n: 3', 'no YAML of plain data'),
    'two documents': ('a: 1\n---\nb: 2', 'single document'),
    'a list': ('- model', 'holds a list'),
    'nothing': ('', 'holds a NoneType'),
    'twice': ('model: {type: A, type: B}', "'type' is there twice"),
    'laughs': (
        'a0: &a0 [x, x]\n' + ''.join(f'a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n' for n in range(1, 40)),
        'unfolds to more',
    ),
    'merged laughs': ('a: &a {x: 1}\n' + ''.join(f'b{n}: {{<<: [*a, *a]}}\n' for n in range(3)), "unknown key 'a'"),
    'endless': ('a: &a [*a]', 'unfolds to more'),
    'deep': ('[' * 1500, 'no YAML of plain data'),
    'large': ('a: ' + 'x' * 300_000, 'has 300003 bytes'),
    'control characters': ('a: \x1b]0;x\x07', 'no YAML of plain data'),
    'base in Python': ('_base_: planted.py', "the _base_ 'planted.py'"),
    'base in JSON': ('_base_: other.json', "the _base_ 'other.json'"),
    'base that is code': ('_base_: "{{ __import__(\'planted\') }}"', 'the _base_'),
    'base of itself': ('_base_: config.yaml', 'is a _base_ of itself'),
    'base that is missing': ('_base_: nowhere.yaml', 'nowhere.yaml: no such file'),
    'base that is a device': ('_base_: [/dev/zero.yaml]', 'no such file'),
    'base that is no text': ('_base_: [{a: b}]', 'the _base_'),
    'imports': ('custom_imports: {imports: [planted]}', 'custom_imports, which run code'),
}


@pytest.mark.parametrize('name', YAML)
def test_a_hostile_yaml_is_refused(name):
    text, said = YAML[name]
    refused(written(text, 'config.yaml'), said)


JSON = {
    'code': ("__import__('os').system('touch ran')", 'is no JSON'),
    'a config in Python': ("_base_ = 'planted.py'", 'is no JSON'),
    'deep': ('[' * 100_000, 'is no JSON'),
    'a long number': ('{"a": ' + '9' * 10_000 + '}', 'is no JSON'),
    'twice': ('{"model": 1, "model": 2}', "'model' is there twice"),
    'a text': ('"planted"', 'holds a str'),
    'bytes': ('\udcff', 'is no JSON'),
    'base in Python': ('{"_base_": "./planted.py"}', "the _base_ './planted.py'"),
    'base of a base': ('{"_base_": "config.json"}', 'is a _base_ of itself'),
    'imports of a base': ('{"_base_": "other.json"}', 'other.json has custom_imports'),
}


@pytest.mark.parametrize('name', JSON)
def test_a_hostile_json_is_refused(name):
    text, said = JSON[name]
    Path('other.json').write_text('{"custom_imports": {"imports": ["planted"]}}')
    Path('config.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
    refused('config.json', said)


@pytest.mark.parametrize(
    ('command', 'argv'),
    [
        ('train', ('config.json', '--policy', 'os.system')),
        ('train', ('config.json', '--cfg-options', 'model.policy.type=planted.mod.Bomb')),
        ('train', ('config.json', '--cfg-options', 'model.policy={"type": "os.system"}')),
        ('train', ('config.json', '--cfg-options', 'default_scope=planted')),
        ('train', ('config.json', '--cfg-options', "randomness.seed=__import__('planted')")),
        ('show_mix', ('os.system',)),
        ('show_mix', ('planted.mod.Bomb',)),
        ('verify_policy', ('os.system',)),
        ('verify_policy', ('planted.mod.Bomb',)),
        ('verify_policy', ('os:system',)),
    ],
)
def test_arguments_of_commands_are_names_or_values(capsys, command, argv):
    written(BASE)
    with pytest.raises(SystemExit) as ended:
        run(command, argv)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count('\n') == 1


def test_a_run_writes_its_config_as_data(marker):
    config = changed('', work_dir=f"'); open({str(marker)!r}, 'w'); ('")
    config['optim_wrapper']['paramwise_cfg'] = {'custom_keys': {'stage1.0': {'lr_mult': 0.5}}}
    del config['visualizer']
    for name in ('config.json', 'config.yaml'):
        written(config if name.endswith('.json') else yaml.safe_dump(config), name)
        train([name, '--work-dir', 'work', '--cfg-options', 'val_evaluator.0.topk=(1,)'])
        assert load_config(f'work/{name}').val_evaluator[0].topk == [1]
    assert not list(Path('work').glob('*.py'))
