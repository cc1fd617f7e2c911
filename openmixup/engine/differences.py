"""A run that is not the one that a checkpoint is of: what differs, what that breaks, and going on all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from openmixup.errors import InputError, printable

__all__ = ['Difference', 'differences', 'fresh_options', 'go_to', 'judge']

# what only evaluates: a change of it is told, but the weights stay those of the undisturbed run
HARMLESS = (
    'val_dataloader.', 'test_dataloader.', 'val_evaluator.', 'test_evaluator.', 'val_cfg.', 'test_cfg.',
    'train_cfg.val_interval', 'train_cfg.val_begin',
)  # fmt: skip
SHOWN = 5
ORDER = ('world_size', 'batch_size', 'samples')  # what fixes where in the data a step is


class Difference(NamedTuple):
    """One value of the checkpoint and of this run."""

    key: str
    old: Any
    new: Any

    @property
    def harmless(self) -> bool:
        """Whether the weights are the same with both."""
        return self.key.startswith(HARMLESS) or self.moved_generator

    @property
    def moved_generator(self) -> bool:
        """Whether only the file of a kept generator is another one, of which the checkpoint has the weights."""
        return self.key.endswith('generator.pretrained') and self.old is not None and self.new is not None

    def __str__(self) -> str:
        return f'{printable(self.key, 100)}: {printable(repr(self.old), 100)} -> {printable(repr(self.new), 100)}'


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """The keys whose values differ, or that only one of the two has."""
    return [Difference(key, old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


def judge(path: Any, found: list[Difference], inexact: bool) -> tuple[list[str], str]:
    """What a run that goes on with ``found`` must remember, and what the log says of it.

    Args:
        path: the checkpoint, for messages.
        found: what differs.
        inexact: go on even if the result is no longer that of the undisturbed run.

    Raises:
        InputError: not ``inexact``, and something differs that breaks exactness.
    """
    breaking = [item for item in found if not item.harmless]
    told = ', '.join(map(str, found[:SHOWN])) + (f' and {len(found) - SHOWN} more' if len(found) > SHOWN else '')
    kept = '; the generator stays that of the checkpoint' if any(item.moved_generator for item in found) else ''
    if breaking and not inexact:
        shown = ', '.join(map(str, breaking[:SHOWN]))
        more = f' and {len(breaking) - SHOWN} more' if len(breaking) > SHOWN else ''
        raise InputError(
            f'this run differs from the one that wrote {path} ({shown}{more}): undo the change, start a new run from '
            'the weights with --load-from, or go on with --allow-inexact-resume, whose result is no longer that of an '
            'undisturbed run.'
        )
    if breaking:
        return [str(item) for item in breaking], f'inexact: the run goes on with another config ({told}){kept}'
    alike = 'another evaluation' if not kept else 'the same training'
    return [], f'the run goes on with {alike} ({told}){kept}' if found else ''


def fresh_options(runner: Any) -> list[dict[str, Any]]:
    """The options of the parameter groups as the config has them, before those of a checkpoint replace them."""
    groups = runner.optim_wrapper.param_groups
    return [{key: value for key, value in group.items() if key != 'params'} for group in groups]


def go_to(runner: Any, progress: Mapping[str, Any], fresh: list[dict[str, Any]]) -> None:
    """Take up the position of another run, with the options and schedules of this one.

    Each sample of an epoch is still seen once: the epoch goes on behind the samples that were seen. Schedules are
    stepped from their beginning.

    Args:
        runner: whose optimizer state was restored.
        progress: of the checkpoint.
        fresh: :func:`fresh_options` from before that.
    """
    loop = runner.train_loop
    resized = any(progress[name] != getattr_of(runner, name) for name in ORDER)
    if resized:
        loop.place(progress['epoch'], progress['iter'], progress['samples_seen'])
    for group, options in zip(runner.optim_wrapper.param_groups, fresh, strict=True):
        group.update(options)
    schedulers = runner.param_schedulers or []
    length = max(loop.max_iters // loop.max_epochs, 1)
    for step in range(1, loop.iter + 1):
        for scheduler in schedulers:
            if not scheduler.by_epoch:
                scheduler.step()
        if step % length == 0:
            for scheduler in schedulers:
                if scheduler.by_epoch:
                    scheduler.step()


def getattr_of(runner: Any, name: str) -> int:
    """One of :data:`ORDER` of this run."""
    return len(runner.dataset('train')) if name == 'samples' else getattr(runner, name)
