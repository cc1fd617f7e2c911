"""Checkpoint files: tensors and plain data, written whole or not at all, read without running anything in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openmixup.engine.disk import saving, tensor_bytes
from openmixup.engine.files import Digest, write_atomically
from openmixup.engine.manifest import MANIFEST, check_file, newest_first
from openmixup.errors import InputError, printable
from openmixup.reading import load_plain, load_safetensors

__all__ = [
    'checkpoint_bytes', 'checkpoint_files', 'latest_checkpoint', 'load_weights', 'put_aside', 'read_checkpoint',
    'write_checkpoint',
]  # fmt: skip

NAME = re.compile(r'(epoch|iter)_\d+\.pth')
RESULTS = (
    MANIFEST, 'best.pth', 'summary.json', 'history.json', 'mix_gallery.png', 'bad_images.jsonl', 'non_finite_step_*',
)  # fmt: skip


def _plain(value: Any, where: str) -> Any:
    """``value`` with tensors on the CPU; anything but tensors and plain data is refused."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {_plain(key, where): _plain(item, f'{where}.{key}') for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item, f'{where}[{i}]') for i, item in enumerate(value))
    raise TypeError(f'{where} is a {type(value).__name__}: a checkpoint holds tensors and plain data only')


def write_checkpoint(content: Mapping[str, Any], path: Path) -> Digest:
    """Write atomically: a crash at any moment leaves the old file or the new one, never a part.

    Args:
        content: nested dicts, lists and tuples of tensors, numbers, texts and None.
        path: the target, ``*.pth``.

    Returns:
        Length and SHA-256 of what was written.

    Raises:
        InputError: the disk does not take it; the old file is untouched, and no temporary one is left.
    """
    plain = _plain(content, 'checkpoint')
    with saving(path, tensor_bytes(plain)):
        return write_atomically(path, lambda stream: torch.save(plain, stream))


class _Counter:
    """A file that keeps the number of bytes written to it and nothing else."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, data: bytes) -> int:
        self.count += len(data)
        return len(data)

    def flush(self) -> None:
        pass


def checkpoint_bytes(content: Mapping[str, Any]) -> int:
    """Size of the file that :func:`write_checkpoint` would write."""
    counter: Any = _Counter()
    torch.save(_plain(content, 'checkpoint'), counter)
    return counter.count


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, or of a published ``.safetensors`` file, with tensors on the CPU.

    Raises:
        InputError: no such file, a damaged file, or one that holds more than tensors and plain data.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f'checkpoint {path} is a folder: give a file in it, such as {path / "best.pth"}.')
    if not path.is_file():
        raise InputError(f'checkpoint {path}: no such file.')
    try:
        content = load_safetensors(path) if path.suffix == '.safetensors' else load_plain(path)
    except Exception as error:  # torch raises many types for a damaged or a refused file
        reason = printable((str(error).strip().splitlines() or [type(error).__name__])[0], 200)
        raise InputError(
            f'checkpoint {path} cannot be read as tensors and plain data ({reason}): give a file that a training '
            'run or publish_model wrote; Python objects are never loaded.'
        ) from error
    if not isinstance(content, dict):
        raise InputError(f'checkpoint {path} holds a {type(content).__name__}: expected a dict.')
    return content


def checkpoint_files(folder: Path) -> list[Path]:
    """Periodic checkpoints in ``folder``, the newest first."""
    return newest_first(folder, [path for path in folder.glob('*.pth') if NAME.fullmatch(path.name)])


def put_aside(folder: Path, name: str, log: Callable[[str], None]) -> None:
    """Move what an earlier run left in a work directory into a folder of its own, so that no two runs are mixed up."""
    old = [*checkpoint_files(folder), *(path for result in RESULTS for path in folder.glob(result))]
    if old:
        aside = folder / f'before_{name}'
        aside.mkdir(exist_ok=True)
        for path in old:
            path.rename(aside / path.name)
        log(f'files of an earlier run in {folder} were moved to {aside.name}')


def latest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Path and content of the newest readable checkpoint of a work directory; None if there is none.

    Newest is what was written last; files that are not what was written are passed over with one line each.
    """
    from mmengine.logging import print_log

    for path in checkpoint_files(folder):
        try:
            check_file(path)
            return path, read_checkpoint(path)
        except InputError as error:
            print_log(f'passed over: {error}', logger='current', level=30)
    return None


def load_weights(learner: nn.Module, path: str | Path, *, strict: bool, log: Any = None) -> list[str]:
    """Load the weights of a checkpoint into ``learner``.

    Args:
        learner: where they go.
        path: a checkpoint file, one that holds a state dict alone, or a published file.
        strict: every weight must be there and fit, of a published file those of the network; False: what fits is taken.
        log: called with one line on what was left out.

    Returns:
        The names of what was loaded.
    """
    content = read_checkpoint(path)
    state = content.get('state_dict', content)
    state = {key: value for key, value in state.items() if isinstance(key, str)} if isinstance(state, dict) else {}
    own = learner.state_dict()
    if isinstance(meta := content.get('meta'), dict) and meta.get('branch') == 'generator':
        raise InputError(
            f'{path} is the generator of a run, not a network: give it to a policy as generator=dict(pretrained=...).'
        )
    if Path(path).suffix == '.safetensors':  # neither the teacher nor what a policy has learned
        own = {key: value for key, value in own.items() if key.startswith('student.')}
    fitting = {
        key: value for key, value in state.items()
        if key in own and isinstance(value, Tensor) and own[key].shape == value.shape
    }  # fmt: skip
    known = set(own) | set(state)
    left_out = sorted(known - set(fitting))
    if (strict and left_out) or not fitting:
        names = ', '.join(printable(name) for name in left_out[:3]) + (' ...' if len(left_out) > 3 else '')
        raise InputError(
            f'{path} does not fit the model: {len(left_out)} of {len(known)} entries are missing, unknown or of '
            f'another shape ({names}); use the config that it was trained with.'
        )
    learner.load_state_dict(fitting, strict=False)
    if left_out and log:
        shown = ', '.join(printable(name) for name in left_out[:3])
        log(f'{path}: {len(fitting)} entries loaded, {len(left_out)} left out ({shown} ...)')
    return list(fitting)
