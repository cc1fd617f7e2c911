"""Names resolve to registered classes only, and arguments are checked before anything is built."""

from __future__ import annotations

import pytest
import torch

from openmixup.errors import InputError
from openmixup.registry import HOOKS, MODELS, OPTIMIZERS, POLICIES, accepted_arguments


@pytest.mark.parametrize('name', ['os.system', 'subprocess.check_output', 'builtins.eval', 'torch.nn.Linear', 'exec'])
def test_a_dotted_name_is_never_imported(name):
    with pytest.raises(InputError, match='is not a registered'):
        MODELS.get(name)
    with pytest.raises(InputError):
        MODELS.build({'type': name})


def test_names_of_mmengine_are_found_in_the_parent():
    assert OPTIMIZERS.get('SGD').__module__.startswith('torch.optim')
    assert HOOKS.get('ParamSchedulerHook').__module__.startswith('mmengine')
    assert HOOKS.get('mmengine.ParamSchedulerHook') is HOOKS.get('ParamSchedulerHook')
    assert HOOKS.get('CheckpointHook').__module__.startswith('openmixup')  # ours comes first


def test_hints():
    with pytest.raises(InputError, match="did you mean 'CutMix'"):
        POLICIES.build({'type': 'Cutmix'})
    with pytest.raises(InputError, match=r"CutMix has no argument 'aplha'; did you mean 'alpha'\? \(it takes alpha, "):
        POLICIES.build({'type': 'CutMix', 'aplha': 1})
    with pytest.raises(InputError, match='needs a type'):
        POLICIES.build({'alpha': 1})
    with pytest.raises(InputError, match='as dict'):
        POLICIES.build('CutMix')


def test_arguments_are_followed_through_keyword_constructors():
    class Base:
        def __init__(self, alpha, beta=1):
            pass

    class Child(Base):
        def __init__(self, gamma, **kwargs):
            super().__init__(**kwargs)

    class Open:
        def __init__(self, **kwargs):
            pass

    assert accepted_arguments(Child) == {'alpha', 'beta', 'gamma'}
    assert accepted_arguments(Base) == {'alpha', 'beta'}
    assert accepted_arguments(dict) is None
    assert accepted_arguments(Open) in (None, set())


def test_a_class_without_a_constructor_takes_nothing():
    for registry, name in ((HOOKS, 'SummaryHook'), (POLICIES, 'Vanilla')):
        with pytest.raises(InputError, match=rf"{name} has no argument 'foo' \(it takes nothing\)"):
            registry.check({'type': name, 'foo': 1})
        registry.check({'type': name})


@pytest.mark.parametrize('entry', ['CutMix', None, 3, ['CutMix'], True])
def test_only_a_dict_describes_an_object(entry):
    for refuse in (POLICIES.check, POLICIES.build):
        with pytest.raises(InputError, match='is given as dict'):
            refuse(entry)
    with pytest.raises(InputError, match=r"write \{'type': 'CutMix'\} or use --policy CutMix"):
        POLICIES.check('CutMix')
    with pytest.raises(InputError, match='type=3 is no policy'):
        POLICIES.check({'type': 3})


def test_missing_arguments_are_named_when_an_object_is_built():
    MODELS.check({'type': 'BatchPreprocessor'})
    with pytest.raises(InputError, match='BatchPreprocessor needs mean, std'):
        MODELS.build({'type': 'BatchPreprocessor'})
    with pytest.raises(InputError, match='LinearHead needs in_features'):
        MODELS.check_complete({'type': 'LinearHead', 'num_classes': 3})
    OPTIMIZERS.check_complete({'type': 'SGD', 'lr': 0.1})


def test_what_a_constructor_refuses_is_told_with_its_name():
    weights = [torch.nn.Parameter(torch.zeros(1))]
    with pytest.raises(InputError, match='SGD refuses its arguments: Invalid learning rate: -1') as caught:
        OPTIMIZERS.build({'type': 'SGD', 'lr': -1, 'params': weights})
    assert type(caught.value.__cause__) is ValueError
    with pytest.raises(InputError, match='SGD refuses its arguments'):
        OPTIMIZERS.build({'type': 'SGD', 'lr': 'fast', 'params': weights})
