"""The energy of a run over all its processes and continuations."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook

from openmixup.engine.distributed import accelerator
from openmixup.engine.energy import EnergyMeter
from openmixup.registry import HOOKS

__all__ = ['EnergyHook']


@HOOKS.register_module()
class EnergyHook(Hook):
    """Adds up what the GPUs of a run draw while it trains, and keeps the sum in checkpoints as the seconds are kept.

    What is drawn behind the last checkpoint of a run that is cut is lost with its steps. A run of which any process or
    any part before a continuation does not know its energy has none: half a sum would look like a saving.

    Attributes:
        watt_hours: of the whole run when training has ended; None if it is not known.
    """

    def __init__(self) -> None:
        self.watt_hours: float | None = None
        self._before: float | None = 0.0
        self._meter: EnergyMeter | None = None

    def before_train(self, runner: Any) -> None:
        """Begin to count."""
        self._meter = EnergyMeter(runner.logger.warning)

    def after_train(self, runner: Any) -> None:
        """Keep the sum, for the summary."""
        self.watt_hours = self._sum(runner)
        if self.watt_hours is None and self._before is not None and self._meter is not None and self._meter.known:
            runner.logger.warning(
                'the energy of this run stays unknown: another of its processes does not know its own'
            )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Save the sum until now."""
        checkpoint['energy_wh'] = self._sum(runner)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:  # noqa: ARG002
        """Go on from the sum; what a run that goes back to a checkpoint has lost counts, as its seconds do."""
        if self._meter is None:
            kept = checkpoint.get('energy_wh')
            self._before = None if kept is None else float(kept)

    def _sum(self, runner: Any) -> float | None:
        own = self._meter.watt_hours() if self._meter else None
        drawn = torch.tensor(math.nan if own is None else own, dtype=torch.float64)
        if runner.world_size > 1:
            drawn = drawn.to(accelerator())
            dist.all_reduce(drawn)
        total = drawn.item() + (math.nan if self._before is None else self._before)
        return total if math.isfinite(total) else None
