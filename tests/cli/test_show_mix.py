import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import openmixup.policies  # noqa: F401  (registers them)
from openmixup.cli.show_mix import main
from openmixup.errors import InputError
from openmixup.registry import POLICIES

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.mark.parametrize('tool', ['show_mix', 'verify_policy'])
def test_help_comes_without_torch(tool, tmp_path):
    for heavy in ('torch', 'numpy', 'mmengine', 'cv2', 'sklearn'):
        (tmp_path / f'{heavy}.py').write_text('raise RuntimeError("imported for --help")')
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), str(TOOLS.parent)])}
    done = subprocess.run([sys.executable, TOOLS / f'{tool}.py', '--help'], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'usage:' in done.stdout


def test_one_group_per_policy_and_one_row_per_lam(tmp_path, capsys):
    out = tmp_path / 'mix.png'
    main(['Mixup', 'CutMix', 'Vanilla', '--out', str(out), '--lam', '0.2', '0.8', '--size', '96'])
    assert str(out) in capsys.readouterr().out
    picture = cv2.imread(str(out))
    row, title, line = 96 + 28 + 6, 20, 14  # the arguments of CutMix take a second line
    assert picture.shape == (
        3 * title + line + 5 * row,
        4 * 102,
        3,
    )  # nothing changes in the rows of Vanilla: one is enough
    masks = picture[:, 2 * 102 + 3 : 3 * 102 - 3, 0]
    first, second = masks[title + 28 + 48, 48], masks[title + row + 28 + 48, 48]
    assert (first, second) == (51, 204)  # Mixup at lam 0.2 and 0.8


def test_own_images_are_cut_square_and_shown(tmp_path):
    red, green = np.zeros((40, 60, 3), np.uint8), np.zeros((70, 30, 3), np.uint8)
    red[..., 2], green[..., 1] = 255, 255
    paths = [str(tmp_path / name) for name in ('red.png', 'green.png')]
    for path, image in zip(paths, (red, green), strict=True):
        cv2.imwrite(path, image)
    out = tmp_path / 'mix.png'
    main(['Mixup', '--image', *paths, '--out', str(out), '--lam', '0.5', '--size', '96'])
    middle = 20 + 28 + 48
    picture = cv2.imread(str(out))
    assert picture[middle, 48].tolist() == [0, 0, 255]
    assert picture[middle, 102 + 48].tolist() == [0, 255, 0]
    assert picture[middle, 3 * 102 + 48].tolist() == [0, 128, 128]


def test_the_policy_of_a_config(tmp_path):
    config = tmp_path / 'config.py'
    member = "dict(type='Mixup', alpha=0.2)"
    policy = f"dict(type='RandomChoice', policies=[{member}])"
    config.write_text(f"model = dict(type='MixClassifier', policy={policy})")
    main([str(config), '--out', str(tmp_path / 'mix.png'), '--size', '32'])
    assert (tmp_path / 'mix.png').exists()
    config.write_text("model = dict(type='MixClassifier')")
    with pytest.raises(InputError, match=r'no model\.policy'):
        main([str(config)])


@pytest.mark.parametrize('missing', ['head', 'data_preprocessor', 'backbone'])
def test_what_a_network_to_look_at_needs_is_named(tmp_path, missing):
    import torch

    parts = {
        'backbone': "backbone=dict(type='CifarResNet')",
        'head': "head=dict(type='LinearHead', num_classes=2)",
    }
    text = ', '.join(value for name, value in parts.items() if name != missing)
    lines = [f"model = dict(type='MixClassifier', {text}, policy=dict(type='ManifoldMix'))"]
    if missing != 'data_preprocessor':
        lines.append("data_preprocessor = dict(type='BatchPreprocessor', mean=(0.5,) * 3, std=(0.2,) * 3)")
    config = tmp_path / 'config.py'
    config.write_text('\n'.join(lines))
    picture, weights = tmp_path / 'mix.png', tmp_path / 'weights.pth'
    torch.save({'state_dict': {}, 'meta': {'image_shape': [3, 32, 32], 'classes': ['a', 'b']}}, weights)
    if missing == 'backbone':  # a small network stands in
        main([str(config), '--out', str(picture), '--size', '32'])
        assert picture.exists()
    else:
        with pytest.raises(InputError, match=f'has a backbone but no {missing}: add it, or leave the backbone out'):
            main([str(config), '--out', str(picture), '--size', '32'])
    with pytest.raises(InputError, match=f'the config has no .*{missing}: use the config that the model was trained'):
        main([str(config), '--out', str(picture), '--checkpoint', str(weights)])


@pytest.mark.parametrize(('argv', 'match'), [
    (['CutMax'], "did you mean 'CutMix'"),
    (['nowhere.py'], 'no such file'),
    (['Mixup', '--lam', '1.5'], 'from 0 to 1'),
    (['Mixup', '--size', '0'], 'at least one pixel'),
    (['Mixup', '--image', 'a.jpg', 'b.jpg'], r'a\.jpg'),
    (['Mixup', '--out', 'mix.gif'], r'\.png'),
])  # fmt: skip
def test_mistakes_are_one_sentence(argv, match):
    with pytest.raises(InputError, match=match) as error:
        main(argv)
    assert '\n' not in str(error.value)


NAMES = sorted(name for name, cls in POLICIES.module_dict.items() if cls.__module__.startswith('openmixup.'))


@pytest.mark.parametrize('name', NAMES)
def test_every_policy_can_be_shown(name, tmp_path, capsys):
    """Also those that look at a network, which is then an untrained one, and that is said."""
    out = tmp_path / 'mix.png'
    main([name, '--out', str(out), '--lam', '0.4', '--size', '32'])
    assert cv2.imread(str(out)).std() > 0
    looks = {'features', 'attention', 'cam', 'input_grad', 'teacher', 'tap'} & set(POLICIES.build({'type': name}).needs)
    assert ('not trained' in capsys.readouterr().out) == bool(looks)


def test_a_checkpoint_guides_the_policy_of_its_config(tmp_path):
    from openmixup.cli.train import main as train

    config = tmp_path / 'run.py'
    config.write_text(
        """
_base_ = '%s'
model = dict(policy=dict(type='AutoMix'), teacher=dict(decay=0.9))
train_dataloader = dict(dataset=dict(per_class=8))
val_dataloader = dict(dataset=dict(per_class=8))
train_cfg = dict(max_epochs=1)
"""
        % (TOOLS.parent / 'configs/digits/resnet8_1xb50-30e_digits.py')
    )
    train([str(config), '--work-dir', str(tmp_path / 'run')])
    arguments = [str(config), '--lam', '0.4', '--size', '32', '--seed', '1']
    pictures = []
    for name, more in (('plain', []), ('trained', ['--checkpoint', str(tmp_path / 'run' / 'epoch_1.pth')])):
        main([*arguments, *more, '--out', str(tmp_path / f'{name}.png')])
        pictures.append(cv2.imread(str(tmp_path / f'{name}.png')))
    assert pictures[0].shape == pictures[1].shape
    assert not np.array_equal(*pictures)
    with pytest.raises(InputError, match='expected one CONFIG'):
        main([str(config), 'Mixup', '--checkpoint', 'x.pth'])
    with pytest.raises(InputError, match='needs the CONFIG'):
        main(['Mixup', '--checkpoint', 'x.pth'])
