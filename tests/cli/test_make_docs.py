import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openmixup.analysis.policy_page import package_policies, policies_page
from openmixup.benchmark import append_row, row_of
from openmixup.cli.make_docs import main, read_costs
from openmixup.errors import InputError
from openmixup.policies import MaskPolicy
from openmixup.registry import POLICIES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    """A project of one table, with the real recipes, costs and pictures."""
    (tmp_path / 'benchmarks').mkdir()
    text = (ROOT / 'benchmarks/digits.py').read_text()
    for name in ('digits', 'other'):
        (tmp_path / f'benchmarks/{name}.py').write_text(text)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    shutil.copytree(ROOT / 'docs/images/policies', tmp_path / 'docs/images/policies')
    shutil.copy(ROOT / 'docs/costs.json', tmp_path / 'docs')
    return tmp_path


def make(root, *arguments):
    return main(['--root', str(root), *arguments])


def page_of(root):
    return policies_page(root, read_costs(root))


def test_check_names_what_is_missing_and_what_is_stale(root, capsys):
    assert make(root, '--check') == 1
    assert capsys.readouterr().out.count('missing: ') == 2
    assert not (root / 'docs/policies.md').exists(), 'a check writes nothing'
    assert make(root) == 0
    assert make(root, '--check') == 0
    page = root / 'docs/policies.md'
    page.write_text(page.read_text() + 'by hand')
    capsys.readouterr()
    assert make(root, '--check') == 1
    assert capsys.readouterr().out == f'stale: {page} (make docs writes it)\n'


def test_results_make_both_pages_stale(root, capsys):
    make(root)
    pages = [root / 'docs/policies.md', root / 'docs/benchmarks.md']
    assert '- `benchmarks/digits.py`: not run.' in pages[1].read_text()
    assert 'Measured here' not in pages[0].read_text()
    row = row_of({'last': {'top1': 87.25}, 'hardware': 'CPU'}, 'digits', 'mixup', 2, 30)
    append_row(root / 'benchmarks/results/digits.csv', row)
    capsys.readouterr()
    assert make(root, '--check') == 1
    assert capsys.readouterr().out.count('stale: ') == 2
    make(root)
    text = pages[1].read_text()
    assert '\n## digits\n' in text
    assert '| mixup | 30 | 1 of 3 | 87.25 |' in text
    assert '| vanilla | 30 | 0 | not run |' in text
    assert '- `benchmarks/other.py`: not run.' in text
    assert '`benchmarks/digits.py`: not run' not in text
    section = pages[0].read_text().split('\n### Mixup\n')[1].split('\n### ')[0]
    assert '| [digits](benchmarks.md#digits) | `alpha=1.0` | 30 | 1 | 2 | 87.25 | – | – |' in section


def test_what_is_missing_is_made_and_the_rest_is_left_alone(root, capsys):
    picture, costs = root / 'docs/images/policies/cutmix.jpg', root / 'docs/costs.json'
    before = costs.read_text()
    left = {**json.loads(before), 'Gone': None}
    left['Mixup'] = None  # as if it could not be counted
    del left['CutMix']
    costs.write_text(json.dumps(left))
    picture.unlink()
    (gone := picture.with_name('gone.jpg')).write_bytes(b'x')
    (kept := picture.with_name('mixup.jpg')).write_bytes(b'not drawn anew')
    make(root, '--check')
    said = capsys.readouterr().out
    assert f'missing: the costs of CutMix in {costs}' in said
    assert f'missing: {picture} (make docs draws it)' in said
    assert 'superfluous: Gone' in said
    assert f'superfluous: {gone}' in said
    assert '![CutMix]' not in page_of(root)
    assert make(root) == 0
    assert picture.is_file()
    assert not gone.exists()
    assert kept.read_bytes() == b'not drawn anew'
    assert json.loads(costs.read_text()) == {**json.loads(before), 'Mixup': None}
    assert '![CutMix](images/policies/cutmix.jpg)' in page_of(root)
    assert '| drawn | not counted | – |' in page_of(root)
    assert make(root, '--check', '--costs', 'CutMix', 'Mixup') == 1
    assert 'stale: the costs of Mixup in' in capsys.readouterr().out
    assert make(root, '--costs', 'Mixup', '--pictures', 'Mixup') == 0
    assert costs.read_text() == before
    assert kept.stat().st_size > 1000
    with pytest.raises(InputError, match="no policy 'CutMax'; did you mean 'CutMix'"):
        make(root, '--pictures', 'CutMax')


def test_large_pictures_are_refused(root, capsys, monkeypatch):
    picture = root / 'docs/images/policies/cutmix.jpg'
    picture.write_bytes(b'x' * 60_001)
    assert make(root) == 1
    said = capsys.readouterr().out
    assert f'too large: {picture}' in said
    assert 'too large: docs/images' not in said
    monkeypatch.setattr('openmixup.cli.make_docs.MOST_TOGETHER', 60_000)
    make(root, '--check')
    assert 'too large: docs/images has ' in capsys.readouterr().out


def test_each_policy_of_the_package_has_a_line_and_a_section_and_no_other(root):
    @POLICIES.register_module()
    class OfAUser(MaskPolicy):
        """Not ours."""

    try:
        text = page_of(root)
    finally:
        del POLICIES.module_dict['OfAUser']
    overview, sections = text.split('\n## One by one\n')
    for name, cls in package_policies().items():
        assert overview.count(f'\n| [{name}](#{name.lower()}) | ') == 1
        section = sections.split(f'\n### {name}\n')[1].split('\n### ')[0]
        assert cls.paper in section
        assert not re.findall(r'^\| `\w+` \|.*\|  \|$', section, re.MULTILINE), 'each argument is explained'
    assert 'OfAUser' not in text


def test_the_committed_page_of_policies_is_current():
    # That of the benchmarks is left to `make lint`: rows may come in while a table is running.
    assert (ROOT / 'docs/policies.md').read_text() == page_of(ROOT)


def test_help_comes_without_torch():
    code = (
        'import sys\nfrom openmixup.cli.make_docs import main\n'
        'try: main(["--help"])\n'
        'except SystemExit: pass\n'
        'sys.exit("torch" in sys.modules)'
    )
    environment = os.environ | {'PYTHONPATH': str(ROOT)}
    assert subprocess.run([sys.executable, '-c', code], env=environment, stdout=subprocess.DEVNULL).returncode == 0
