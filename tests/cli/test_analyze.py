"""The command on a network that was really trained, a little."""

import json

import pytest
import torch

from openmixup.analysis.trained import trained
from openmixup.cli.analyze import main, names_of
from openmixup.cli.test import main as evaluate
from openmixup.cli.train import main as train
from openmixup.engine.config import load_config
from openmixup.errors import InputError

CONFIG = 'digits/resnet8_cutmix_1xb50-30e_digits.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Of one epoch on few digits."""
    folder = tmp_path_factory.mktemp('cutmix')
    train([CONFIG, '--work-dir', str(folder), '--cfg-options', 'train_cfg.max_epochs=1',
           'train_dataloader.dataset.per_class=20'])  # fmt: skip
    return str(folder / 'epoch_1.pth')


def test_calibration_is_that_of_the_evaluation(checkpoint, tmp_path, capsys):
    evaluate([CONFIG, checkpoint, '--work-dir', str(tmp_path), '--out', str(tmp_path / 'metrics.json')])
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    capsys.readouterr()
    assert main(['calibration', CONFIG, checkpoint, '--out', str(tmp_path / 'a.svg')]) == 0
    line, written = capsys.readouterr().out.strip().splitlines()
    assert f'top-1 {metrics["top1"]:.2f} %, ECE {metrics["ece"]:.2f} %' in line
    assert written == f'written: {tmp_path / "a.svg"} and {tmp_path / "a.csv"}'
    assert {path.name for path in tmp_path.glob('a.*')} == {'a.svg', 'a.csv'}
    main(['calibration', CONFIG, checkpoint, '--out', str(tmp_path / 'b.svg'), '--adaptive', '--names', 'mine'])
    assert capsys.readouterr().out.startswith('mine: ')


def test_the_landscape_of_two_networks(checkpoint, tmp_path, capsys):
    out = tmp_path / 'a.png'
    main(['landscape', *[CONFIG, checkpoint] * 2, '--names', 'one', 'two', '--points', '3', '--images', '20',
          '--split', 'train', '--range', '-0.5', '0.5', '--out', str(out)])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].replace('one', 'two') == lines[1], 'one seed, one direction'
    assert (tmp_path / 'a.csv').read_text().splitlines()[2].startswith('one,0.0,')
    assert out.exists()


@pytest.mark.parametrize(
    ('options', 'names'),
    [
        (['x.pth'], 'expected pairs of CONFIG CHECKPOINT; x.pth has none'),
        (['--names', 'a', 'b'], 'expected 1 different names'),
        (['--out', 'a.txt'], 'must end in .svg'),
        (['--branch', 'teacher'], "no branch 'teacher'"),
        (['--cfg-options', 'model.target=soft'], "model.target is 'soft'"),
    ],
)
def test_what_cannot_be_measured_is_told(checkpoint, tmp_path, monkeypatch, options, names):
    monkeypatch.chdir(tmp_path)
    pair = [CONFIG, checkpoint]
    with pytest.raises(InputError, match=names):
        main(['calibration', *pair, *options])
    assert not list(tmp_path.iterdir()), 'nothing is written'


def test_a_part_of_the_images_is_spread_over_the_data(checkpoint):
    config = load_config(CONFIG, ['test_dataloader.batch_size=7'])
    with trained(config, checkpoint) as network:
        every = torch.cat([labels for _, labels in network.batches()])
    with trained(config, checkpoint, images=20) as network:
        found = torch.cat([labels for _, labels in network.batches()])
    assert found.tolist() == every[[k * len(every) // 20 for k in range(20)]].tolist()


def test_a_checkpoint_of_other_classes(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content['meta']['classes'][3] = 'horse'
    torch.save(content, tmp_path / 'horses.pth')
    with pytest.raises(InputError, match="was trained with 'horse' as class 3, the data has '3'"):
        main(['calibration', CONFIG, str(tmp_path / 'horses.pth'), '--out', str(tmp_path / 'a.svg')])


def test_networks_are_named_after_what_tells_them_apart():
    assert names_of(['/a/x/epoch_1.pth', '/a/y/epoch_1.pth']) == ['x', 'y']
    assert names_of(['/a/x/epoch_1.pth', '/a/x/epoch_2.pth']) == ['epoch_1', 'epoch_2']
    assert names_of(['/a/x/1.pth', '/a/x/2.pth', '/a/y/1.pth']) == ['x/1', 'x/2', 'y/1']
