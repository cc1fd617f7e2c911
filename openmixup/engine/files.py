"""Writing files so that a crash leaves the old one or the new one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

__all__ = ['safetensors_bytes', 'write_atomically']


def write_atomically(path: Path, writer: Callable[[BinaryIO], object]) -> None:
    """Write a temporary file beside ``path``, flush it to the disk, and rename it.

    A crash at any moment leaves the old file or the new one, never a part.

    Args:
        path: the target.
        writer: called with the open temporary file.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with temporary.open('wb') as stream:
            writer(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def safetensors_bytes(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> bytes:
    """A ``.safetensors`` file; equal content gives equal bytes.

    Args:
        tensors: by name; views and tensors that share memory are written out.
        texts: what the file says of itself.
    """
    from safetensors.torch import save

    whole = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    raw = save(whole, {'format': 'pt', **texts})
    # the library writes the texts in an order that changes from call to call
    begin = 8 + int.from_bytes(raw[:8], 'little')
    header = json.dumps(json.loads(raw[8:begin]), sort_keys=True, separators=(',', ':')).encode()
    header += b' ' * (-len(header) % 8)
    return len(header).to_bytes(8, 'little') + header + raw[begin:]
