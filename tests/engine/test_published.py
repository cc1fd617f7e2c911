"""Published files: the network alone, at every door that reads weights."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from safetensors import safe_open

from openmixup import init_model
from openmixup.cli.inspect_checkpoint import main as inspect_checkpoint
from openmixup.cli.publish_model import main as publish_model
from openmixup.cli.test import main as evaluate
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.published import data_of, publish
from openmixup.errors import InputError


@pytest.fixture
def work(train):
    return train('run', 'train_cfg.max_epochs=1')


def texts(path) -> dict[str, str]:
    with safe_open(path, framework='pt') as stored:
        return stored.metadata()


def test_the_name_has_the_hash_and_the_file_says_what_it_is(work, capsys):
    for branch in ('student', 'teacher'):
        assert publish_model([str(work / 'epoch_1.pth'), str(work / branch), '--branch', branch]) == 0
        (path,) = work.glob(f'{branch}-*.safetensors')
        assert f'written: {path}' in capsys.readouterr().out
        assert path.stem == f'{branch}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}'
        said = texts(path)
        assert json.loads(said['classes']) == [str(n) for n in range(10)]
        assert json.loads(said['image_shape']) == [1, 8, 8]
        assert json.loads(said['architecture'])['model.backbone.depth'] == 8
        assert not [key for key in json.loads(said['architecture']) if 'policy' in key or 'root' in key]
        assert said['branch'] == branch
        state, whole = read_checkpoint(path)['state_dict'], read_checkpoint(work / 'epoch_1.pth')['state_dict']
        prefix = {'student': 'student.', 'teacher': 'teacher.network.'}[branch]
        assert {key.removeprefix('student.') for key in state} == {
            key.removeprefix(prefix) for key in whole if key.startswith(prefix)
        }
        assert all(torch.equal(value, whole[prefix + key.removeprefix('student.')]) for key, value in state.items())


def test_equal_weights_give_an_equal_file(work):
    first, second = (publish(work / 'epoch_1.pth', work / name) for name in ('one', 'two'))
    assert first.read_bytes() == second.read_bytes()
    assert publish(first, work / 'three').read_bytes() == first.read_bytes() or 'architecture' in texts(first)
    assert publish(work / 'best.pth', work).parent == work


def test_it_is_taken_where_a_checkpoint_is(work, config_file, train, tmp_path, capsys):
    from PIL import Image

    path = publish(work / 'epoch_1.pth', work / 'net')
    metrics = []
    for number, weights in enumerate((work / 'epoch_1.pth', path)):
        out = tmp_path / f'{number}.json'
        evaluate([str(config_file), str(weights), '--work-dir', str(tmp_path / 'test'), '--out', str(out)])
        metrics.append(json.loads(out.read_text()))
    assert metrics[0]['top1'] == metrics[1]['top1']
    assert metrics[0]['loss'] == metrics[1]['loss']
    image = torch.randint(256, (1, 1, 8, 8), dtype=torch.uint8)
    models = [init_model(config_file, weights, device='cpu') for weights in (work / 'epoch_1.pth', path)]
    assert torch.equal(*(model.probabilities(image) for model in models))
    Image.new('L', (8, 8)).save(tmp_path / 'a.png')
    assert models[1]([tmp_path / 'a.png'])[0]['class'] in models[1].classes
    train('next', 'train_cfg.max_epochs=1', argv=('--load-from', str(path)))
    with pytest.raises(InputError, match='holds weights only and cannot be resumed'):
        train('again', 'train_cfg.max_epochs=1', argv=('--resume', str(path)))
    with pytest.raises(InputError, match='does not fit the model'):
        init_model_of_another_width(config_file, path)
    capsys.readouterr()
    assert inspect_checkpoint([str(path)]) == 0
    assert 'kind:       safetensors' in capsys.readouterr().out


def init_model_of_another_width(config_file, path):
    from openmixup.engine.config import load_config

    return init_model(load_config(config_file, ['model.backbone.width=8']), path, device='cpu')


def test_what_cannot_be_published_is_told(work, tmp_path):
    torch.save({'state_dict': {'student.a': torch.ones(1)}}, tmp_path / 'bare.pth')
    with pytest.raises(InputError, match='does not say which images'):
        publish(tmp_path / 'bare.pth', tmp_path / 'x')
    meta = {'classes': ['a'], 'image_shape': [1, 8, 8]}
    torch.save({'state_dict': {'student.a': torch.tensor([float('nan')])}, 'meta': meta}, tmp_path / 'nan.pth')
    with pytest.raises(InputError, match=r'values in student\.a that are not finite'):
        publish(tmp_path / 'nan.pth', tmp_path / 'x')
    with pytest.raises(InputError, match='no weights of a teacher: use --branch student'):
        publish(tmp_path / 'nan.pth', tmp_path / 'x', 'teacher')
    with pytest.raises(InputError, match='cannot be written'):
        publish(work / 'epoch_1.pth', tmp_path / 'nowhere' / 'x')
    assert not list(tmp_path.glob('*.tmp'))


@pytest.mark.parametrize(
    ('meta', 'said'),
    [
        ([1], 'has a list for meta'),
        ({'classes': 'ab'}, 'no list of names for classes'),
        ({'classes': [1, 2]}, 'no list of names for classes'),
        *(
            ({'image_shape': shape}, 'has image_shape=')
            for shape in ('abc', [1], [1, 2], [0, 8, 8], [3, 1 << 20, 1 << 20])
        ),
        *(({'image_shape': shape}, 'has image_shape=') for shape in ([3.0, 8, 8], {'a': 1}, [3, -8, -8], [True, 8, 8])),
    ],
)
def test_strange_words_on_the_data_are_refused(meta, said):
    with pytest.raises(InputError, match=said):
        data_of({'meta': meta}, 'x.pth')


def test_inspection_tells_what_a_checkpoint_holds(work, capsys, tmp_path):
    assert inspect_checkpoint([str(work / 'epoch_1.pth')]) == 0
    said = capsys.readouterr().out
    for line in (
        'checkpoint of a run',
        'epoch 1, step 5',
        'classes:    10: 0, 1, 2',
        '1x8x8',
        'in optimizer',
        'finite:     yes',
    ):
        assert line in said, line
    torch.save({'a': torch.tensor([1.0, float('inf')]), 'b': torch.ones(3, dtype=torch.int64)}, tmp_path / 'bare.pth')
    assert inspect_checkpoint([str(tmp_path / 'bare.pth')]) == 0
    said = capsys.readouterr().out
    for line in ('kind:       weights', '1 float32, 1 int64', 'largest:    b int64 3 (24 bytes)', 'finite:     no: a'):
        assert line in said, line
    torch.save({'model': torch.nn.Linear(1, 1)}, tmp_path / 'module.pth')
    assert inspect_checkpoint([str(tmp_path / 'module.pth')]) == 1
    said = capsys.readouterr().out
    assert 'foreign pickle, not loaded' in said
    assert 'torch.nn.modules.linear.Linear' in said
    assert 'import_weights.py' in said
    with pytest.raises(InputError, match='no such file'):
        inspect_checkpoint([str(tmp_path / 'gone.pth')])
