"""The generator of an earlier run, kept as it is: learned parts of a policy, and the teacher that they look at."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor

from openmixup.errors import InputError
from openmixup.models.backbones.pretrained import misfits, read_state
from openmixup.models.student import Student
from openmixup.models.teacher import Teacher
from openmixup.policies import MixPolicy

__all__ = ['begin_from', 'check_generator', 'load_generator']

TEACHER = 'teacher.network.'


def load_generator(policy: MixPolicy, teacher: Teacher | None) -> None:
    """Load what ``policy``, or policies in it, ask for by ``frozen_from``, and keep the teacher from then on.

    Where the file is missing, damaged or of other networks, a checkpoint may still bring the weights: that is asked by
    :func:`check_generator`.

    Args:
        policy: of the learner, bound to its network. Where none asks for a file, nothing is done.
        teacher: of the learner. Its backbone must fit the file; a head of another number of classes stays as it is,
            untrained, since no mask depends on it, unless another policy reads what it says.

    Raises:
        InputError: there are several files, or no teacher.
    """
    parts = [part for part in policy.modules() if isinstance(part, MixPolicy) and part.frozen_from is not None]
    files = sorted({str(Path(str(part.frozen_from)).expanduser().resolve()) for part in parts})
    if not files:
        return
    if len(files) > 1 or teacher is None:
        found = 'the model has none' if teacher is None else f'they name {" and ".join(files)}'
        raise InputError(f'policies with a pretrained generator share one teacher, but {found}: give one file.')
    path = Path(str(parts[0].frozen_from)).expanduser()
    teacher.frozen = True
    for part in parts:
        part.requires_grad_(False)
    try:
        _take(policy, parts, teacher, path)
    except InputError as error:  # a mistake only where the weights are not brought by a checkpoint
        teacher.missing = str(error)


def _take(policy: MixPolicy, parts: list[MixPolicy], teacher: Teacher, path: Path) -> None:
    """Load the learned ``parts`` of ``policy`` and the teacher from ``path``."""
    if not path.exists():
        raise InputError(
            f'pretrained={str(path)!r} is not a file, and no checkpoint has brought the generator: give the path of a '
            'checkpoint of the run that learned it, or of what publish_model --branch generator wrote of it.'
        )
    state = read_state(path)
    for part in parts:
        learned = _learned(part, state, path)
        _check(type(part).__name__, part.state_dict(), learned, path)
        part.load_state_dict(learned)
    inner = {name.removeprefix(TEACHER): value for name, value in state.items() if name.startswith(TEACHER)}
    if not inner:
        raise InputError(
            f'pretrained={str(path)!r} has no weights of a momentum teacher: give a checkpoint of a run with one, or '
            'what publish_model --branch generator wrote of it.'
        )
    left = _load_teacher(teacher.network, inner, path)
    others = sorted({type(part).__name__ for part in policy.modules() if _looks_at_teacher(part)})
    if left and others:
        raise InputError(
            f'pretrained={str(path)!r} does not fit the heads {", ".join(left)} of the teacher, which '
            f'{", ".join(others)} would read: use a generator of as many classes, or leave these policies out.'
        )


def check_generator(teacher: Teacher | None) -> None:
    """Refuse a teacher whose weights neither its file nor a checkpoint has brought.

    Raises:
        InputError: what was wrong with the file.
    """
    if teacher is not None and teacher.missing is not None:
        raise InputError(teacher.missing)


def begin_from(learner: Any, load: Callable[[], Iterable[str]]) -> None:
    """Let a learner begin from the weights of a file.

    A teacher for which it has none begins like the student. Where the teacher is frozen, the file is for the student
    alone: teacher and policy keep their weights.

    Args:
        learner: whose weights they are.
        load: loads them and gives their names.
    """
    teacher: Teacher | None = getattr(learner, 'teacher', None)
    check_generator(teacher)
    if teacher is not None and teacher.frozen:
        parts = teacher, learner.policy
        kept = [copy.deepcopy(part.state_dict()) for part in parts]
        load()
        for part, own in zip(parts, kept, strict=True):
            part.load_state_dict(own)
        return
    loaded = load()
    if teacher is not None and not any(name.startswith(TEACHER) for name in loaded):
        teacher.network.load_state_dict(learner.student.state_dict())


def _looks_at_teacher(part: Any) -> bool:
    """Whether it is a policy that reads the momentum teacher for itself, with no generator of an earlier run."""
    if not isinstance(part, MixPolicy) or part.frozen_from is not None or 'teacher' not in part.needs:
        return False
    return not any(isinstance(inner, MixPolicy) for inner in part.modules() if inner is not part)


def _learned(part: MixPolicy, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights in the file of a policy like ``part``, which may have stood elsewhere among other policies."""
    first, name = next(iter(part.state_dict()), None), type(part).__name__
    if first is None:  # nothing is learned: it takes the teacher alone
        return {}
    places = [key.removesuffix(first) for key in state if key.startswith('policy.') and key.endswith(f'.{first}')]
    if len(places) != 1:
        found = f'learned parts of {len(places)} policies' if places else 'no learned parts of a policy'
        raise InputError(
            f'pretrained={str(path)!r} has {found} that {name} could take: use a checkpoint of {name} alone.'
        )
    return {key.removeprefix(places[0]): value for key, value in state.items() if key.startswith(places[0])}


def _load_teacher(network: Student, state: Mapping[str, Tensor], path: Path) -> list[str]:
    """Names of the heads that the file does not fit."""
    own = network.state_dict()
    _check('the teacher', _below('backbone.', own), _below('backbone.', state), path)
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    network.load_state_dict(fitting, strict=False)
    left = sorted({name.split('.')[1] for name in own if name not in fitting})
    if left:
        print_log(f'{path}: the teacher keeps its heads {", ".join(left)}, which the file does not fit', 'current')
    return left


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith(prefix)}


def _check(what: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    found = misfits(dict(own), dict(state))
    if found:
        raise InputError(
            f'pretrained={str(path)!r} does not fit {what}: {"; ".join(found)}; use the backbone and the policy of '
            'that run.'
        )
