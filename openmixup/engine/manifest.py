"""The list of a work directory's checkpoints, with the digest of each, written after the files themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openmixup.engine.files import Digest, digest_of, write_atomically
from openmixup.errors import InputError

__all__ = ['MANIFEST', 'add_to_manifest', 'check_file', 'newest_first', 'read_manifest']

MANIFEST = 'checkpoints.json'


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """Entries ``file``, ``bytes``, ``sha256``, ``epoch``, ``iter``, the oldest first.

    A manifest that cannot be read counts as none: it says only which files are whole, and they can be read without it.
    """
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))['checkpoints']
        wanted = {'file': str, 'bytes': int, 'sha256': str, 'epoch': int, 'iter': int}
        return [entry for entry in entries if all(isinstance(entry[key], kind) for key, kind in wanted.items())]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def add_to_manifest(path: Path, digest: Digest, epoch: int, step: int) -> None:
    """Add a checkpoint that has been written; entries whose files are gone are left out."""
    entries = [old for old in read_manifest(path.parent) if old['file'] != path.name]
    entries = [old for old in entries if (path.parent / old['file']).is_file()]
    entries.append({'file': path.name, 'bytes': digest.size, 'sha256': digest.sha256, 'epoch': epoch, 'iter': step})
    text = json.dumps({'version': 1, 'checkpoints': entries}, indent=1) + '\n'
    write_atomically(path.parent / MANIFEST, lambda stream: stream.write(text.encode()))


def check_file(path: Path, read: Callable[[Path], Digest] = digest_of) -> None:
    """Compare a file with its entry, if it has one.

    Raises:
        InputError: the file is not what was written.
    """
    entry = next((entry for entry in read_manifest(path.parent) if entry['file'] == path.name), None)
    if entry is None:
        return
    found = read(path)
    if found.size != entry['bytes']:
        raise InputError(f'checkpoint {path} has {found.size} bytes, {entry["bytes"]} were written: it is damaged.')
    if found.sha256 != entry['sha256']:
        raise InputError(f'checkpoint {path} has another SHA-256 than what was written: it is damaged.')


def newest_first(folder: Path, files: list[Path]) -> list[Path]:
    """``files`` of a work directory in the order in which a run goes on from them.

    Files of the manifest stand in its order, which a copy of the directory keeps. One that a crash kept out of the
    manifest is newer than all of them, if its time says so, else older.
    """
    place = {entry['file']: number for number, entry in enumerate(read_manifest(folder))}
    listed = [path for path in files if path.name in place]
    written = max((path.stat().st_mtime_ns for path in listed), default=-1)

    def rank(path: Path) -> tuple[int, int]:
        if path.name in place:
            return 1, place[path.name]
        time = path.stat().st_mtime_ns
        return (2 if time > written else 0), time

    return sorted(files, key=rank, reverse=True)
