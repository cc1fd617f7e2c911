"""Schedules for all parameters and for a part of them, over whole runs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.config import load_config
from openmixup.engine.loops import TrainLoop
from openmixup.engine.optim import PlainOptimWrapper, part_of
from openmixup.engine.schedulers import PartGroups
from openmixup.errors import InputError
from openmixup.policies import Batch, Context, MixPolicy, Plan, View
from openmixup.registry import POLICIES

STEPS = 15  # of the tiny run: three epochs of five


@POLICIES.register_module(force=True)
class LearnedGain(MixPolicy):
    """Learns the contrast of its images, so that a run has parameters of both parts."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        images: Tensor = batch.images * self.gain
        return Plan(batch, (View(images, self.unmixed(batch).views[0].mixture),), self)


@pytest.fixture
def curves(train, monkeypatch):
    """Train, and return the learning rates that each step used, by part."""

    def run(*options: str, name: str = 'run', argv: tuple[str, ...] = ('--policy', 'LearnedGain')):
        seen: dict[str, list[float]] = {'network': [], 'policy': []}
        plain = TrainLoop.step

        def step(self, batch):
            for group in self.runner.optim_wrapper.optimizer.param_groups:
                seen[part_of(group)].append(group['lr'])
            plain(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(TrainLoop, 'step', step)
            work = train(name, *options, argv=argv)
        return seen, work

    return run


def cosine(step: float, length: float, high: float, low: float) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * step / length)) / 2


def test_each_part_follows_its_own_schedule_step_by_step(curves):
    """Warm-up and cosine given in epochs, counted in steps: five steps up, ten down; the policy has one cosine."""
    convert = "'by_epoch': True, 'convert_to_iter_based': True"
    warm = f"{{'type': 'LinearLR', 'start_factor': 0.1, 'begin': 0, 'end': 1, 'part': 'network', {convert}}}"
    main = f"{{'type': 'CosineAnnealingLR', 'eta_min': 0.01, 'T_max': 2, 'begin': 1, 'part': 'network', {convert}}}"
    own = f"{{'type': 'CosineAnnealingLR', 'eta_min': 0.001, 'T_max': 3, 'part': 'policy', {convert}}}"
    seen, _ = curves(f'param_scheduler=[{warm}, {main}, {own}]', "optim_wrapper.policy={'lr': 0.2}")
    up = [0.05 * (0.1 + 0.9 * step / 4) for step in range(5)]
    assert seen['network'] == pytest.approx([*up, *(cosine(step, 10, 0.05, 0.01) for step in range(10))], rel=1e-9)
    assert seen['policy'] == pytest.approx([cosine(step, 15, 0.2, 0.001) for step in range(STEPS)], rel=1e-9)


def test_schedules_by_epoch_and_for_all_parts(curves):
    both = "{'type': 'CosineAnnealingLR', 'eta_min': 0.0, 'T_max': 3}"
    own = "{'type': 'StepLR', 'step_size': 1, 'gamma': 0.5, 'part': 'policy'}"
    seen, _ = curves(f'param_scheduler=[{both}, {own}]', "optim_wrapper.policy={'lr': 0.2}")
    epochs = [step // 5 for step in range(STEPS)]
    assert seen['network'] == pytest.approx([cosine(epoch, 3, 0.05, 0.0) for epoch in epochs], rel=1e-9)
    assert seen['policy'] == pytest.approx([cosine(epoch, 3, 0.2, 0.0) * 0.5**epoch for epoch in epochs], rel=1e-9)


def test_the_networks_schedule_leaves_the_policy_alone(curves):
    entry = "{'type': 'CosineAnnealingLR', 'eta_min': 0.0, 'T_max': 15, 'by_epoch': False, 'part': 'network'}"
    seen, work = curves(f'param_scheduler=[{entry}]')
    assert seen['policy'] == [0.05] * STEPS
    assert seen['network'] == pytest.approx([cosine(step, 15, 0.05, 0.0) for step in range(STEPS)], rel=1e-9)
    assert 'policy.gain' in read_checkpoint(work / 'epoch_3.pth')['state_dict']


def test_a_schedule_of_a_policy_without_learned_parts_does_nothing(curves):
    entries = [{'type': 'CosineAnnealingLR', 'T_max': 3, 'part': part} for part in ('network', 'policy')]
    seen, _ = curves(f'param_scheduler={entries}', "optim_wrapper.policy={'lr': 0.2}", argv=('--policy', 'Mixup'))
    assert seen['policy'] == []
    assert seen['network'] == pytest.approx([cosine(step // 5, 3, 0.05, 0.0) for step in range(STEPS)])


def test_a_cut_run_goes_on_with_both_schedules_bit_for_bit(curves, train, monkeypatch):
    own = "{'type': 'CosineAnnealingLR', 'eta_min': 0.001, 'T_max': 15, 'by_epoch': False, 'part': 'policy'}"
    main = "{'type': 'CosineAnnealingLR', 'eta_min': 0.01, 'T_max': 3, 'part': 'network'}"
    options = (
        'default_hooks.checkpoint.by_epoch=False', f'param_scheduler=[{main}, {own}]',
        "optim_wrapper.policy={'lr': 0.2, 'momentum': 0.5, 'weight_decay': 0.01}",
    )  # fmt: skip
    whole, first = curves(*options, name='whole')
    plain = TrainLoop.step
    with monkeypatch.context() as patch:
        patch.setattr(TrainLoop, 'step', lambda self, batch: plain(self, batch) if self.iter < 8 else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train('cut', *options, argv=('--policy', 'LearnedGain'))
    rest, second = curves(*options, name='cut', argv=('--policy', 'LearnedGain', '--resume'))
    assert {part: rates[8:] for part, rates in whole.items()} == rest
    one, other = (read_checkpoint(work / 'iter_15.pth') for work in (first, second))
    for key in one['state_dict']:
        assert torch.equal(one['state_dict'][key], other['state_dict'][key]), key
    assert one['state_dict']['policy.gain'] != 1
    groups = [[(g['part'], g['lr'], g['momentum']) for g in end['optimizer']['param_groups']] for end in (one, other)]
    assert groups[0] == groups[1]
    assert [part for part, *_ in groups[0]] == ['network', 'policy']


def test_the_groups_of_a_part_are_those_of_now():
    """Restoring gives the optimizer new group dicts: a schedule that kept the old ones would change nothing."""
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [
        {'params': weights[:1]}, {'params': weights[1:2], 'part': 'policy'}, {'params': weights[2:], 'part': 'network'},
    ]  # fmt: skip
    wrapper = PlainOptimWrapper(optimizer=torch.optim.SGD(groups, lr=0.1))
    policy, network = PartGroups(wrapper, 'policy'), PartGroups(wrapper, 'network')
    before = policy.param_groups[0]
    wrapper.load_state_dict(wrapper.state_dict())
    assert policy.param_groups[0] is not before
    assert policy.param_groups == [wrapper.optimizer.param_groups[1]]
    # an untagged group is the network's, as is what mmengine keeps to remember the base values
    assert network.param_groups[:2] == [wrapper.optimizer.param_groups[i] for i in (0, 2)]
    assert network.param_groups[2] is wrapper.base_param_settings


def test_a_counted_step_is_the_wrappers():
    weight = nn.Parameter(torch.ones(1))
    wrapper = PlainOptimWrapper(optimizer=torch.optim.SGD([{'params': [weight], 'part': 'policy'}], lr=0.5))
    from mmengine.optim import StepLR

    StepLR(PartGroups(wrapper, 'policy'), step_size=1, gamma=0.1)
    weight.grad = torch.ones(1)
    wrapper.step()
    assert wrapper._global_step == 0  # counted from -1
    assert weight.item() == 0.5


def test_an_unknown_part_is_refused_when_the_config_is_read(config_file):
    entry = "{'type': 'CosineAnnealingLR', 'T_max': 3, 'part': 'polcy'}"
    with pytest.raises(InputError, match=r"part='polcy'; did you mean 'policy'\?"):
        load_config(config_file, [f'param_scheduler=[{entry}]'])
    config = load_config(
        config_file, ['param_scheduler.0.part=network', 'param_scheduler.0.convert_to_iter_based=True']
    )
    assert config.param_scheduler[0].part == 'network'
    with pytest.raises(InputError, match="no argument 'T_min'"):
        load_config(config_file, ["param_scheduler=[{'type': 'CosineAnnealingLR', 'T_min': 3, 'part': 'policy'}]"])


def test_epochs_as_steps_need_an_end_in_a_run_by_steps(train, curves):
    loop = "train_cfg={'type': 'IterLoop', 'max_iters': 10, 'val_interval': 10}"
    entry = "'type': 'CosineAnnealingLR', 'eta_min': 0.0, 'T_max': 2, 'convert_to_iter_based': True"
    with pytest.raises(InputError, match='without an end.*set by_epoch=False'):
        train('none', loop, f'param_scheduler=[{{{entry}}}]')
    seen, _ = curves(loop, f"param_scheduler=[{{{entry}, 'end': 2}}]", argv=())
    assert seen['network'] == pytest.approx([cosine(step, 10, 0.05, 0.0) for step in range(10)], rel=1e-9)


def test_a_long_cosine_does_not_drift():
    """mmengine computes each value from the last one: over 50 000 steps the closed form must still hold."""
    from mmengine.optim import CosineAnnealingLR

    length = 50_000
    groups = [
        {'params': [nn.Parameter(torch.zeros(1))], 'lr': lr, 'part': part}
        for part, lr in (('network', 0.1), ('policy', 0.3))
    ]
    wrapper = PlainOptimWrapper(optimizer=torch.optim.SGD(groups, lr=0.1))
    schedule = CosineAnnealingLR(PartGroups(wrapper, 'policy'), T_max=length, eta_min=1e-3, by_epoch=False, end=length)
    wrapper.step()
    for step in range(1, length):
        schedule.step()
        if step % 1000 == 0 or step > length - 5:
            rates = [group['lr'] for group in wrapper.optimizer.param_groups]
            assert rates == pytest.approx([0.1, cosine(step, length, 0.3, 1e-3)], rel=1e-8)


def test_a_schedule_that_would_lift_low_rates_is_refused(curves):
    """A rate of its own, be it of a layer, of a multiplier or of the policy, is neither raised nor replaced."""
    own = "optim_wrapper.policy={'lr': 0.002}"
    for kind, arguments, says in (
        ('CosineAnnealingLR', "'T_max': 3, 'eta_min': 0.01", r'Cosine.* eta_min=0.01.* of 0.002 .*eta_min_ratio'),
        ('PolyLR', "'end': 3, 'eta_min': 0.01", r'PolyLR .* eta_min=0.01.* of 0.002 .*: give a smaller one,'),
        ('OneCycleLR', "'eta_max': 0.1, 'total_steps': 3", r'OneCycleLR .* same .* 0.002 to 0.05 '),
        (
            'CosineAnnealingParamScheduler',
            "'param_name': 'lr', 'T_max': 3, 'eta_min': 0.01",
            r'ParamScheduler .* of 0.002 ',
        ),
    ):
        warm = "{'type': 'LinearLR', 'start_factor': 0.1, 'end': 1}"  # has changed the rates when the next is built
        with pytest.raises(InputError, match=says):
            curves(f"param_scheduler=[{warm}, {{'type': '{kind}', {arguments}}}]", own)
    low = "param_scheduler=[{'type': 'CosineAnnealingLR', 'T_max': 3, 'eta_min': 0.001}]"
    assert min(curves(low, own)[0]['policy']) == pytest.approx(cosine(2, 3, 0.002, 0.001))
    network = "param_scheduler=[{'type': 'CosineAnnealingLR', 'T_max': 3, 'eta_min': 0.01, 'part': 'network'}]"
    assert curves(network, own, name='parts')[0]['policy'] == [0.002] * STEPS
