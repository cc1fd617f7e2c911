import json
import subprocess
import sys

import pytest

import openmixup.policies as policies

CODE = """
import json, sys
import {module}
heavy = ('mmengine.runner', 'timm', 'torchvision', 'cv2', 'sklearn', 'pytest', 'scipy')
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


@pytest.mark.parametrize('module', ['openmixup.policies', 'openmixup.testing', 'openmixup.policies.adapters'])
def test_policies_load_nothing_heavy(module):
    done = subprocess.run(
        [sys.executable, '-c', CODE.format(module=module)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_a_registered_policy_is_an_attribute_of_the_package():
    assert policies.CutMix.__name__ == 'CutMix'
    assert 'CutMix' in dir(policies)
    with pytest.raises(AttributeError, match='known: .*CutMix'):
        policies.NoSuchPolicy  # noqa: B018
