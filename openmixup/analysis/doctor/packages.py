"""The packages that are installed: their versions, whether they fit together, and whether there is one openmixup."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

import openmixup
from openmixup.analysis.doctor.report import Finding, brief

__all__ = ['one_package', 'pair', 'python', 'versions']

# other distributions of the same modules
SAME = {
    'opencv-python': ('opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless'),
    'mmcv-lite': ('mmcv',),
    'pillow': ('pillow-simd',),
}
HERE = Path(openmixup.__file__).resolve().parent


def requirements() -> list[str]:
    """What openmixup needs, as in ``torch>=2.6``: by its checkout, else by what pip noted."""
    file = HERE.parent / 'requirements.txt'
    if file.is_file():
        return [line for line in file.read_text().splitlines() if line.strip() and not line.startswith('#')]
    return [line for line in metadata.requires('openmixup') or () if 'extra ==' not in line]


def python() -> Iterator[Finding]:
    """The version of Python."""
    from packaging.specifiers import SpecifierSet

    setup = HERE.parent / 'setup.py'
    found = re.search(r"python_requires='(.+?)'", setup.read_text()) if setup.is_file() else None
    wanted = found[1] if found else str(metadata.metadata('openmixup')['Requires-Python'])
    version = platform.python_version()
    level = 'ok' if SpecifierSet(wanted).contains(version, prereleases=True) else 'FAIL'
    yield Finding('python', level, version, wanted, 'make an environment with a newer Python', {'version': version})


def versions() -> Iterator[Finding]:
    """One line for each package that is missing or out of its range, else one for all."""
    from packaging.requirements import Requirement

    found, off = {}, []
    for requirement in map(Requirement, requirements()):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        name, wanted = requirement.name, requirement.specifier
        version = next(filter(None, map(_version, (name, *SAME.get(name, ())))), None)
        if version is None:
            remedy = f"run `pip install '{requirement}'`"
            off.append(Finding(name, 'FAIL', 'not installed', str(wanted), remedy))
        elif not wanted.contains(version, prereleases=True):
            remedy = f"run `pip install '{requirement}'`"
            off.append(Finding(name, 'FAIL', version, str(wanted), remedy, {'version': version}))
        found[name] = version
    yield from off
    if not off:
        shown = ', '.join(f'{name} {version}' for name, version in found.items())
        yield Finding('packages', 'ok', shown, 'the versions of requirements.txt or newer', values=found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def pair() -> Iterator[Finding]:
    """Whether torchvision was built for this torch: what it asks for, and its operator that breaks otherwise."""
    from packaging.requirements import Requirement

    try:
        import torch
    except Exception as error:
        yield Finding('torch', 'FAIL', f'it cannot be imported ({brief(error)})', '', 'install it again')
        return
    try:
        asked = [Requirement(line) for line in metadata.requires('torchvision') or ()]
        vision = metadata.version('torchvision')
    except metadata.PackageNotFoundError:
        return  # said above
    wanted = next((requirement.specifier for requirement in asked if requirement.name == 'torch'), None)
    found = f'torchvision {vision} with torch {torch.__version__}'
    expected = f'torch{wanted or ""} for it, and a working operator nms'
    remedy = 'install both in one command, `pip install --upgrade torch torchvision`, with one --index-url'
    values = {'torch': str(torch.__version__), 'torchvision': vision}
    fits = wanted is None or wanted.contains(str(torch.__version__), prereleases=True)
    problem = _try_nms()
    level = 'FAIL' if problem or not fits else 'ok'
    yield Finding('torchvision', level, found + (f', where nms stops ({problem})' if problem else ''), expected, remedy,
                  values)  # fmt: skip


def _try_nms() -> str:
    """Why ``torchvision.ops.nms`` does not work on each device that there is; empty if it does."""
    try:
        import torch
        from torchvision.ops import nms

        for device in ('cpu', 'cuda') if torch.cuda.is_available() else ('cpu',):
            kept = nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]], device=device), torch.ones(2, device=device), 0.5)
            if len(kept) != 1:
                return f'two equal boxes became {len(kept)} on {device}'
    except Exception as error:  # of the import, of the operator or of the device
        return brief(error)
    return ''


def one_package() -> Iterator[Finding]:
    """Whether another package named openmixup is on the path or installed, which a run may import in its place."""
    own = openmixup.__version__
    copies = [
        (folder.resolve(), _stated_version(folder)) for folder in map(_package_in, sys.path) if folder is not None
    ]
    for distribution in metadata.distributions():
        place = _location(distribution)
        if (distribution.metadata['Name'] or '').lower() == 'openmixup' and place.is_dir():
            copies.append((place, distribution.version))
    others = {place: version for place, version in copies if (place, version) != (HERE, own)}
    older = {place: version for place, version in others.items() if version != own}
    values = {'version': own, 'path': str(HERE), 'others': {str(place): version for place, version in others.items()}}
    expected = 'one package of that name'
    if not others:
        yield Finding('openmixup', 'ok', f'{own} in {HERE}', expected, values=values)
        return
    place, version = next(iter((older or others).items()))
    found = f'{own} in {HERE}, and {version} in {place}'
    remedy = 'run `pip uninstall openmixup` until none is left, then `pip install .` in the folder that you mean'
    yield Finding('openmixup', 'FAIL' if older else 'warn', found, expected, remedy, values)


def _package_in(entry: str) -> Path | None:
    """The folder of a package openmixup that an entry of the path leads to; None if there is none."""
    folder = Path(entry or '.') / 'openmixup'
    return folder if (folder / '__init__.py').is_file() else None


def _stated_version(folder: Path) -> str:
    """The ``__version__`` of a package that is not imported; 'an unknown version' if it does not say."""
    for name in ('__init__.py', 'version.py'):
        file = folder / name
        stated = re.search(r"""^__version__ = ['"](.+?)['"]""", file.read_text(), re.M) if file.is_file() else None
        if stated:
            return stated[1]
    return 'an unknown version'


def _location(distribution: metadata.Distribution) -> Path:
    """The folder of the package openmixup of an installed distribution, in a checkout too."""
    noted = json.loads(distribution.read_text('direct_url.json') or '{}')
    if noted.get('dir_info', {}).get('editable'):
        return Path(unquote(urlparse(noted['url']).path)).resolve() / 'openmixup'
    return Path(str(distribution.locate_file('openmixup'))).resolve()
