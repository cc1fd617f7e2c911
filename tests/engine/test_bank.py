"""A second stream of samples beside the batches: its weights, its order, and what a policy gets of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from openmixup.datasets import Digits, ImageFolder, InMemoryDataset, build_dataloader
from openmixup.datasets.loading import bank_weights
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.config import load_config
from openmixup.engine.loops import TrainLoop
from openmixup.engine.policy_checks import check_needs
from openmixup.errors import InputError
from openmixup.models import BatchPreprocessor
from openmixup.policies import Batch, Context, MixPolicy, Mixture, Plan, View
from openmixup.registry import POLICIES

BANK = "train_dataloader.bank={'weights': 'inverse'}"


@POLICIES.register_module(force=True)
class HalfOfTheBank(MixPolicy):
    """The mean of sample i and image i of the bank; notes the labels that it was given."""

    needs = ('pixels', 'bank')
    label = 'drawn'
    seen: list[tuple[Tensor, Tensor]] = []  # noqa: RUF012

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        assert batch.bank is not None
        count = torch.arange(len(batch))
        mixture = Mixture(
            torch.stack([count, len(batch) + count % len(batch.bank)], 1), torch.full((len(batch), 2), 0.5)
        )
        self.seen.append((batch.labels, batch.bank.labels))
        return Plan(batch, (View(mixture.of(batch.source_images), mixture),), self)


@pytest.fixture
def seen():
    HalfOfTheBank.seen.clear()
    return HalfOfTheBank.seen


@pytest.fixture
def rare():
    """100 images of class 0, 20 of class 1, 5 of class 2, none of class 3; the image is its own number."""
    labels = torch.tensor([0] * 100 + [1] * 20 + [2] * 5)
    return InMemoryDataset(
        torch.arange(125, dtype=torch.uint8).view(-1, 1, 1, 1), labels, classes=('many', 'few', 'five', 'none')
    )


def by_class(dataset: InMemoryDataset, **bank) -> Tensor:
    """Share of each class in the draws of 160 epochs, 20 000 of them."""
    loader = build_dataloader(dataset, 125, shuffle=True, bank=bank)
    counts = torch.zeros(4)
    for epoch in range(160):
        loader.set_epoch(epoch)
        for batch in loader:
            assert torch.equal(dataset.labels[batch['bank_inputs'].flatten().long()], batch['bank_labels'])
            counts += torch.bincount(batch['bank_labels'], minlength=4)
    return counts / counts.sum()


@pytest.mark.parametrize(
    ('bank', 'shares'),
    [
        ({'weights': 'inverse'}, [1 / 3, 1 / 3, 1 / 3, 0]),
        ({'weights': 'inverse', 'power': 0.0}, [0.8, 0.16, 0.04, 0]),
        ({'weights': 'uniform', 'power': 3.0}, [0.8, 0.16, 0.04, 0]),
        ({'weights': 'inverse', 'power': 2.0}, [1 / 26, 5 / 26, 20 / 26, 0]),
        ({'weights': [0.0, 1.0, 4.0, 9.0]}, [0, 0.5, 0.5, 0]),
        ({}, [1 / 3, 1 / 3, 1 / 3, 0]),
    ],
)
def test_classes_are_drawn_by_their_weights(rare, bank, shares):
    """A class of n samples has the share n^(1 - power); five standard deviations of 20 000 draws are allowed."""
    assert by_class(rare, **bank).tolist() == pytest.approx(shares, abs=5 * (0.25 / 20_000) ** 0.5)


def test_within_a_class_all_are_alike(rare):
    weights = bank_weights(rare, 'inverse', 0.5)
    assert weights.tolist() == pytest.approx([100**-0.5] * 100 + [20**-0.5] * 20 + [5**-0.5] * 5)


def test_the_bank_has_the_size_of_its_batch_and_leaves_the_batches_alone():
    plain = list(build_dataloader(Digits(per_class=8, split='train'), 32, shuffle=True, seed=4))
    with_bank = list(build_dataloader(Digits(per_class=8, split='train'), 32, shuffle=True, seed=4, bank={}))
    assert [len(batch['bank_labels']) for batch in with_bank] == [32, 32, 16]
    for one, other in zip(plain, with_bank, strict=True):
        assert list(other) == ['inputs', 'labels', 'bank_inputs', 'bank_labels']
        assert torch.equal(one['inputs'], other['inputs'])
        assert torch.equal(one['labels'], other['labels'])
        assert other['bank_inputs'].shape == other['inputs'].shape
    fixed = build_dataloader(Digits(per_class=8, split='train'), 32, shuffle=True, seed=4, bank={'batch_size': 5})
    assert [(len(batch['labels']), len(batch['bank_labels'])) for batch in fixed] == [(32, 5), (32, 5), (16, 5)]


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (('a', 7), ('b', 2)):
        (tmp_path / 'tree' / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / 'tree' / name / f'{i}.png')
    return tmp_path / 'tree'


def loaded(tree, workers: int, *, infinite: bool = False, start: int = 0, take: int = 6, **bank) -> list[dict]:
    data = ImageFolder(tree, size=8, val_fraction=0)
    loader = build_dataloader(
        data, 4, shuffle=True, seed=2, num_workers=workers, infinite=infinite, bank=bank, start_batch=start * infinite
    )
    if infinite:
        return list(itertools.islice(loader, take))
    batches = []
    for epoch in range(start // 3, 2):
        loader.set_epoch(epoch, start % 3 if epoch == start // 3 else 0)
        batches += list(loader)
    return batches


def equal(first: list[dict], second: list[dict]) -> bool:
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize('infinite', [False, True])
def test_workers_and_a_cut_change_nothing(tree, infinite):
    whole = loaded(tree, 0, infinite=infinite)
    assert len(whole) == 6
    assert equal(loaded(tree, 2, infinite=infinite), whole)
    for start in (1, 3, 4, 5):
        assert equal(loaded(tree, 0, infinite=infinite, start=start, take=6 - start), whole[start:])


def test_each_draw_of_a_file_has_a_crop_of_its_own(tree):
    """Two files of class b make half of the draws, so that they come again and again; no crop comes twice."""
    rows = torch.cat(
        [b['bank_inputs'].flatten(1) for b in loaded(tree, 0) + loaded(tree, 0, infinite=True, take=8)[6:]]
    )
    labels = torch.cat([b['bank_labels'] for b in loaded(tree, 0)])
    assert len(rows) > 20
    assert len(rows.unique(dim=0)) == len(rows)
    assert (labels == 1).sum() > 4


def test_the_preprocessor_treats_the_bank_as_the_batch_with_draws_of_its_own():
    crop = [{'type': 'RandomCrop', 'size': 8, 'padding': 4}]
    preprocessor = BatchPreprocessor((0.5,), (0.25,), train=crop)
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(64)
    data = {'inputs': images, 'labels': labels, 'bank_inputs': images, 'bank_labels': labels}

    def at(step: int, names: tuple[str, ...], training: bool = True) -> dict[str, Tensor]:
        preprocessor.context = Context(seed=1, step=step)
        return preprocessor({name: data[name] for name in names}, training)

    alone, both, again = at(3, ('inputs', 'labels')), at(3, tuple(data)), at(3, tuple(data))
    assert torch.equal(alone['inputs'], both['inputs'])  # the batch is as it is without a bank
    assert both['bank_inputs'].dtype == torch.float32
    assert both['bank_inputs'].shape == (64, 1, 8, 8)
    same = (both['bank_inputs'] == both['inputs']).flatten(1).all(1).sum()
    assert same < 10  # crops are drawn from 81 places
    fewer = preprocessor({**data, 'bank_inputs': images[:5], 'bank_labels': labels[:5]}, training=True)
    assert fewer['bank_inputs'].shape == (5, 1, 8, 8)
    assert torch.equal(both['bank_inputs'], again['bank_inputs'])
    assert not torch.equal(both['bank_inputs'], at(4, tuple(data))['bank_inputs'])
    plain = at(3, tuple(data), training=False)
    torch.testing.assert_close(plain['bank_inputs'], (images / 255 - 0.5) / 0.25)


def test_a_run_gives_its_policy_the_bank_and_continues_bit_for_bit(train, seen, monkeypatch):
    options = ('default_hooks.checkpoint.by_epoch=False', BANK)
    policy = ('--policy', 'HalfOfTheBank')
    whole = train('whole', *options, argv=policy)
    assert [len(bank) for _, bank in seen] == [16] * 15
    drawn = [bank.tolist() for _, bank in seen]
    assert len({tuple(labels) for labels in drawn}) == 15
    assert all(own.tolist() != bank.tolist() for own, bank in seen)
    plain = TrainLoop.step
    with monkeypatch.context() as patch:
        patch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 8 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train('cut', *options, argv=policy)
    seen.clear()
    resumed = train('cut', *options, argv=(*policy, '--resume'))
    assert [bank.tolist() for _, bank in seen] == drawn[8:]
    first, second = (read_checkpoint(work / 'iter_15.pth')['state_dict'] for work in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(InputError, match="train_dataloader.bank.weights: 'inverse' -> 'uniform'"):
        train('cut', *options, 'train_dataloader.bank.weights=uniform', argv=(*policy, '--resume'))


def test_a_run_by_steps_has_a_bank_too(train, seen):
    train(
        'run', "train_cfg={'type': 'IterLoop', 'max_iters': 7, 'val_interval': 7}", 'param_scheduler=None', BANK,
        'train_dataloader.bank.batch_size=3', argv=('--policy', 'HalfOfTheBank'),
    )  # fmt: skip
    assert [len(bank) for _, bank in seen] == [3] * 7


def test_a_policy_that_needs_a_bank_is_refused_without_one(train):
    message = r"HalfOfTheBank takes images from a second loader.*add bank=dict\(weights='inverse'\)"
    with pytest.raises(InputError, match=message):
        train('run', argv=('--policy', 'HalfOfTheBank'))
    inside = "{'type': 'RandomChoice', 'policies': [{'type': 'Mixup'}, {'type': 'HalfOfTheBank'}]}"
    with pytest.raises(InputError, match='RandomChoice takes images from a second loader'):
        train('run', f'model.policy={inside}')
    learner = torch.nn.ModuleDict({'policy': HalfOfTheBank()})
    assert check_needs(learner, None) is learner  # an evaluation needs none


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ("train_dataloader.bank={'weight': 'inverse'}", "unknown key 'weight'; did you mean 'weights'"),
        ("train_dataloader.bank={'weights': 'invers'}", "bank.weights='invers' is not one of inverse, uniform"),
        ("train_dataloader.bank={'weights': [1, -1]}", r'bank.weights=\[1, -1\]'),
        ("train_dataloader.bank={'weights': [0, 0]}", 'not 0 for all'),
        ("train_dataloader.bank={'power': -1}", 'bank.power=-1'),
        ("train_dataloader.bank={'batch_size': 0}", 'bank.batch_size=0'),
        ('train_dataloader.bank=inverse', "train_dataloader.bank='inverse': expected a dict"),
        ("val_dataloader.bank={'weights': 'inverse'}", "val_dataloader has no key 'bank'"),
    ],
)
def test_a_bank_that_cannot_be_is_refused_when_the_config_is_read(config_file, option, message):
    with pytest.raises(InputError, match=message):
        load_config(config_file, [option])


def test_a_data_set_must_tell_the_classes_of_its_samples(rare):
    with pytest.raises(InputError, match='bank.weights has 2 numbers for 4 classes'):
        build_dataloader(rare, 4, shuffle=True, bank={'weights': [1.0, 2.0]})
    with pytest.raises(InputError, match='at least 0 for each, and not 0 for all'):
        build_dataloader(rare, 4, shuffle=True, bank={'weights': [0, 0, 0, 1]})
    unlabelled = [{'inputs': torch.zeros(1), 'labels': torch.tensor(0)}] * 6
    with pytest.raises(InputError, match="list has no class number.*weights='uniform'"):
        build_dataloader(unlabelled, 4, shuffle=True, bank={})
    batch = next(iter(build_dataloader(unlabelled, 4, shuffle=True, bank={'weights': 'uniform'})))
    assert {key: len(value) for key, value in batch.items()} == {
        'inputs': 4, 'labels': 4, 'bank_inputs': 4, 'bank_labels': 4
    }  # fmt: skip
