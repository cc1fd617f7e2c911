"""Old weights, of this toolbox's ancestors, mmengine or timm, as a file that is safe to open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from openmixup.engine.files import write_atomically
from openmixup.engine.weight_files import safetensors_bytes
from openmixup.errors import InputError, did_you_mean, printable
from openmixup.reading import load_plain, read_foreign

__all__ = ['import_weights']

CONTAINERS = ('state_dict', 'model', 'model_ema')


def import_weights(old: str | Path, new: str | Path, key: str | None = None) -> tuple[int, list[str]]:
    """Write the tensors of a state dict that ``torch.save`` wrote into a ``.safetensors`` file.

    Args:
        old: the file; what is no tensor in it, and what asks for code, is left out.
        new: the file to write.
        key: where in the file the state dict is; None: under 'state_dict', 'model' or 'model_ema', or the file itself.

    Returns:
        The number of tensors, and the names in the file that were neither looked up nor called.

    Raises:
        InputError: ``old`` cannot be read or has no state dict there, or ``new`` cannot be written.
    """
    source, target = Path(old), Path(new)
    if target.suffix != '.safetensors':
        raise InputError(f'{target} is no name for the new file: expected NAME.safetensors.')
    dropped: list[str] = []
    try:
        content = load_plain(source)
    except Exception:  # it holds objects, or is damaged, which the reader below finds too
        content, dropped = read_foreign(source)
    state = _state(content, key, source)
    try:
        data = safetensors_bytes(state, {})
        write_atomically(target, lambda stream: stream.write(data))
    except OSError as error:
        raise InputError(f'{target} cannot be written ({error.strerror}): give a file in a folder of yours.') from error
    return len(state), dropped


def _state(content: Any, key: str | None, source: Path) -> dict[str, Tensor]:
    """The named tensors of the content, without the prefix of a wrapper of distributed training."""
    containers = [name for name, value in content.items() if _tensors(value)] if isinstance(content, dict) else []
    if key is not None and key not in containers:
        known = ', '.join(printable(name) for name in containers) or 'none'
        raise InputError(f'{source} has no tensors under --key {key}{did_you_mean(key, containers)} (known: {known}).')
    place = key if key is not None else next((name for name in CONTAINERS if name in containers), None)
    state = _tensors(content if place is None else content[place])
    if not state:
        others = f'; choose one by --key: {", ".join(printable(name) for name in containers)}' if containers else ''
        raise InputError(
            f'{source} has no state dict under {", ".join(CONTAINERS)} or in itself: save the state_dict() of the '
            f'network{others}.'
        )
    if all(name.startswith('module.') for name in state):
        return {name.removeprefix('module.'): value for name, value in state.items()}
    return state


def _tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, dict):
        return {}
    return {name: item for name, item in value.items() if isinstance(name, str) and isinstance(item, Tensor)}
