"""A step made again from its keys is the step that was."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.datasets import Digits, ImageFolder
from openmixup.datasets.loading import build_dataloader
from openmixup.engine.replay import inspect_step, rebuild_batch, sample_ids, sample_indices, step_context

KINDS = {
    'epochs': {},
    'two processes': {'rank': 1, 'world_size': 2},
    'whole batches': {'drop_last': True},
    'a bank': {'bank': {'weights': 'inverse'}},
    'a bank of another size': {'bank': {'weights': 'uniform', 'batch_size': 3}},
    'repeats': {'repeats': 3},
    'a stream': {'infinite': True},
    'a stream with a bank': {'infinite': True, 'bank': {'batch_size': 3}, 'rank': 1, 'world_size': 2},
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('folder')
    rng = np.random.default_rng(0)
    for name in ('a', 'b'):
        (root / name).mkdir()
        for i in range(10):
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(root / name / f'{i}.png')
    return root


def loaded(loader, steps, infinite):
    """The first batches of a run, as the loops ask for them."""
    if infinite:
        return list(islice(loader, steps))
    batches, epoch = [], 0
    while len(batches) < steps:
        loader.set_epoch(epoch)
        batches += list(loader)
        epoch += 1
    return batches[:steps]


@pytest.mark.parametrize('kind', KINDS)
def test_a_batch_is_made_again_from_its_step(folder, kind):
    data = ImageFolder(folder, split='all', size=8, crop={'random': True})
    loader = build_dataloader(data, 4, shuffle=True, seed=3, **KINDS[kind])
    for step, batch in enumerate(loaded(loader, 9, KINDS[kind].get('infinite'))):
        again = rebuild_batch(loader, step)
        assert again.keys() == batch.keys()
        assert all(torch.equal(again[name], batch[name]) for name in batch), (kind, step)
        own, bank = sample_ids(loader, step)
        assert data.labels[own].tolist() == batch['labels'].tolist()
        assert data.labels[bank].tolist() == batch.get('bank_labels', torch.empty(0)).tolist()


def test_a_batch_behind_a_change_of_its_size_is_made_again(folder):
    """A run by epochs went on behind 6 of 20 samples of its second one, a run by steps behind 26 samples."""
    data = ImageFolder(folder, split='all', size=8, crop={'random': True})
    epochs = build_dataloader(data, 4, shuffle=True, seed=3)
    epochs.set_epoch(1, 0, 6)
    batches = list(epochs)
    epochs.set_epoch(2)
    batches += list(epochs)
    assert [len(batch['labels']) for batch in batches] == [4, 4, 4, 2, 4, 4, 4, 4, 4]
    stream = build_dataloader(data, 4, shuffle=True, seed=3, infinite=True)
    stream.start_at(0, 26)
    for loader, made, origin in ((epochs, batches, (1, 6, 6)), (stream, list(islice(stream, 9)), (0, 8, 26))):
        for step, batch in enumerate(made, origin[1]):
            again = rebuild_batch(loader, step, origin)
            assert all(torch.equal(again[name], batch[name]) for name in batch), step
            assert data.labels[sample_ids(loader, step, origin=origin)[0]].tolist() == batch['labels'].tolist()


def test_samples_of_another_process_are_known_too():
    data = Digits(per_class=4)
    loaders = [build_dataloader(data, 4, shuffle=True, rank=rank, world_size=2) for rank in (0, 1)]
    for step in range(12):
        assert sample_indices(loaders[0], step, rank=1) == sample_indices(loaders[1], step)
    assert loaders[0].batch_sampler.rank == 0  # the loader itself goes on as it was
    assert loaders[0].batch_sampler.epoch == 0


@pytest.mark.parametrize('policy', ['CutMix', 'AutoMix', 'RecursiveMix'])
def test_the_step_itself_is_made_again(train, monkeypatch, policy):
    """Mixture, pixels and loss terms, with the weights and the history of before the step."""
    from openmixup.engine.distributed import learner_of
    from openmixup.engine.guard import Snapshot
    from openmixup.engine.loops import TrainLoop

    plain, seen = TrainLoop.step, []

    def step(self, batch):
        if self.iter not in (4, 7):
            plain(self, batch)
            return
        runner, learner = self.runner, learner_of(self.runner)
        snapshot = Snapshot(learner)
        snapshot.take()
        found = inspect_step(learner, runner.optim_wrapper, batch, step_context(runner, self.iter))
        snapshot.restore()
        outputs, hook = {}, learner.forward

        def forward(*args, **kwargs):
            outputs.update(hook(*args, **kwargs))
            return dict(outputs)

        learner.forward = forward
        plans = []
        monkeypatch.setattr(type(runner), 'call_hook', lambda s, n, **k: plans.append(learner.last_plan))
        plain(self, batch)
        monkeypatch.undo()
        del learner.forward
        monkeypatch.setattr(TrainLoop, 'step', step)
        seen.append((found, plans[-1], {name: float(value.detach()) for name, value in outputs.items()}))

    monkeypatch.setattr(TrainLoop, 'step', step)
    train('run', 'train_cfg.max_epochs=2', argv=('--policy', policy))
    assert len(seen) == 2
    for found, plan, terms in seen:
        assert found.names == []
        assert found.error == ''
        assert found.terms == terms
        for view, other in zip(found.plan.views, plan.views, strict=True):
            assert torch.equal(view.mixture.index, other.mixture.index)
            assert torch.equal(view.mixture.weight, other.mixture.weight)
            assert torch.equal(view.inputs, other.inputs)
