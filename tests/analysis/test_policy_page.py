import re
from pathlib import Path

import pytest

from openmixup.analysis.policy_numbers import measured, published
from openmixup.analysis.policy_page import policies_page
from openmixup.analysis.step_costs import StepCost
from openmixup.benchmark import append_row, row_of

ROOT = Path(__file__).parents[2]
TABLE = """
recipe = 'digits/resnet8_1xb50-30e_digits.py'
policies = {
    'vanilla': dict(type='Vanilla'),
    'cutmix': dict(type='CutMix', alpha=1.0),
    'regmixup': dict(type='RegMixup', policy=dict(type='Mixup', alpha=2.0), eta=0.5),
}
seeds = (0, 1, 2)
published = {'cutmix': (91.5, 'Some Paper, table 3')}
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'benchmarks').mkdir()
    (tmp_path / 'benchmarks/small.py').write_text(TABLE.lstrip())
    (tmp_path / 'configs/digits').mkdir(parents=True)
    (tmp_path / 'configs/_base_').symlink_to(ROOT / 'configs/_base_')
    recipe = 'digits/resnet8_1xb50-30e_digits.py'
    (tmp_path / 'configs' / recipe).write_text((ROOT / 'configs' / recipe).read_text())
    from openmixup.benchmark import leaves_of, load_table

    for leaf in leaves_of(load_table(tmp_path / 'benchmarks/small.py'), tmp_path / 'configs'):
        leaf.path.write_text(leaf.text)
    for policy, seed, top1 in (('vanilla', 0, 80.0), ('cutmix', 2, 83.0), ('cutmix', 0, 81.0), ('gone', 0, 99.0)):
        row = row_of({'last': {'top1': top1}, 'median_last10': {'top1': top1 - 1}}, 'small', policy, seed, 30)
        append_row(tmp_path / 'benchmarks/results/small.csv', row)
    return tmp_path


def test_our_figures_stand_with_their_number_and_seeds(root):
    found = measured(root)
    assert set(found) == {'Vanilla', 'CutMix'}
    line = '| [small](benchmarks.md#small) | `alpha=1.0` | 30 | 2 | 0, 2 | 82.00 ± 1.41 | 81.00 ± 1.41 | +1.00 (n 1) |'
    assert found['CutMix'].splitlines()[2:] == [line]


def test_published_figures_stand_with_their_place(root):
    assert published(root)['CutMix'].splitlines()[2:] == [
        '| `small` | `alpha=1.0` | 30 | 91.50 | Some Paper, table 3 |'
    ]
    figures = published(ROOT)['Mixup']
    place = 'openmixup 0.2 benchmark page, CIFAR-100, median of the last 10 epochs'
    row = '| `cifar100_resnet18` | `alpha=1.0` | 200, 400, 800, 1200 | 78.52, 79.34, 79.12, 79.24 |'
    assert f'{row} {place} |' in figures


def test_a_section_holds_costs_arguments_and_figures(root):
    costs = {'CutMix': StepCost('ResNet-18', 1.25, forward=0.75)}
    text = policies_page(root, costs)
    section = text.split('\n### CutMix\n')[1].split('\n### ')[0]
    assert 'family: static; needs: nothing; label: pixels; extra passes: 0.75 forward; FLOPs: 1.25 times' in section
    assert re.search(r'\| `pairing` \| `\'derangement\'` \| .*permutation', section)
    assert '82.00 ± 1.41' in section
    assert 'Some Paper, table 3' in section
    assert '![' not in text, 'there are no pictures here'
    assert '| 0.75 forward | 1.25 |' in text.split('\n## Token\n')[0]


def test_links_within_the_page_lead_to_sections():
    text = (ROOT / 'docs/policies.md').read_text()
    headings = {heading.lower() for heading in re.findall(r'^### (\w+)$', text, re.MULTILINE)}
    linked = set(re.findall(r'\]\(#(\w+)\)', text))
    assert linked == headings
    assert len(headings) > 40
