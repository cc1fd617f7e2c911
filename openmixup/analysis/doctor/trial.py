"""The run up to its first step as training does it, then checks in place of the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from openmixup.analysis.doctor import feeding, places, steps
from openmixup.analysis.doctor.report import Effort, Finding, Say, attempt
from openmixup.engine.hooks import CheckpointHook, TeacherHook

__all__ = ['trial']


def trial(runner: Any, place: Path, effort: Effort, say: Say) -> None:
    """Do all that training does before its first step, then measure in place of the steps.

    Args:
        runner: a runner in a folder that is thrown away; its weights are changed.
        place: the work dir that a run would have.
        effort: how much to look at.
        say: gets each finding.
    """
    hooks = runner.hooks
    keep = next((hook.keep for hook in hooks if isinstance(hook, CheckpointHook)), None)
    runner._hooks = [hook for hook in hooks if isinstance(hook, TeacherHook)]  # none that logs, draws or saves

    def measure() -> None:
        runner.model.train()
        checks: list[tuple[str, Callable[..., Iterator[Finding]], tuple]] = []
        timing = steps.Timing()
        if not effort.quick:
            checks += [('step', steps.step, (runner, timing, effort)), ('mixing', steps.mixing, (runner, timing)),
                       ('step memory', steps.step_memory, (timing, effort)),
                       ('loader', feeding.loader, (runner, timing, effort.processes)),
                       ('reading', feeding.reading, (runner, timing, effort.images))]  # fmt: skip
        checks += [('worker memory', feeding.handover, (runner, effort.processes))]
        checks += [('batches', steps.batches, (runner, effort)), ('disk', places.disk, (runner, place, keep))]
        for name, check, arguments in checks:
            for finding in attempt(name, check, *arguments):
                say(finding)

    def start() -> Iterator[Finding]:
        runner.train_loop.run = measure
        runner.train()
        yield from ()

    for finding in attempt('training', start):
        say(finding)
