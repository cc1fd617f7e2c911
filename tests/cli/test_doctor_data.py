"""The doctor looks at folders of images, at how fast they come and at the room that a run needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from openmixup.analysis.doctor import feeding, machine, steps

ROOT = Path(__file__).parents[2]
FOLDER = f"""
_base_ = '{ROOT}/configs/folder/resnet18_mixup_1xb64-100e_folder.py'
model = dict(backbone=dict(_delete_=True, type='CifarResNet', depth=8, width=4))
train_dataloader = dict(dataset=dict(size=16), batch_size=8, num_workers=1)
val_dataloader = dict(dataset=dict(size=16), num_workers=0)
test_dataloader = val_dataloader
"""


@pytest.fixture
def images(tmp_path) -> Path:
    root = tmp_path / 'images'
    rng = np.random.default_rng(0)
    for part, count in (('train', 10), ('val', 3)):
        for label in ('cat', 'dog'):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(noise).save(root / part / label / f'{number}.jpg')
    return root


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / 'folder.py'
    path.write_text(FOLDER)
    return path


def test_data_that_is_not_there_and_a_model_that_can_be_built(doctor, folder, tmp_path):
    code, lines = doctor(folder, '--data', tmp_path / 'nowhere')
    assert code == 1
    assert 'nowhere' in lines['data']
    assert lines['model'].startswith('ok')


def test_a_class_that_one_part_lacks(doctor, folder, images):
    shutil.rmtree(images / 'val' / 'dog')
    code, lines = doctor(folder, '--data', images, '--quick')
    assert (code, lines['classes'][:4]) == (0, 'warn')
    assert "val has none of 'dog'; expected images of each class in each part: add images of 'dog'" in lines['classes']
    (images / 'train' / 'cat').rename(images / 'val' / 'dog')
    code, lines = doctor(folder, '--data', images, '--quick')
    assert code == 1
    assert "has the class 'cat', which" in lines['data']


def test_files_that_cannot_be_read(doctor, images):
    whole = (images / 'train/cat/1.jpg').read_bytes()
    (images / 'train/cat/1.jpg').write_bytes(whole[: len(whole) // 2])
    Image.open(images / 'train/cat/2.jpg').convert('CMYK').save(images / 'train/cat/2.jpg')
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(images / 'train/dog/deep.png')
    for effort in ((), ('--full',)):
        code, lines = doctor('--data', images, *effort)
        assert (code, lines['images'][:4]) == (0, 'warn')
        assert '21 of 21 files, 1 unreadable, 1 16-bit and 1 CMYK (' in lines['images']
        assert f'({images}/train/cat/1.jpg cannot be decoded (' in lines['images']
        assert 'or at most the 10 that a run passes over: replace them or take them out.' in lines['images']
    (images / 'val/dog/0.jpg').write_bytes(b'')
    code, lines = doctor('--data', images)
    assert code == 1
    assert 'val: decoded 6 of 6 files, 1 unreadable' in lines['images']
    assert 'dog/0.jpg cannot be decoded (the file is empty)); expected none: replace them' in lines['images']


def test_more_unreadable_files_than_training_passes_over(doctor, images):
    for number in range(10):
        (images / f'train/cat/{number}.jpg').write_bytes(b'')
        shutil.copy(images / 'train/cat/0.jpg', images / f'train/dog/empty{number}.jpg')
    code, lines = doctor('--data', images)
    assert code == 1
    assert lines['images'].startswith('FAIL')
    assert '20 unreadable' in lines['images']


def test_a_loader_and_a_disk_that_are_too_slow(doctor, folder, images, monkeypatch):
    monkeypatch.setattr(feeding, '_rate', lambda _: 1.0)
    monkeypatch.setattr(feeding, '_cost', lambda _: 10.0)
    monkeypatch.setattr(feeding, '_read', lambda paths: (1024 * len(paths), len(paths), 1e6))
    monkeypatch.setattr(steps, 'time_plan', lambda *_: [10.0])
    code, lines = doctor(folder, '--data', images)
    assert (code, lines['loader'][:4], lines['reading'][:4], lines['mixing'][:4]) == (0, 'warn', 'warn', 'warn')
    assert '1 images/s with num_workers=1 and 1 with 2; an image takes 10000.0 ms of a core' in lines['loader']
    assert 'num_workers=2 and store smaller images, as 2 cores can decode 0 images/s' in lines['loader']
    assert '0 files/s of 1 KiB (20 files' in lines['reading']
    assert 'expected at most 20%: choose a cheaper policy' in lines['mixing']


def test_no_room_for_checkpoints_and_batches_of_workers(doctor, folder, images, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(machine, 'SHARED', Path('/'))
    code, lines = doctor(folder, '--data', images, '--quick')
    assert code == 1
    assert lines['disk'].startswith('FAIL  disk             0.0 MiB free for 3 checkpoints of ')
    assert 'better twice that: make room, choose another --work-dir' in lines['disk']
    assert lines['worker memory'].startswith('FAIL')
    assert 'for 1 worker with 3 batches each: lower num_workers' in lines['worker memory']
    assert 'step' not in lines
