"""One of each: all registered policies with the variants that are worth a check."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from openmixup.policies import AttentiveMix, MixupE, RandomChoice
from openmixup.policies.base import MixPolicy
from openmixup.policies.pairing import PAIRINGS
from openmixup.registry import POLICIES
from openmixup.testing.stage import is_staged

__all__ = ['default_policies']

VARIANTS: dict[str, tuple[Any, ...]] = {'per': ('batch', 'sample'), 'pairing': tuple(PAIRINGS)}


def default_policies() -> dict[str, MixPolicy]:
    """Every registered policy by a readable name: with its defaults, and with each other ``per`` and ``pairing``.

    A few have options besides that take another path.

    What needs a network has no variants of ``pairing``: there is a check that tries them all, and the others take long.

    Found by walking the registry and the constructors, so a new policy is there without an entry.
    """
    policies = {name: policy for cls in _classes() for name, policy in _variants(cls)}
    return {**policies, **_options(), **_choices()}


def _classes() -> list[type[MixPolicy]]:
    found = [POLICIES.module_dict[name] for name in sorted(POLICIES.module_dict)]
    return [cls for cls in found if cls.__module__.startswith('openmixup.')]  # not what a caller has registered


def _variants(cls: type[MixPolicy]) -> Iterator[tuple[str, MixPolicy]]:
    yield cls.__name__, cls()
    parameters = inspect.signature(cls).parameters
    for argument, values in VARIANTS.items():
        for value in () if argument == 'pairing' and is_staged(cls()) else values:
            if argument in parameters and value != parameters[argument].default:
                yield f'{cls.__name__}-{argument}={value}', cls(**{argument: value})


def _options() -> dict[str, MixPolicy]:
    """Options that take another path than the defaults."""
    return {
        'AttentiveMix-lam_law=beta8': AttentiveMix(lam_law='beta8'),
        'AttentiveMix-lam_law=fixed': AttentiveMix(lam_law='fixed', top_k=2),  # of the few cells of a tiny teacher
        'MixupE-variant=jvp': MixupE(variant='jvp'),
    }


def _choices() -> dict[str, MixPolicy]:
    mixup, cutmix, vanilla = ({'type': name} for name in ('Mixup', 'CutMix', 'Vanilla'))
    return {
        'RandomChoice-uneven': RandomChoice([mixup, cutmix], probs=[0.2, 0.8]),
        'RandomChoice-vanilla': RandomChoice([mixup, cutmix, vanilla], probs=[0.3, 0.2, 0.5]),
        'RandomChoice-epochs': RandomChoice([mixup, cutmix, vanilla], [0.5, 0.3, 0.2], [(0, 2), (1, None), (0, 3)]),
        'RandomChoice-pause': RandomChoice([mixup], epochs=[(2, 4)]),
        'RandomChoice-networks': RandomChoice([{'type': name} for name in ('AutoMix', 'RecursiveMix', 'TransMix')]),
    }  # fmt: skip
