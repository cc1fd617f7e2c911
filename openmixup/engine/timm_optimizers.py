"""timm's optimizers by name. timm takes a second to import, so that it waits until one of them is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from openmixup.registry import OPTIMIZERS

__all__ = ['NAMES']

# all that torch lacks, but for two: Lookahead wraps another optimizer, Adahessian wants second derivatives
NAMES = (
    'AdaBelief', 'AdafactorBigVision', 'AdamP', 'AdamWLegacy', 'Adan', 'Adopt', 'LaProp', 'Lamb', 'Lars', 'Lion',
    'MADGRAD', 'Mars', 'NAdamLegacy', 'NAdamW', 'NvNovoGrad', 'RAdamLegacy', 'RMSpropTF', 'SGDP', 'SGDW',
)  # fmt: skip


class _OnDemand(dict):
    """Classes by name; where the value is the name of a module, that is imported when the class is asked for."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, str):
            found = self[name] = getattr(import_module(found), name)
        return found


OPTIMIZERS._module_dict = _OnDemand({**dict.fromkeys(NAMES, 'timm.optim'), **OPTIMIZERS._module_dict})
