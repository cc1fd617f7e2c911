"""Curves beside the results: what is kept of a run, what is appended, and what a reader makes of it."""

import json
import multiprocessing
from pathlib import Path

import pytest

from openmixup.benchmark import Run
from openmixup.benchmark.curves import append_curve, curve_of, curves_file, curves_for, read_curves
from openmixup.benchmark.results import row_of
from openmixup.errors import InputError


def run_in(folder, history=None, policy='mixup', seed=0, epochs=3):
    run = Run('toy', policy, seed, epochs, Path('leaf.py'), folder)
    run.__dict__['config_hash'] = 'abc'  # computed from the leaf otherwise
    if history is not None:
        (folder / 'history.json').write_text(history if isinstance(history, str) else json.dumps(history))
        summary = {'epochs': epochs, 'seed': seed, 'config_hash': 'abc', 'last': {'top1': 1.0}}
        (folder / 'summary.json').write_text(json.dumps(summary))
    return run


def curve(seed=0, config_hash='abc', **series):
    return {'policy': 'mixup', 'epochs': 3, 'seed': seed, 'config_hash': config_hash, **series}


HISTORY = [
    {'epoch': 1, 'loss': 2.2767717361, 'lr': 0.1},
    {'epoch': 2, 'loss': float('nan'), 'agreement': 0.25},
    {'epoch': 3, 'loss': 1.5, 'val/top1': 88.125, 'val/per_class': [1.0]},
]


def test_a_curve_is_what_the_history_says(tmp_path):
    expected = curve(loss=[[1, 3], [2.2768, 1.5]], agreement=[[2], [0.25]], top1=[[3], [88.125]])
    assert curve_of(run_in(tmp_path, HISTORY)) == expected


@pytest.mark.parametrize('history', [None, '[', '3', '[3]', '[{"loss": 1.0}]', '[]', '[{"epoch": 1, "loss": "x"}]'])
def test_a_run_without_a_history_has_no_curve(tmp_path, history):
    assert curve_of(run_in(tmp_path, history)) is None


def test_long_runs_are_thinned_and_keep_their_end(tmp_path):
    found = curve_of(run_in(tmp_path, [{'epoch': k, 'loss': k} for k in range(1, 801)], epochs=800))
    assert found['loss'][0] == list(range(8, 801, 8))
    assert found['loss'][1] == list(range(8, 801, 8))


def test_a_curve_is_appended_once_and_a_torn_line_is_cut(tmp_path):
    path = curves_file(tmp_path / 'results/toy.csv')
    assert path == tmp_path / 'results/curves/toy.jsonl'
    assert not append_curve(path, None)
    assert not path.exists()
    assert append_curve(path, curve(loss=[[1], [2.0]]))
    assert not append_curve(path, curve(loss=[[1], [9.0]]))
    with open(path, 'ab') as stream:
        stream.write(b'{"policy":"cutmix","epo')
    assert len(read_curves(path)) == 1
    assert append_curve(path, curve(seed=1))
    assert append_curve(path, curve(seed=1, config_hash='other'))
    assert read_curves(path) == [curve(loss=[[1], [2.0]]), curve(seed=1), curve(seed=1, config_hash='other')]


def _append_forty(path, policy):
    for seed in range(40):
        append_curve(path, curve(seed) | {'policy': policy})


def test_two_processes_append_at_once(tmp_path):
    path = tmp_path / 'c.jsonl'
    context = multiprocessing.get_context('fork')
    both = [context.Process(target=_append_forty, args=(path, name)) for name in ('mixup', 'cutmix')]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    found = [(known['policy'], known['seed']) for known in read_curves(path)]
    assert sorted(found) == [(name, seed) for name in ('cutmix', 'mixup') for seed in range(40)]


@pytest.mark.parametrize(
    'line', ['{}', '[]', 'x', json.dumps(curve(loss=[[1, 2], [1.0]])), json.dumps(curve(loss=[[1], ['<b>']])),
             json.dumps(curve(loss=[[1], [float('inf')]]))]
)  # fmt: skip
def test_a_line_that_is_no_curve_is_named(tmp_path, line):
    path = tmp_path / 'c.jsonl'
    path.write_text(f'{json.dumps(curve())}\n{line}\n')
    with pytest.raises(InputError, match=r'line 2 of .*c\.jsonl is no curve'):
        read_curves(path)
    assert append_curve(path, curve(seed=5)), 'no run has to stop for it'


def test_curves_are_those_of_the_rows_config(tmp_path):
    def row(seed, config_hash):
        return row_of({'last': {'top1': 1.0}, 'config_hash': config_hash}, 'toy', 'mixup', seed, 3)

    found = curves_for([row(0, 'abc'), row(1, 'abc'), row(2, 'new')], [curve(0, top1=[[3], [1.0]]), curve(2)])
    assert found == [curve(0, top1=[[3], [1.0]])]
    run = run_in(tmp_path, HISTORY)
    assert curves_for([row(0, 'abc')], [], [run]) == [curve_of(run)], 'the work folder is looked into'
    assert curves_for([row(0, 'older')], [], [run]) == []
