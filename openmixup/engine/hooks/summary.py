"""The result of a run in one file."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from openmixup.engine import peak
from openmixup.engine.disk import write_text
from openmixup.engine.distributed import learner_of
from openmixup.engine.environment import commit, hardware, versions
from openmixup.engine.hooks.energy import EnergyHook
from openmixup.engine.resume import config_hash
from openmixup.evaluation.headline import HEADLINES
from openmixup.registry import HOOKS

__all__ = ['SummaryHook']


@HOOKS.register_module()
class SummaryHook(Hook):
    """Writes ``summary.json`` (last, median of the last ten, best) and ``history.json`` when the run ends.

    The headline figures are the last epoch and the median over the evaluations of the last ten epochs; ``best`` was
    chosen on the evaluation data.
    """

    priority = 'LOWEST'

    def after_train(self, runner: Any) -> None:
        """Write both files."""
        if runner.rank != 0:
            return
        loop, learner = runner.train_loop, learner_of(runner)
        names = [headline.name for headline in HEADLINES]
        figure = next((name for name in names for entry in runner.history if f'val/{name}' in entry), names[0])
        evaluated = [entry for entry in runner.history if f'val/{figure}' in entry]
        recent = [entry for entry in evaluated if entry['epoch'] > loop.epoch - 10]
        scores = [entry[f'val/{figure}'] for entry in recent]
        last = {key[4:]: value for key, value in evaluated[-1].items() if key.startswith('val/')} if evaluated else {}
        summary = {
            'config': str(getattr(runner.cfg, 'filename', '') or ''),
            'config_hash': config_hash(runner.cfg),
            'seed': runner.seed,
            'commit': commit(),
            'policy': repr(learner.policy),
            'epochs': loop.epoch,
            'steps': loop.iter,
            **({'inexact': runner.inexact} if runner.inexact else {}),
            'best': runner.best,
            'last': last,
            'median_last10': {figure: statistics.median(scores), 'count': len(scores)} if scores else {},
            'left_out_steps': [step for hook in runner.hooks for step in getattr(hook, 'left_out', [])],
            'seconds': runner.seconds,
            'energy_wh': next((hook.watt_hours for hook in runner.hooks if isinstance(hook, EnergyHook)), None),
            'images_per_second': statistics.median(entry['images_per_second'] for entry in runner.history),
            'world_size': runner.world_size,
            'batch_size': runner.batch_size,
            'parameters': sum(parameter.numel() for parameter in learner.student.parameters()),
            'peak_memory_mb': peak.read(next(learner.parameters()).device) / 2**20,
            'hardware': hardware(),
            'versions': versions(),
        }
        for name, content in (('history.json', runner.history), ('summary.json', summary)):
            write_text(Path(runner.work_dir, name), json.dumps(content, indent=1) + '\n')
