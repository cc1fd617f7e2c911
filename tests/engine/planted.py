"""Values that are not finite, planted in data, weights and steps, and how to look at what became of them."""

from __future__ import annotations

import json

import torch

from openmixup.datasets import Digits
from openmixup.datasets.loading import build_dataloader
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.distributed import learner_of
from openmixup.engine.loops import TrainLoop
from openmixup.engine.replay import sample_ids
from openmixup.registry import DATASETS

BAD = 7  # the sample with a pixel that is not finite
PLANTED = f"train_dataloader.dataset={{'type': 'PlantedDigits', 'split': 'train', 'per_class': 8, 'bad': {BAD}}}"
BY_STEP = ('default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.keep=20')


@DATASETS.register_module(force=True)
class PlantedDigits(Digits):
    """Digits as floats, one of which has a pixel that is not finite."""

    def __init__(self, bad: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.bad = bad

    def __getitems__(self, indices):
        batch = super().__getitems__(indices)
        batch['inputs'] = batch['inputs'].float()
        for row, index in enumerate(indices):
            if index == self.bad:
                batch['inputs'][row, 0, 3, 4] = float('nan')
        return batch


def bad_steps(steps: int, sample: int = BAD) -> list[int]:
    """The steps that see the bad sample."""
    loader = build_dataloader(Digits(per_class=8), 16, shuffle=True, seed=0)
    return [step for step in range(steps) if sample in sample_ids(loader, step)[0]]


def action(name: str, *more: str) -> tuple[str, ...]:
    return (f'default_hooks.non_finite.action={name}', *(f'default_hooks.non_finite.{option}' for option in more))


def report(work, step: int, rank: int = 0):
    folder = work / f'non_finite_step_{step}'
    return json.loads((folder / f'report_rank{rank}.json').read_text()), read_checkpoint(
        folder / f'batch_rank{rank}.pth'
    )


def weights(path):
    return read_checkpoint(path)['state_dict']


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def everything(runner) -> dict[str, torch.Tensor]:
    """Copies of weights, buffers, teacher, momentum and the policy's history."""
    learner = learner_of(runner)
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    for number, kept in enumerate(runner.optim_wrapper.optimizer.state.values()):
        state |= {f'optimizer.{number}.{name}': value.clone() for name, value in kept.items() if value is not None}
    return state | {f'policy.{name}': value.clone() for name, value in learner.policy.rank_state().items()}


def plant(monkeypatch, steps, act):
    """Call ``act(runner, learner)`` before each of the steps."""
    plain = TrainLoop.step

    def step(self, batch):
        if self.iter in steps:
            act(self.runner, learner_of(self.runner))
        plain(self, batch)

    monkeypatch.setattr(TrainLoop, 'step', step)


def spoil(runner, learner):
    learner.student.heads['main'].fc.weight.data[0, 0] = float('nan')
