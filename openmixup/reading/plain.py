"""What torch or safetensors wrote, as tensors and plain data."""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openmixup.errors import printable
from openmixup.reading.archive import Foreign, Refused, check_archive, is_archive
from openmixup.reading.names import foreign_names

__all__ = ['SCALARS', 'is_finite', 'load_plain', 'load_safetensors', 'plain', 'tensor_fault']

MOST_VALUES = 2_000_000
DEEPEST = 100
SCALARS = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.device, torch.dtype)
_LAST_WORD = re.compile(r'WeightsUnpickler error: *(\S.*)')


def load_plain(path: Path) -> Any:
    """What ``torch.save`` wrote, as tensors on the CPU and plain data in dicts, lists, tuples and sets.

    Raises:
        Foreign: it asks for objects of other programs.
        Refused: it holds anything else that is no plain data.
        Exception: it is damaged; torch raises many kinds.
    """
    if is_archive(path):
        check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about the age of the format
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(str(error), path) from error
    except RuntimeError as error:
        if 'TorchScript' in str(error):
            raise Refused('it is a TorchScript program') from error
        raise
    return plain(content, most_bytes=path.stat().st_size)


def _refusal(text: str, path: Path) -> Refused:
    """Why torch refused a file; its own words begin with how to run it nevertheless."""
    try:
        names = foreign_names(path)
    except Exception:  # damaged
        names = []
    if names:
        shown = ', '.join(printable(name) for name in names[:3])
        return Foreign(f'it asks for {shown}{" ..." if len(names) > 3 else ""}')
    said = _LAST_WORD.search(text)
    return Refused(printable(said[1], 160).rstrip('. ') if said else 'it is damaged or of another form')


def plain(value: Any, convert: Callable[[Any], Any] = lambda value: value, most_bytes: float = math.inf) -> Any:
    """A copy of ``value`` without subclasses, attributes and endless references.

    Args:
        value: what was read.
        convert: applied to each part first.
        most_bytes: what all tensors and byte arrays may take together.

    Raises:
        Refused: an object that is neither a tensor nor plain data, or too many or too large ones.
    """
    count = total = 0
    seen: set[int] = set()  # storages, which tensors may share

    def weighed(identity: int, size: int) -> None:
        nonlocal total
        total += 0 if identity in seen else size
        seen.add(identity)
        if total > most_bytes:
            raise Refused(f'its values take more than the {most_bytes} bytes of the file')

    def copied(value: Any, depth: int) -> Any:
        nonlocal count
        count += 1
        if count > MOST_VALUES or depth > DEEPEST:
            raise Refused(f'it unfolds to over {MOST_VALUES} values or {DEEPEST} levels')
        value = convert(value)
        if isinstance(value, Tensor):
            fault = tensor_fault(value)
            if fault:
                raise Refused(fault)
            storage = value.untyped_storage()
            weighed(storage.data_ptr(), storage.nbytes())
            return value.detach()
        if type(value) in SCALARS:
            if isinstance(value, bytearray):
                weighed(id(value), len(value))
            return value
        if isinstance(value, dict):
            return {copied(key, depth + 1): copied(item, depth + 1) for key, item in dict.items(value)}
        if isinstance(value, list | tuple | set):
            return _container(value)(copied(item, depth + 1) for item in value)
        raise Refused(f'it holds a {printable(type(value).__name__)}')

    return copied(value, 0)


def _container(value: Any) -> type:
    return next(kind for kind in (list, tuple, set) if isinstance(value, kind))


def tensor_fault(tensor: Tensor) -> str:
    """Why a tensor cannot be a weight, or an empty string."""
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f'it holds a {printable(type(tensor).__name__)}'
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != 'cpu':
        return 'it holds a tensor that is sparse, quantized, nested or without values'
    size = tensor.numel() * tensor.element_size()
    if size > tensor.untyped_storage().nbytes():
        return f'it holds a tensor that would grow from {tensor.untyped_storage().nbytes()} to {size} bytes'
    return ''


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite."""
    narrow = tensor.is_floating_point() and tensor.element_size() == 1  # torch cannot ask these types
    return bool((tensor.float() if narrow else tensor).isfinite().all())


def load_safetensors(path: Path) -> dict[str, Any]:
    """The content of a published file: ``state_dict``, and in ``meta`` what it says of itself.

    Files of others have no such texts, so that ``meta`` is then empty.

    Raises:
        Exception: no or a damaged file of this format.
    """
    from safetensors import safe_open

    with safe_open(path, framework='pt', device='cpu') as stored:
        texts = stored.metadata() or {}
        state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (it is no dict)
    meta: dict[str, Any] = {name: texts[name] for name in ('openmixup', 'branch') if name in texts}
    for name in ('classes', 'image_shape', 'architecture'):
        if name in texts:
            meta[name] = json.loads(texts[name])
    return {'state_dict': state, 'meta': meta}
