"""Checks of type and device: what comes in is what goes out, nothing is read back, and few kernels are launched."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Plan
from openmixup.policies.transfer import to_device
from openmixup.randomness import keyed_generator
from openmixup.testing.report import PolicyCheckError, check, require
from openmixup.testing.scenes import draw, noise, shown, targets
from openmixup.testing.stage import is_staged, learner_of, looking, most_operators, play

__all__ = ['count_operators']

TORCH = str(Path(torch.__file__).parent)
ALLOCATIONS = ('aten::empty', 'aten::empty_like', 'aten::empty_strided', 'aten::new_empty', 'aten::new_empty_strided')


@check
def dtype_is_kept(policy: MixPolicy) -> str | None:
    """Pictures have the type of the images, also under autocast; weights and masks are floating point."""
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for seed in range(2 if is_staged(policy) else 4):
            _has_dtype(draw(policy, noise(policy, 4, 8, 10, dtype), seed, final=True), dtype, f'{dtype} images')
    if is_staged(policy):
        batch = noise(policy, 4, 8, 10)
        for seed in range(2):
            with torch.autocast('cpu', torch.bfloat16):
                plan = draw(policy, batch, seed, final=True)
            _has_dtype(plan, torch.float32, 'under autocast torch.float32 images')
    return None


def _has_dtype(plan: Plan, dtype: torch.dtype, case: str) -> None:
    for view in plan.views:
        require(view.inputs.dtype == dtype, f'{case} become {view.inputs.dtype}')
        picture, masks, weight = shown(view), view.masks, view.mixture.weight
        require(picture.dtype == dtype, f'{case}: the tap makes {picture.dtype} of a hidden stage')
        require(bool(picture.isfinite().all()), f'{case}: a picture is not finite')
        require(masks is None or masks.is_floating_point(), f'{case}: masks are not floating point')
        require(weight.is_floating_point() and bool(weight.isfinite().all()), f'{case}: a weight is not finite')
    for name, term in plan.losses.items():
        require(term.is_floating_point() and bool(term.isfinite()), f'{case}: the loss {name!r} is {term.tolist()}')


@check
def nothing_is_read_from_the_device(policy: MixPolicy) -> str | None:
    """It runs on the meta device, where there are no values, and leaves everything there."""
    batch = noise(policy, 6, 10, 12)
    batch = on_device(batch, 'meta')
    for seed in range(3 if is_staged(policy) else 8):
        try:
            found: list[tuple[str, Tensor | None]] = []
            plan = draw(policy, batch, seed, final=True)
            for view in plan.views:
                targets(plan, view)
                found += [('picture', shown(view)), ('index', view.mixture.index), ('weight', view.mixture.weight)]
                found += [('masks', view.masks)]
            found += [(f'loss {name!r}', term) for name, term in plan.losses.items()]
        except (RuntimeError, NotImplementedError, TypeError) as error:
            raise PolicyCheckError(
                f'it stops on the meta device, so it reads a value from the device: {type(error).__name__}: {error}'
            ) from error
        away = [f'{name} on {value.device}' for name, value in found if value is not None and not value.is_meta]
        require(not away, f'it does not stay on the device of the images: {", ".join(away)}')
        for view in plan.views:
            shape = tuple(view.inputs.shape)
            require(shape == batch.images.shape, f'the picture has the shape {shape}')
    return None


def on_device(batch: Batch, device: str) -> Batch:
    """``batch`` with its bank on ``device``."""
    assert batch.labels is not None
    bank = None if batch.bank is None else on_device(batch.bank, device)
    return Batch(batch.images.to(device), batch.labels.to(device), bank, batch.target)


@check
def few_operators_are_launched(policy: MixPolicy, limit: int | None = None) -> str | None:
    """Mixing a batch launches few operators on the device, at most what the class says: each costs a launch."""
    most = most_operators(policy) if limit is None else limit
    batch = on_device(noise(policy, 6, 10, 12), 'meta')
    found = max(_operators(policy, batch, seed) for seed in range(3 if is_staged(policy) else 8))
    require(found <= most, f'{found} operators run on the device, at most {most} are expected')
    return None


def count_operators(policy: MixPolicy, images: Tensor, labels: Tensor, seed: int = 0) -> int:
    """Operators that a policy runs for one batch on the device of ``images``.

    Views, allocations and copies from the host do not count, nor do the passes of networks that it looks at. With
    images on the meta device nothing is computed.

    Args:
        policy: the policy.
        images: (N, C, H, W), best on the meta device.
        labels: one per image.
        seed: of the generator that is drawn from.
    """
    return _operators(policy, Batch(images, labels), seed)


def _operators(policy: MixPolicy, batch: Batch, seed: int) -> int:
    counter = _Counter(batch.images.device)
    _watch(policy, batch, seed, counter)
    return len(counter.names)


def _watch(policy: MixPolicy, batch: Batch, seed: int, watcher: TorchDispatchMode) -> None:
    """Let ``watcher`` see what the policy runs to plan a batch, and nothing else."""
    if not is_staged(policy):
        with watcher:
            draw(policy, batch, seed)
        return
    play(policy, batch, Context(generator=torch.Generator()), final=False)  # a learner, and history it may need
    learner = learner_of(policy, device=batch.images.device)
    learner.context = Context(generator=keyed_generator('check', seed))
    bank = batch.bank if 'bank' in policy.needs else None
    assert batch.labels is not None
    with watcher:
        learner.plan(batch.images, batch.labels, bank)


@check
def host_values_travel_together(policy: MixPolicy) -> str | None:
    """What was drawn on the CPU reaches the device through :func:`to_device`, as one copy that does not wait.

    Copies by ``to`` and ``copy_`` are seen; not those of an index on the CPU or of ``torch.tensor(..., device=...)``,
    nor tables that earlier calls left in a cache.
    """
    batch = on_device(noise(policy, 6, 10, 12), 'meta')
    for seed in range(3 if is_staged(policy) else 8):
        copies = _HostCopies()
        _watch(policy, batch, seed, copies)
        require(
            not copies.places,
            f'a value of the host is copied to the device by itself ({", ".join(sorted(copies.places))}), which waits '
            'for all that runs there: hand it to openmixup.policies.transfer.to_device with the others',
        )
    return None


class _HostCopies(TorchDispatchMode):
    """Notes where values are copied from the host to the meta device other than by :func:`to_device`."""

    def __init__(self) -> None:
        super().__init__()
        self.places = set[str]()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._schema.name in ('aten::_to_copy', 'aten::copy_') and out.is_meta and not looking():
            source = args[1] if func._schema.name == 'aten::copy_' else args[0]
            if source.device.type == 'cpu' and source.ndim:  # a number travels in the launch itself
                self._note()
        return out

    def _note(self) -> None:
        frames = [frame for frame, _ in traceback.walk_stack(None)]
        if not any(frame.f_code is to_device.__code__ for frame in frames):
            caller = next(frame for frame in frames if not frame.f_code.co_filename.startswith((TORCH, __file__)))
            self.places.add(f'{Path(caller.f_code.co_filename).name}:{caller.f_lineno}')


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
        ours = any(x.device == self.device for x in touched) and not looking()
        if ours and not self._is_free(func, given):
            self.names.append(func.name())
        return out

    def _is_free(self, func: Any, given: list[Tensor]) -> bool:
        name, returns = func._schema.name, func._schema.returns
        if name in ALLOCATIONS:
            return True
        if name in ('aten::_to_copy', 'aten::copy_'):
            return given[-1].device.type == 'cpu' and self.device.type != 'cpu'
        return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)  # a view
