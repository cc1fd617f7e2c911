"""A user's mistake ends in one sentence with the value, what was expected and the remedy; exit code 2, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.cli import run

ROOT = Path(__file__).parents[2]
DIGITS = 'digits/resnet8_mixup_1xb50-30e_digits.py'


def mistake(capsys, name: str, *argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        run(name, [str(argument) for argument in argv])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert '\n' not in error
    assert 'Traceback' not in error
    return error


def jpeg(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


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


def test_a_class_that_only_validation_has(capsys, tmp_path, images):
    jpeg(images / 'val' / 'horse' / '0.jpg')
    assert 'horse' in mistake(capsys, 'train', folder_config(), '--data', images, *small(tmp_path))


def test_a_work_dir_that_is_a_file(capsys, tmp_path):
    (tmp_path / 'work').write_text('')
    assert 'choose another --work-dir' in mistake(capsys, 'train', DIGITS, '--work-dir', tmp_path / 'work')


def test_a_missing_checkpoint(capsys, tmp_path):
    assert 'no such file' in mistake(capsys, 'test', DIGITS, tmp_path / 'no.pth', '--work-dir', tmp_path / 'work')


def test_a_checkpoint_that_holds_objects_is_refused_and_not_run(capsys, tmp_path):
    marker = tmp_path / 'ran'

    class Bomb:
        def __reduce__(self):
            return (open, (str(marker), 'w'))

    path = tmp_path / 'bomb.pth'
    torch.save({'state_dict': Bomb()}, path)
    assert 'never loaded' in mistake(capsys, 'test', DIGITS, path, '--work-dir', tmp_path / 'work')
    assert not marker.exists()


def test_a_checkpoint_of_another_model(capsys, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save({'state_dict': {'weight': torch.zeros(3)}}, path)
    error = mistake(capsys, 'test', DIGITS, path, '--work-dir', tmp_path / 'work')
    assert 'does not fit the model' in error


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
