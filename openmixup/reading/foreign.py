"""Weights out of files whose pickle holds objects of other programs: tensors are built, all else becomes nothing.

A pickle can only do what the names in it stand for. Here no name is looked up: a few stand for functions of this file
that describe a tensor, every other one for :class:`_Inert`, which takes anything and does nothing.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from openmixup.errors import InputError, printable
from openmixup.reading.archive import Refused, check_archive, is_archive
from openmixup.reading.names import todays_name
from openmixup.reading.plain import SCALARS, plain

__all__ = ['read_foreign']

MAGIC = 0x1950A86A20F9469CFC6C  # begins a file of torch before 1.6
MOST_GROWTH = 4  # tensors may share memory, which they no longer do when they are written
_STORAGES = {
    'FloatStorage': torch.float32, 'DoubleStorage': torch.float64, 'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16, 'LongStorage': torch.int64, 'IntStorage': torch.int32,
    'ShortStorage': torch.int16, 'CharStorage': torch.int8, 'ByteStorage': torch.uint8, 'BoolStorage': torch.bool,
    'UntypedStorage': torch.uint8,
}  # fmt: skip
_DTYPES = {str(kind).removeprefix('torch.'): kind for kind in _STORAGES.values()}


class _Inert:
    """Stands for any object and any function; it can be called, filled and given a state, and keeps nothing."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:  # noqa: ARG004
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    __setstate__ = append = extend = add = update = __init__


class _Dict(dict):
    """Stands for an OrderedDict; it has no attributes that a pickle could change."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Fixed:
    """What takes no state of a pickle."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise ValueError('a function or a tensor is given a state')


class _Function(_Fixed):
    """Called in place of what the pickle names."""

    __slots__ = ('_function',)

    def __init__(self, function: Callable) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class _Kind(_Fixed):
    """Stands for a type of numbers, or for the class of a storage of them."""

    __slots__ = ('dtype',)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Storage(_Fixed):
    """``count`` numbers under a key of the file; their bytes are read after the pickle."""

    __slots__ = ('count', 'dtype', 'key')

    def __init__(self, key: str, dtype: torch.dtype, count: int) -> None:
        self.key, self.dtype, self.count = key, dtype, count


class _View(_Fixed):
    """A tensor to be: a storage, and where in it the values are."""

    __slots__ = ('dtype', 'offset', 'size', 'storage', 'stride')

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None = None) -> None:
        numbers = (offset, *size, *stride)
        if type(storage) is not _Storage or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError('a tensor is not described by a storage, sizes and strides')
        self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)
        self.dtype = storage.dtype if dtype is None else dtype

    def tensor(self, raw: bytearray) -> Tensor:
        """The tensor, from the bytes of its storage."""
        width, count = self.dtype.itemsize, math.prod(self.size)
        ends = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True)) + 1
        whole = len(raw) == self.storage.count * self.storage.dtype.itemsize and len(raw) % width == 0
        if not whole or count and (ends > len(raw) // width or count > len(raw) // width):
            raise ValueError(f'a tensor of shape {self.size} does not fit {len(raw)} bytes')
        if not count:
            return torch.empty(self.size, dtype=self.dtype)
        return torch.frombuffer(raw, dtype=self.dtype).as_strided(self.size, self.stride, self.offset)


def _rebuilt(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _View:
    return _View(storage, offset, size, stride)


def _rebuilt_v3(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, kind: Any, *_: Any) -> _View:
    return _View(storage, offset, size, stride, kind.dtype)


def _from_type(function: Any, kind: Any, args: Any, state: Any) -> Any:  # noqa: ARG001
    """A tensor with attributes, or of a subclass: the tensor alone."""
    return function(*args) if type(function) is _Function else _Inert()


_FUNCTIONS: dict[str, Callable] = {
    'collections.OrderedDict': _Dict,
    'torch.Size': tuple,
    'torch._utils._rebuild_tensor': _rebuilt,
    'torch._utils._rebuild_tensor_v2': _rebuilt,
    'torch._utils._rebuild_tensor_v3': _rebuilt_v3,
    'torch._utils._rebuild_parameter': lambda data, *_: data,
    'torch._utils._rebuild_parameter_with_state': lambda data, *_: data,
    'torch._tensor._rebuild_from_type_v2': _from_type,
}


class _Reader(pickle._Unpickler):
    """The unpickler of the standard library that is written in Python: the one in C lets a file ask for any memory."""

    def __init__(self, stream: IO[bytes], dropped: set[str]) -> None:
        super().__init__(stream, encoding='latin1')
        self.dropped = dropped
        self.widths: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f'{module}.{name}'
        if full in _FUNCTIONS:
            return _Function(_FUNCTIONS[full])
        if module in ('torch', 'torch.cuda', 'torch.storage') and name in _STORAGES:
            return _Kind(_STORAGES[name])
        if module == 'torch' and name in _DTYPES:
            return _Kind(_DTYPES[name])
        self.dropped.add(todays_name(module, name))
        return _Inert

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == 'module':  # the source of a class
            return _Inert
        name, kind, key, _, count, *view = pid
        if name != 'storage' or type(kind) is not _Kind or type(count) is not int or any(view):
            raise ValueError('a persistent id is not that of a storage')
        self.widths[str(key)] = kind.dtype.itemsize
        return _Storage(str(key), kind.dtype, count)


def read_foreign(path: Path) -> tuple[Any, list[str]]:
    """The content of a file that ``torch.save`` wrote as tensors and plain data, with None for all else.

    Returns:
        The content, and the names that stand for nothing now.

    Raises:
        InputError: no such file, a damaged one, or one that is made to use up memory.
    """
    if not path.is_file():
        raise InputError(f'{path}: no such file.')
    dropped: set[str] = set()
    try:
        found = _read_archive(path, dropped) if is_archive(path) else _read_old(path, dropped)
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = printable((str(error).strip().splitlines() or [type(error).__name__])[0], 160)
        if reason.isdecimal():  # a byte that is no operation of pickle
            reason = 'it is damaged or of another form'
        raise InputError(
            f'{path} cannot be read as a file of torch.save ({reason}): fetch it again, or save its state_dict anew.'
        ) from error
    return found, sorted(dropped)


def _read_archive(path: Path, dropped: set[str]) -> Any:
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        root = next((name.partition('/')[0] for name in names if name.partition('/')[2] == 'data.pkl'), None)
        if root is None:
            raise ValueError('it has no entry data.pkl')
        if f'{root}/byteorder' in names and archive.read(f'{root}/byteorder') != b'little':
            raise ValueError('it was written on a big-endian machine')
        with archive.open(f'{root}/data.pkl') as stream:
            content = _Reader(stream, dropped).load()
        return _filled(content, lambda key: archive.read(f'{root}/data/{key}'), path)


def _read_old(path: Path, dropped: set[str]) -> Any:
    """The format before torch 1.6: five pickles, then the storages."""
    with path.open('rb') as stream:
        if _Reader(stream, dropped).load() != MAGIC:
            raise ValueError('it does not begin as one')
        _, system = (_Reader(stream, dropped).load() for _ in range(2))
        if not system.get('little_endian', True):
            raise ValueError('it was written on a big-endian machine')
        reader = _Reader(stream, dropped)
        content, keys = reader.load(), _Reader(stream, dropped).load()
        places: dict[str, bytes] = {}
        for key in keys:
            count = int.from_bytes(stream.read(8), 'little')
            places[key] = stream.read(min(count * reader.widths[key], path.stat().st_size))
    return _filled(content, places.__getitem__, path)


def _filled(content: Any, read: Callable[[str], bytes], path: Path) -> Any:
    """The content as plain data, with tensors for their descriptions and None for what is neither."""
    most = left = MOST_GROWTH * path.stat().st_size
    known: dict[str, bytearray] = {}  # views of one storage share its memory

    def converted(value: Any) -> Any:
        nonlocal left
        if type(value) is not _View:
            is_plain = type(value) in SCALARS or isinstance(value, dict | list | tuple | set)
            return value if is_plain else None
        left -= math.prod(value.size) * value.dtype.itemsize
        if left < 0:
            raise Refused(f'its tensors would grow to over {most} bytes')
        key = value.storage.key
        if key not in known:
            known[key] = bytearray(read(key))
        return value.tensor(known[key])

    return plain(content, converted)
