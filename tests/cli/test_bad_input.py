"""A user's mistake ends in one sentence with the value, what was expected and the remedy; exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from openmixup.cli import run
from tests.cli.conftest import DIGITS, jpeg, mistake

ROOT = Path(__file__).parents[2]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / 'images'
    for part in ('train', 'val'):
        for label in ('cat', 'dog'):
            for i in range(4):
                jpeg(root / part / label / f'{i}.jpg')
    return root


def small(tmp_path: Path) -> list[str]:
    options = [
        'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0',
        'train_cfg.max_epochs=1', 'model.backbone.model=resnet10t', 'model.backbone.stem=default',
    ]  # fmt: skip
    return ['--work-dir', str(tmp_path / 'work'), '--cfg-options', *options]


def folder_config() -> str:
    return str(next((ROOT / 'configs' / 'folder').glob('*_vanilla_*.py')))


def test_a_missing_config(capsys):
    assert 'did you mean' in mistake(capsys, 'train', 'digits/resnet8_mixup_1xb50-30e_digitz.py')


def test_a_config_with_a_syntax_error(capsys, tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text('model = dict(type=')
    assert 'broken.py cannot be read' in mistake(capsys, 'train', path)


def test_a_config_with_a_missing_base(capsys, tmp_path):
    path = tmp_path / 'lost.py'
    path.write_text("_base_ = './nowhere.py'")
    assert 'nowhere.py' in mistake(capsys, 'train', path)


@pytest.mark.parametrize(
    ('option', 'expected'),
    [
        ('model.policy.alhpa=0.2', "no key 'alhpa'; did you mean 'alpha'?"),
        ('modell.policy.alpha=0.2', "no 'modell' to change; did you mean 'model'?"),
        ('optim_wrapper.optimizer.type=SDG', "type='SDG' is not a registered"),
        ('model.policy.type=CutMixx', "did you mean 'CutMix'?"),
        ('train_cfg.max_epochs=0', 'max_epochs=0: expected a whole number'),
        ('model.policy.alpha=-1', 'alpha=-1'),
        ('model.head.num_classes=7', 'num_classes=7, but the data has 10 classes'),
        ('data_preprocessor.mean=(0.3,0.3,0.3)', 'mean'),
        ('nonsense', 'expected key=value'),
        ('model.backbone.net=x', 'it takes depth, in_channels, width'),
        ('optim_wrapper.optimizer.lr=-1', 'optim_wrapper cannot be built: Invalid learning rate: -1'),
        ('model.policy=CutMix', "write {'type': 'CutMix'} or use --policy CutMix"),
        ('model.head=None', 'the model has no head'),
        ('model.backbone=None', 'the model has no backbone'),
        ('model.backbone=resnet', 'as dict(type=..., ...)'),
        ('optim_wrapper=None', 'train_dataloader and train_cfg without optim_wrapper'),
        ('train_cfg=None', 'without train_cfg'),
        ('val_cfg=None', 'val_dataloader and val_evaluator without val_cfg'),
        ('optim_wrapper.optimizer=None', 'optim_wrapper has no optimizer'),
        ('optim_wrapper.paramwise_cfg={"norm_decay": 0}', "did you mean 'norm_decay_mult'?"),
        ('optim_wrapper.paramwise_cfg={"custom_keys": {"head": {"lr": 2}}}', "unknown key 'lr'"),
        ('optim_wrapper.clip_grad={"maxnorm": 5}', "did you mean 'max_norm'?"),
        ('optim_wrapper.clip_grad={"type": "norm"}', 'has no limit'),
        ('optim_wrapper.clip_grad=5', 'optim_wrapper.clip_grad=5: expected a dict'),
        ('param_scheduler.-5.T_max=3', "there is no '-5' to change"),
        ('param_scheduler.--1.T_max=3', "there is no '--1' to change"),
        ('param_scheduler=[{"type": "StepLR"}]', 'step_size'),
        ('default_hooks.summary=SummaryHook', "write {'type': 'SummaryHook'}"),
        ('default_hooks=SummaryHook', "default_hooks='SummaryHook': expected a dict"),
        ('env_cfg={"benchmark": True}', "env_cfg has an unknown key 'benchmark'; did you mean 'cudnn_benchmark'?"),
        ('randomness.seed=-1', 'randomness.seed=-1: expected a whole number from 0'),
        ('randomness.seed=1.5', 'randomness.seed=1.5: expected a whole number from 0'),
        ('train_dataloader.batch_size=2.5', 'train_dataloader.batch_size=2.5: expected a whole number of at least 1'),
        ('train_dataloader.num_workers=two', "train_dataloader.num_workers='two': expected a whole number"),
        ('train_dataloader.dataset=Digits', "write {'type': 'Digits'}"),
        ('model.backbone.depth=deep', 'CifarResNet'),
    ],
)
def test_a_wrong_option(capsys, tmp_path, option, expected):
    assert expected in mistake(capsys, 'train', DIGITS, '--work-dir', tmp_path / 'work', '--cfg-options', option)


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('optimiser = dict(lr=1)', "unknown key 'optimiser'"),
        ('train_dataloader = dict(batchsize=3)', "unknown key 'batchsize'; did you mean 'batch_size'?"),
        ('model = dict(backbone=dict(dephth=20))', "no argument 'dephth'; did you mean 'depth'?"),
        ("model = dict(policy=dict(_delete_=True, type='CutMix', alhpa=1))", "no argument 'alhpa'"),
        ("default_hooks = dict(log=dict(type='LogHook', intervall=3))", "no argument 'intervall'"),
        ('randomness = dict(sed=3)', "randomness has an unknown key 'sed'"),
    ],
)
def test_a_typo_in_a_config(capsys, tmp_path, line, expected):
    path = tmp_path / 'typo.py'
    path.write_text(f"_base_ = '{ROOT}/configs/{DIGITS}'\n{line}\n")
    assert expected in mistake(capsys, 'train', path, '--work-dir', tmp_path / 'work')


def test_an_object_given_by_its_name_in_a_config(capsys, tmp_path):
    path = tmp_path / 'named.py'
    path.write_text(f"_base_ = '{ROOT}/configs/{DIGITS}'\ncustom_hooks = ['SummaryHook']\n")
    assert "write {'type': 'SummaryHook'}" in mistake(capsys, 'train', path, '--work-dir', tmp_path / 'work')


@pytest.mark.parametrize(
    ('name', 'argv'),
    [('train', (DIGITS, '--seed', '-1')), ('predict', (DIGITS, 'c.pth', 'a.png', '--batch-size', '0'))],
)
def test_an_argument_out_of_range(capsys, name, argv):
    with pytest.raises(SystemExit) as ended:
        run(name, argv)
    assert ended.value.code == 2
    assert 'expected a whole number of at least' in capsys.readouterr().err


def test_a_config_without_a_model_and_a_policy_or_data(capsys, tmp_path):
    path = tmp_path / 'empty.py'
    path.write_text('train_dataloader = None\n')
    error = mistake(capsys, 'train', path, '--policy', 'CutMix', '--data', tmp_path)
    assert 'the config has no model' in error


def test_a_config_with_nothing_to_train(capsys, tmp_path):
    options = [f'{name}=None' for name in ('train_dataloader', 'train_cfg', 'optim_wrapper')]
    assert 'nothing to train' in mistake(capsys, 'train', DIGITS, '--amp', '--cfg-options', *options)


def test_an_unknown_policy(capsys):
    assert "did you mean 'CutMix'?" in mistake(capsys, 'train', DIGITS, '--policy', 'CutMux')


def test_a_missing_folder(capsys, tmp_path):
    argv = ['train', folder_config(), '--data', tmp_path / 'nowhere', *small(tmp_path)]
    assert 'nowhere' in mistake(capsys, *argv)


def test_an_empty_class_folder(capsys, tmp_path, images):
    (images / 'train' / 'empty').mkdir()
    assert 'empty' in mistake(capsys, 'train', folder_config(), '--data', images, *small(tmp_path))


def test_an_unreadable_image_in_validation(capsys, tmp_path, images):
    (images / 'val' / 'cat' / '2.jpg').write_bytes(b'\xff\xd8 this is no picture')
    error = mistake(capsys, 'train', folder_config(), '--data', images, *small(tmp_path))
    assert str(images / 'val' / 'cat' / '2.jpg') in error


def test_more_unreadable_images_in_training_than_allowed(capsys, tmp_path, images):
    (images / 'train' / 'cat' / '2.jpg').write_bytes(b'no picture')
    options = [*small(tmp_path), 'train_dataloader.dataset.bad_image_budget=0']
    error = mistake(capsys, 'train', folder_config(), '--data', images, *options)
    assert 'more than bad_image_budget=0 bad images' in error
    assert str(tmp_path / 'work' / 'bad_images.jsonl') in error


def test_a_class_that_only_validation_has(capsys, tmp_path, images):
    jpeg(images / 'val' / 'horse' / '0.jpg')
    assert 'horse' in mistake(capsys, 'train', folder_config(), '--data', images, *small(tmp_path))


def test_a_work_dir_that_is_a_file(capsys, tmp_path):
    (tmp_path / 'work').write_text('')
    assert 'choose another --work-dir' in mistake(capsys, 'train', DIGITS, '--work-dir', tmp_path / 'work')


def test_a_file_that_is_no_config(capsys, tmp_path):
    (tmp_path / 'best.pth').write_text('')
    assert 'expected a file with the suffix .py' in mistake(capsys, 'train', tmp_path / 'best.pth')


def test_a_folder_for_data_that_have_none(capsys):
    assert 'Digits is not read from a folder; leave --data out' in mistake(capsys, 'train', DIGITS, '--data', 'x')
    kinds = [f'{part}_dataloader.dataset.type=ImageFolder' for part in ('train', 'val', 'test')]
    assert 'leave --data out' not in mistake(capsys, 'train', DIGITS, '--data', 'x', '--cfg-options', *kinds)


def test_keys_of_a_section_without_a_type_are_not_said_to_be_all(capsys):
    error = mistake(capsys, 'train', DIGITS, '--cfg-options', 'randomness.deterministic=True')
    assert error.endswith("has no key 'deterministic'.")


def test_a_module_of_a_config_that_is_elsewhere(capsys, tmp_path):
    (tmp_path / 'own.py').write_text("_base_ = []\ncustom_imports = dict(imports=['no_such_band'])\n")
    error = mistake(capsys, 'train', tmp_path / 'own.py')
    assert "No module named 'no_such_band'); run this in the folder of the module, or install it" in error
    assert 'sys.path' not in error


def test_a_module_of_a_config_that_refuses_by_itself(capsys, tmp_path, monkeypatch):
    (tmp_path / 'fussy.py').write_text(
        "try:\n    {}['key']\nexcept KeyError:\n    raise ImportError('this plug-in needs numpy 9')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'own.py').write_text("_base_ = []\ncustom_imports = dict(imports=['fussy'])\n")
    assert '(ImportError: this plug-in needs numpy 9).' in mistake(capsys, 'train', tmp_path / 'own.py')


@pytest.mark.parametrize(
    ('script', 'before'), [('dist_train', ['config.py']), ('dist_test', ['config.py', 'best.pth'])]
)
def test_what_is_no_number_of_processes(script, before):
    command = ['bash', ROOT / f'tools/{script}.sh', *before, 'two']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "GPUS is 'two': expected a number of processes" in done.stderr


def test_an_unknown_command(capsys):
    from openmixup.cli import main

    with pytest.raises(SystemExit) as ended:
        main(['trian'])
    assert ended.value.code == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize('name', sorted(path.stem for path in (ROOT / 'openmixup' / 'cli').glob('[!_]*.py')))
def test_help_imports_nothing_heavy(name, tmp_path):
    """--help must answer at once: torch alone takes over a second to import."""
    for package in ('torch', 'mmengine', 'timm', 'torchvision', 'numpy', 'cv2'):
        (tmp_path / f'{package}.py').write_text("raise ImportError('too heavy for --help')")
    code = (
        f'import sys; sys.path.insert(0, {str(tmp_path)!r}); from openmixup.cli import run; run({name!r}, ["--help"])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'usage' in done.stdout


def test_a_path_with_a_type_is_never_imported(capsys, tmp_path):
    """mmengine would import any dotted name; ``type='os.system'`` must be refused."""
    path = tmp_path / 'evil.py'
    path.write_text(f"_base_ = '{ROOT}/configs/{DIGITS}'\nmodel = dict(loss=dict(_delete_=True, type='os.system'))\n")
    assert "type='os.system' is not a registered" in mistake(capsys, 'train', path, '--work-dir', tmp_path / 'work')
