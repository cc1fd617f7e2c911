"""Files of weights for others."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ['safetensors_bytes']


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
