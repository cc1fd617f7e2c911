"""openmixup: mixup augmentation for visual representation learning, on any backbone, in one honest comparison."""

from __future__ import annotations

__version__ = '1.0.0.dev0'
