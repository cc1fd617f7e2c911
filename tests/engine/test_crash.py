"""Runs that are killed: whatever the moment, the next one goes on, and ends where the undisturbed one ended."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from openmixup.cli.train import main
from openmixup.datasets import Digits
from openmixup.errors import InputError
from tests.engine.test_preemption import equal, final

OFTEN = ('default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.keep=1', 'train_cfg.val_interval=3')
AUTOMIX = """
model = dict(_delete_=True, type='MixClassifier', backbone=dict(type='CifarResNet', depth=8, width=4, in_channels=1),
    head=dict(type='LinearHead', num_classes=None), policy=dict(type='AutoMix'),
    teacher=dict(decay=0.9, end=0.99, hold=0.1, bn='batch'))
"""
FILES = """
train_dataloader = dict(_delete_=True, num_workers=2, batch_size=10,
    dataset=dict(type='ImageFolder', root='{root}', split='train', size=8, crop=dict(scale=(0.5, 1.0))))
model = dict(backbone=dict(in_channels=3))
data_preprocessor = dict(mean=(0.3, 0.3, 0.3), std=(0.4, 0.4, 0.4))
val_dataloader = dict(_delete_=True, num_workers=2, batch_size=50,
    dataset=dict(type='ImageFolder', root='{root}', split='val', size=8))
test_dataloader = val_dataloader
"""
VARIANTS = {
    'epochs': (),
    'steps': (
        "train_cfg={'type': 'IterLoop', 'max_iters': 24, 'val_interval': 7}",
        "param_scheduler=[{'type': 'CosineAnnealingLR', 'T_max': 24, 'by_epoch': False}]",
    ),
    'accumulation': ('optim_wrapper.accumulative_counts=2',),
    'automix': ('optim_wrapper.accumulative_counts=2',),
    'files and workers': (),
}


def child(arguments: list[str], log: Path) -> int:
    """Train in a fork of this process, which has everything imported; the number of the process."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        code = main(arguments)
    finally:
        os._exit(code)


def kill_at_random(config: Path, work: Path, rounds: int, seed: int) -> int:
    """Kill a run again and again at random moments until it has been killed ``rounds`` times; how often it ended."""
    rng, ended, killed = random.Random(seed), 0, 0
    arguments = [str(config), '--work-dir', str(work), '--resume', '--cfg-options', *OFTEN]
    begin = time.monotonic()
    os.waitpid(child([*arguments[:2], f'{work}-timed', *arguments[4:]], work.with_suffix('.log')), 0)
    length = time.monotonic() - begin
    while killed < rounds:
        number = child(arguments, work.with_suffix('.log'))
        time.sleep(rng.uniform(0.0, length))
        os.kill(number, signal.SIGKILL)
        _, status = os.waitpid(number, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            continue
        assert os.WEXITSTATUS(status) == 0, work.with_suffix('.log').read_text()[-2000:]
        ended += 1
        assert equal(final(work), final(Path(f'{work}-timed')))
        for path in work.glob('*.pth'):
            path.unlink()
    number = child(arguments, work.with_suffix('.log'))
    _, status = os.waitpid(number, 0)
    assert os.waitstatus_to_exitcode(status) == 0, work.with_suffix('.log').read_text()[-2000:]
    assert equal(final(work), final(Path(f'{work}-timed')))
    assert not list(work.glob('.*.tmp'))
    return ended


@pytest.mark.parametrize('rounds', [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_at_random_moments_ends_as_the_undisturbed_one(config_file, tmp_path, rounds):
    """It saves after every step and keeps one file, so that many of the kills hit the writing."""
    torch.set_num_threads(1)
    kill_at_random(config_file, tmp_path / 'killed', rounds, seed=rounds)


def write_files(root: Path) -> None:
    """As many digits for training as the job has in memory, and some to evaluate, in class folders."""
    for split, each in {'train': 8, 'val': 5}.items():
        data = Digits(split='train' if split == 'train' else 'test', per_class=8 if split == 'train' else None)
        for label in range(10):
            (root / split / str(label)).mkdir(parents=True)
            for number, image in enumerate(data.images[data.labels == label][:each]):
                Image.fromarray(image[0].numpy()).save(root / split / str(label) / f'{number}.png')


@pytest.mark.slow
@pytest.mark.parametrize('variant', VARIANTS)
def test_a_run_cut_at_each_of_its_steps_continues_bit_for_bit(config_file, train, variant):
    """24 steps, cut behind each of them, and resumed from what was saved there."""
    changes = {'automix': AUTOMIX, 'files and workers': FILES.format(root=config_file.parent / 'digits')}.get(variant)
    if changes:
        write_files(config_file.parent / 'digits')
        base = config_file.with_name('base.py')
        base.write_text(config_file.read_text())
        config_file.write_text("_base_ = './base.py'\n" + changes)
    options = (*OFTEN[:1], 'default_hooks.checkpoint.keep=30', 'train_dataloader.batch_size=10', *VARIANTS[variant])
    whole = train('whole', *options)
    expected = final(whole)
    assert expected['progress']['iter'] == 24
    for step in range(1, 24):
        resumed = train(f'cut{step}', *options, argv=('--resume', str(whole / f'iter_{step}.pth')))
        assert equal(expected, final(resumed)), f'cut at step {step}'


def test_data_that_was_seen_is_not_read_again(train, monkeypatch):
    from openmixup.datasets.memory import InMemoryDataset

    whole = train('whole', 'default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.keep=20')
    read: list[int] = []
    plain = InMemoryDataset.__getitems__

    def counted(self, index):
        read.append(len(index))
        return plain(self, index)

    monkeypatch.setattr(InMemoryDataset, '__getitems__', counted)
    resumed = train('cut', 'default_hooks.checkpoint.by_epoch=False', argv=('--resume', str(whole / 'iter_13.pth')))
    assert read[:2] == [16, 16]  # the last two of 15 steps; then the evaluation
    assert len([count for count in read if count == 16]) == 2
    assert equal(final(whole), final(resumed))


@pytest.mark.parametrize('error', [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), RuntimeError('no such thing')])
def test_an_error_in_the_middle_of_writing_leaves_the_last_checkpoint(train, monkeypatch, error):
    """Keep one: the disk is full, or something cannot be saved."""
    options = ('default_hooks.checkpoint.keep=1', 'default_hooks.checkpoint.save_best=None')
    whole = train('whole', *options)
    plain, calls = torch.save, []

    def fails(content, stream):
        calls.append(1)
        if len(calls) == 2:
            stream.write(b'half of it')
            raise error
        plain(content, stream)

    with monkeypatch.context() as broken:
        broken.setattr(torch, 'save', fails)
        with pytest.raises((type(error), InputError)):
            train('cut', *options)
    work = whole.with_name('cut')
    assert [path.name for path in work.glob('*.pth')] == ['epoch_1.pth']
    assert not list(work.glob('.*.tmp'))
    assert equal(final(whole), final(train('cut', *options, argv=('--resume',))))
