"""The sweep with a trainer that only writes a summary: what is run, continued, collected and reported."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from openmixup.benchmark import Sweep, append_row, load_table, missing_runs, read_rows, report
from openmixup.benchmark.curves import read_curves
from openmixup.benchmark.outcome import trained_elsewhere
from openmixup.benchmark.results import COLUMNS
from openmixup.benchmark.runs import _trial_options
from openmixup.cli import make_configs, train
from openmixup.engine.config import load_config
from openmixup.engine.resume import config_hash
from openmixup.errors import InputError
from tests.benchmark.conftest import LONG, RECIPE, ROOT, TABLE, ended, result_row, until

ALL = [('mixup', 0), ('mixup', 1), ('vanilla', 0), ('vanilla', 1)]


def test_only_missing_rows_are_run(toy, capsys):
    assert toy.main('run', 'toy', '--policies', 'mixup', '--seeds', '1') == 0
    assert toy.keys() == [('mixup', 1)]
    assert toy.main('run', 'toy', '--jobs', '2') == 0
    assert toy.keys() == ALL
    assert sorted(tuple(call[:2]) for call in toy.calls()) == ALL, 'each row is trained once'
    assert all(call[3] == '1' for call in toy.calls())
    assert toy.main('run', 'toy') == 0
    assert len(toy.calls()) == 4
    assert '[3/3]' in capsys.readouterr().out


def test_a_row_holds_the_summary(toy):
    toy.main('run', 'toy', '--policies', 'mixup', '--seeds', '0')
    (row,) = read_rows(toy.results)
    assert tuple(row) == COLUMNS
    expected = {'table': 'toy', 'policy': 'mixup', 'seed': '0', 'epochs': '20', 'top1_last': '90.0', 'ece_last': '1.0'}
    expected |= {'top1_median10': '89.0', 'top1_best': '91.0', 'hardware': 'CPU, 2 cores', 'versions': 'torch 2'}
    assert expected.items() <= row.items()
    assert row['parameters'] == '', 'what the summary lacks stays empty'


def test_an_unfinished_run_is_continued_and_a_finished_one_collected(toy, capsys):
    toy.checkpoint('mixup-20e-seed0')
    toy.summary('mixup-20e-seed1', 1)
    assert toy.main('run', 'toy', '--policies', 'mixup') == 0
    assert [call[:3] for call in toy.calls()] == [['mixup', 0, True]]
    assert {row['seed']: row['top1_last'] for row in read_rows(toy.results)} == {'0': '90.0', '1': '77.0'}
    assert 'collected' in capsys.readouterr().out


def test_a_summary_of_another_length_is_not_collected(toy):
    toy.summary('mixup-20e-seed0', 0, epochs=5)
    toy.main('run', 'toy', '--policies', 'mixup', '--seeds', '0')
    assert read_rows(toy.results)[0]['top1_last'] == '90.0'


def test_a_failure_is_kept_apart(toy, capsys):
    (toy.path / 'fault.txt').write_text('mixup0')
    assert toy.main('run', 'toy') == 1
    assert toy.keys() == [key for key in ALL if key != ('mixup', 0)], 'the others go on'
    apart = toy.work / 'failures/mixup-20e-seed0.txt'
    assert f'failed: mixup, 20 epochs, seed 0 (exit code 3): {apart}' in capsys.readouterr().err
    reason, _, text = apart.read_text().partition('\n')
    assert reason.startswith('exit code 3 (')
    assert str(toy.work / 'mixup-20e-seed0.log') in reason
    assert text.count('boom') == 1
    assert list(apart.parent.iterdir()) == [apart]
    assert toy.main('run', 'toy') == 1
    assert apart.read_text().count('boom') == 1, 'of the last attempt'
    (toy.path / 'fault.txt').unlink()
    assert toy.main('run', 'toy') == 0
    assert toy.keys() == ALL
    assert not apart.exists()


def test_a_trial_stays_out_of_the_results(toy, capsys):
    assert toy.main('run', 'toy', '--epochs', '5', '--seeds', '0') == 0
    assert not toy.results.exists()
    options = toy.calls()[0][4]
    assert options[-3:] == ['train_cfg.max_epochs=5', 'param_scheduler.0.T_max=5', 'train_cfg.val_begin=1']
    toy.main('report', 'toy', '--epochs', '5')
    assert 'A trial of 5 epochs' in capsys.readouterr().out
    assert toy.main('run', 'toy', '--epochs', '20', '--seeds', '0') == 0
    assert toy.keys() == [('mixup', 0), ('vanilla', 0)], 'the length of the recipe is the recipe'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_children(toy, number):
    (toy.path / 'fault.txt').write_text('sleep')
    code = (  # a shell that starts the tests in the background lets them ignore SIGINT
        'import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        'from openmixup.cli.benchmark import main; sys.exit(main(sys.argv[2:], sys.argv[1].split()))'
    )
    args = ['run', 'toy', '--jobs', '2', *toy.folders, f'--work-dir={toy.path}/work']
    process = subprocess.Popen([sys.executable, '-c', code, ' '.join(toy.trainer), *args], cwd=ROOT)
    until(lambda: len(list(toy.work.rglob('*.pth'))) == 2)
    assert trained_elsewhere(toy.planned(policies=['mixup'], seeds=[0])[0])
    process.send_signal(number)
    assert process.wait(LONG) == 130
    (toy.path / 'fault.txt').unlink()
    before = len(toy.calls())
    assert toy.main('run', 'toy', '--seeds', '0') == 0, 'the locks are free again'
    assert [call[2] for call in toy.calls()[before:]] == [True, True]


def test_report_by_hand(toy):
    for policy, values in {'vanilla': (88.0, 90.0), 'mixup': (91.0,)}.items():
        for seed, value in enumerate(values):
            append_row(toy.results, result_row(policy, seed, value))
    table = load_table('toy', toy.path / 'benchmarks')
    lines = report(table, read_rows(toy.results), toy.path / 'configs').splitlines()
    # the sample standard deviation of 88 and 90 is sqrt(2); the gain is that of seed 0, 91 - 88 = 3
    assert lines[-7].startswith('| mixup | 20 | 1 of 2 | 91.00 | – | – | +3.00 | – | 90.50 [1] | +0.50 |')
    assert lines[-6] == '| vanilla | 20 | 2 | 89.00 ± 1.41 | – | – | reference | – | – | – | – | – | – | a, "b" c | – |'
    assert lines[-1] == '[1] Claimed by others, not measured here: a page.  '
    empty = report(table, [], toy.path / 'configs')
    assert empty.count('not run') == 6


def test_notes_stand_below_the_rows(toy):
    file, notes = toy.path / 'benchmarks/toy.py', "notes = dict(mixup='Half of each picture is of another.')\n"
    file.write_text(TABLE + notes)
    lines = report(toy.table(), [], toy.path / 'configs').splitlines()
    assert lines[-3:] == [
        '[1] Claimed by others, not measured here: a page.  ',
        '',
        '- mixup: Half of each picture is of another.',
    ]
    file.write_text(TABLE + notes.replace('mixup', 'mixap'))
    with pytest.raises(InputError, match=r"notes names 'mixap'.* did you mean 'mixup'"):
        toy.table()


def test_a_collected_run_leaves_its_curve_beside_its_row(toy, capsys):
    toy.summary('mixup-20e-seed1', 1)
    history = [{'epoch': 1, 'loss': 2.5}, {'epoch': 20, 'loss': 0.5, 'val/top1': 77.0}]
    (toy.work / 'mixup-20e-seed1/history.json').write_text(json.dumps(history))
    assert toy.main('run', 'toy', '--policies', 'mixup') == 0
    (curve,) = read_curves(toy.results.parent / 'curves/toy.jsonl')
    assert curve['seed'] == 1
    assert curve['config_hash'] == toy.hashes['mixup-20']
    assert (curve['loss'], curve['top1']) == ([[1, 20], [2.5, 0.5]], [[20], [77.0]])
    shutil.rmtree(toy.work)
    capsys.readouterr()
    files = [toy.path / 'out/page.html', toy.path / 'out/table.md']
    assert toy.main('report', 'toy', f'--html={files[0]}', f'--markdown={files[1]}', '--costs=none.json') == 0
    assert capsys.readouterr().out == f'written: {files[1]}\nwritten: {files[0]}\n'
    assert '"loss":{"n":1,"epoch":[1,20],"mean":[2.5,0.5],' in files[0].read_text(encoding='utf-8')
    assert toy.main('report', 'toy', '--costs=none.json') == 0
    assert capsys.readouterr().out == files[1].read_text(encoding='utf-8')


def test_several_tables_are_ranked_and_named_once(toy, capsys):
    recipe = toy.path / 'configs/toy/resnet8_1xb8-20e_digits.py'
    recipe.write_text(RECIPE.replace('batch_size=4', 'batch_size=8'))
    (toy.path / 'benchmarks/other.py').write_text(TABLE.replace('1xb4', '1xb8'))
    toy.write_leaves()
    for name in ('toy', 'other'):
        for policy, top1 in {'vanilla': 88.0, 'mixup': 91.0}.items():
            append_row(toy.results.with_name(f'{name}.csv'), result_row(policy, 0, top1) | {'table': name})
    capsys.readouterr()
    assert toy.main('report', 'toy', 'other', 'toy') == 0
    said = capsys.readouterr().out
    assert said.count('### ') == 3
    assert '| mixup | 1.00 | 1 | 1 |' in said


def test_report_warns_of_mixed_configs(toy):
    for seed, text in enumerate(('aaa', 'bbb')):
        append_row(toy.results, result_row(seed=seed) | {'config_hash': text, 'settings_version': ''})
    text = report(load_table('toy', toy.path / 'benchmarks'), read_rows(toy.results), toy.path / 'configs')
    assert 'the seeds of vanilla, 20 epochs, had different configs (aaa, bbb)' in text


def test_mistakes_in_a_table(toy):
    with pytest.raises(InputError, match="did you mean 'toy'"):
        load_table('toi', toy.path / 'benchmarks')
    with pytest.raises(InputError, match="no policy 'mixip'; did you mean 'mixup'"):
        toy.main('run', 'toy', '--policies', 'mixip')
    file = toy.path / 'benchmarks/bad.py'
    file.write_text(TABLE.replace("vanilla=dict(type='Vanilla')", "vanilla=dict(type='CutMix')"))
    with pytest.raises(InputError, match='name it after its type'):
        load_table(file)
    file.write_text(TABLE + "published_score = 'median'\n")
    with pytest.raises(InputError, match="published_score='median'; did you mean 'median10'"):
        load_table(file)
    file.write_text(TABLE.replace('20e', '{epochs}e') + 'vary = dict(epochs=())\n')
    with pytest.raises(InputError, match=r'vary=.*give different whole numbers of epochs'):
        load_table(file)
    file.write_text(TABLE + 'seed = 3\n')
    with pytest.raises(InputError, match="sets 'seed'; did you mean 'seeds'"):
        load_table(file)


def test_help_needs_no_torch():
    code = (
        'import sys\nfrom openmixup.cli import benchmark, make_configs\n'
        'for tool in (benchmark, make_configs):\n'
        '    try: tool.main(["--help"])\n'
        '    except SystemExit: pass\n'
        'sys.exit("torch" in sys.modules)'
    )
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    assert subprocess.run([sys.executable, '-c', code], env=environment, stdout=subprocess.DEVNULL).returncode == 0


def test_the_hash_is_that_of_the_trainer(toy, monkeypatch):
    class Built(Exception):
        pass

    def build(config):
        raise Built(config_hash(config))

    monkeypatch.setattr('openmixup.engine.launch.build_runner', build)
    for epochs in (None, 5):
        for run in toy.planned(epochs=epochs):
            with pytest.raises(Built, match=f'^{run.config_hash}$'):
                train.main(run.command([]))


def test_rows_of_another_config_are_trained_anew_and_left_out(toy):
    toy.main('run', 'toy')
    toy.change_alpha()
    text = report(toy.table(), read_rows(toy.results), toy.path / 'configs')
    assert '| mixup | 20 | 0 | not run |' in text
    assert '| vanilla | 20 | 2 |' in text
    assert text.count('2 rows of another config are left out.') == 1
    missing = missing_runs(toy.table(), toy.results, toy.path / 'work', toy.path / 'configs')
    assert [run.key for run in missing] == [('mixup', 20, 0), ('mixup', 20, 1)]
    before = len(toy.calls())
    assert toy.main('run', 'toy') == 0
    assert [call[:3] for call in toy.calls()[before:]] == [['mixup', 0, False], ['mixup', 1, False]]
    assert len(read_rows(toy.results)) == 6
    assert '| mixup | 20 | 2 | 90.50' in report(toy.table(), read_rows(toy.results), toy.path / 'configs')
    assert toy.main('run', 'toy') == 0
    assert len(read_rows(toy.results)) == 6


def test_what_another_config_left_is_neither_collected_nor_continued(toy):
    toy.checkpoint('mixup-20e-seed0')
    toy.summary('mixup-20e-seed1', 1)
    toy.change_alpha()
    assert toy.main('run', 'toy', '--policies', 'mixup') == 0
    assert [call[:3] for call in toy.calls()] == [['mixup', 0, False], ['mixup', 1, False]]
    assert [row['top1_last'] for row in read_rows(toy.results)] == ['90.0', '91.0']


def test_leaves_lie_with_their_recipes(toy, tmp_path, monkeypatch, capsys):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert make_configs.main(toy.folders) == 0
    assert not list(elsewhere.iterdir())
    assert make_configs.main([*toy.folders, '--check']) == 0


def test_report_names_the_recipes_of_all_lengths(toy):
    (toy.path / 'benchmarks/toy.py').write_text(TABLE.replace('20e', '{epochs}e') + 'vary = dict(epochs=(20, 40))\n')
    recipe = toy.path / 'configs/toy/resnet8_1xb4-40e_digits.py'
    recipe.write_text(RECIPE.replace('max_epochs=20', 'max_epochs=40'))
    text = report(toy.table(), [], toy.path / 'configs')
    assert 'Recipes `configs/toy/resnet8_1xb4-20e_digits.py`, `configs/toy/resnet8_1xb4-40e_digits.py`, seeds' in text
    assert '{' not in text


def test_data_and_gpus_reach_the_trainer(toy, monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert toy.main('run', 'toy', '--data', 'there', '--gpus', '2', '--seeds', '0') == 0
    assert toy.main('run', 'toy', '--seeds', '1', '--epochs', '5', '--data', 'there') == 0
    assert all(call[4][call[4].index('--data') + 1] == 'there' for call in toy.calls())
    assert [call[5] for call in toy.calls()] == ['0', '1', None, None]
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5,7')
    assert toy.main('run', 'toy', '--gpus', '2', '--seeds', '1') == 0
    assert [call[5] for call in toy.calls()[4:]] == ['5', '7']
    with pytest.raises(InputError, match="3 GPUs are asked for, but CUDA_VISIBLE_DEVICES='5,7' has 2"):
        toy.main('run', 'toy', '--gpus', '3')


@pytest.mark.parametrize(
    ('options', 'shared'),
    [
        (['--jobs', '1'], None), (['--jobs', '4'], '1'), (['--jobs', '4', '--gpus', '4'], None),
        (['--jobs', '4', '--gpus', '3'], '1'), (['--jobs', '4', '--gpus', '1', '--seeds', '0'], '1'),
        (['--jobs', '4', '--gpus', '1', '--seeds', '0', '--policies', 'mixup'], None),
    ],
)  # fmt: skip
def test_runs_that_may_meet_on_a_gpu_are_told(toy, monkeypatch, options, shared):
    """4 runs, or 2 with one seed, or 1: on fewer GPUs than go on at once, or on any without a choice."""
    for name in ('CUDA_VISIBLE_DEVICES', 'OPENMIXUP_SHARED_GPUS'):
        monkeypatch.delenv(name, raising=False)
    assert toy.main('run', 'toy', *options) == 0
    assert {call[6] for call in toy.calls()} == {shared}
    assert {row['energy_wh'] for row in read_rows(toy.results)} <= {'1.5', '2.5'}


def test_a_recipe_for_several_processes_is_run_by_as_many(toy, monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    recipes = toy.path / 'configs/toy'
    (recipes / 'resnet8_1xb4-20e_digits.py').rename(recipes / 'resnet8_2xb4-20e_digits.py')
    for leaf in recipes.glob('*_1xb4*'):
        leaf.unlink()
    table = toy.path / 'benchmarks/toy.py'
    table.write_text(table.read_text().replace('1xb4', '2xb4'))
    toy.write_leaves()
    runs = toy.planned(policies=['mixup'], seeds=[0])
    assert [run.processes for run in runs] == [2]
    command = runs[0].command([sys.executable, '-m', 'openmixup', 'train'])
    assert command[1:7] == ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', '-m', 'openmixup']
    assert command[-2:] == ['--launcher', 'pytorch']
    with pytest.raises(InputError, match=r'2xb4-.* is a recipe for 2 processes, .* but --gpus is 1: give it 2'):
        toy.main('run', 'toy', '--gpus', '1')
    assert toy.main('run', 'toy', '--gpus', '3', '--seeds', '0', '--policies', 'mixup') == 0
    assert toy.keys() == [('mixup', 0)]
    assert [call[5] for call in toy.calls()] == ['0,1', '0,1']  # one of each process


def test_a_signal_just_after_the_start_leaves_no_orphan(toy, monkeypatch):
    (toy.path / 'fault.txt').write_text('sleep')
    started = []
    popen = subprocess.Popen

    def start(*args, **options):
        started.append(popen(*args, **options))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[0]

    monkeypatch.setattr(subprocess, 'Popen', start)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert toy.main('run', 'toy') == 130
        (child,) = started
        assert child.poll() == -signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)
        for child in started:
            child.kill()


def test_a_second_signal_does_not_spare_a_deaf_run(toy):
    (toy.path / 'fault.txt').write_text('deaf')

    def signals():
        until((toy.path / 'pid.txt').exists)
        for _ in range(4):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)

    sweep = Sweep(toy.planned(), toy.results, 1, toy.trainer, patience=2)
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    thread = threading.Thread(target=signals)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep.run()
    finally:
        thread.join(LONG)
        signal.signal(signal.SIGTERM, before)
    assert ended(int((toy.path / 'pid.txt').read_text()))


@pytest.mark.parametrize('epochs', [1, 2, 20])
@pytest.mark.parametrize(
    'recipe',
    [
        'digits/resnet8_1xb50-30e_digits.py',
        'tiny_imagenet/resnet18_1xb100-momentum-400e_tiny_imagenet.py',  # two parts
        'cifar100/deit-small-patch16-224_1xb100-200e_cifar100.py',  # warm-up, then a cosine
    ],
)
def test_a_trial_shortens_all_schedules_of_a_recipe(recipe, epochs):
    """No cosine goes on behind the end of the trial, or ends long before it, and the warm-up keeps its share."""
    config = load_config(recipe, _trial_options(ROOT / 'configs' / recipe, epochs))
    assert config.train_cfg.max_epochs == epochs
    for entry in config.param_scheduler:
        assert 0 <= entry.get('begin', 0) < entry.get('end', epochs + 1)
        if entry.type == 'CosineAnnealingLR':
            assert abs(entry.get('begin', 0) + entry.T_max - epochs) <= (1 if epochs == 1 else 0)
        else:
            assert entry.end == max(1, round(0.1 * epochs))
