"""Schedules of learning rate, momentum and weight decay: mmengine's, for all parameter groups or those of a part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.optim import BaseOptimWrapper, OptimWrapper

from openmixup.engine.loops import IterLoop
from openmixup.engine.optim import PARTS, part_of
from openmixup.errors import InputError, did_you_mean
from openmixup.registry import PARAM_SCHEDULERS

__all__ = ['BUILDER_KEYS', 'PartGroups', 'build_schedulers', 'check_schedulers']

BUILDER_KEYS = {'convert_to_iter_based', 'epoch_length', 'part'}  # read by the builder, not by the scheduler


class PartGroups:
    """The parameter groups of one part, as mmengine's schedulers ask an optimizer wrapper for its groups.

    Restoring a checkpoint gives an optimizer new group dicts, so that the groups are looked up whenever they are asked
    for. Everything else is the wrapper's own.

    Args:
        wrapper: the optimizer wrapper of the run.
        part: 'network' or 'policy'.
    """

    def __init__(self, wrapper: OptimWrapper, part: str) -> None:
        self.wrapper, self.part = wrapper, part

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the part as they are now."""
        return [group for group in self.wrapper.param_groups if part_of(group) == self.part]

    @property
    def step(self) -> Any:
        """The wrapper's step; schedulers put a counter around it."""
        return self.wrapper.step

    @step.setter
    def step(self, counted: Any) -> None:
        self.wrapper.step = counted

    @property
    def _global_step(self) -> int:
        return self.wrapper._global_step

    @_global_step.setter
    def _global_step(self, count: int) -> None:
        self.wrapper._global_step = count


BaseOptimWrapper.register(PartGroups)  # for the schedulers' isinstance


def _entries(schedulers: Any) -> list[Any]:
    return list(schedulers) if isinstance(schedulers, list | tuple) else [schedulers]


def check_schedulers(schedulers: Any) -> None:
    """Refuse configs of schedulers that cannot be built.

    They are tried on an optimizer of one weight: mmengine's constructors hide their arguments from a mere look.

    Raises:
        InputError: an unknown type, argument or part, or a value that the scheduler refuses.
    """
    for entry in _entries(schedulers):
        if entry is None:
            continue
        if isinstance(entry, Mapping):
            part = entry.get('part')
            if part is not None and part not in PARTS:
                raise InputError(
                    f'param_scheduler has part={part!r}{did_you_mean(part, PARTS)}: expected one of '
                    f'{", ".join(PARTS)}, or none for all parameters.'
                )
            entry = {key: value for key, value in entry.items() if key != 'part'}
        PARAM_SCHEDULERS.check(entry)
        plain = {key: value for key, value in entry.items() if key not in BUILDER_KEYS}
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
        PARAM_SCHEDULERS.build({**plain, 'optimizer': optimizer})


def build_schedulers(runner: Any, schedulers: Any) -> list[Any]:
    """The schedulers of a run, each for the groups of its ``part``, in their order.

    One for the policy is left out where the policy has nothing to learn.

    Raises:
        InputError: one counts epochs in a run that is counted in steps, or takes no heed of groups' own rates.
    """
    built: list[Any] = []
    by_step = isinstance(runner.train_loop, IterLoop)
    for entry in _entries(schedulers):
        groups = runner.optim_wrapper
        if isinstance(entry, Mapping):
            part = entry.get('part')
            entry = {key: value for key, value in entry.items() if key != 'part'}
            groups = groups if part is None else PartGroups(groups, part)
            if by_step and entry.get('convert_to_iter_based') and 'end' not in entry:  # one epoch is the whole run
                raise InputError(
                    'param_scheduler converts epochs to steps without an end, but train_cfg is an IterLoop: set '
                    'by_epoch=False and count in steps, or give its end in epochs.'
                )
        if groups.param_groups:
            if isinstance(entry, Mapping):
                _check_own_rates(entry, groups.param_groups)
            built += runner._build_param_scheduler(entry, groups)
    if by_step and any(getattr(item, 'by_epoch', False) for item in built):
        raise InputError('param_scheduler counts epochs, but train_cfg is an IterLoop: set by_epoch=False.')
    return built


def _check_own_rates(entry: Mapping[str, Any], groups: list[dict[str, Any]]) -> None:
    """Refuse a schedule of learning rates that raises or replaces those that some groups have of their own.

    Raises:
        InputError: such a schedule.
    """
    kind = entry['type']
    name = (PARAM_SCHEDULERS.get(kind) if isinstance(kind, str) else kind).__name__
    rates = [group.get('initial_lr', group['lr']) for group in groups]  # a warm-up has changed lr already
    least, most = min(rates), max(rates)
    of_rates = name.endswith('LR') or entry.get('param_name') == 'lr'  # the others move momentum or weight decay
    if least == most or not of_rates:
        return
    whose = 'some parameters have by layer_decay, lr_mult or optim_wrapper.policy'
    if name.startswith('OneCycle'):
        raise InputError(
            f'param_scheduler {name} gives all parameters the same learning rate, in place of the {least:g} to '
            f"{most:g} that {whose}: use CosineAnnealingLR with eta_min_ratio, or one for each part (part='network')."
        )
    for key in ('eta_min', 'min_value'):
        floor = entry.get(key)
        if isinstance(floor, int | float) and floor > least:
            remedy = 'a smaller one' if name in ('PolyLR', 'ReduceOnPlateauLR') else 'eta_min_ratio in its place'
            raise InputError(
                f'param_scheduler {name} ends in {key}={floor:g}, above the learning rate of {least:g} that {whose}: '
                f"give {remedy}, or one for each part (part='network')."
            )
