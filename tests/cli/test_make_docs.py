import os
import subprocess
import sys
from pathlib import Path

import pytest

from openmixup.benchmark import append_row, row_of
from openmixup.cli.make_docs import main, policies_page
from openmixup.policies import MaskPolicy
from openmixup.registry import POLICIES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    """A project of one table, with the real recipes."""
    (tmp_path / 'benchmarks').mkdir()
    text = (ROOT / 'benchmarks/digits.py').read_text()
    for name in ('digits', 'other'):
        (tmp_path / f'benchmarks/{name}.py').write_text(text)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    return tmp_path


def make(root, *arguments):
    return main(['--root', str(root), *arguments])


def test_check_names_what_is_missing_and_what_is_stale(root, capsys):
    assert make(root, '--check') == 1
    assert capsys.readouterr().out.count('missing: ') == 2
    assert not (root / 'docs').exists(), 'a check writes nothing'
    assert make(root) == 0
    assert make(root, '--check') == 0
    page = root / 'docs/policies.md'
    page.write_text(page.read_text() + 'by hand')
    capsys.readouterr()
    assert make(root, '--check') == 1
    assert capsys.readouterr().out == f'stale: {page} (make docs writes it)\n'


def test_results_make_the_benchmarks_page_stale(root, capsys):
    make(root)
    page = root / 'docs/benchmarks.md'
    assert '- `benchmarks/digits.py`: not run.' in page.read_text()
    row = row_of({'last': {'top1': 87.25}, 'hardware': 'CPU'}, 'digits', 'mixup', 0, 30)
    append_row(root / 'benchmarks/results/digits.csv', row)
    capsys.readouterr()
    assert make(root, '--check') == 1
    assert f'stale: {page}' in capsys.readouterr().out
    make(root)
    text = page.read_text()
    assert '\n## digits\n' in text
    assert '| mixup | 30 | 1 of 3 | 87.25 |' in text
    assert '| vanilla | 30 | 0 | not run |' in text
    assert '- `benchmarks/other.py`: not run.' in text
    assert '`benchmarks/digits.py`: not run' not in text


def test_a_picture_is_shown_only_if_it_is_there_and_small(root, capsys):
    assert '![CutMix]' not in policies_page(root)
    picture = root / 'docs/images/cutmix.png'
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b'x' * 200_001)
    assert '![CutMix](images/cutmix.png)' in policies_page(root)
    assert make(root) == 1
    assert f'too large: {picture}' in capsys.readouterr().out


def test_each_policy_of_the_package_has_a_line_and_no_other(root):
    @POLICIES.register_module()
    class OfAUser(MaskPolicy):
        """Not ours."""

    try:
        text = policies_page(root)
    finally:
        del POLICIES.module_dict['OfAUser']
    for name, cls in POLICIES.module_dict.items():
        if cls.__module__.startswith('openmixup.'):
            assert f'\n| `{name}` | ' in text
            assert cls.paper in text
    assert 'OfAUser' not in text
    assert '`alpha=1.0`' in text


def test_the_committed_page_of_policies_is_current():
    # That of the benchmarks is left to `make lint`: rows may come in while a table is running.
    assert (ROOT / 'docs/policies.md').read_text() == policies_page(ROOT)


def test_help_comes_without_torch():
    code = (
        'import sys\nfrom openmixup.cli.make_docs import main\n'
        'try: main(["--help"])\n'
        'except SystemExit: pass\n'
        'sys.exit("torch" in sys.modules)'
    )
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    assert subprocess.run([sys.executable, '-c', code], env=environment, stdout=subprocess.DEVNULL).returncode == 0
