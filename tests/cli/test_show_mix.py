import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from openmixup.cli.show_mix import main
from openmixup.errors import InputError

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
    row, title = 96 + 28 + 6, 20
    assert picture.shape == (3 * title + 5 * row, 4 * 102, 3)  # nothing changes in the rows of Vanilla: one is enough
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
