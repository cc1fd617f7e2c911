"""The peak of memory is that of the process that is asked, and since the moment that was said."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from openmixup.engine import peak

CPU = torch.device('cpu')
LARGE = 600_000_000
linux = pytest.mark.skipif(sys.platform != 'linux', reason='other systems give one figure only')


@linux
def test_a_process_does_not_begin_with_the_peak_of_the_one_that_started_it():
    """A run of a small network is often started by something large, as a notebook or a sweep."""
    code = 'import json, torch; from openmixup.engine import peak; print(json.dumps(peak.read(torch.device("cpu"))))'
    small = json.loads(subprocess.check_output([sys.executable, '-c', code]))
    block = torch.ones(int(small + LARGE) // 4)
    again = json.loads(subprocess.check_output([sys.executable, '-c', code]))
    assert peak.read(CPU) > block.nbytes
    assert again < small + LARGE / 2


@linux
def test_a_peak_is_seen_after_its_memory_was_given_back_and_forgotten_when_asked():
    before = peak.restart(CPU)
    block = torch.ones(LARGE // 4)
    del block
    assert peak.read(CPU) > before + 0.9 * LARGE
    peak.restart(CPU)
    assert peak.read(CPU) < before + 0.5 * LARGE


def test_a_summary_tells_the_peak_of_its_own_run(train, monkeypatch):
    monkeypatch.setattr(peak, 'read', lambda device: 3 * 2**20 if device == CPU else None)
    work = train('run', 'train_cfg.max_epochs=1')
    assert json.loads((work / 'summary.json').read_text())['peak_memory_mb'] == 3
