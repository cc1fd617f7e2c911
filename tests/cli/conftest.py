"""What the tests of the commands share: a mistake and its sentence, a machine of which nothing is to be said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.analysis.doctor import limits, machine
from openmixup.cli import run as run_command
from openmixup.cli.doctor import main

GIB = 2**30
DIGITS = 'digits/resnet8_mixup_1xb50-30e_digits.py'


def mistake(capsys, name: str, *argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        run_command(name, [str(argument) for argument in argv])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert '\n' not in error
    assert 'Traceback' not in error
    return error


def jpeg(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


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
