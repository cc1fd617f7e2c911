"""What a file of weights says of its data, and files for others: the weights of one network and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from openmixup.checks import is_whole
from openmixup.datasets.decode import MAX_PIXELS
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.files import write_atomically
from openmixup.engine.weight_files import safetensors_bytes
from openmixup.errors import InputError, printable
from openmixup.reading import is_finite

__all__ = ['BRANCHES', 'compare_classes', 'data_of', 'publish']

BRANCHES = {'student': ('student.',), 'teacher': ('teacher.network.',), 'generator': ('teacher.network.', 'policy.')}
ARCHITECTURE = ('model.backbone.', 'model.head.', 'data_preprocessor.mean', 'data_preprocessor.std')


def data_of(content: Mapping[str, Any], path: str | Path) -> tuple[list[str], list[int]]:
    """Class names, and shape (C, H, W) of the images, that the content of a checkpoint names; empty lists if none.

    Raises:
        InputError: it names something else in their place.
    """
    meta = content.get('meta') or {}
    if not isinstance(meta, dict):
        raise InputError(f'{path} has a {type(meta).__name__} for meta: expected a dict; use a checkpoint of a run.')
    classes, shape = meta.get('classes') or [], meta.get('image_shape') or []
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        raise InputError(f'{path} has no list of names for classes: use a checkpoint of a run.')
    sides = list(shape) if isinstance(shape, list | tuple) else [0]
    if sides and (
        len(sides) != 3 or not all(is_whole(side, 1) for side in sides) or sides[0] * sides[1] * sides[2] > MAX_PIXELS
    ):
        raise InputError(
            f'{path} has image_shape={printable(shape)}: expected [channels, height, width] of images that fit into '
            'memory; use a checkpoint of a run.'
        )
    return list(classes), sides


def compare_classes(checkpoint: str, trained_on: Sequence[str] | None, found: Sequence[str]) -> None:
    """Refuse data whose classes are not those, in their order, that the checkpoint was trained on."""
    if not trained_on or not found or list(trained_on) == list(found):
        return
    if len(trained_on) != len(found):
        what = f'{len(trained_on)} classes, the data has {len(found)}'
    else:
        number, one, other = next((i, a, b) for i, (a, b) in enumerate(zip(trained_on, found, strict=True)) if a != b)
        what = f'{one!r} as class {number}, the data has {other!r}'
    raise InputError(f'{checkpoint} was trained with {what}: evaluate it on data with the same classes.')


def publish(checkpoint: str | Path, out: str | Path, branch: str = 'student') -> Path:
    """Write the network of a checkpoint as ``NAME-<first 8 hex digits of SHA-256>.safetensors``.

    Optimizer, the other network, learned parts of the policy and histories stay behind. Equal weights give an equal
    file. The branch 'generator' is for ``generator=dict(pretrained=...)`` of a policy, not for predictions.

    Args:
        checkpoint: file written by training.
        out: name of the file, to which the digits are added; or a folder, for the name of the checkpoint.
        branch: 'student', or 'teacher' for the moving average; in the file either is the one network. 'generator' for
            the moving average and the learned parts of the policy, under their own names.

    Returns:
        The file written.

    Raises:
        InputError: the checkpoint cannot be read, does not say what it was trained on, has no such network or weights
            that are not finite, or the file cannot be written.
    """
    source, target = Path(checkpoint), Path(out)
    content = read_checkpoint(source)
    classes, shape = data_of(content, source)
    if not classes or not shape:
        raise InputError(f'{source} does not say which images it was trained on: publish a checkpoint of a run.')
    weights = _network(content, branch, source)
    meta = content['meta']
    texts = {'openmixup': str(meta.get('openmixup', '')), 'classes': json.dumps(classes)}
    texts |= {'image_shape': json.dumps(shape), 'branch': branch if branch == 'teacher' else meta.get('branch', branch)}
    architecture = _architecture(content)
    if architecture:
        texts['architecture'] = json.dumps(architecture, sort_keys=True)
    data = safetensors_bytes(weights, texts)
    digest = hashlib.sha256(data).hexdigest()[:8]
    folder, stem = (target, source.stem) if target.is_dir() else (target.parent, target.name)
    path = folder / f'{stem.removesuffix(".safetensors")}-{digest}.safetensors'
    try:
        write_atomically(path, lambda stream: stream.write(data))
    except OSError as error:
        raise InputError(f'{path} cannot be written ({error.strerror}): give a file in a folder of yours.') from error
    return path


def _network(content: Mapping[str, Any], branch: str, source: Path) -> dict[str, Tensor]:
    """The finite weights of a branch; of one network under the names of the student."""
    prefixes, state = BRANCHES[branch], content.get('state_dict')
    found = {
        key: value
        for key, value in (state.items() if isinstance(state, dict) else ())
        if isinstance(key, str) and key.startswith(prefixes) and isinstance(value, Tensor)
    }
    alone = len(prefixes) == 1
    weights = {f'student.{key.removeprefix(prefixes[0])}' if alone else key: value for key, value in found.items()}
    if not all(any(key.startswith(prefix) for key in found) for prefix in prefixes):
        remedy = 'give a checkpoint of a run' if branch == 'student' else 'use --branch student'
        raise InputError(f'{source} has no weights of a {branch}: {remedy}.')
    for key, value in weights.items():
        if not is_finite(value):
            raise InputError(
                f'{source} has values in {printable(key)} that are not finite: publish another checkpoint.'
            )
    return weights


def _architecture(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings of the run say of the network, as dotted keys and plain values."""
    settings = content.get('settings')
    if isinstance(settings, dict):
        return {key: value for key, value in settings.items() if str(key).startswith(ARCHITECTURE)}
    return content['meta'].get('architecture') or {}
