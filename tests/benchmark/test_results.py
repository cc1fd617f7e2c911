"""The file of results: rows are appended whole, once, and by several processes."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from openmixup.benchmark import append_row, read_rows, report
from openmixup.benchmark.results import COLUMNS
from openmixup.errors import InputError
from tests.benchmark.conftest import ROOT, result_row


@pytest.mark.parametrize('tail', ['toy,mixup,1,2', 'toy,mixup,1,20,90.0,"a', '\n', None])
def test_a_torn_last_line_is_cut(tmp_path, tail):
    path = tmp_path / 'r.csv'
    assert append_row(path, result_row())
    whole = path.read_bytes()
    if tail is None:  # torn in the header
        path.write_bytes(whole[:20])
        assert read_rows(path) == []
    else:
        path.write_bytes(whole + tail.strip('\n').encode())
        assert len(read_rows(path)) == 1
    assert append_row(path, result_row(seed=1))
    lines = path.read_text().splitlines()
    assert lines[0] == ','.join(COLUMNS)
    assert len(lines) == (2 if tail is None else 3)
    assert read_rows(path)[-1]['hardware'] == 'a, "b" c', 'a row is one line'


def test_a_row_is_appended_once(tmp_path):
    path = tmp_path / 'r.csv'
    assert append_row(path, result_row(top1=88.0))
    assert not append_row(path, result_row(top1=89.0))
    assert [row['top1_last'] for row in read_rows(path)] == ['88.0']


def test_two_processes_append_at_once(tmp_path):
    path = tmp_path / 'r.csv'
    code = (
        'import sys; from openmixup.benchmark import append_row, row_of\n'
        'for k in range(40): append_row(sys.argv[1], row_of({"last": {"top1": 1.0}}, "toy", sys.argv[2], k, 20))\n'
    )
    commands = [[sys.executable, '-c', code, str(path), name] for name in ('mixup', 'vanilla')]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda command: subprocess.run(command, cwd=ROOT).returncode, commands)) == [0, 0]
    rows = read_rows(path)
    assert sorted((row['policy'], int(row['seed'])) for row in rows) == [
        (name, k) for name in ('mixup', 'vanilla') for k in range(40)
    ]
    assert path.read_text().count('table,') == 1


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / 'r.csv'
    path.write_text('a,b\n1,2\n')
    with pytest.raises(InputError, match='other columns'):
        append_row(path, result_row())
    assert path.read_text() == 'a,b\n1,2\n'


def test_a_file_of_an_earlier_version_is_read_and_extended(toy):
    old = [name for name in COLUMNS if name not in ('settings_version', 'energy_wh')]
    row = result_row('mixup', 0, 85.0) | {'config_hash': 'computed otherwise', 'hardware': 'CPU'}
    toy.results.parent.mkdir(parents=True)
    toy.results.write_text(f'{",".join(old)}\n{",".join(row[name] for name in old)}\n')
    (read,) = read_rows(toy.results)
    assert (read['top1_last'], read['settings_version']) == ('85.0', '')
    assert '| mixup | 20 | 1 of 2 | 85.00' in report(toy.table(), [read], toy.path / 'configs')
    assert toy.main('run', 'toy', '--policies', 'mixup') == 0
    assert [call[:2] for call in toy.calls()] == [['mixup', 1]], 'an older row counts as done'
    first, second = read_rows(toy.results)
    assert first == read
    assert (second['seed'], second['settings_version']) == ('1', '2')
    assert (first['energy_wh'], second['energy_wh']) == ('', '2.5')
    assert toy.results.read_text().splitlines()[0] == ','.join(COLUMNS)
    assert [path for path in toy.results.parent.rglob('*') if path.is_file()] == [toy.results], 'nothing else stays'


def test_a_writer_that_waited_for_a_replaced_file_writes_to_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / 'r.csv'
    append_row(path, result_row())
    from openmixup.benchmark import shared_file

    class Fcntl:
        LOCK_EX = shared_file.fcntl.LOCK_EX
        done = False

        def flock(self, stream, kind):
            if not self.done:  # as if another process had replaced it while this one waited
                self.done = True
                shutil.copy(path, tmp_path / 'new')
                os.replace(tmp_path / 'new', path)

    with monkeypatch.context() as patch:
        patch.setattr(shared_file, 'fcntl', Fcntl())
        assert append_row(path, result_row(seed=1))
    assert [row['seed'] for row in read_rows(path)] == ['0', '1']


def test_a_whole_last_row_without_newline_is_kept(tmp_path):
    path = tmp_path / 'r.csv'
    append_row(path, result_row())
    append_row(path, result_row(seed=1))
    path.write_bytes(path.read_bytes()[:-1])
    assert [row['seed'] for row in read_rows(path)] == ['0', '1']
    assert append_row(path, result_row(seed=2))
    assert [row['seed'] for row in read_rows(path)] == ['0', '1', '2']
    assert path.read_text().count('\n') == 4
