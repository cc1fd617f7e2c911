"""Mixing policies: one method, one file. Importing this package registers all of them.

The files of the sub-packages are found by walking the folder, so a new method needs no entry anywhere.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from openmixup.policies.base import MaskPolicy, MixPolicy, PairPolicy
from openmixup.policies.compose import RandomChoice, Vanilla
from openmixup.policies.context import Context, Network
from openmixup.policies.mixture import Batch, Mixture, Plan, Tap, View
from openmixup.registry import POLICIES

for _module in pkgutil.walk_packages(__path__, f'{__name__}.'):
    importlib.import_module(_module.name)

__all__ = [
    'Batch', 'Context', 'MaskPolicy', 'MixPolicy', 'Mixture', 'Network', 'PairPolicy', 'Plan', 'RandomChoice', 'Tap',
    'Vanilla', 'View',
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in POLICIES.module_dict:
        return POLICIES.module_dict[name]
    raise AttributeError(
        f'openmixup.policies has no policy {name!r} (known: {", ".join(sorted(POLICIES.module_dict))})'
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *POLICIES.module_dict})
