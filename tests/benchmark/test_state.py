"""How far a sweep is: runs that others train, shares and states, rows collected and reproduced."""

import fcntl
import io
import shlex
import subprocess
import threading
import time

import pytest

from openmixup.benchmark import Sweep, append_row, read_rows, row_of, slurm
from openmixup.benchmark.outcome import keep_failure, trained_elsewhere
from openmixup.benchmark.reproduce import compare
from openmixup.benchmark.screen import Bars
from openmixup.benchmark.sweep import _Job
from openmixup.errors import InputError
from tests.benchmark.conftest import until


class Recorder:
    """A screen that remembers."""

    def __init__(self):
        self.lines, self.states, self.closed = [], [], False

    def say(self, text):
        self.lines.append(text)

    def due(self):
        return True

    def show(self, *state):
        self.states.append(state)

    def close(self):
        self.closed = True


def test_a_run_that_another_process_trains_is_waited_for(toy):
    runs = toy.planned(policies=['mixup'])
    held = runs[0]
    held.log.parent.mkdir(parents=True)
    screen = Recorder()
    with open(held.log, 'ab') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert trained_elsewhere(held)
        sweep = Sweep(runs, toy.results, 1, toy.trainer, screen)
        thread = threading.Thread(target=sweep.run)
        thread.start()
        until(lambda: toy.keys() == [('mixup', 1)])
        until(lambda: any('mixup, 20 epochs, seed 0 (elsewhere)' in state[3] for state in screen.states))
        assert thread.is_alive()
        toy.summary('mixup-20e-seed0', 0)  # the other process ends well
    thread.join(60)
    assert not trained_elsewhere(held)
    assert sweep.failures == []
    assert screen.closed
    assert {row['seed']: row['top1_last'] for row in read_rows(toy.results)} == {'0': '77.0', '1': '91.0'}
    assert [call[:2] for call in toy.calls()] == [['mixup', 1]], 'what the other has trained is collected'
    assert sum('another process trains it' in line for line in screen.lines) == 1


def test_a_run_whose_other_process_dies_is_trained_here(toy):
    (run,) = toy.planned(policies=['mixup'], seeds=[0])
    run.log.parent.mkdir(parents=True)
    with open(run.log, 'ab') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        thread = threading.Thread(target=Sweep([run], toy.results, 1, toy.trainer, Recorder()).run)
        thread.start()
        time.sleep(0.5)
        assert toy.calls() == []
    thread.join(60)
    assert toy.keys() == [('mixup', 0)]


@pytest.mark.parametrize(
    ('text', 'share'),
    [
        ('', None),
        ('$ train\nbuilding\n', None),
        ('epoch 3/20  loss 1.0  10 img/s\n', 0.15),
        ('epoch 3/20  loss 1\nepoch 4/20 [5/10]  loss 1.0\n', 0.175),
        ('step 70/400  loss 1.0\n', 0.175),
        ('epoch 20/20  loss 1\nsaved epoch 1/20\n', 1.0),
        ('epoch 19/20  loss 1\n$ train again\nepoch 2/20  loss 1\n', 0.1),
        ('epoch 19/20  loss 1\n$ train again\n', None),
    ],
)
def test_the_log_tells_the_share_that_is_done(toy, text, share):
    (run,) = toy.planned(policies=['mixup'], seeds=[0])
    assert run.share is None
    run.log.parent.mkdir(parents=True)
    run.log.write_text('x' * 2**14 + '\n' + text)
    assert run.share == pytest.approx(share) if share is not None else run.share is None


def test_status_names_every_state(toy, capsys):
    toy.main('run', 'toy', '--policies', 'vanilla', '--seeds', '0')
    toy.checkpoint('mixup-20e-seed0')
    toy.summary('mixup-20e-seed1', 1)
    (failed,) = toy.planned(policies=['vanilla'], seeds=[1])
    failed.log.write_text('RuntimeError: boom\n')
    keep_failure(failed, 'exit code 3')
    capsys.readouterr()
    assert toy.main('status', 'toy') == 0
    told = capsys.readouterr().out
    assert told.startswith('4 runs: 1 done, 1 finished, 1 failed, 1 begun\n')
    assert 'failed: vanilla, 20 epochs, seed 1: exit code 3 (' in told
    assert str(failed.failure) in told
    (running,) = toy.planned(policies=['mixup'], seeds=[0])
    running.log.write_text('epoch 5/20  loss 1\n')
    with open(running.log, 'ab') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        toy.main('status', 'toy', '--rows', 'mixup-20e-seed0')
        assert capsys.readouterr().out == '1 runs: 1 running\n  running: mixup, 20 epochs, seed 0, 25%\n'


def test_collect_trains_nothing(toy, capsys):
    toy.summary('mixup-20e-seed1', 1)
    (finished,) = toy.planned(policies=['mixup'], seeds=[1])
    keep_failure(finished, 'of an earlier attempt')
    assert toy.main('collect', 'toy') == 0
    assert not finished.failure.exists()
    assert toy.keys() == [('mixup', 1)]
    assert toy.calls() == []
    assert '1 rows appended' in capsys.readouterr().out
    assert toy.main('collect', 'toy', '--rows', 'mixup-20e-seed0', '--exit-code', '7') == 0
    failures = list((toy.work / 'failures').iterdir())
    assert [file.name for file in failures] == ['mixup-20e-seed0.txt']
    assert failures[0].read_text().startswith('exit code 7, and no summary.json of this run and config (')
    with pytest.raises(InputError, match="no row 'mixup-20e-seed9'; did you mean 'mixup-20e-seed"):
        toy.main('collect', 'toy', '--rows', 'mixup-20e-seed9')


def test_a_task_of_an_array_asks_what_to_train_when_it_begins(toy, capsys):
    def told(row):
        capsys.readouterr()
        assert toy.main('arguments', 'toy', '--rows', row, '--data', 'a b') == 0
        return shlex.split(capsys.readouterr().out)

    (run,) = toy.planned(policies=['mixup'], seeds=[0])
    keep_failure(run, 'of an earlier attempt')
    assert told(run.row) == [str(run.config), '--work-dir', str(run.work_dir), '--seed', '0', '--data', 'a b']
    assert not run.failure.exists()
    toy.checkpoint(run.row)
    assert '--resume' in told(run.row)
    toy.summary(run.row, 0)
    assert told(run.row) == [], 'it has ended meanwhile'
    toy.main('collect', 'toy')
    assert told(run.row) == [], 'it has its row'


def test_a_plan_is_words_of_a_shell(toy, monkeypatch):
    runs = toy.planned(policies=['mixup'])
    asked = []

    def run(command, env=None, **options):
        asked.append((command, env))
        return subprocess.CompletedProcess(command, 0, '17;cluster\n', '')

    monkeypatch.setattr(slurm.subprocess, 'run', run)
    monkeypatch.setenv('SBATCH_ARGS', '--time=5')
    assert slurm.submit(runs, 'part', lambda name: ['tool', name, "it's"], jobs=3, data='a b') == '17'
    ((command, env),) = asked
    plan = toy.work / 'slurm-1.sh'
    assert command[-3:] == ['part', 'toy', f'@{plan}']
    assert env['SBATCH_ARGS'] == '--time=5 --parsable --array=0-1%3'
    assert (env['GPUS'], env['GPUS_PER_NODE'], env['OUTPUT']) == ('1', '1', str(toy.work / 'slurm-1.out'))
    script = f'. {shlex.quote(str(plan))}; eval "set -- ${{beginnings[1]}}"; printf "%s\\n" "$@" "${{logs[0]}}"'
    shell = subprocess.Popen(['bash', '-c', script], stdout=subprocess.PIPE, text=True)
    said = shell.communicate()[0].splitlines()
    assert said == ['tool', 'arguments', "it's", '--data', 'a b', '--rows', 'mixup-20e-seed1', str(runs[0].log)]
    queue = '17 1 toy\n17 9 toy\n18 0 toy\n17 0 other\n'
    monkeypatch.setattr(slurm.subprocess, 'run', lambda c, **o: subprocess.CompletedProcess(c, 0, queue, ''))
    with open(toy.work / 'slurm.jsonl', 'a') as stream:
        stream.write('{"job": "18"')
    assert slurm.queued_runs(toy.work) == {'mixup-20e-seed1'}
    assert slurm.submit(runs[:1], 'part', lambda name: []) == '17'
    assert (toy.work / 'slurm-2.sh').is_file()

    def missing(command, **options):
        raise FileNotFoundError

    monkeypatch.setattr(slurm.subprocess, 'run', missing)
    with pytest.raises(InputError, match=r'slurm\.jsonl says that job arrays were submitted, .* remove that file'):
        slurm.queued_runs(toy.work)


def test_a_failure_keeps_the_end_of_a_long_log(toy):
    (run,) = toy.planned(policies=['mixup'], seeds=[0])
    run.log.parent.mkdir(parents=True)
    run.log.write_text('earlier attempt\n' + 'y' * 2**17 + '\nthe reason\n')
    keep_failure(run, 'exit code 1', begin=16)
    text = run.failure.read_text()
    assert text.endswith('\nthe reason\n')
    assert len(text) < 2**16 + 300
    keep_failure(run, 'exit code 1', begin=16 + 2**17)
    assert run.failure.read_text().partition('\n\n')[2] == '\nthe reason\n'


def test_a_row_is_reproduced(toy, capsys):
    toy.main('run', 'toy')
    rows = toy.results.read_bytes()
    capsys.readouterr()
    assert toy.main('reproduce', 'toy', 'mixup-20e-seed1', '--tolerance', '0') == 0
    told = capsys.readouterr().out
    assert 'top-1 in the last epoch: 91 in the table, 91 now (the same)' in told
    assert [call[:3] for call in toy.calls()[4:]] == [['mixup', 1, False]]
    assert toy.results.read_bytes() == rows
    assert (toy.work / 'reproduced/mixup-20e-seed1-1/summary.json').is_file()
    before = len(toy.calls())
    assert toy.main('reproduce', 'toy', 'mixup-20e-seed1') == 0
    assert len(toy.calls()) == before + 1, 'it is trained each time that it is asked for'
    assert toy.main('reproduce', 'toy', 'mixup') == 0, 'the first row of a policy'
    assert toy.calls()[-1][:2] == ['mixup', 0]
    with pytest.raises(InputError, match="plans no row 'mixip'; did you mean 'mixup'"):
        toy.main('reproduce', 'toy', 'mixip')


def test_a_row_that_is_not_reproduced_is_told(toy, capsys):
    toy.main('run', 'toy', '--policies', 'mixup')
    toy.results.write_text(toy.results.read_text().replace('91.0', '91.4').replace('torch 2', 'torch 1'))
    append_row(
        toy.results, row_of({'last': {'top1': 10.0}}, 'toy', 'mixup', 0, 40)
    )  # of another length: not for the spread
    assert toy.main('reproduce', 'toy', 'mixup-20e-seed1', '--tolerance', '0.3') == 1
    told = capsys.readouterr().out
    assert '91.4 in the table, 91 now (-0.4)' in told
    assert 'the standard deviation over 2 seeds is 0.99 points' in told
    assert 'versions: torch 1 then, torch 2 now' in told
    assert toy.main('reproduce', 'toy', 'mixup-20e-seed1', '--tolerance', '0.5') == 0
    toy.change_alpha()
    with pytest.raises(InputError, match='the row mixup-20e-seed1 is of config .* check out abcdef0123456789'):
        toy.main('reproduce', 'toy', 'mixup-20e-seed1')


def test_a_row_that_was_not_run_cannot_be_reproduced(toy):
    with pytest.raises(InputError, match='mixup-20e-seed0 has no row yet; tools/benchmark.py run toy trains it'):
        toy.main('reproduce', 'toy', 'mixup')


def test_compare_leaves_out_what_a_row_lacks():
    row = row_of({'last': {'top1': 50.0}}, 'toy', 'mixup', 0, 20)
    text, difference = compare(row, row, [row])
    assert text == 'top-1 in the last epoch: 50 in the table, 50 now (the same)'
    assert difference == 0


def test_the_time_left_follows_the_shares(toy):
    runs = toy.planned()
    screen = Recorder()
    sweep = Sweep(runs, toy.results, 2, toy.trainer, screen)
    assert sweep._eta() == ''
    sweep._durations = [100.0, 200.0]
    assert sweep._eta() == '; about 5 min left'  # four runs of 150 s, two at a time
    (toy.work / 'mixup-20e-seed0.log').parent.mkdir(parents=True)
    begun = next(run for run in runs if run.row == 'mixup-20e-seed0')
    begun.log.write_text('epoch 18/20  loss 1\n')
    sweep._running = [_Job(begun, None, None, 0.0, 0, ())]
    sweep.waiting = [run for run in runs if run is not begun][:1]
    assert sweep._eta() == '; about 82 s left'  # a whole run and a tenth of one, two at a time
    sweep._running = []
    sweep.waiting = runs[:1]
    assert sweep._eta() == '; about 2 min left'  # one run, one at a time


def test_bars_show_the_whole_and_every_run(monkeypatch):
    bars = Bars()
    out = io.StringIO()
    bars._progress.live.console.file = out
    bars.say('[1/4] mixup: done')
    bars.show(1, 1, 4, {'mixup, seed 0': 0.5, 'cutmix, seed 0': None}, '; about 5 min left')
    assert [(task.description, task.percentage) for task in bars._progress.tasks] == [
        ('all runs', 50.0), ('mixup, seed 0', 50.0), ('cutmix, seed 0', 0.0),
    ]  # fmt: skip
    assert bars._progress.tasks[0].fields['note'] == '2/4, 1 failed; about 5 min left'
    assert not bars.due()
    bars.show(2, 1, 4, {'cutmix, seed 0': 0.25}, '')
    assert [task.description for task in bars._progress.tasks] == ['all runs', 'cutmix, seed 0']
    bars.close()
    assert bars._progress.tasks == []
    assert '[1/4] mixup: done' in out.getvalue(), 'brackets are text'
