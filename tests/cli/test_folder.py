"""Train, evaluate and predict on anyone's folder of images, with only its path given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import openmixup
from openmixup.cli import predict, test, train
from openmixup.errors import InputError

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / 'configs/folder/resnet18_cutmix_1xb64-100e_folder.py')
OPTIONS = [
    '--cfg-options', 'train_dataloader.batch_size=5', 'train_dataloader.num_workers=2', 'val_dataloader.num_workers=0',
    'train_dataloader.dataset.size=32', 'val_dataloader.dataset.size=32', 'test_dataloader.dataset.size=32',
    'train_cfg.max_epochs=1', 'param_scheduler.0.T_max=1', 'model.backbone.model=resnet10t',
]  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes, one dark and one bright; odd sizes, a grey, a CMYK and a palette image among them."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'pets'
    for label, (low, high) in {'cat': (0, 120), 'dog': (130, 255)}.items():
        (root / label).mkdir(parents=True)
        for i in range(6):
            picture = Image.fromarray(rng.integers(low, high, (33 + 7 * i, 51 - 4 * i, 3), dtype=np.uint8))
            mode = {1: 'L', 2: 'CMYK'}.get(i, 'RGB')
            picture.convert(mode).save(root / label / f'{i}.jpg')
        Image.fromarray(rng.integers(low, high, (20, 90, 3), dtype=np.uint8)).convert('P').save(root / label / '9.png')
    return root


def test_a_folder_of_jpegs_trains_evaluates_and_predicts(images, tmp_path, capsys):
    work = tmp_path / 'work'
    train.main([CONFIG, '--data', str(images), '--work-dir', str(work), *OPTIONS])
    summary = json.loads((work / 'summary.json').read_text())
    assert summary['epochs'] == 1
    assert len(summary['last']['per_class']) == 2
    out = tmp_path / 'metrics.json'
    checkpoint = str(work / 'epoch_1.pth')
    arguments = ['--data', str(images), '--work-dir', str(work / 'test'), '--out', str(out)]
    options = ['--cfg-options', 'model.backbone.model=resnet10t', 'test_dataloader.dataset.size=32']
    test.main([CONFIG, checkpoint, *arguments, *options])
    metrics = json.loads(out.read_text())
    assert metrics['top1'] == pytest.approx(summary['last']['top1'])
    assert metrics['loss'] == pytest.approx(summary['last']['loss'], rel=1e-4)
    capsys.readouterr()
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = {CONFIG!r}\nmodel = dict(backbone=dict(model='resnet10t'))\n")
    files = [str(images / 'cat' / '2.jpg'), str(images / 'dog' / '9.png')]
    predict.main([str(config), checkpoint, *files])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('\t')[0] for line in lines] == files
    assert {line.split('\t')[1] for line in lines} <= {'cat', 'dog'}
    model = openmixup.init_model(config, checkpoint, device='cpu')
    assert model.classes == ('cat', 'dog')
    assert model(files)[0]['probability'] >= 0.5
    assert model([]) == []
    with pytest.raises(InputError, match='is one path: give a list of them'):
        model(files[0])
    with pytest.raises(InputError, match='given as Tensor: expected the paths of image files'):
        model(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match=r'nofile.jpg cannot be decoded \(no such file\); correct the path'):
        model(['nofile.jpg'])


def test_a_bad_image_in_training_is_passed_over_and_named(images, tmp_path):
    (images / 'cat' / '0.jpg').write_bytes(b'\xff\xd8 no picture')
    for part in ('train', 'val'):  # divided, so that the bad one is surely in training
        for label in ('cat', 'dog'):
            (images / part / label).mkdir(parents=True)
    for label in ('cat', 'dog'):
        for file in sorted((images / label).iterdir()):
            part = 'val' if file.name in ('5.jpg', '9.png') else 'train'
            file.rename(images / part / label / file.name)
        (images / label).rmdir()
    options = [option.replace('num_workers=2', 'num_workers=0') for option in OPTIONS]
    with pytest.warns(RuntimeWarning, match=r'cat/0\.jpg'):
        train.main([CONFIG, '--data', str(images), '--work-dir', str(tmp_path / 'work'), *options])
    assert (tmp_path / 'work' / 'summary.json').exists()
    assert (tmp_path / 'work' / 'bad_images.jsonl').read_text().count('0.jpg cannot be decoded') == 1
