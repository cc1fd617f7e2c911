"""All that leans on mmengine: runner, loops, checkpoints, hooks, optimizers; importing it registers them."""

from openmixup.engine import evaluation, hooks, loops, optim
from openmixup.engine.runner import Runner

__all__ = ['Runner', 'evaluation', 'hooks', 'loops', 'optim']
