"""Packaging: the settings of the tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / 'openmixup' / '__init__.py').read_text())[1]
REQUIREMENTS = [
    line for line in (ROOT / 'requirements.txt').read_text().splitlines() if line.strip() and not line.startswith('#')
]

setup(
    name='openmixup',
    version=VERSION,
    description='Mixup augmentation for visual representation learning: every method, any backbone, one benchmark',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    # The configs travel inside the package, so that an installed openmixup trains without a checkout.
    packages=[*find_packages(include=['openmixup', 'openmixup.*']), 'openmixup.configs'],
    package_dir={'openmixup.configs': 'configs'},
    package_data={'openmixup.configs': ['**/*.py', '*/*.py', '*.py'], 'openmixup.benchmark': ['assets/*']},
    install_requires=REQUIREMENTS,
    entry_points={'console_scripts': ['openmixup = openmixup.cli:main']},
)
