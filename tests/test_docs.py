"""What the pages say is tried: runnable blocks run, configs load, and each file that is named exists."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from openmixup.cli.verify_policy import main as verify_policy
from openmixup.engine.config import find_config, load_config
from openmixup.registry import POLICIES

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
BLOCKS = re.findall(r'^```python([^\n]*)\n(.*?)^```$', README, re.MULTILINE | re.DOTALL)
RUNNABLE = [(info.split()[1:], code) for info, code in BLOCKS if info.split()[:1] == ['run']]
CONFIGS = [code for _, code in BLOCKS if '_base_' in code]
PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'CHANGELOG.md', *(ROOT / 'docs').rglob('*.md')])
MADE_LATER = {'benchmarks/results/digits.csv'}  # by the command beside it
FOLDERS = 'tools|configs|benchmarks|openmixup|docs|tests'


def _names(pages):
    return [page.relative_to(ROOT).as_posix() for page in pages]


@pytest.fixture
def _no_new_policies():
    before = dict(POLICIES.module_dict)
    yield
    for name in set(POLICIES.module_dict) - set(before):
        del POLICIES.module_dict[name]


@pytest.mark.parametrize('number', range(len(RUNNABLE)))
@pytest.mark.usefixtures('_no_new_policies')
def test_blocks_of_the_readme_run(number, tmp_path, monkeypatch):
    names, code = RUNNABLE[number]
    file = tmp_path / (names[0] if names else 'block.py')
    file.write_text(code)
    if not names:
        runpy.run_path(str(file))
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    cls = re.search(r'^class (\w+)', code, re.MULTILINE)[1]
    assert verify_policy([f'{file.stem}:{cls}', '--out', str(tmp_path / 'verify.png')]) == 0


def test_there_are_blocks_to_run():
    assert [names for names, _ in RUNNABLE].count([]) >= 3
    assert ['band.py'] in [names for names, _ in RUNNABLE]
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize('number', range(len(CONFIGS)))
@pytest.mark.usefixtures('_no_new_policies')
def test_configs_of_the_readme_load(number, tmp_path, monkeypatch):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    for names, code in RUNNABLE:
        if names:
            (tmp_path / names[0]).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [names[0] for names, _ in RUNNABLE if names]:
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)  # registers its policy anew
    file = tmp_path / 'config.py'
    file.write_text(CONFIGS[number])
    assert load_config(file)['model']['policy']['type'] in POLICIES.module_dict


def test_configs_that_commands_name_exist():
    named = set(re.findall(r'(?<![\w/.])(?:digits|folder|cifar\d+)/\w[\w-]*\.py', README))
    assert len(named) >= 3
    for name in named:
        assert find_config(name).is_file()


@pytest.mark.parametrize('page', PAGES, ids=_names(PAGES))
def test_named_files_exist(page):
    text = page.read_text()
    paths = re.findall(rf'(?<![\w/.-])((?:{FOLDERS})/(?!NAME)[\w./-]*\w\.(?:py|sh|md|csv))', text)
    missing = [path for path in set(paths) if not (ROOT / path).exists() and path not in MADE_LATER]
    assert not missing, missing


@pytest.mark.parametrize('page', PAGES, ids=_names(PAGES))
def test_links_lead_somewhere(page):
    targets = re.findall(r'\]\(([^)#\s]+)', page.read_text())
    missing = [t for t in targets if '://' not in t and not (page.parent / t).exists()]
    assert not missing, missing


def test_tools_have_their_command():
    for door in (ROOT / 'tools').glob('*.py'):
        assert (ROOT / 'openmixup/cli' / door.name).is_file()
        assert f"run('{door.stem}')" in door.read_text()
