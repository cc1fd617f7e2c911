"""A disk that is full or cannot be written: one sentence, and what was saved stays."""

from __future__ import annotations

import errno
import io
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from openmixup.engine.checkpoint import read_checkpoint, write_checkpoint
from openmixup.engine.disk import saving, shown_bytes, tensor_bytes, write_text
from openmixup.errors import InputError

Usage = namedtuple('Usage', 'total used free')


class Full(io.FileIO):
    """A file on a disk with room for ``room`` bytes."""

    room = 0

    def write(self, data) -> int:
        if self.tell() + len(memoryview(data).cast('B')) > self.room:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return super().write(data)


@pytest.fixture
def fill(monkeypatch):
    """Let temporary files hold no more than so many bytes: ``fill(room, name)``."""

    def full(room: int, name: str) -> None:
        plain = Path.open

        def opened(self, mode='r', *args, **kwargs):
            if self.name.startswith(f'.{name}') and 'b' in mode:
                file = Full(self, 'w')
                file.room = room
                return file
            return plain(self, mode, *args, **kwargs)

        monkeypatch.setattr(Path, 'open', opened)

    return full


@pytest.mark.parametrize('room', [0, 100, 5_000, 399_000])
def test_a_checkpoint_that_does_not_fit_is_told_and_leaves_no_trace(tmp_path, fill, room):
    path = tmp_path / 'epoch_2.pth'
    write_checkpoint({'a': torch.zeros(3)}, path)
    before = path.read_bytes()
    fill(room, 'epoch_2')
    sentence = r'epoch_2\.pth could not be written \(No space left on device; it needs 400\.0 kB, .* are free\)'
    with pytest.raises(InputError, match=sentence) as caught:
        write_checkpoint({'a': torch.zeros(100_000)}, path)
    assert '\n' not in str(caught.value)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ['epoch_2.pth']


def test_a_file_of_the_system_that_is_full_is_told(monkeypatch, tmp_path):
    """The system's own refusal, which torch's writer hides behind an error of its own."""
    if not Path('/dev/full').exists():
        pytest.skip('this system has no /dev/full')

    def save() -> None:
        with saving(tmp_path / 'x.pth', 5), open('/dev/full', 'wb') as stream:
            torch.save({'a': torch.zeros(100_000)}, stream)

    with pytest.raises(InputError, match='No space left on device'):
        save()


def test_errors_that_are_no_refusal_pass(tmp_path):
    with pytest.raises(RuntimeError, match='something else'), saving(tmp_path / 'x'):
        raise RuntimeError('something else')
    with pytest.raises(TypeError, match='plain data only'):
        write_checkpoint({'a': object()}, tmp_path / 'x.pth')


def test_a_run_on_a_disk_that_fills_up_keeps_its_checkpoints(train, tmp_path, fill):
    fill(1000, 'epoch_3')
    with pytest.raises(InputError, match=r'epoch_3\.pth could not be written \(No space left'):
        train('run')
    work = tmp_path / 'run'
    assert sorted(path.name for path in work.glob('*.pth')) == ['best.pth', 'epoch_1.pth', 'epoch_2.pth']
    assert read_checkpoint(work / 'epoch_2.pth')['progress']['epoch'] == 2
    assert not list(work.rglob('*.tmp'))


@pytest.mark.parametrize('optimizer', ['SGD', 'AdamW'])
def test_a_disk_that_is_too_small_is_refused_before_the_first_step(train, tmp_path, monkeypatch, optimizer):
    from openmixup.engine.loops import TrainLoop

    options = ('train_cfg.max_epochs=1', 'model.teacher=None', 'model.backbone.width=16')
    if optimizer == 'AdamW':
        options += ("optim_wrapper.optimizer={'type': 'AdamW', 'lr': 0.001}",)
    size = (train('whole', *options) / 'epoch_1.pth').stat().st_size
    steps = []
    plain = TrainLoop.step
    monkeypatch.setattr(TrainLoop, 'step', lambda self, batch: (steps.append(1), plain(self, batch)))
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(10**9, 0, 2 * size))
    with pytest.raises(
        InputError, match=r'has .* free, but .* need about .*\(3 of (.*) and the best .*keep\.$'
    ) as caught:
        train('run', *options)
    assert not steps
    number, unit = str(caught.value).partition('(3 of ')[2].split(' ')[:2]
    estimate = float(number) * {'kB': 1e3, 'MB': 1e6}[unit]
    assert 0.8 * size < estimate < size  # small tensors have large headers
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(10**9, 0, 5 * size))
    train('run', *options)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(0, 0, 0))  # does not tell its size
    train('other', *options)


def test_a_continued_run_needs_no_room_for_what_is_there(train, monkeypatch):
    work = train('run', 'train_cfg.max_epochs=3')
    size = (work / 'epoch_3.pth').stat().st_size
    (work / 'epoch_3.pth').unlink()
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(10**9, 0, 2.5 * size))
    assert (train('run', 'train_cfg.max_epochs=3', argv=('--resume',)) / 'epoch_3.pth').exists()


@pytest.mark.parametrize('code', [errno.EROFS, errno.EACCES])
def test_a_work_dir_that_cannot_be_written_is_refused_before_anything_is_built(train, monkeypatch, code):
    import os

    plain = Path.write_text

    def refuse(self, *args, **kwargs):
        if self.name.startswith('.writable'):
            raise OSError(code, os.strerror(code))
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Path, 'write_text', refuse)
    with pytest.raises(InputError, match=f'cannot be written .{os.strerror(code)}.: choose another --work-dir'):
        train('run')


def test_a_summary_that_does_not_fit_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / 'summary.json'
    write_text(path, 'old')
    plain = Path.write_text

    def refuse(self, text, **options):
        plain(self, text[:2])
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Path, 'write_text', refuse)
    with pytest.raises(InputError, match=r'summary\.json could not be written \(No space'):
        write_text(path, json.dumps([1, 2, 3]))
    assert path.read_text() == 'old'
    assert [file.name for file in tmp_path.iterdir()] == ['summary.json']


def test_bytes_for_people():
    assert [shown_bytes(n) for n in (0, 999, 1_000, 1_234_567, 5e9, 7e12)] == [
        '0 bytes', '999 bytes', '1.0 kB', '1.2 MB', '5.0 GB', '7.0 TB',
    ]  # fmt: skip
    assert tensor_bytes({'a': [torch.zeros(3), (torch.zeros(2, dtype=torch.float16), 'x')], 'b': 1}) == 16
