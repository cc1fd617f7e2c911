"""Configs as data: JSON and YAML files that are parsed and never run."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from openmixup.errors import InputError, printable

__all__ = ['KINDS', 'DataConfig', 'is_data_config', 'read_data_config']

KINDS = {'.json': 'JSON', '.yaml': 'YAML', '.yml': 'YAML'}
MOST_BYTES = 250_000
MOST_VALUES = 100_000  # aliases of YAML may unfold a short file to any length
DEEPEST = 50
KEY = re.compile(r'[\w.\-]+')  # mmengine can write a config as Python, into which no other key may get


class _Loader(yaml.SafeLoader):
    """``yaml.safe_load`` that takes 1e-3 for a number, as YAML 1.2 does, and refuses a key given twice."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        _refuse_twice([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return node


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+'), list('-+0123456789')
)


class DataConfig(Config):
    """A config that a run writes into its work folder in the form that it was read in: as data."""

    def dump(self, file: str | Path | None = None) -> str | None:
        """The config as text, or written to ``file``; tuples become lists."""
        plain = json.loads(json.dumps(self.to_dict()))
        yaml_wanted = KINDS.get(Path(file or self.filename or '').suffix) == 'YAML'
        text = yaml.safe_dump(plain, sort_keys=False) if yaml_wanted else json.dumps(plain, indent=1) + '\n'
        if file is None:
            return text
        Path(file).write_text(text, encoding='utf-8')
        return None


def is_data_config(path: str | Path) -> bool:
    """Whether a file is parsed and not run, by its suffix."""
    return Path(path).suffix in KINDS


def read_data_config(path: Path) -> DataConfig:
    """The content of a config with that of its ``_base_`` files below it, as plain data.

    A dict changes the dict of a base key by key, or replaces it if it has ``_delete_: true``; anything else replaces
    what the base has.

    Args:
        path: a ``.json``, ``.yaml`` or ``.yml`` file. ``_base_`` names files of the same kind, relative to its folder.

    Raises:
        InputError: no such file or a damaged one, anything but plain data, a base of another kind, or custom_imports.
    """
    return DataConfig(_read(path, ()), filename=str(path))


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f'config {path}: no such file; correct _base_ in {above[-1] if above else "it"}.')
    if path.resolve() in above:
        raise InputError(f'config {path} is a _base_ of itself: take it out.')
    found = _parsed(path)
    if not isinstance(found, dict):
        raise InputError(f'config {path} holds a {type(found).__name__}: expected keys and values, such as model.')
    _Check(path).value(found, '')
    if 'custom_imports' in found:
        raise InputError(
            f'config {path} has custom_imports, which run code: take them out, or write the config in Python if you '
            'trust the modules.'
        )
    bases = found.pop('_base_', [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        if not isinstance(base, str) or KINDS.get(Path(base).suffix) != KINDS[path.suffix]:
            raise InputError(
                f'config {path} has the _base_ {base!r}: a {KINDS[path.suffix]} file may only be based on '
                f'{KINDS[path.suffix]} files, as a .py file would be run; write it as one, or the config in Python.'
            )
        merged = _merged(merged, _read(path.parent / base, (*above, path.resolve())))
    return _merged(merged, found)


def _parsed(path: Path) -> Any:
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InputError(f'config {path} has {size} bytes: expected at most {MOST_BYTES}; give a config.')
    kind = KINDS[path.suffix]
    try:
        text = path.read_text(encoding='utf-8')
        if kind == 'JSON':
            return json.loads(text, object_pairs_hook=_object)
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except InputError as error:
        raise InputError(f'config {path}: {error}') from error
    except Exception as error:  # the parsers raise many kinds, and RecursionError
        reason = printable(' '.join(str(error).split()) or type(error).__name__, 200)
        raise InputError(f'config {path} is no {kind} of plain data ({reason}): correct it.') from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_twice([key for key, _ in pairs])
    return dict(pairs)


def _refuse_twice(keys: list[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise InputError(f'the key {printable(key)!r} is there twice in one dict: take one out.')
        seen.add(key)


class _Check:
    """Refuses what is not plain data, or far too much of it."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    def value(self, value: Any, where: str, depth: int = 0) -> None:
        """Check ``value`` and all below it."""
        self.count += 1
        if self.count > MOST_VALUES or depth > DEEPEST:
            raise InputError(
                f'config {self.path} unfolds to more than {MOST_VALUES} values or {DEEPEST} levels: give a config.'
            )
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str) or not KEY.fullmatch(key) or keyword.iskeyword(key):
                    raise InputError(
                        f'config {self.path} has the key {printable(key)!r} in {where or "itself"}: expected a name of '
                        'letters, digits, dots and dashes.'
                    )
                self.value(item, f'{where}.{key}' if where else key, depth + 1)
        elif isinstance(value, list):
            for number, item in enumerate(value):
                self.value(item, f'{where}.{number}', depth + 1)
        elif type(value) not in (type(None), bool, int, float, str):
            raise InputError(
                f'config {self.path} has a {type(value).__name__} at {where}: expected a text, a number, true, false, '
                'null, a list or a dict.'
            )


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in own.items():
        if isinstance(value, dict):
            below = result.get(key)
            replaces = value.get('_delete_', False) or not isinstance(below, dict)
            rest = {name: item for name, item in value.items() if name != '_delete_'}
            result[key] = _merged({} if replaces or below is None else below, rest)
        else:
            result[key] = value
    return result
