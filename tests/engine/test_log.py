"""The log by itself: terms that come and go."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from openmixup.engine.hooks.log import LogHook


@pytest.fixture
def runner():
    points: list[tuple[int, dict]] = []
    return SimpleNamespace(
        train_loop=SimpleNamespace(iter=0, images=0, max_iters=20, max_epochs=1, epoch=0), world_size=1, points=points,
        optim_wrapper=SimpleNamespace(param_groups=[{'lr': 0.1}]), call_hook=lambda name, **told: None,
        visualizer=SimpleNamespace(add_scalars=lambda values, step: points.append((step, values))),
    )  # fmt: skip


def steps(hook: LogHook, runner, first: int, last: int) -> None:
    """Each step has a loss equal to its number, every second one another term."""
    for number in range(first, last):
        outputs = {'loss': torch.tensor(float(number))}
        if number % 2 == 0:
            outputs['loss_sometimes'] = torch.tensor(3.0)
        hook.after_train_iter(runner, number, outputs=outputs)


def test_terms_that_come_and_go_are_read_once_an_interval_and_averaged_over_their_steps(runner):
    hook = LogHook(interval=10)
    hook.before_train(runner)
    steps(hook, runner, 0, 20)
    assert [step for step, _ in runner.points] == [10, 20]
    assert [values['train/loss'] for _, values in runner.points] == [4.5, 14.5]
    assert [values['train/loss_sometimes'] for _, values in runner.points] == [3.0, 3.0]


def test_saving_reads_nothing_and_a_continued_log_has_the_same_bits(runner):
    whole, cut, resumed = (LogHook(interval=10) for _ in range(3))
    for hook in (whole, cut, resumed):
        hook.before_train(runner)
    steps(whole, runner, 0, 20)
    steps(cut, runner, 0, 13)
    saved: dict = {}
    count = len(runner.points)
    cut.before_save_checkpoint(runner, saved)
    assert len(runner.points) == count
    resumed.after_load_checkpoint(runner, copy.deepcopy(saved))
    steps(resumed, runner, 13, 20)
    steps(cut, runner, 13, 20)
    assert whole._epoch == cut._epoch == resumed._epoch
