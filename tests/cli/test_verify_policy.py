import sys

import cv2
import pytest

from openmixup.cli import verify_policy
from openmixup.errors import InputError
from openmixup.testing import CHECKS

MODULE = '''
import torch
from openmixup.policies import Mixup, Mixture, View


class Good(Mixup):
    """Mixup by another name."""


class Wrong(Mixup):
    """The labels are mixed the other way round."""

    def view(self, batch, partner, lam, ctx):
        view = super().view(batch, partner, lam, ctx)
        return View(view.inputs, Mixture(view.mixture.index, view.mixture.weight.flip(1)), view.lazy_masks)


class Broken(Mixup):
    """It stops."""

    def view(self, batch, partner, lam, ctx):
        raise KeyError('lost')


NOTHING = 1
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    (tmp_path / 'my_policies.py').write_text(MODULE)
    yield tmp_path
    sys.modules.pop('my_policies', None)


@pytest.fixture
def few_checks(monkeypatch):
    """The tool's own work is tested here, and the checks elsewhere."""
    for name in set(CHECKS) - {'label_equals_pixels', 'weights_are_sound'}:
        monkeypatch.delitem(CHECKS, name)


def test_all_checks_pass_and_the_picture_is_drawn(place, capsys):
    assert verify_policy.main(['my_policies:Good', '--args', 'alpha=0.3', 'per=sample']) == 0
    printed = capsys.readouterr().out
    assert 'ok   label_equals_pixels' in printed
    assert 'OFF' not in printed
    assert "Good(alpha=0.3, per='sample', pairing='permutation'): all" in printed
    assert cv2.imread(str(place / 'verify.png')).shape == (8 * 130, 4 * 102, 3)


@pytest.mark.usefixtures('few_checks')
def test_what_is_off_is_named_and_the_exit_code_is_one(place, capsys):
    assert verify_policy.main(['my_policies:Wrong', '--out', 'new/wrong.png']) == 1
    printed = capsys.readouterr().out
    assert 'OFF  label_equals_pixels: label and pixels differ by' in printed
    assert 'ok   weights_are_sound' in printed
    assert '1 of 2 checks are off' in printed
    assert (place / 'new' / 'wrong.png').exists()


@pytest.mark.usefixtures('few_checks', 'place')
def test_a_policy_that_breaks_is_off_too(capsys):
    assert verify_policy.main(['my_policies:Broken']) == 1
    printed = capsys.readouterr().out
    assert "it stopped with KeyError: 'lost'" in printed
    assert 'no picture' in printed


@pytest.mark.usefixtures('few_checks', 'place')
def test_a_registered_name_will_do(capsys):
    assert verify_policy.main(['CutMix', '--args', 'alpha=2']) == 0
    assert 'CutMix(alpha=2' in capsys.readouterr().out


@pytest.mark.usefixtures('place')
@pytest.mark.parametrize(('argv', 'match'), [
    (['CutMax'], "did you mean 'CutMix'.*MODULE:CLASS"),
    (['my_policie:Good'], "no module 'my_policie'"),
    (['my_policies.deeper:Good'], "no module 'my_policies.deeper'"),
    (['my_policies:Goood'], "did you mean 'Good'"),
    (['my_policies:'], 'lacks a part'),
    (['my_policies:NOTHING'], 'no mixing policy'),
    (['my_policies:Good', '--args', 'alpha'], 'NAME=VALUE'),
    (['my_policies:Good', '--args', 'beta=1'], 'beta'),
    (['my_policies:Good', '--args', 'alpha=-1'], 'alpha=-1'),
    (['CutMix', '--args', 'beta=1'], "no argument 'beta'"),
])  # fmt: skip
def test_mistakes_are_one_sentence(argv, match):
    with pytest.raises(InputError, match=match) as error:
        verify_policy.main(argv)
    assert '\n' not in str(error.value)


def test_a_missing_import_of_the_module_is_not_blamed_on_its_name(place):
    (place / 'needs_more.py').write_text('import surely_not_installed')
    with pytest.raises(ModuleNotFoundError, match='surely_not_installed'):
        verify_policy.main(['needs_more:Policy'])
