"""openmixup: mixup augmentation for visual representation learning, on any backbone, in one honest comparison."""

from __future__ import annotations

from typing import Any

__version__ = '1.0.0.dev0'
__all__ = ['__version__', 'init_model']


def __getattr__(name: str) -> Any:
    if name == 'init_model':  # imported when asked for: most users of the policies need no engine
        from openmixup.engine.inference import init_model

        return init_model
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
