import json
from dataclasses import asdict
from pathlib import Path

import pytest

from openmixup.analysis.policy_page import package_policies
from openmixup.analysis.step_costs import StepCost, cost_of, extra_passes
from openmixup.policies import MixPolicy
from openmixup.registry import POLICIES

SAVED = json.loads((Path(__file__).parents[2] / 'docs/costs.json').read_text())
QUICK = ('CMO', 'MixPro', 'PuzzleMix', 'RecursiveMix', 'RegMixup', 'SAMix')  # one of each kind


def marked(name):
    return name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize('name', [marked(name) for name in package_policies()])
def test_saved_costs_are_those_of_today(name):
    cost = cost_of(name)
    assert SAVED[name] == (cost and cost.rounded())


@pytest.mark.parametrize(('name', 'flops', 'extra'), [
    ('Mixup', 1, {}),
    ('PuzzleMix', 5 / 3, {'forward': 1, 'backward': 1}),  # a pass forward, and one back to the pixels
    ('AttentiveMix', 4 / 3, {'teacher': 1}),
    ('SnapMix', 4 / 3, {'forward': 1}),
    ('RegMixup', 2, {'forward': 1, 'backward': 2}),
])  # fmt: skip
def test_passes_that_a_method_is_known_to_take(name, flops, extra):
    found = asdict(cost_of(name))
    assert found.pop('network') == 'ResNet-18'
    assert found.pop('flops') == pytest.approx(flops, abs=0.005)  # the first layer has no pass back to the pixels
    assert found == pytest.approx(dict.fromkeys(found, 0) | extra, abs=0.01)


def test_a_pass_that_ends_early_counts_as_its_part_and_what_is_learned_beside_as_own():
    cost = SAVED['SAMix']  # which is that of today
    assert 1.5 < cost['teacher'] < 2
    assert 0 < cost['own'] < 0.1
    assert cost['frozen'] == 0


def test_passes_in_words():
    assert extra_passes(StepCost('', 1.0, own=0.004)) == 'none'
    cost = StepCost('', 3.0, forward=1.0, teacher=1.756, frozen=0.5, backward=2.998, own=0.01)
    assert extra_passes(cost) == '1 forward, 1.76 teacher forward, 0.5 frozen forward, 3 backward, 0.01 own parts'


def test_a_policy_that_reads_values_or_needs_what_nobody_has_is_not_counted():
    @POLICIES.register_module()
    class Reads(MixPolicy):
        def plan(self, batch, ctx):
            batch.images.mean().item()
            return self.unmixed(batch)

    @POLICIES.register_module()
    class Asks(MixPolicy):
        needs = ('telepathy',)

    try:
        assert cost_of('Reads') is None
        assert cost_of('Asks') is None
    finally:
        for name in ('Reads', 'Asks'):
            del POLICIES.module_dict[name]
