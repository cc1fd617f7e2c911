"""The page: its content, that it needs nothing else, that a wheel holds its parts, and how a real browser shows it."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from openmixup.benchmark import Table, row_of
from openmixup.benchmark.page import page
from openmixup.benchmark.standings import board_of

ROOT = Path(__file__).parents[2]
POLICIES = {name.lower(): {'type': name} for name in ('Vanilla', 'Mixup', 'CutMix', 'FMix', 'GridMix')}
SCORES = {'vanilla': (80.0, 81.0), 'mixup': (79.0, 82.5), 'cutmix': (83.0,)}
BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')


def board(name, shift=0.0, hardware='CPU', commit='abcdef0123'):
    table = Table(Path(f'{name}.py'), 'toy.py', POLICIES, (0, 1), {'fmix': (85.25, 'A <i>page</i>')})
    rows = [
        row_of(
            {'last': {'top1': top1 + shift}, 'seconds': 10.0 * (k + 1), 'peak_memory_mb': 500 + 7 * k,
             'hardware': hardware, 'commit': commit},
            name, policy, seed, 20,
        )
        for k, (policy, scores) in enumerate(SCORES.items())
        for seed, top1 in enumerate(scores)
    ]  # fmt: skip
    return board_of(table, rows, 'toy.py', 20, {'Mixup': 1.5})


CURVES = [
    {'policy': policy, 'seed': seed, 'loss': [[1, 2, 20], [2.0, 1.5 + seed, 1.0]], 'top1': [[20], [80.0]]}
    for policy, seed in (('mixup', 0), ('mixup', 1), ('cutmix', 0))
]


def three():
    return page([board('one'), board('two', -5.0), board('three', 2.0)], [CURVES, [], []])


class Cells(HTMLParser):
    """The rows of the first table as texts, and all tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.open, self.inside = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ('meta', 'link', 'input'):
            self.open.append(tag)
        if tag == 'tr':
            self.rows.append([])
        self.inside = self.inside or tag in ('td', 'th')
        if tag in ('td', 'th'):
            self.rows[-1].append('')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f'</{tag}> closes another element'
        if tag in ('td', 'th'):
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_the_table_can_be_read_without_scripts():
    cells = Cells(page([board('one')], [[]]))
    assert cells.open == []
    head, rows = cells.rows[1], {row[0]: row for row in cells.rows[2:]}
    assert list(rows) == ['cutmix', 'mixup', 'vanilla', 'fmix'], 'by the gain over seeds 0, then 0 and 1'
    mixup = dict(zip(head, rows['mixup'], strict=True))
    assert mixup['last epoch'] == '80.75±2.47'
    assert mixup['gain'] == '+0.25±1.77'
    assert (mixup['× vanilla'], mixup['FLOPs ×'], mixup['n'], mixup['hw'], mixup['commit']) == (
        '2.00', '1.50', '2', 'A', 'abcdef0',
    )  # fmt: skip
    fmix = dict(zip(head, rows['fmix'], strict=True))
    assert (fmix['last epoch'], fmix['claimed'], fmix['ours − claim']) == ('not run', '85.251', '–')


def test_what_was_not_run_and_what_others_claim_is_said():
    text = page([board('one')], [[]])
    assert 'Not run: gridmix.' in text
    assert 'Claim of others, not measured here: A &lt;i&gt;page&lt;/i&gt;.' in text
    assert 'Training curves: none are saved' in text
    empty = board_of(Table(Path('no.py'), 'toy.py', POLICIES), [], 'toy.py', 20)
    assert 'Not run: there is no result yet.' in page([empty], [[]])


def test_a_page_needs_nothing_else():
    text = three()
    for tag, attributes in Cells(text).tags:
        for name in ('src', 'href', 'action', 'data'):
            assert (attributes.get(name) or '#')[:5] in ('#', 'data:') or attributes[name].startswith('#'), (tag, name)
    assert not re.search(r'@import|url\(|fetch\(|XMLHttp|import\(|https?://(?!www\.w3\.org/2000/svg)', text)


def test_names_of_strangers_stay_text():
    evil = '</script><script>alert(1)</script>"\'&'
    text = page([board('one', hardware=evil, commit=evil)], [[]])
    assert text.count('<script') == 2
    assert text.count('</script>') == 2
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data['boards'][0]['standings'][0]['policy'] == 'cutmix'
    assert '&lt;/script&gt;&lt;script&gt;alert(1)' in text


def test_plots_that_say_nothing_are_left_out():
    kinds = re.findall(r'data-plot="(\w+)" data-board="(\w+)"', three())
    assert kinds == [
        ('radar', 'all'), ('ranks', 'all'), ('forest', '0'), ('seconds', '0'), ('memory', '0'), ('curves', '0'),
        ('forest', '1'), ('seconds', '1'), ('memory', '1'), ('forest', '2'), ('seconds', '2'), ('memory', '2'),
    ]  # fmt: skip
    assert 'data-board="all"' not in page([board('one')], [[]]), 'one table has no ranks over tables'


@pytest.mark.slow
def test_a_wheel_holds_the_parts_of_the_page(tmp_path):
    source = tmp_path / 'source'
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns('.*', '__pycache__', 'work_dirs', 'data', 'build', 'docs')
    )
    command = [
        sys.executable,
        '-m',
        'pip',
        'wheel',
        '--quiet',
        '--no-deps',
        '--no-build-isolation',
        '-w',
        tmp_path,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob('*.whl')
    names = {name for name in zipfile.ZipFile(wheel).namelist() if '/assets/' in name}
    there = {f'openmixup/benchmark/assets/{path.name}' for path in (ROOT / 'openmixup/benchmark/assets').iterdir()}
    assert names == there
    assert len(there) > 5


# Runs in the page after its own scripts; what it finds becomes the text of an element, which the dumped page holds.
PROBE = """
<script>
addEventListener('load', () => {
  const found = { errors: window.faults, svgs: {}, dark: document.documentElement.dataset.theme };
  for (const figure of document.querySelectorAll('[data-plot]')) {
    const svg = figure.querySelector('.canvas svg');
    const key = `${figure.dataset.plot}-${figure.dataset.board}`;
    const all = svg ? [...svg.querySelectorAll('*')] : [];
    found.svgs[key] = {
      marks: all.filter((one) => one.matches('path, circle, rect')).length,
      text: svg ? svg.textContent : '',
      finite: !all.some((one) => [...one.attributes].some((a) => /NaN|undefined|Infinity/.test(a.value))),
    };
  }
  const table = document.querySelector('table.leaderboard');
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const click = (name) => {
    const header = table.querySelector(`th.${name}[aria-sort]`);
    header.querySelector('button').click();
    const sorted = table.querySelectorAll('thead [aria-sort$="scending"]').length;
    return [header.getAttribute('aria-sort'), names(), sorted];
  };
  found.sorts = { first: names() };
  for (const [key, name] of [['policy', 'policy'], ['last', 'last'], ['again', 'last'], ['claim', 'claim']]) {
    found.sorts[key] = click(name);
  }
  const curves = document.querySelector('[data-plot="curves"]');
  const lines = () => [...curves.querySelectorAll('path.line')].map((line) => line.dataset.policy);
  found.lines = [lines()];
  curves.querySelector('input[value="cutmix"]').click();
  found.lines.push(lines());
  found.bands = curves.querySelectorAll('path.band').length;
  const mark = document.querySelector('[data-plot="seconds"] path[data-policy="mixup"]');
  mark.dispatchEvent(new PointerEvent('pointermove', { clientX: 50, clientY: 50 }));
  found.tip = document.getElementById('tip').hidden ? null : document.getElementById('tip').textContent;
  found.wide = document.documentElement.scrollWidth - innerWidth;
  const out = document.createElement('pre');
  out.id = 'found';
  out.textContent = encodeURIComponent(JSON.stringify(found));
  document.body.append(out);
});
</script>
"""
FAULTS = "<script>window.faults = []; addEventListener('error', (event) => faults.push(event.message));</script>"


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason='no chromium or chrome is installed')
@pytest.mark.parametrize('width', [1280, 500])
def test_a_browser_shows_and_sorts_it(tmp_path, width):
    from urllib.parse import unquote

    path = tmp_path / 'page.html'
    text = three().replace('<head>', f'<head>{FAULTS}', 1).replace('</body>', f'{PROBE}</body>')
    path.write_text(text, encoding='utf-8')
    command = [
        BROWSER, '--headless', '--no-sandbox', '--disable-gpu', f'--window-size={width},900',
        f'--user-data-dir={tmp_path / "profile"}', '--virtual-time-budget=5000', '--dump-dom', path.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    found = json.loads(unquote(re.search(r'<pre id="found">(.*?)</pre>', shown)[1]))
    assert found['errors'] == []
    assert len(found['svgs']) == 12
    for name, svg in found['svgs'].items():
        assert svg['marks'] >= 3, name
        assert svg['finite'], name
    assert {'vanilla', 'mixup', 'cutmix'} <= {name for name in SCORES if name in found['svgs']['forest-0']['text']}
    sorts = found['sorts']
    assert sorts['first'] == ['cutmix', 'mixup', 'vanilla', 'fmix']
    assert sorts['policy'] == ['ascending', ['cutmix', 'fmix', 'mixup', 'vanilla'], 1]
    assert sorts['last'] == ['descending', ['cutmix', 'mixup', 'vanilla', 'fmix'], 1]
    assert sorts['again'] == ['ascending', ['vanilla', 'mixup', 'cutmix', 'fmix'], 1], 'what was not run stays last'
    assert sorts['claim'][1][0] == 'fmix'
    assert found['lines'] == [['cutmix', 'mixup'], ['mixup']]
    assert found['bands'] == 1, 'two seeds make a band'
    assert found['tip'] == 'mixup\ntop-1 80.75 %\n20 seconds of training\n2 runs on hardware A\non the Pareto front'
    assert found['wide'] <= 0, 'the page itself never scrolls sideways'
