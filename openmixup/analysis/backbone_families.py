"""Whether each family of backbones trains with mixing: the smallest member of each takes real steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from openmixup.errors import InputError, did_you_mean
from openmixup.registry import MODELS

__all__ = [
    'LARGEST',
    'PACKAGES',
    'FamilyTrial',
    'families',
    'families_page',
    'input_size',
    'smallest_member',
    'try_family',
]

PACKAGES = {'timm': 'TimmBackbone', 'torchvision': 'TorchvisionBackbone'}
LARGEST = 300_000_000  # parameters of a member that is tried
CLASSES, IMAGES = 5, 2
POLICIES = ({'type': 'CutMix'}, {'type': 'ManifoldMix', 'layers': (1, 3)})  # the hidden layers of its default


@dataclass(frozen=True)
class FamilyTrial:
    """What came of one family.

    Attributes:
        package: 'timm' or 'torchvision'.
        family: name of its module that defines it, such as 'vision_transformer'.
        model: its member with the fewest parameters.
        parameters: of that member, without a classifier.
        size: (H, W) of its images.
        stages: hidden stages that it has; 0 if none could be named.
        reason: why it failed, in one line; '' if it passed.
    """

    package: str
    family: str
    model: str
    parameters: int
    size: tuple[int, int]
    stages: int = 0
    reason: str = ''


@cache
def families(package: str) -> dict[str, tuple[str, ...]]:
    """Names of the classification networks of a package, by the module that defines them.

    Args:
        package: 'timm' or 'torchvision'.

    Raises:
        InputError: another package.
    """
    if package == 'timm':
        import timm

        found = {name: tuple(timm.list_models(module=name)) for name in timm.list_modules()}
        return {name: members for name, members in sorted(found.items()) if members}
    if package == 'torchvision':
        from torchvision import models

        by_module: dict[str, list[str]] = {}
        for name in models.list_models(models):
            module = models.get_model_builder(name).__module__.rpartition('.')[2]
            by_module.setdefault(module, []).append(name)
        return {name: tuple(members) for name, members in sorted(by_module.items())}
    raise InputError(f'package={package!r}{did_you_mean(package, PACKAGES)}: expected one of {", ".join(PACKAGES)}.')


@cache
def smallest_member(package: str, family: str) -> tuple[str, int]:
    """The member of a family with the fewest parameters, and their number, counted without allocating any.

    Raises:
        InputError: the package has no such family.
    """
    known = families(package)
    if family not in known:
        raise InputError(f'{package} has no family {family!r}{did_you_mean(family, known)}.')
    counted = [(_count(package, name), name) for name in known[family]]
    count, name = min(counted)
    return name, count


class _NoValues(TorchFunctionMode):
    """Leaves out what fills tensors in place: initial values take most of the time of a build on the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, '__name__', '')
        fills = name.endswith('_') and not name.startswith('_') and name != 'requires_grad_'
        return args[0] if fills and args and isinstance(args[0], torch.Tensor) else func(*args, **(kwargs or {}))


def _count(package: str, name: str) -> int:
    """Parameters of a network; torchvision says them itself, with the classifier."""
    if package == 'torchvision':
        from torchvision import models

        return int(models.get_model_weights(name).DEFAULT.meta['num_params'])
    with torch.device('meta'), _NoValues():
        return sum(parameter.numel() for parameter in MODELS.build(_config(package, name)).parameters())


def _config(package: str, name: str) -> dict[str, Any]:
    return {'type': PACKAGES[package], 'model': name}


def input_size(package: str, model: str) -> tuple[int, int]:
    """(H, W) of the images that a network is made for, as its package says."""
    if package == 'timm':
        import timm

        height, width = timm.get_pretrained_cfg(model).input_size[1:]
        return int(height), int(width)
    from torchvision import models

    side = models.get_model_weights(model).DEFAULT.transforms().crop_size[0]
    return int(side), int(side)


def try_family(package: str, family: str, largest: int = LARGEST) -> FamilyTrial:
    """Build the smallest member of a family and let it take steps with CutMix and Manifold Mixup on the CPU.

    A step is a forward and a backward pass in training mode, with two images of the network's own size. Manifold Mixup
    blends at one of the hidden layers that it draws by default. Loss and gradients must be finite.

    Args:
        package: 'timm' or 'torchvision'.
        family: one of :func:`families`.
        largest: parameters up to which a member is tried; a larger one fails with that reason.
    """
    model, parameters = smallest_member(package, family)
    size = input_size(package, model)
    if parameters > largest:
        reason = f'not tried: its smallest member has {parameters / 1e6:.0f} M parameters'
        return FamilyTrial(package, family, model, parameters, size, reason=reason)
    stages = 0
    for policy in POLICIES:
        try:
            stages = _step(_config(package, model), policy, size)
        except Exception as error:  # of any kind: what the network raises is the answer
            reason = f'{policy["type"]}: {_line(error)}'
            return FamilyTrial(package, family, model, parameters, size, stages, reason)
    return FamilyTrial(package, family, model, parameters, size, stages)


def _step(backbone: dict[str, Any], policy: dict[str, Any], size: tuple[int, int]) -> int:
    """One step; the number of hidden stages.

    Raises:
        ArithmeticError: the loss or a gradient is not finite.
    """
    torch.manual_seed(0)
    head = {'type': 'LinearHead', 'num_classes': CLASSES}
    learner = MODELS.build({'type': 'MixClassifier', 'backbone': backbone, 'head': head, 'policy': policy}).train()
    images = torch.randn(IMAGES, 3, *size)
    loss, _ = learner.parse_losses(learner.loss(images, torch.arange(IMAGES)))
    loss.backward()
    if not math.isfinite(loss.item()):
        raise ArithmeticError(f'the loss is {loss.item()}')
    gradients = [parameter.grad for parameter in learner.student.parameters() if parameter.grad is not None]
    if not gradients or not all(bool(gradient.isfinite().all()) for gradient in gradients):
        raise ArithmeticError('a gradient is not finite')
    return len(learner.student.backbone.stages)


_PAGE = """\
# Backbones

<!-- Written by `python -m openmixup.analysis.backbone_families > docs/backbones.md`, which takes half an hour. -->

Any classification network of timm and torchvision can be a backbone: `dict(type='TimmBackbone', model=NAME)` or
`dict(type='TorchvisionBackbone', model=NAME)`. Of each family the member with the fewest parameters took two training
steps on a CPU, with images of its own size: one with `CutMix`, which only changes images, and one with `ManifoldMix`,
which changes a hidden stage. {passed} of {tried} families passed. Policies that change images only run with all that
was tried.
"""


def families_page(trials: Sequence[FamilyTrial]) -> str:
    """The trials as the Markdown of docs/backbones.md."""
    page = _PAGE.format(passed=sum(not trial.reason for trial in trials), tried=len(trials))
    page += (
        '\n| package | family | tried | M parameters | size | hidden stages | result |\n|---|---|---|---|---|---|---|\n'
    )
    for t in trials:
        size, result = f'{t.size[0]}x{t.size[1]}', t.reason or 'passed'
        cells = (t.package, t.family, f'`{t.model}`', f'{t.parameters / 1e6:.1f}', size, str(t.stages), result)
        page += f'| {" | ".join(cells)} |\n'
    return page


def _line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), '')
    return first if isinstance(error, InputError) else f'{type(error).__name__}: {first}'


if __name__ == '__main__':
    print(families_page([try_family(package, family) for package in PACKAGES for family in families(package)]), end='')
