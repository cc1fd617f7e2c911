"""The example scripts are run as a reader would run them, and must learn."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / 'docs/examples').glob('*.py'))
MORE = {'lightning_module': ('lightning',), 'hf_trainer': ('transformers', 'accelerate')}  # packages of their own
RUNS = [(path, ()) for path in EXAMPLES] + [(ROOT / 'docs/examples/bare_loop.py', ('--guided',))]


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {'bare_loop', 'timm_loop', *MORE}


@pytest.mark.slow
@pytest.mark.parametrize(('path', 'options'), RUNS, ids=[' '.join((path.stem, *more)) for path, more in RUNS])
def test_it_learns(path, options, tmp_path):
    missing = [name for name in MORE.get(path.stem, ()) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f'{" and ".join(missing)} not installed: pip install -r requirements-examples.txt')
    environ = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1'}
    command = [sys.executable, str(path), '--epochs', '5', *options]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environ, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    accuracy = float(re.search(r'^accuracy (\d\.\d+)$', ended.stdout, re.MULTILINE)[1])
    assert accuracy > 0.75  # of ten classes
    assert not list(tmp_path.iterdir())  # nothing is left behind
