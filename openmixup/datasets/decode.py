"""Decode one image file, of whatever kind, into a uint8 RGB tensor."""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openmixup.errors import InputError

__all__ = ['FORMATS', 'MAX_PIXELS', 'read_image']

MAX_PIXELS = 178_956_970  # where PIL too speaks of a decompression bomb
FORMATS = ('JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'DIB', 'GIF', 'PPM')  # PIL knows more, and runs Ghostscript for EPS
# Formats and modes for torchvision's decoders. Not PNG: that of torchvision 0.29 ends the process on a damaged one.
_FAST = {'JPEG': ('RGB', 'L')}


def _with_pil(picture) -> Tensor:
    """What torchvision cannot read or would read otherwise than PIL: CMYK, palettes, 16 bits, WebP, BMP, ..."""
    from PIL import Image

    if picture.mode.startswith('I'):  # 16-bit grey; PIL's own conversion would clip nearly all of it to white
        values = np.asarray(picture).astype(np.int64)
        shift = 8 if values.max(initial=0) > 255 or picture.mode != 'I' else 0
        picture = Image.fromarray(np.clip(values >> shift, 0, 255).astype(np.uint8))
    elif picture.mode == 'F':
        raise ValueError('floating-point pixels have no fixed range')
    return torch.from_numpy(np.array(picture.convert('RGB'))).permute(2, 0, 1).contiguous()


def read_image(path: str | os.PathLike) -> Tensor:
    """Decode an image file of one of the :data:`FORMATS`; JPEG through torchvision, the others through PIL.

    Transparency is dropped and the orientation tag ignored, as torchvision's ``ImageFolder`` does.

    Returns:
        uint8, (3, H, W).

    Raises:
        InputError: the file is missing, damaged, no image, or has over 178 million pixels; with path and reason.
    """
    import PIL
    from PIL import Image

    try:
        from torchvision.io import ImageReadMode, decode_image
    except ImportError:  # torchvision has announced that it will give its decoders up
        decode_image = None

    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading from a pipe or a device need not end
            raise ValueError('it is no regular file')
        data = path.read_bytes()
        if not data:
            raise ValueError('the file is empty')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:  # reads the header only
                width, height = picture.size
                if width * height > MAX_PIXELS:
                    raise ValueError(f'{width}x{height} pixels are more than {MAX_PIXELS}')
                if decode_image is not None and picture.mode in _FAST.get(picture.format or '', ()):
                    image = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
                    if image.dtype == torch.uint8:
                        return image
                return _with_pil(picture)
    except MemoryError:
        raise
    except FileNotFoundError as error:
        raise InputError(f'{path} cannot be decoded (no such file); correct the path.') from error
    except PIL.UnidentifiedImageError as error:
        raise InputError(
            f'{path} cannot be decoded (it is none of {", ".join(FORMATS)}); replace the file or take it out.'
        ) from error
    except Exception as error:  # PIL's plug-ins raise nearly anything on a damaged file
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = lines[0].split('.cpp:')[-1].partition(', ')[2] or lines[0] if '.cpp:' in lines[0] else lines[0]
        raise InputError(
            f'{path} cannot be decoded ({reason.rstrip(".")}); replace the file or take it out.'
        ) from error
