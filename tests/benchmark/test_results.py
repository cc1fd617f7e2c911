"""The file of results: rows are appended whole, once, and by several processes."""

import csv
import io
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from openmixup.benchmark import append_row, read_rows, report, row_of
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


def damaged(path, line, number=3):
    """A file of three rows, one of whose lines has become another."""
    for seed in range(3):
        append_row(path, result_row(seed=seed))
    lines = path.read_bytes().split(b'\n')
    lines[number - 1] = line(lines[number - 1]) if callable(line) else line
    path.write_bytes(b'\n'.join(lines))


def with_cell(name, text):
    """The row of seed 1 with another cell."""

    def change(line):
        cells = next(csv.reader([line.decode()]))
        cells[COLUMNS.index(name)] = text
        out = io.StringIO()
        csv.writer(out, lineterminator='').writerow(cells)
        return out.getvalue().encode('latin-1')

    return change


@pytest.mark.parametrize(
    ('line', 'reason'),
    [
        (with_cell('seed', 'one'), "seed is 'one', expected a whole number"),
        (with_cell('seed', ''), "seed is '', expected a whole number"),
        (with_cell('epochs', '20.0'), "epochs is '20.0', expected a whole number"),
        (with_cell('top1_last', 'good'), "top1_last is 'good', expected a finite number or nothing"),
        (with_cell('top1_last', 'nan'), "top1_last is 'nan', expected a finite number or nothing"),
        (with_cell('energy_wh', '-inf'), "energy_wh is '-inf', expected a finite number or nothing"),
        (with_cell('hardware', 'caf\xe9'), "'utf-8' codec can't decode byte 0xe9"),
        (lambda line: line + b',1', f'it has {len(COLUMNS) + 1} cells, and the header {len(COLUMNS)}'),
        (lambda line: line[:20], 'cells, and the header'),
        (b'toy,"mixup', 'unexpected end of data'),
    ],
)
def test_a_damaged_row_is_named_and_stays(tmp_path, line, reason):
    path = tmp_path / 'r.csv'
    damaged(path, line)
    before = path.read_bytes()
    for touch in (lambda: read_rows(path), lambda: append_row(path, result_row(seed=9))):
        with pytest.raises(InputError, match=r'line 3 of .*r\.csv is no row \(.*repair or remove it') as caught:
            touch()
        assert reason in str(caught.value)
        assert '\n' not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize('number', [1, 3])
@pytest.mark.parametrize('line', [b'<<<<<<< HEAD', b'||||||| 1a2b3c4', b'=======', b'>>>>>>> theirs'])
def test_a_merge_of_git_that_is_not_solved_is_named(tmp_path, line, number):
    damaged(tmp_path / 'r.csv', line, number)
    with pytest.raises(InputError, match=rf'line {number} of .*r\.csv is one of a merge of git'):
        read_rows(tmp_path / 'r.csv')


def test_what_is_no_damage_is_read(tmp_path):
    """Other hashes, empty cells, empty lines and the line ends of Windows."""
    path = tmp_path / 'r.csv'
    for name in ('settings_version', 'top1_last', 'seconds'):
        damaged(path, with_cell(name, ''))
        assert read_rows(path)[1][name] == ''
        path.unlink()
    damaged(path, with_cell('settings_version', 'other'))
    assert read_rows(path)[1]['settings_version'] == 'other'
    rows = read_rows(path)
    path.write_bytes(path.read_bytes().replace(b'\n', b'\r\n') + b'\r\n')
    assert read_rows(path) == rows


def test_a_figure_that_is_not_finite_is_left_empty(tmp_path):
    row = row_of({'last': {'top1': 1.0, 'loss': float('nan'), 'ece': float('inf')}}, 'toy', 'mixup', 0, 20)
    assert (row['loss_last'], row['ece_last']) == ('', '')
    append_row(tmp_path / 'r.csv', row)
    assert read_rows(tmp_path / 'r.csv') == [row]


def test_every_command_names_a_damaged_row(toy):
    damaged(toy.results, with_cell('top1_last', 'good'))
    for command in ('status', 'run', 'report', 'collect'):
        with pytest.raises(InputError, match=r"line 3 of .*toy\.csv is no row \(top1_last is 'good'"):
            toy.main(command, 'toy')
    assert toy.calls() == []
