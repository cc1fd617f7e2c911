"""The result of a run in one file."""

from __future__ import annotations

import hashlib
import json
import resource
import statistics
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from openmixup.engine.environment import commit, hardware, versions
from openmixup.engine.loops import learner_of
from openmixup.registry import HOOKS

__all__ = ['SummaryHook', 'config_hash']

# where and how a run is made does not change what it computes
_PLACE = ('work_dir', 'resume', 'load_from', 'launcher', 'visualizer', 'log_level', 'default_hooks', 'env_cfg')


def config_hash(config: Any) -> str:
    """First 12 hex digits of SHA-256 over the resolved config, without places and the seed."""
    content = {key: value for key, value in config.to_dict().items() if key not in (*_PLACE, 'randomness')}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


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
        evaluated = [entry for entry in runner.history if 'val/top1' in entry]
        recent = [entry for entry in evaluated if entry['epoch'] > loop.epoch - 10]
        last = {key[4:]: value for key, value in evaluated[-1].items() if key.startswith('val/')} if evaluated else {}
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        if peak is None:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        summary = {
            'config': str(getattr(runner.cfg, 'filename', '') or ''),
            'config_hash': config_hash(runner.cfg),
            'seed': runner.seed,
            'commit': commit(),
            'policy': repr(learner.policy),
            'epochs': loop.epoch,
            'steps': loop.iter,
            'best': runner.best,
            'last': last,
            'median_last10': {'top1': statistics.median(entry['val/top1'] for entry in recent)} if recent else {},
            'seconds': runner.seconds,
            'images_per_second': statistics.median(entry['images_per_second'] for entry in runner.history),
            'parameters': sum(parameter.numel() for parameter in learner.student.parameters()),
            'peak_memory_mb': peak / 2**20,
            'hardware': hardware(),
            'versions': versions(),
        }
        for name, content in (('history.json', runner.history), ('summary.json', summary)):
            path = Path(runner.work_dir, name)
            temporary = path.with_suffix('.tmp')
            temporary.write_text(json.dumps(content, indent=1) + '\n')
            temporary.replace(path)
