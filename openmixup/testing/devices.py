"""Checks of type and device: what comes in is what goes out, nothing is read back, and few kernels are launched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from openmixup.policies.base import MixPolicy
from openmixup.testing.report import PolicyCheckError, check, require
from openmixup.testing.scenes import draw, random_images

__all__ = ['count_operators']

ALLOCATIONS = ('aten::empty', 'aten::empty_like', 'aten::empty_strided', 'aten::new_empty', 'aten::new_empty_strided')


@check
def dtype_is_kept(policy: MixPolicy) -> str | None:
    """Pictures have the type of the images; weights and masks are floating point."""
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for seed in range(4):
            for view in draw(policy, random_images(4, 8, 10, dtype), seed=seed).views:
                require(view.inputs.dtype == dtype, f'{dtype} images become {view.inputs.dtype}')
                require(bool(view.inputs.isfinite().all()), f'a picture of {dtype} is not finite')
                masks = view.masks
                require(masks is None or masks.is_floating_point(), 'masks are not floating point')
    return None


@check
def nothing_is_read_from_the_device(policy: MixPolicy) -> str | None:
    """It runs on the meta device, where there are no values, and leaves everything there."""
    images, labels = random_images(6, 10, 12).to('meta'), torch.arange(6).to('meta')
    for seed in range(8):
        try:
            found: list[tuple[str, Tensor | None]] = []
            views = draw(policy, images, labels, seed).views
            for view in views:
                view.mixture.soft(labels, 6)
                found += [('picture', view.inputs), ('index', view.mixture.index), ('weight', view.mixture.weight)]
                found += [('masks', view.masks)]
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise PolicyCheckError(
                f'it stops on the meta device, so it reads a value from the device: {type(error).__name__}: {error}'
            ) from error
        away = [f'{name} on {value.device}' for name, value in found if value is not None and not value.is_meta]
        require(not away, f'it does not stay on the device of the images: {", ".join(away)}')
        for view in views:
            require(view.inputs.shape == images.shape, f'the picture has the shape {tuple(view.inputs.shape)}')
    return None


@check
def few_operators_are_launched(policy: MixPolicy, limit: int = 12) -> str | None:
    """Mixing a batch launches few operators on the device: each costs the time of a launch."""
    images, labels = random_images(6, 10, 12).to('meta'), torch.arange(6).to('meta')
    most = max(count_operators(policy, images, labels, seed) for seed in range(8))
    require(most <= limit, f'{most} operators run on the device, at most {limit} are expected')
    return None


def count_operators(policy: MixPolicy, images: Tensor, labels: Tensor, seed: int = 0) -> int:
    """Operators that a policy runs for one batch on the device of ``images``.

    Views, allocations and copies from the host do not count. With images on the meta device nothing is computed.

    Args:
        policy: the policy.
        images: (N, C, H, W), best on the meta device.
        labels: one per image.
        seed: of the generator that is drawn from.
    """
    with _Counter(images.device) as counter:
        draw(policy, images, labels, seed)
    return len(counter.names)


class _Counter(TorchDispatchMode):
    """Notes the operators that touch one device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.names = device, list[str]()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        touched = [*given, *(x for x in tree_leaves(out) if isinstance(x, Tensor))]
        if any(x.device == self.device for x in touched) and not self._is_free(func, given):
            self.names.append(func.name())
        return out

    def _is_free(self, func: Any, given: list[Tensor]) -> bool:
        name, returns = func._schema.name, func._schema.returns
        if name in ALLOCATIONS:
            return True
        if name in ('aten::_to_copy', 'aten::copy_'):
            return given[-1].device.type == 'cpu' and self.device.type != 'cpu'
        return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)  # a view
