"""Names resolve to registered classes only, and arguments are checked before anything is built."""

from __future__ import annotations

import pytest

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
