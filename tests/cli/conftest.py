"""A machine of which nothing is to be said, and the command that looks at it."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import pytest
import torch

from openmixup.analysis.doctor import limits, machine
from openmixup.cli.doctor import main

GIB = 2**30


@pytest.fixture
def calm(monkeypatch, tmp_path):
    """A machine with two cores and room for everything, whatever this one has."""
    monkeypatch.setattr(limits, 'available_memory', lambda: 16 * GIB)
    monkeypatch.setattr(limits, 'affinity', lambda: 2)
    monkeypatch.setattr(limits, 'quota', lambda *_: None)
    monkeypatch.setattr(machine, '_tried', lambda *_: 0.001)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: SimpleNamespace(free=100 * GIB))
    monkeypatch.setattr(os, 'getloadavg', lambda: (0.0, 0.0, 0.0))
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    monkeypatch.setattr('cv2.getNumThreads', lambda: 1)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def doctor(calm, capsys):  # noqa: ARG001
    """Run the command: ``doctor('CONFIG', ...)`` gives its exit code and the line of each finding by name."""

    def run(*argv: object) -> tuple[int, dict[str, str]]:
        code = main([str(argument) for argument in argv])
        lines: dict[str, str] = {}
        for line in capsys.readouterr().out.splitlines()[:-1]:
            name = line[6:22].strip()
            lines[name] = f'{lines[name]}\n{line}' if name in lines else line
        return code, lines

    return run
