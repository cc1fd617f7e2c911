"""Parameter groups and mixed precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from openmixup.engine.optim import AutocastOptimWrapper
from openmixup.errors import InputError
from openmixup.registry import OPTIM_WRAPPER_CONSTRUCTORS


def build(model: nn.Module, **rules):
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build({
        'type': 'GroupedOptimizer', 'paramwise_cfg': rules or None,
        'optim_wrapper_cfg': {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1, 'weight_decay': 0.01}},
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


def test_float16_on_a_cpu_is_refused():
    model = nn.Linear(4, 2)
    with pytest.raises(InputError, match="use 'bfloat16' on a CPU"):
        AutocastOptimWrapper('float16', optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(InputError, match="dtype='fp8'"):
        AutocastOptimWrapper('fp8', optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
