"""Damaged files are read or refused in one sentence: no other exception, no crash, no hang, no flood of memory."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.config import load_config
from openmixup.engine.launch import build_runner
from openmixup.engine.resume import restore
from openmixup.errors import InputError

ROOT = Path(__file__).parents[2]
BATCH = 100
MOST_MEGABYTES = 2500  # torch and its libraries take 700 of them


def fuzzed(kind: str, first: int, count: int, folder: Path) -> None:
    """A batch of damaged files in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name('fuzz.py')), kind, str(first), str(count), str(folder)]
    environ = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['wrong'] == []
    assert found['read'] + found['refused'] == count
    assert found['read'] >= count // 50
    assert found['megabytes'] < MOST_MEGABYTES


@pytest.mark.parametrize('kind', ['weights', 'images'])
def test_fifty_damaged_files(tmp_path, kind):
    fuzzed(kind, 0, 50, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('first', range(0, 1000, BATCH))
@pytest.mark.parametrize('kind', ['weights', 'images'])
def test_a_thousand_damaged_files(tmp_path, kind, first):
    fuzzed(kind, first, BATCH, tmp_path)


CONFIG = """
{"data_preprocessor": {"type": "BatchPreprocessor", "mean": [0.3], "std": [0.4]},
 "train_dataloader": {"dataset": {"type": "Digits", "per_class": 2}, "batch_size": 10},
 "model": {"type": "MixClassifier", "backbone": {"type": "CifarResNet", "depth": 8, "width": 4, "in_channels": 1},
  "head": {"type": "LinearHead", "num_classes": null}, "policy": {"type": "Mixup"}},
 "train_cfg": {"type": "EpochLoop", "max_epochs": 1},
 "param_scheduler": [{"type": "CosineAnnealingLR", "T_max": 3, "by_epoch": true}],
 "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9}}}
"""
STRANGE = [None, 7, -1, 'text', [], {}, [1, 2], {'a': 1}, {0: 'x'}, 1e300, 2**70]


def changed(state: dict, rng: random.Random) -> dict:
    """A state of which one to three parts are missing or of another kind."""
    state = copy.deepcopy(state)
    for _ in range(rng.randint(1, 3)):
        place = state
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
                place = place[key]
                continue
            if rng.random() < 0.4:
                del place[key]
            else:
                place[key] = rng.choice(STRANGE)
            break
    return state


def test_a_state_of_another_form_is_told(tmp_path):
    (tmp_path / 'config.json').write_text(CONFIG)
    config = load_config(tmp_path / 'config.json')
    config['work_dir'] = str(tmp_path / 'work')
    runner = build_runner(config)
    runner.train()
    whole = read_checkpoint(runner.save('whole.pth'))
    restore(runner, Path('whole.pth'), copy.deepcopy(whole))
    refusals = []
    for number in range(200):
        try:
            restore(runner, Path('changed.pth'), changed(whole, random.Random(number)))
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 60
    assert not [refusal for refusal in refusals if '\n' in refusal or len(refusal) > 1000]
