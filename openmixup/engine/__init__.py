"""All that leans on mmengine: runner, loops, checkpoints, hooks, optimizers; importing it registers them."""

from openmixup.engine import hooks, loops, optim
from openmixup.engine.runner import Runner

__all__ = ['Runner', 'hooks', 'loops', 'optim']
