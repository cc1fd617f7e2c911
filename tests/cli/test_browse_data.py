"""The picture of a config's batches: which pictures, which labels, in which order."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.analysis import batches
from openmixup.analysis.batches import browse, picture_grid
from openmixup.cli.browse_data import main
from openmixup.engine.config import load_config
from openmixup.errors import InputError

OPTIONS = [
    'train_dataloader.dataset.per_class=4', 'train_dataloader.batch_size=6', 'val_dataloader.batch_size=5',
    'data_preprocessor.train=[]',
]  # fmt: skip
CONFIG = 'digits/resnet8_mixup_1xb50-30e_digits.py'


@pytest.fixture
def seen(monkeypatch):
    """What is drawn, in place of the grids: a list of (pictures, captions)."""
    drawn = []
    monkeypatch.setattr(
        batches, 'picture_grid', lambda *given: (drawn.append(given), picture_grid(*given))[1]
    )  # fmt: skip
    return drawn


def test_a_grid_has_each_picture_and_its_text_below():
    images = np.stack([np.full((48, 96, 3), level, np.uint8) for level in (10, 20, 30)])
    grid = picture_grid(images, [['a'], ['b', 'c'], []], columns=2)
    assert grid.shape == (2 * (96 + 2 * 14 + 6), 2 * (192 + 6), 3)
    assert (grid[:96, 3:195] == 10).all()
    assert (grid[:96, 201:393] == 20).all()
    assert (grid[130:226, 3:195] == 30).all()
    assert grid[96:110, :198].min() < 100, 'a text'
    assert grid[226:, :].min() == 255, 'no text below the third'


def test_the_mixed_batch_is_that_of_the_first_step(seen):
    from openmixup.datasets import Digits, EpochBatchSampler

    browse(load_config(CONFIG, OPTIONS), batches=2)
    assert len(seen) == 2
    data = Digits(per_class=4)
    order = EpochBatchSampler(40, 6)
    for (images, lines), indices in zip(seen, order, strict=False):
        batch = data.__getitems__(indices)
        for k, line in enumerate(lines):
            assert line[0].endswith(f' {batch["labels"][k]}')
            shares = [float(text.split()[0]) for text in line]
            assert sum(shares) == pytest.approx(1, abs=0.011)
            partners = [i for i, label in enumerate(batch['labels'].tolist()) if str(label) == line[1].split(' x ')[1]]
            mixed = [shares[0] * batch['inputs'][k] + shares[1] * batch['inputs'][i] for i in partners]
            assert any(np.allclose(images[k, ..., 0], each[0], atol=3) for each in mixed)


def test_evaluation_data_is_shown_plain(seen):
    browse(load_config(CONFIG, OPTIONS), 'val')
    ((images, lines),) = seen
    from openmixup.datasets import Digits

    first = Digits('test').__getitems__(range(5))
    assert np.array_equal(images[..., 0], first['inputs'][:, 0].numpy())
    assert lines == [[str(label)] for label in first['labels'].tolist()]


def test_several_views_and_a_network_that_is_not_trained(seen):
    config = load_config(CONFIG, [*OPTIONS, "model.policy={'type': 'RegMixup'}"])
    assert browse(config)[1] is False
    assert len(seen) == 2, 'a grid for each view'
    assert all(len(line) == 1 for line in seen[0][1]) != all(len(line) == 1 for line in seen[1][1])
    assert browse(load_config(CONFIG, [*OPTIONS, "model.policy={'type': 'SaliencyMix'}"]))[1] is False
    assert browse(load_config(CONFIG, [*OPTIONS, "model.policy={'type': 'ManifoldMix'}"]))[1] is True


def test_files_and_both_kinds_of_picture(tmp_path, capsys):
    for name in ('cat', 'dog'):
        (tmp_path / 'pets' / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(np.full((30, 30, 3), 10 * i, np.uint8)).save(tmp_path / 'pets' / name / f'{i}.png')
    options = [
        'train_dataloader.num_workers=0', 'train_dataloader.batch_size=4', 'train_dataloader.dataset.size=32',
        'val_dataloader.dataset.size=32', 'test_dataloader.dataset.size=32',
        "model.backbone={'type': 'CifarResNet', 'depth': 8, 'width': 4}",
    ]  # fmt: skip
    for ending in ('png', 'jpg'):
        out = tmp_path / f'seen.{ending}'
        arguments = ['folder/resnet18_mixup_1xb64-100e_folder.py', '--data', str(tmp_path / 'pets'), '--out', str(out)]
        assert main([*arguments, '--pictures', '3', '--cfg-options', *options]) == 0
        assert f'written: {out}' in capsys.readouterr().out
        assert cv2.imread(str(out)) is not None


def test_refusals(tmp_path):
    with pytest.raises(InputError, match=r'\.png or \.jpg'):
        main([CONFIG, '--out', str(tmp_path / 'a.bmp')])
    with pytest.raises(InputError, match='at least one'):
        main([CONFIG, '--batches', '0'])
    with pytest.raises(InputError, match='no val_dataloader'):
        browse(load_config(CONFIG, ['val_dataloader=None', 'val_cfg=None', 'val_evaluator=None']), 'val')


def test_the_global_random_state_decides_nothing(seen):
    for seed in (1, 2):
        torch.manual_seed(seed)
        browse(load_config(CONFIG, OPTIONS))
    assert np.array_equal(seen[0][0], seen[1][0])
    assert seen[0][1] == seen[1][1]
