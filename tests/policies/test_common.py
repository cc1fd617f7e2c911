"""Every registered policy, with its variants, does what it says."""

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import MixPolicy, Mixup
from openmixup.registry import POLICIES
from openmixup.testing import CHECKS, PolicyCheckError, check_policy, count_operators, default_policies

POLICIES_BY_NAME = default_policies()


@pytest.mark.parametrize('check', CHECKS)
@pytest.mark.parametrize('name', POLICIES_BY_NAME)
def test_policy_does_what_it_says(name, check):
    CHECKS[check](POLICIES_BY_NAME[name])
