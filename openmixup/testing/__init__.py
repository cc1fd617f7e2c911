"""Checks that a mixing policy does what it says, for this project's policies and for your own.

from openmixup.testing import check_policy
check_policy(MyPolicy, raise_on_failure=True)
"""

from __future__ import annotations

# The order of these imports is the order of the checks in a report.
from openmixup.testing import conduct, construction, devices, laws, learning, pictures, places  # noqa: F401, I001
from openmixup.testing.defaults import default_policies
from openmixup.testing.devices import count_operators
from openmixup.testing.report import CHECKS, CheckResult, PolicyCheckError, check_policy

__all__ = ['CHECKS', 'CheckResult', 'PolicyCheckError', 'check_policy', 'count_operators', 'default_policies']
