"""Every family of timm and torchvision takes a step with CutMix and one with Manifold Mixup."""

import re
from pathlib import Path

import pytest

from openmixup.analysis import backbone_families
from openmixup.analysis.backbone_families import FamilyTrial, families, families_page, smallest_member, try_family
from openmixup.errors import InputError

PAGE = Path(__file__).parents[2] / 'docs' / 'backbones.md'
SEVERAL = (
    'ManifoldMix: the hidden stages of TimmBackbone could not be measured (a stage or the last map is not one tensor'
)
# Exact: a family that begins to pass has to leave, one that begins to fail has to be looked into.
KNOWN = {
    ('timm', 'coat'): SEVERAL,
    ('timm', 'crossvit'): SEVERAL,
    ('timm', 'deepseek_vit'): 'not tried: its smallest member has 412 M parameters',
    ('timm', 'efficientvim'): SEVERAL,
    ('timm', 'gemma4_vit'): 'ManifoldMix: ManifoldMix(layers=(1, 3)) draws layers up to 2, but',
    ('timm', 'hrnet'): SEVERAL,
    ('timm', 'mvitv2'): SEVERAL,
    ('timm', 'pit'): SEVERAL,
    ('timm', 'selecsls'): SEVERAL,
    ('timm', 'tnt'): SEVERAL,
}
ALL = [(package, family) for package in ('torchvision', 'timm') for family in families(package)]


@pytest.mark.slow
@pytest.mark.parametrize(('package', 'family'), ALL, ids=['-'.join(each) for each in ALL])
def test_family(package, family):
    trial = try_family(package, family)
    reason = KNOWN.get((package, family), '')
    assert trial.reason.startswith(reason), trial
    assert bool(trial.reason) is bool(reason), trial


def test_known_failures_are_of_families_that_exist():
    assert set(KNOWN) <= set(ALL)


def test_the_page_says_what_this_test_says():
    text = PAGE.read_text()
    rows = re.findall(r'^\| (timm|torchvision) \| (\w+) \| .* \| ([^|]+) \|$', text, re.M)
    assert sorted(row[:2] for row in rows) == sorted(ALL)
    assert {row[:2]: row[2] for row in rows if row[2] != 'passed'}.keys() == KNOWN.keys()
    assert all(row[2].startswith(KNOWN[row[:2]]) for row in rows if row[2] != 'passed')
    assert f'{len(ALL) - len(KNOWN)} of {len(ALL)} families passed' in text


def test_the_smallest_member_is_counted_without_its_classifier():
    """Counted on real tensors here."""
    import timm

    model, count = smallest_member('timm', 'selecsls')
    networks = {name: timm.create_model(name, num_classes=0) for name in timm.list_models('selecsls*')}
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}
    assert (count, model) == min((size, name) for name, size in sizes.items())


def test_what_fails_is_told_and_not_raised(monkeypatch):
    monkeypatch.setattr(backbone_families, 'smallest_member', lambda package, family: ('test_resnet', 400_000_000))
    assert try_family('timm', 'resnet').reason == 'not tried: its smallest member has 400 M parameters'
    monkeypatch.setattr(backbone_families, 'smallest_member', lambda package, family: ('test_resnet', 500_000))
    monkeypatch.setattr(backbone_families, 'POLICIES', ({'type': 'ManifoldMix', 'layers': (8, 9)},))
    assert 'ManifoldMix(layers=(8, 9)) draws layers up to 8' in try_family('timm', 'resnet').reason
    with pytest.raises(InputError, match="no family 'resnte'; did you mean 'resnet'"):
        smallest_member('timm', 'resnte')
    with pytest.raises(InputError, match="did you mean 'timm'"):
        families('tim')


def test_the_page_counts():
    trials = [
        FamilyTrial('timm', 'a', 'a1', 1_500_000, (32, 64), 4),
        FamilyTrial('timm', 'b', 'b1', 1, (8, 8), 0, 'no'),
    ]
    page = families_page(trials)
    assert '1 of 2 families passed' in page
    assert '| timm | a | `a1` | 1.5 | 32x64 | 4 | passed |' in page
