"""Parameter groups, clipping, mixed precision, and timm's optimizers."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch
from torch import nn

from openmixup.engine.config import load_config
from openmixup.engine.optim import AutocastOptimWrapper, PlainOptimWrapper, policy_options
from openmixup.engine.timm_optimizers import NAMES
from openmixup.errors import InputError
from openmixup.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS

SGD = {'type': 'SGD', 'lr': 0.1, 'weight_decay': 0.01}


def build(model: nn.Module, optimizer: dict = SGD, wrapper: dict | None = None, **rules):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build({
        'type': 'GroupedOptimizer', 'paramwise_cfg': rules or None,
        'optim_wrapper_cfg': {'type': 'OptimWrapper', 'optimizer': optimizer, **(wrapper or {})},
    })  # fmt: skip
    return constructor(model)


def network() -> nn.Module:
    layers = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)) for _ in range(5)]
    return nn.ModuleDict({'body': nn.Sequential(*layers), 'head': nn.Linear(4, 2), 'teacher': nn.Linear(4, 2)})


def test_equal_parameters_share_a_group_and_frozen_ones_are_left_out():
    model = network()
    model['teacher'].requires_grad_(False)
    groups = build(model).optimizer.param_groups
    assert len(groups) == 1
    assert len(groups[0]['params']) == 5 * 4 + 2
    assert type(groups[0]) is dict


def test_rules_make_few_groups():
    groups = build(network(), norm_decay_mult=0.0, custom_keys={'head': {'lr_mult': 10}}).optimizer.param_groups
    found = {(round(group['lr'], 6), group['weight_decay']): len(group['params']) for group in groups}
    assert found == {(0.1, 0.01): 5 * 2 + 2, (0.1, 0.0): 5 * 2, (1.0, 0.01): 2}


def test_autocast_runs_the_forward_pass_in_bfloat16_and_keeps_float32_weights():
    model = nn.Linear(4, 2)
    wrapper = AutocastOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1), clip_grad={'max_norm': 1.0})
    with wrapper.optim_context(model):
        out = model(torch.randn(3, 4))
    assert out.dtype == torch.bfloat16
    before = model.weight.detach().clone()
    wrapper.update_params(out.float().sum())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(before, model.weight)
    wrapper.load_state_dict(wrapper.state_dict())


def test_a_loss_scale_goes_on_where_it_was():
    """It shrinks after an overflow and grows after three good steps, also if a checkpoint lies between them."""

    def scaled() -> tuple[nn.Module, AutocastOptimWrapper]:
        torch.manual_seed(0)
        model = nn.Linear(4, 2)
        wrapper = AutocastOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
        wrapper.scaler = torch.amp.GradScaler('cpu', init_scale=64.0, growth_interval=3)  # as float16 has on a GPU
        return model, wrapper

    def step(model: nn.Module, wrapper: AutocastOptimWrapper, number: int) -> None:
        factor = float('inf') if number == 1 else 1.0 + number
        wrapper.update_params((model.weight * factor).sum() + model.bias.sum())

    model, whole = scaled()
    for number in range(5):
        step(model, whole, number)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    assert whole.scaler.get_scale() == 64.0  # halved once, doubled once

    first, before = scaled()
    for number in range(4):
        step(first, before, number)
    model, after = scaled()
    model.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    assert after.scaler.get_scale() == 32.0
    step(model, after, 4)
    assert after.scaler.get_scale() == 64.0
    assert all(torch.equal(expected[name], value) for name, value in model.state_dict().items())


def test_float16_on_a_cpu_is_refused():
    model = nn.Linear(4, 2)
    with pytest.raises(InputError, match="use 'bfloat16' on a CPU"):
        AutocastOptimWrapper('float16', optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(InputError, match="dtype='fp8'"):
        AutocastOptimWrapper('fp8', optimizer=torch.optim.SGD(model.parameters(), lr=0.1))


class Learner(nn.Module):
    """With a learned policy that stands before the network, as in the real learner."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.student = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def options(wrapper, *names: str) -> list[tuple]:
    return [tuple(round(g[n], 9) if isinstance(g[n], float) else g[n] for n in names) for g in wrapper.param_groups]


def test_the_policy_has_groups_of_its_own_behind_the_networks():
    model = Learner()
    wrapper = build(model)
    assert options(wrapper.optimizer, 'part', 'lr') == [('network', 0.1), ('policy', 0.1)]
    assert wrapper.optimizer.param_groups[1]['params'] == list(model.policy.parameters())
    own = {'lr': 0.5, 'weight_decay': 0.0, 'momentum': 0.8, 'nesterov': True}
    wrapper = build(model, wrapper={'policy': own})
    assert options(wrapper.optimizer, 'part', *own) == [
        ('network', 0.1, 0.01, 0, False), ('policy', 0.5, 0.0, 0.8, True)
    ]  # fmt: skip


def test_rules_multiply_the_values_of_the_part():
    rules = {'norm_decay_mult': 0.5, 'custom_keys': {'policy.0.bias': {'lr_mult': 3.0}}}
    wrapper = build(Learner(), wrapper={'policy': {'lr': 0.5, 'weight_decay': 0.2, 'momentum': 0.8}}, **rules)
    assert options(wrapper.optimizer, 'part', 'lr', 'weight_decay', 'momentum') == [
        ('network', 0.1, 0.01, 0), ('network', 0.1, 0.005, 0),
        ('policy', 0.5, 0.2, 0.8), ('policy', 1.5, 0.2, 0.8), ('policy', 0.5, 0.1, 0.8),
    ]  # fmt: skip


def test_the_part_and_its_options_are_restored():
    wrapper = build(Learner(), wrapper={'policy': {'lr': 0.5}})
    state = wrapper.state_dict()
    other = build(Learner(), wrapper={'policy': {'lr': 7.0}})
    other.load_state_dict(state)
    assert options(other.optimizer, 'part', 'lr') == [('network', 0.1), ('policy', 0.5)]


def test_one_step_by_hand():
    model = Learner()
    for parameter in model.parameters():
        parameter.data.fill_(2.0)
        parameter.grad = torch.ones_like(parameter)
    build(model, wrapper={'policy': {'lr': 0.5, 'weight_decay': 0.0}}).step()
    assert model.student[0].weight.detach().flatten().tolist() == pytest.approx([2 - 0.1 * (1 + 0.01 * 2)] * 4)
    assert model.policy[0].weight.detach().flatten().tolist() == pytest.approx([2 - 0.5] * 4)


@pytest.mark.parametrize(
    ('own', 'message'),
    [
        ({'learning_rate': 1}, "unknown key 'learning_rate'.*it takes .*lr, max_norm, .*momentum"),
        ({'momentun': 0.9}, "unknown key 'momentun'; did you mean 'momentum'"),
        ({'betas': (0.9, 0.99)}, "unknown key 'betas'"),
        ({'lr': -1}, 'SGD refuses its arguments: Invalid learning rate'),
        ({'nesterov': True}, 'SGD refuses its arguments: Nesterov'),
        ({'max_norm': 0}, 'max_norm=0: expected a number above 0'),
        ({'max_norm': 'inf'}, "max_norm='inf'"),
    ],
)
def test_options_that_the_optimizer_does_not_take_are_refused(own, message, config_file):
    for model in (Learner(), nn.ModuleDict({'student': nn.Linear(2, 2)})):
        with pytest.raises(InputError, match=message):
            build(model, wrapper={'policy': own})
    with pytest.raises(InputError, match=message):
        load_config(config_file, ['optim_wrapper.optimizer.momentum=0.0', f'optim_wrapper.policy={own}'])


def test_another_constructor_does_not_read_the_policys_options(config_file):
    with pytest.raises(InputError, match='DefaultOptimWrapperConstructor does not read optim_wrapper.policy'):
        load_config(config_file, [
            'optim_wrapper.constructor=DefaultOptimWrapperConstructor', "optim_wrapper.policy={'lr': 1.0}",
        ])  # fmt: skip


def test_options_of_a_policy_without_learned_parts_do_nothing():
    model = nn.ModuleDict({'student': nn.Linear(2, 2), 'policy': nn.Identity()})
    wrapper = build(model, wrapper={'policy': {'lr': 9.0, 'max_norm': 1.0}})
    assert options(wrapper.optimizer, 'part', 'lr') == [('network', 0.1)]
    assert not wrapper.clips


def test_what_an_option_implies_comes_with_it():
    """timm's AdamW notes the largest learning rate for its decay: the policy's is another one."""
    optimizer = {'type': 'NAdamW', 'lr': 1e-3, 'corrected_weight_decay': True}
    assert policy_options(optimizer, {'lr': 0.5}) == ({'lr': 0.5, 'max_lr_snapshot': 0.5}, None)
    assert policy_options(optimizer, {'betas': [0.5, 0.9]})[0]['betas'] == [0.5, 0.9]


def clipped(wrapper: dict, network: tuple[float, float] = (3.0, 4.0), policy: float = 1e6, dtype: str = ''):
    """Gradients of network and policy behind a step, and the wrapper."""
    model = nn.ModuleDict({'policy': nn.Linear(1, 1, bias=False), 'student': nn.Linear(2, 1, bias=False)})
    built = build(model, {'type': 'SGD', 'lr': 0.1}, wrapper)
    model['student'].weight.grad = torch.tensor([network])
    model['policy'].weight.grad = torch.tensor([[policy]])
    built.step()
    return model['student'].weight.grad.flatten().tolist(), model['policy'].weight.grad.item(), built


@pytest.mark.parametrize('kind', ['OptimWrapper', 'AutocastOptimWrapper'])
def test_a_spike_of_the_policy_does_not_shorten_the_networks_step(kind):
    network, policy, wrapper = clipped({'type': kind, 'clip_grad': {'max_norm': 2.0}})
    assert network == pytest.approx([1.2, 1.6])
    assert policy == pytest.approx(2.0)
    assert wrapper.grad_norm.item() == pytest.approx(5.0)


@pytest.mark.parametrize('kind', ['OptimWrapper', 'AutocastOptimWrapper'])
def test_the_policy_may_have_a_norm_of_its_own(kind):
    network, policy, wrapper = clipped({'type': kind, 'clip_grad': {'max_norm': 2.0}, 'policy': {'max_norm': 0.5}})
    assert (network, policy) == (pytest.approx([1.2, 1.6]), pytest.approx(0.5))
    assert wrapper.grad_norm.item() == pytest.approx(5.0)
    network, policy, wrapper = clipped({'type': kind, 'policy': {'max_norm': 0.5}})
    assert (network, policy) == ([3.0, 4.0], pytest.approx(0.5))
    assert wrapper.grad_norm is None
    network, policy, _ = clipped({'type': kind, 'clip_grad': {'max_norm': 2.0}, 'policy': {'max_norm': float('inf')}})
    assert (network, policy) == (pytest.approx([1.2, 1.6]), 1e6)
    network, policy, _ = clipped({
        'type': kind, 'clip_grad': {'type': 'value', 'clip_value': 3.5}, 'policy': {'max_norm': 0.5},
    })  # fmt: skip
    assert (network, policy) == (pytest.approx([3.0, 3.5]), pytest.approx(0.5))


def test_a_network_without_a_learned_policy_is_clipped_as_ever():
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    wrapper = PlainOptimWrapper(optimizer=torch.optim.SGD(weights, lr=0.1), clip_grad={'max_norm': 1.0})
    weights[0].grad, weights[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    wrapper.step()
    assert [weight.grad.item() for weight in weights] == pytest.approx([0.6, 0.8])
    assert wrapper.grad_norm.item() == pytest.approx(5.0)


def test_a_norm_is_told_once_for_each_update():
    weight = nn.Parameter(torch.zeros(1))
    wrapper = PlainOptimWrapper(
        optimizer=torch.optim.SGD([weight], lr=0.1), clip_grad={'max_norm': 1.0}, accumulative_counts=2
    )
    wrapper.initialize_count_status(nn.Identity(), 0, 4)
    norms = []
    for slope in (2.0, 4.0, 6.0, 8.0):
        wrapper.update_params(slope * weight.sum())
        norms.append(wrapper.grad_norm if wrapper.grad_norm is None else wrapper.grad_norm.item())
    assert norms == [None, 3.0, None, 7.0]  # of the mean of two


def test_an_optimizer_that_clips_all_groups_together_is_refused_for_a_learned_policy():
    with pytest.raises(
        InputError, match=r'Lamb clips .*together \(max_grad_norm=1.0\).*clip_grad=dict\(max_norm=1.0\)'
    ):
        build(Learner(), {'type': 'Lamb', 'lr': 1e-3})
    build(nn.ModuleDict({'student': nn.Linear(2, 2)}), {'type': 'Lamb', 'lr': 1e-3})
    wrapper = build(Learner(), {'type': 'Lamb', 'lr': 1e-3, 'max_grad_norm': None}, {'clip_grad': {'max_norm': 1.0}})
    assert type(wrapper.optimizer).__name__ == 'Lamb'


def test_timms_optimizers_wait_until_one_is_asked_for():
    code = (
        'import sys; import openmixup.engine; from openmixup.registry import OPTIMIZERS as o; '
        'assert "Lamb" in [*o.module_dict] and o.knows("SGD"); print("timm" in sys.modules, end=" "); '
        'lamb = o.get("Lamb"); print("timm" in sys.modules, lamb.__module__, o.module_dict["Lamb"] is lamb)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['False', 'True', 'timm.optim.lamb', 'True']


def test_every_optimizer_of_timm_that_torch_lacks_has_its_name():
    import timm.optim

    classes = {name: c for name, c in vars(timm.optim).items() if inspect.isclass(c)}
    theirs = {name for name, c in classes.items() if issubclass(c, torch.optim.Optimizer)}
    assert set(NAMES) == {name for name in theirs if not hasattr(torch.optim, name)} - {'Lookahead', 'Adahessian'}
    for name in NAMES:
        weight = nn.Parameter(torch.ones(2, 2))
        optimizer = OPTIMIZERS.build({'type': name, 'params': [weight], 'lr': 0.1})
        for _ in range(2):  # the first step of Adopt only sets up its averages
            weight.grad = torch.ones(2, 2)
            optimizer.step()
        assert not torch.equal(weight.detach(), torch.ones(2, 2)), name
    with pytest.raises(InputError, match="did you mean 'Lamb'"):
        OPTIMIZERS.get('Lamp')
    with pytest.raises(InputError, match="Lamb has no argument 'momentum'"):
        OPTIMIZERS.check({'type': 'Lamb', 'momentum': 0.9})


def test_outside_a_run_names_are_those_of_openmixup():
    """Without a scope mmengine would build its own wrapper, which reads the norm from the device at each clipping."""
    code = (
        'from torch import nn; from openmixup.engine.optim import GroupedOptimizer as G; '
        "built = G({'optimizer': {'type': 'Lamb', 'lr': 0.1}})(nn.Linear(2, 2)); "
        'print(type(built).__name__, type(built.optimizer).__name__)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['PlainOptimWrapper', 'Lamb']
