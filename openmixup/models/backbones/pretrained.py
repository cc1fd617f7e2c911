"""Weights of a local file for a backbone, checked key by key; and how libraries read those that they fetch."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from openmixup.errors import InputError, printable
from openmixup.reading import Foreign, Refused, load_plain, load_safetensors

__all__ = ['check_cached', 'load_pretrained', 'misfits', 'only_weights', 'read_state']

_PREFIXES = ('student.backbone.', 'backbone.')
_CONTAINERS = ('state_dict', 'model')
_FORCED = {'TORCH_FORCE_WEIGHTS_ONLY_LOAD': '1', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD': '0'}
_HASH = re.compile(r'-([0-9a-f]{8,})\.')


@contextlib.contextmanager
def only_weights() -> Iterator[None]:
    """Let torch read files as tensors and plain data, whatever the library that calls it asks for."""
    before = {name: os.environ.get(name) for name in _FORCED}
    os.environ.update(_FORCED)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def check_cached(url: str) -> None:
    """Refuse a file in torch's cache that is not what its name, which has the first digits of its SHA-256, says.

    torch compares them when it fetches a file, and not when it finds one.

    Raises:
        InputError: such a file.
    """
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(url).path).name)
    named = _HASH.search(path.name)
    if named is None or not path.is_file():
        return
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    if not digest.hexdigest().startswith(named[1]):
        raise InputError(
            f'{path} has the SHA-256 {digest.hexdigest()[:8]}... in place of {named[1]}...: remove it, so that it is '
            'fetched again.'
        )


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f'pretrained={str(path)!r} is not a file; give the path of a .safetensors or .pth file.')
    try:
        if path.suffix == '.safetensors':
            return load_safetensors(path)
        return load_plain(path)
    except Foreign as error:
        raise InputError(
            f'pretrained={str(path)!r} holds more than tensors ({error}) and is not read because that could run '
            'foreign code; take the tensors out of it with tools/import_weights.py.'
        ) from error
    except Refused as error:
        raise InputError(
            f'pretrained={str(path)!r} could not be read as weights ({error}); give an intact .safetensors or .pth '
            'file of named tensors.'
        ) from error
    except Exception as error:  # each reader raises its own kinds for a damaged file
        raise InputError(
            f'pretrained={str(path)!r} could not be read as weights; give an intact .safetensors or .pth file '
            f'({type(error).__name__}).'
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file: a plain state_dict, or one under ``'state_dict'`` or ``'model'``.

    Raises:
        InputError: no such file, or one that cannot be read as weights.
    """
    content = _read(path)
    for key in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    items = content.items() if isinstance(content, dict) else ()
    state = {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        raise InputError(f'pretrained={str(path)!r} holds no state_dict; give a file of named tensors.')
    if all(k.startswith('module.') for k in state):
        return {k.removeprefix('module.'): v for k, v in state.items()}
    return state


def _of_backbone(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names that the backbone (ours) or the bare network (others) gives them."""
    for prefix in _PREFIXES:  # a checkpoint of ours has the head, the policy and more beside the backbone
        inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if inner:
            return inner
    return state


def _few(what: str, keys: list[str]) -> list[str]:
    shown = ', '.join(printable(key, 120) for key in keys[:3])
    return [f'{what} {shown}{f" and {len(keys) - 3} more" if len(keys) > 3 else ""}'] if keys else []


def misfits(own: dict[str, Tensor], state: dict[str, Tensor], classifier: Iterable[str] = ()) -> list[str]:
    """What is missing, unknown (but for the layers ``classifier``) or of another shape in ``state``, a phrase each."""
    ours = tuple(f'{name}.' for name in classifier)
    missing = [k for k in own if k not in state and not k.endswith('num_batches_tracked')]
    unexpected = [k for k in state if k not in own and not (ours and k.startswith(ours))]
    mismatched = [
        f'{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}'
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    return _few('missing', missing) + _few('unexpected', unexpected) + _few('of another shape', mismatched)


def load_pretrained(
    net: nn.Module,
    pretrained: str | Path,
    classifier: Iterable[str] = (),
    convert: Callable[[dict, nn.Module], dict] | None = None,
) -> None:
    """Load the weights of a local file into ``net`` in place.

    The file may hold a plain state_dict, one under ``'state_dict'`` or ``'model'``, or a checkpoint of this toolbox, of
    which the keys below ``student.backbone.`` or ``backbone.`` are taken.

    Args:
        net: the bare network.
        pretrained: a ``.safetensors`` file, or another one that ``torch.load(..., weights_only=True)`` can read.
        classifier: names of the network's classifier modules, whose weights are left out.
        convert: a function of (state, net) that translates foreign names and sizes; tried when the keys do not fit.

    Raises:
        InputError: the file cannot be read, or keys are missing, unknown or of another shape.
    """
    path = Path(pretrained).expanduser()
    state = _of_backbone(read_state(path))
    if all(k.startswith('net.') for k in state):  # our backbones hold the bare network under this name
        state = {k.removeprefix('net.'): v for k, v in state.items()}
    own = net.state_dict()
    classifier = tuple(classifier)
    faults = misfits(own, state, classifier)
    if faults and convert is not None:
        with contextlib.suppress(Exception):  # it expects weights of its own family; what does not fit is told below
            converted = convert(dict(state), net)
            if not misfits(own, converted, classifier):
                state, faults = converted, []
    if faults:
        raise InputError(
            f'pretrained={str(path)!r} does not fit {type(net).__name__}: {"; ".join(faults)}; '
            'check model, stem, in_channels and options against the network that was saved.'
        )
    net.load_state_dict({k: state[k] for k in own if k in state}, strict=False)
