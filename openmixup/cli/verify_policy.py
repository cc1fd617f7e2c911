"""``tools/verify_policy.py``: check a policy of your own, and look at what it does."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openmixup.cli import find_modules_here
from openmixup.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from openmixup.policies import MixPolicy

__all__ = ['main']


def main(argv: Sequence[str] | None = None) -> int:
    """Run all checks, print one line for each and draw a gallery; 1 if something is off."""
    parser = argparse.ArgumentParser(
        prog='verify_policy', description='Check that a mixing policy does what it says: labels, rates, randomness, ...'
    )
    parser.add_argument('policy', metavar='MODULE:CLASS | NAME', help='your class, or the name of a registered policy')
    parser.add_argument('--args', nargs='+', default=[], metavar='NAME=VALUE', help='arguments of its constructor')
    parser.add_argument('--out', default='verify.png', help='PNG file to write (default: %(default)s)')
    args = parser.parse_args(argv)

    policy = _policy(args.policy, dict(_argument(text) for text in args.args))
    from openmixup.testing import check_policy

    results = check_policy(policy)
    for result in results:
        if result.ok:
            print(f'ok   {result.name}' + (f' ({result.message})' if result.message else ''))
        else:
            print(f'OFF  {result.name}: {result.message}')
    off = sum(not result.ok for result in results)
    print(f'{policy!r}: ' + (f'{off} of {len(results)} checks are off' if off else f'all {len(results)} checks are ok'))
    _draw(policy, args.out)
    return int(off > 0)


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition('=')
    if not equals or not name.isidentifier():
        raise InputError(f'--args {text}: expected NAME=VALUE, as alpha=0.3.')
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a word needs no quotes


def _policy(name: str, arguments: dict[str, Any]) -> MixPolicy:
    from openmixup.policies import MixPolicy
    from openmixup.registry import POLICIES

    if ':' not in name:
        if name in POLICIES.module_dict:
            return POLICIES.build({'type': name, **arguments})
        raise InputError(
            f'{name!r} is no registered policy{did_you_mean(name, POLICIES.module_dict)}: '
            'give your own as MODULE:CLASS, for example my_module:MyPolicy.'
        )
    cls = _class(*name.split(':', 1))
    if not (isinstance(cls, type) and issubclass(cls, MixPolicy)):
        raise InputError(f'{name} is no mixing policy: derive it from openmixup.policies.MixPolicy or a subclass.')
    try:
        return cls(**arguments)
    except TypeError as error:
        raise InputError(f'{name} cannot be built from {arguments}: {error}.') from error


def _class(module_name: str, class_name: str) -> Any:
    """The class of a module."""
    import importlib

    find_modules_here()
    module_name = module_name.removesuffix('.py').replace('/', '.')
    if not module_name or not class_name:
        raise InputError(f'{module_name}:{class_name} lacks a part: expected MODULE:CLASS, as my_module:MyPolicy.')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{module_name}.'.startswith(f'{error.name}.'):
            raise  # the module is there, but something that it imports is not
        raise InputError(
            f'there is no module {module_name!r}: run this where {module_name.split(".")[0]}.py lies, or install it.'
        ) from error
    if not hasattr(module, class_name):
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise InputError(f'module {module_name!r} has no class {class_name!r}{did_you_mean(class_name, classes)}.')
    return getattr(module, class_name)


def _draw(policy: MixPolicy, path: str) -> None:
    """A gallery of scikit-learn's digits: small, real, and there without a download."""
    import torch
    from sklearn.datasets import load_digits

    from openmixup.analysis.gallery import mix_gallery, write_png

    digits = load_digits()
    images = torch.from_numpy(digits.images[:8]).float()[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3) / 16
    labels = torch.from_numpy(digits.target[:8]).long()
    try:
        view = policy.mix(images, labels, torch.Generator().manual_seed(0))
    except Exception as error:  # what is off is printed already
        print(f'no picture: mix() stopped with {type(error).__name__}: {error}')
        return
    print(f'written: {write_png(path, mix_gallery(images, view, labels, rows=8))}')
