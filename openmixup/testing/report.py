"""What a check is, and how the results of many are put together."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MixPolicy
from openmixup.testing.stage import fine_maps, members, unknown_needs

__all__ = ['CHECKS', 'CheckResult', 'PolicyCheckError', 'check', 'check_policy', 'require']

Check = Callable[..., 'str | None']
CHECKS: dict[str, Check] = {}
"""All checks by name. Each takes a policy, raises :class:`PolicyCheckError` if something is off and returns None, or a
sentence that says why the check does not apply."""


class PolicyCheckError(AssertionError):
    """A policy does not do what it says."""


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check.

    Args:
        name: name of the check, a key of :data:`CHECKS`.
        ok: whether the policy passed, or the check does not apply.
        message: what is off, or why the check does not apply; empty if it passed.
    """

    name: str
    ok: bool
    message: str = ''


def require(condition: object, message: str) -> None:
    """Raise :class:`PolicyCheckError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise PolicyCheckError(message)


def check(function: Callable[..., str | None]) -> Check:
    """Add a check to :data:`CHECKS` under its own name.

    It gets a copy of the policy in training mode, so that no check sees what another one left. A policy that refuses
    the images is looked at again with networks whose maps have as many cells as they have pixels. It is left out for a
    policy that names it in ``exempt``, itself or by a member, or that needs what no learner of this package provides.
    """

    @functools.wraps(function)
    def wrapped(policy: MixPolicy, **options: Any) -> str | None:
        name = function.__name__
        for part in members(policy):  # itself first
            reason = getattr(type(part), 'exempt', {}).get(name)
            if reason is not None:
                return f'exempt: {reason}' + ('' if part is policy else f' ({type(part).__name__})')
        missing = unknown_needs(policy)
        if missing:
            return f'not run: it needs {", ".join(missing)}, which MixClassifier does not provide'
        try:
            return function(copy.deepcopy(policy).train(), **options)
        except InputError:  # it may ask for more cells than the tiny networks have
            with fine_maps():
                return function(copy.deepcopy(policy).train(), **options)

    CHECKS[function.__name__] = wrapped
    return wrapped


def check_policy(
    policy: MixPolicy | type[MixPolicy],
    *,
    only: Iterable[str] | None = None,
    operators: int | None = None,
    raise_on_failure: bool = False,
) -> list[CheckResult]:
    """Check that a mixing policy does what it says: labels, rates, randomness, types, constructor.

    A policy that needs a network, a teacher or a second loader is checked in a learner with a tiny network. A policy
    class may define ``exempt``, a dict of check name to reason, for what its method does on purpose; ``tolerance``, a
    float, for the allowed gap between a label and the pixels; and ``losses_train``, 'policy' or 'network', for what its
    additional losses train.

    Args:
        policy: a policy, or a class that is built with its defaults.
        only: names of the checks to run; None: all of them.
        operators: most operators on the device; None: what the class says.
        raise_on_failure: raise if a check fails, as a test wants it.

    Returns:
        One result for each check.

    Raises:
        PolicyCheckError: something is off and ``raise_on_failure`` is set; the message lists all of it.

    Example:
        >>> from openmixup.policies import Mixup
        >>> all(result.ok for result in check_policy(Mixup, only=['weights_are_sound']))
        True
    """
    names = list(CHECKS) if only is None else list(only)
    for name in names:
        if name not in CHECKS:
            raise InputError(f'there is no check {name!r}{did_you_mean(name, CHECKS)}: see openmixup.testing.CHECKS.')
    built = policy() if inspect.isclass(policy) else policy
    if not isinstance(built, MixPolicy):
        raise InputError(f'{built!r} is no mixing policy: expected a MixPolicy or a subclass of it.')
    results = [_result(name, built, operators) for name in names]
    off = [f'{result.name}: {result.message}' for result in results if not result.ok]
    if off and raise_on_failure:
        raise PolicyCheckError('\n  '.join([f'{built!r} fails {len(off)} of {len(results)} checks:', *off]))
    return results


def _result(name: str, policy: MixPolicy, operators: int | None) -> CheckResult:
    options = {'limit': operators} if operators and 'limit' in inspect.signature(CHECKS[name]).parameters else {}
    with torch.random.fork_rng(devices=[]):  # a policy that draws from the global state must not disturb the caller
        try:
            return CheckResult(name, True, CHECKS[name](policy, **options) or '')
        except PolicyCheckError as error:
            return CheckResult(name, False, str(error))
        except Exception as error:  # a policy that breaks is off like one that is wrong; the rest is still of interest
            return CheckResult(name, False, f'it stopped with {type(error).__name__}: {error}')
