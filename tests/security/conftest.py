"""Hostile files are made here and nowhere else; each wants to write a marker, which must never appear."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file that hostile code would write; beside it lies a module that writes it when it is imported."""
    path = tmp_path / 'ran'
    module = (
        f"open({str(path)!r}, 'w').close()\n\n\nclass Bomb:\n    def __init__(self, *args, **kwargs):\n        pass\n"
    )
    (tmp_path / 'planted').mkdir()
    for name in ('planted.py', 'planted/registry.py', 'planted/__init__.py', 'planted/mod.py'):
        (tmp_path / name).write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield path
    assert not path.exists(), 'code of a hostile file was run'
    for name in [name for name in sys.modules if name.split('.')[0] == 'planted']:
        del sys.modules[name]
    assert 'planted' not in sys.modules
