"""A run that is cut in the middle of an epoch ends bit by bit as one that was not."""

from __future__ import annotations

import csv

import pytest
import torch
from PIL import Image

from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.loops import TrainLoop

VIT = {
    'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'in_channels': 1,
    'options': {'img_size': 8, 'patch_size': 4, 'embed_dim': 24, 'depth': 3, 'num_heads': 3},
}  # fmt: skip
DIGITS = {'type': 'Digits', 'split': 'train', 'per_class': 8}
LONG_TAIL = {'type': 'LongTail', 'factor': 4, 'dataset': DIGITS}
NOISE = {'type': 'LabelNoise', 'rate': 0.4, 'dataset': {'type': 'ClassBalanced', 'dataset': LONG_TAIL}}
CHOICE = {
    'type': 'RandomChoice',
    'policies': [{'type': 'RecursiveMix'}, {'type': 'SUMix'}, {'type': 'SUMix', 'policy': {'type': 'RecursiveMix'}}],
}
CASES = {
    'layers': (
        f'model.backbone={VIT!r}', "optim_wrapper.paramwise_cfg={'layer_decay': 0.7, 'bias_decay_mult': 0.0}",
        "optim_wrapper.optimizer={'type': 'AdamW', 'lr': 0.001, 'weight_decay': 0.1}",
        'optim_wrapper.accumulative_counts=3',
    ),
    'data': (f'train_dataloader.dataset={NOISE!r}', 'train_dataloader.repeats=3', 'train_dataloader.bank={}'),
    'policies': (f'model.policy={CHOICE!r}',),
    'generator': ("model.policy={'type': 'AdAutoMix', 'generator': {'every': 2}}",),
}  # fmt: skip


@pytest.fixture
def halves(train, monkeypatch):
    """The last checkpoints of a whole run, and of one that was cut and continued with further options."""

    def run(*options: str, then: tuple[str, ...] = ()):
        options = (*options, 'train_cfg.max_epochs=2', 'default_hooks.checkpoint.by_epoch=False')
        last = max(train('whole', *options).glob('iter_*.pth'), key=lambda path: path.stat().st_mtime_ns)
        cut, plain = int(last.stem.removeprefix('iter_')) - 3, TrainLoop.step
        with monkeypatch.context() as patch:
            patch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < cut else 1 / 0)
            with pytest.raises(ZeroDivisionError):
                train('cut', *options)
        resumed = train('cut', *options, *then, argv=('--resume',)) / last.name
        return read_checkpoint(last), read_checkpoint(resumed)

    return run


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_what_a_step_needs_is_in_the_checkpoint(halves, case):
    whole, resumed = halves(*CASES[case])
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(whole[part], resumed[part]), part
    assert same(whole.get('rank_states'), resumed.get('rank_states'))


@pytest.mark.slow
def test_files_of_a_table_come_with_the_same_crops_whatever_the_workers(halves, tmp_path):
    rows = []
    for number in range(40):
        Image.new('L', (12, 12), number * 6).save(tmp_path / f'{number}.png')
        rows.append((f'{number}.png', number % 10, 'train' if number < 30 else 'val'))
    with (tmp_path / 'table.csv').open('w', newline='') as stream:
        csv.writer(stream).writerows([('path', 'label', 'split'), *rows])
    table = {'type': 'ImageTable', 'table': str(tmp_path / 'table.csv'), 'size': 8}
    colour = (
        "model.backbone={'type': 'CifarResNet', 'depth': 8, 'width': 4}", 'train_dataloader.batch_size=6',
        'data_preprocessor.mean=[0.3,0.3,0.3]', 'data_preprocessor.std=[0.4,0.4,0.4]',
    )  # fmt: skip
    parts = [f'{part}_dataloader.dataset={table | {"split": "val"}!r}' for part in ('val', 'test')]
    whole, resumed = halves(
        f'train_dataloader.dataset={table!r}', *parts, *colour, 'train_dataloader.repeats=2',
        then=('train_dataloader.num_workers=2',),
    )  # fmt: skip
    assert same(whole['state_dict'], resumed['state_dict'])
