"""A place that takes no results is told before anything is trained, and one that fails later ends no other run."""

import os
import re
import threading
from pathlib import Path

import pytest

from openmixup.benchmark import Sweep, outcome, read_rows, slurm
from openmixup.benchmark import sweep as sweeping
from openmixup.benchmark.curves import append_curve
from openmixup.benchmark.results import append_row
from openmixup.benchmark.shared_file import appending, check_appending, read_shared
from openmixup.cli import benchmark
from openmixup.errors import InputError
from tests.benchmark.conftest import result_row, until


def places(path):
    """Folders for --results that take no files, also of root, and what is said of each."""
    (path / 'file').write_text('')
    (path / 'csv_folder/toy.csv').mkdir(parents=True)
    (path / 'curves_file').mkdir()
    (path / 'curves_file/curves').write_text('')
    (path / 'device').mkdir()
    (path / 'device/toy.csv').symlink_to('/dev/full')
    return [
        (path / 'file', r'file/toy\.csv could not be written \(Not a directory; '),
        (path / 'file/a/b', r'file/a/b/toy\.csv could not be written \(Not a directory; '),
        (path / 'csv_folder', r'csv_folder/toy\.csv could not be written \(Is a directory; '),
        (path / 'curves_file', r'curves/toy\.jsonl could not be written \(Not a directory; '),
        ('/proc/openmixup', r'/proc/openmixup/toy\.csv could not be written \(No such file or directory; '),
        (path / 'device', r'device/toy\.csv could not be written \(Not a regular file; '),
    ]


@pytest.mark.parametrize('command', ['run', 'run --slurm part', 'collect'])
def test_a_place_that_takes_no_results_is_told_before_anything_is_trained(toy, monkeypatch, command):
    toy.summary('mixup-20e-seed1', 1)
    monkeypatch.setattr(slurm, '_ask', lambda *arguments: pytest.fail('a job was submitted'))
    for folder, sentence in places(toy.path):
        with pytest.raises(InputError, match=sentence + r'.* another folder with --results \(for a trial') as caught:
            toy.main(*command.split(), 'toy', f'--results={folder}')
        assert '\n' not in str(caught.value)
    assert toy.calls() == []


def test_a_work_folder_that_cannot_be_made_is_told(toy):
    toy.work.parent.mkdir()
    toy.work.write_text('')
    with pytest.raises(InputError, match=r'could not be written \(Not a directory; .*another --work-dir'):
        toy.main('run', 'toy')


@pytest.mark.parametrize('jobs', ['1', '2'])
def test_a_place_that_fails_later_ends_no_run_and_loses_none(toy, capsys, jobs):
    (toy.path / 'fault.txt').write_text('block')
    assert toy.main('run', 'toy', '--jobs', jobs) == 1
    assert len(toy.calls()) == 4, 'all are trained'
    said = capsys.readouterr()
    assert '[4/4] ' in said.out
    assert said.err.count('trained, but without a row: ') == 4
    assert 'toy.csv could not be written (Is a directory; ' in said.err
    collect = f'tools/benchmark.py collect toy --work-dir {toy.path}/work --configs {toy.path}/configs'
    assert f'{collect} --benchmarks {toy.path}/benchmarks or the same command appends the rows' in said.err
    assert not (toy.work / 'failures').exists(), 'no training has failed'
    toy.results.rmdir()
    assert toy.main('collect' if jobs == '1' else 'run', 'toy') == 0
    assert toy.keys() == [('mixup', 0), ('mixup', 1), ('vanilla', 0), ('vanilla', 1)]
    assert len(toy.calls()) == 4, 'none is trained twice'


def test_a_failure_that_cannot_be_kept_ends_no_other_run(toy):
    (toy.path / 'fault.txt').write_text('mixup0 untold')
    toy.work.mkdir(parents=True)
    (toy.work / 'vanilla-20e-seed1').write_text('')
    sweep = Sweep(toy.planned(), toy.results, 2, toy.trainer)
    reasons = {run.row: reason for run, reason in sweep.run()}
    assert set(reasons) == {'mixup-20e-seed0', 'vanilla-20e-seed1'}
    assert reasons['mixup-20e-seed0'].startswith('exit code 3, which could not be kept: ')
    assert reasons['vanilla-20e-seed1'].startswith('could not be started: ')
    assert toy.keys() == [('mixup', 1), ('vanilla', 0)]


def test_no_place_is_told_of_a_failure_that_could_not_be_kept(toy, capsys):
    (toy.path / 'fault.txt').write_text('mixup0 untold')
    assert toy.main('run', 'toy', '--policies', 'mixup', '--seeds', '0') == 1
    said = capsys.readouterr()
    assert '; see ' not in said.out
    assert re.search(r'^failed: .*\(exit code 3, which could not be kept: .*\)$', said.err, re.MULTILINE)


def test_a_run_whose_log_cannot_be_locked_ends_no_other(toy, monkeypatch):
    lock = outcome.lock_log

    def locked(run):
        if run.row == 'mixup-20e-seed0':
            raise InputError('no locks here')
        return lock(run)

    monkeypatch.setattr(sweeping, 'lock_log', locked)
    sweep = Sweep(toy.planned(), toy.results, 2, toy.trainer)
    assert [(run.row, reason) for run, reason in sweep.run()] == [
        ('mixup-20e-seed0', 'could not be started: no locks here')
    ]
    assert len(toy.keys()) == 3


def test_a_check_leaves_files_as_they_are(tmp_path):
    path = tmp_path / 'a/r.csv'
    check_appending(path)
    assert not path.exists()
    append_row(path, result_row())
    before = path.read_bytes()
    check_appending(path)
    assert path.read_bytes() == before
    (tmp_path / 'empty.csv').touch()
    (tmp_path / 'link.csv').symlink_to('empty.csv')
    check_appending(tmp_path / 'link.csv')
    assert (tmp_path / 'link.csv').is_symlink()
    assert (tmp_path / 'empty.csv').is_file()
    with pytest.raises(InputError, match='could not be written'):
        check_appending(path / 'x')


def test_a_writer_that_waited_for_a_file_that_is_removed_writes_to_a_new_one(tmp_path):
    path = tmp_path / 'c.jsonl'
    curve = {'policy': 'mixup', 'epochs': 3, 'seed': 0, 'config_hash': 'abc'}
    with appending(path):
        thread = threading.Thread(target=append_curve, args=(path, curve))
        thread.start()
        until(lambda: sum(os.path.samefile(path, f'/proc/self/fd/{fd}') for fd in _open_files()) == 2)
        path.unlink()
    thread.join(60)
    assert path.read_text().count('mixup') == 1


def _open_files():
    return [fd for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')]


def test_a_file_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    assert read_shared(tmp_path / 'none') == b''
    monkeypatch.setattr(Path, 'is_file', lambda path: True)  # as if it were removed between the look and the reading
    assert read_shared(tmp_path / 'none') == b''
    monkeypatch.undo()
    (tmp_path / 'r.csv').symlink_to('/proc/self/mem')  # whose first page nobody can read, nor root
    with pytest.raises(InputError, match=r'r\.csv cannot be read \(Input/output error\)'):
        read_rows(tmp_path / 'r.csv')


def test_report_names_a_file_that_it_cannot_write(toy):
    for option in (f'--html={toy.path}', f'--markdown={toy.path}/trainer.py/table.md'):
        with pytest.raises(
            InputError, match='could not be written .*: make room, or give a file in a folder'
        ) as caught:
            toy.main('report', 'toy', option, '--costs=none.json')
        assert '--work-dir' not in str(caught.value)


@pytest.mark.parametrize(('given', 'used'), [(None, '1'), ('3', '3')])
def test_the_threads_of_the_user_win(toy, monkeypatch, given, used):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    if given:
        monkeypatch.setenv('OMP_NUM_THREADS', given)
    assert toy.main('run', 'toy', '--policies', 'mixup', '--seeds', '0') == 0
    assert [call[3] for call in toy.calls()] == [used]


def test_what_is_no_number_is_refused(capsys):
    for option in ('--gpus', '--jobs', '--epochs'):
        for value in ('x', '0'):
            with pytest.raises(SystemExit):
                benchmark.main(['run', 'toy', option, value])
            said = capsys.readouterr().err
            assert f"argument {option}: '{value}': expected a whole number of at least 1." in said
