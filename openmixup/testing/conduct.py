"""Checks of good conduct: inputs, wrong inputs, randomness, evaluation (M3, M4, M5, M7)."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.mixture import FORMS, Plan, View
from openmixup.testing.report import PolicyCheckError, check, require
from openmixup.testing.scenes import draw, has_partner, random_images


@check
def inputs_are_not_touched(policy: MixPolicy) -> str | None:
    """Images and labels keep values and version; a mixed picture has memory of its own."""
    for size in (1, 2, 3, 5, 8):
        for seed in range(6):
            images, labels = random_images(size, 9, 12, seed=seed), torch.arange(size)
            before, versions = images.clone(), (images._version, labels._version)
            plan = draw(policy, images, labels, seed)
            require(torch.equal(images, before), f'the images of a batch of {size} were overwritten')
            require(torch.equal(labels, torch.arange(size)), f'the labels of a batch of {size} were overwritten')
            require((images._version, labels._version) == versions, 'the images or labels were written to')
            ours = images.untyped_storage().data_ptr()
            for view in plan.views:
                require(view.inputs.shape == images.shape, f'{size} images became {tuple(view.inputs.shape)}')
                apart = not has_partner(view) or view.inputs.untyped_storage().data_ptr() != ours
                require(apart, 'the picture shares memory with the images')
    return None


@check
def one_image_is_left_alone(policy: MixPolicy) -> str | None:
    """A batch of one has no partner: nothing is mixed."""
    images = random_images(1, 9, 12)
    for seed in range(4):
        for view in draw(policy, images, torch.tensor([2]), seed).views:
            require(not has_partner(view) and torch.equal(view.inputs, images), 'a batch of one was changed')
            target = view.mixture.soft(torch.tensor([2]), 3)
            require(torch.equal(target, torch.eye(3)[2:]), f'the target of a batch of one became {target.tolist()}')
    return None


@check
def memory_layout_does_not_matter(policy: MixPolicy) -> str | None:
    """Strided and channels_last images give the same picture as contiguous ones."""
    plain = random_images(6, 10, 14)
    strided = torch.stack([plain, plain], -1).flatten(-2)[..., ::2]
    for name, images in (('channels_last', plain.to(memory_format=torch.channels_last)), ('strided', strided)):
        for seed in range(4):
            expected, got = draw(policy, plain, seed=seed), draw(policy, images, seed=seed)
            require(_same(expected, got, 1e-5), f'{name} images give another picture than contiguous ones')
    return None


@check
def wrong_inputs_are_refused(policy: MixPolicy) -> str | None:
    """Labels and images of a wrong form raise InputError, and the text names the accepted forms."""
    images, labels = random_images(4, 6, 6), torch.arange(4)
    wrong = {
        'float class indices (N,)': labels.float(),
        'integer multi-hot labels (N, C)': torch.ones(4, 3, dtype=torch.long),
        'labels of a wrong length': torch.arange(5),
        'bool labels': labels > 1,
        'complex labels': torch.zeros(4, 3, dtype=torch.complex64),
        'labels with three dimensions': torch.zeros(4, 3, 2),
        'a list of labels': [0, 1, 2, 3],
    }
    for name, given in wrong.items():
        message = _refusal(name, policy, images, given)
        require(FORMS in message, f'{name} are refused, but the message does not name the accepted forms: {message}')
    _refusal('an unknown target kind', policy, images, labels, target='nothing')
    for name, bad in (('uint8 images', (images * 9).byte()), ('images of three dimensions', images[0])):
        message = _refusal(name, policy, bad, labels)
        require('(N, C, H, W)' in message, f'{name} are refused, but the message does not name (N, C, H, W): {message}')
    return None


def _refusal(name: str, policy: MixPolicy, images: Tensor, labels: Any, **options: Any) -> str:
    """The message by which ``mix`` refuses."""
    try:
        policy.mix(images, labels, **options)
    except InputError as error:
        return str(error)
    except Exception as error:
        raise PolicyCheckError(f'{name}: {type(error).__name__} ({error}) instead of InputError') from error
    raise PolicyCheckError(f'{name} are not refused')


@check
def draws_come_from_the_generator(policy: MixPolicy) -> str | None:
    """The same generator gives the same picture, others give others, and no global state has a part in it."""
    images, labels = random_images(8, 12, 16), torch.arange(8)
    pictures = []
    with _kept_states():
        for seed in range(6):
            found = []
            for poison in (1, 2):
                _seed_all(poison)
                before = _states()
                found.append(draw(policy, images, labels, seed))
                if len(found[-1].views) == 1:
                    policy.mix(images, labels)  # without a generator: a private stream
                changed = [name for name, state in _states().items() if not _equal_states(state, before[name])]
                require(not changed, f'the global random state of {", ".join(changed)} was advanced')
            require(
                _same(found[0], found[1]),
                'the same generator state gives another mixture: a global random state has a part',
            )
            pictures.append(found[0])
    if policy.rate > 0:
        more = (draw(policy, images, labels, seed) for seed in range(6, _enough(policy)))
        others = itertools.chain(pictures[1:], more)
        require(any(not _same(pictures[0], other) for other in others), 'all seeds give the same picture')
    return None


def _enough(policy: MixPolicy) -> int:
    """So many draws that some of them are mixed."""
    return min(math.ceil(20 / policy.rate), 2000)


@check
def calls_without_a_generator_differ(policy: MixPolicy) -> str | None:
    """Without a generator each call of ``mix`` draws anew, and so does each of two equal policies."""
    if policy.rate <= 0:
        return 'not run: it never mixes'
    images, labels = random_images(6, 12, 16), torch.arange(6)
    if len(draw(policy, images).views) != 1:
        return 'not run: mix() gives one view only'
    again = type(policy)(**policy.arguments()).train()
    calls = _enough(policy)
    first, second = ([one.mix(images, labels).inputs for _ in range(calls)] for one in (policy, again))
    require(
        any(not torch.equal(first[0], other) for other in first[1:]),
        f'{calls} calls of mix() without a generator give the same picture: its stream does not go on',
    )
    require(
        any(not torch.equal(one, other) for one, other in zip(first, second, strict=True)),
        'two equal policies draw the same without a generator: their streams begin alike',
    )
    return None


@contextmanager
def _kept_states() -> Iterator[None]:
    before = _states()
    try:
        yield
    finally:
        random.setstate(before['python'])
        torch.set_rng_state(before['torch'])
        if 'numpy' in before:
            sys.modules['numpy'].random.set_state(before['numpy'])


def _states() -> dict[str, Any]:
    """Global random states by library; numpy only if someone has imported it."""
    states = {'python': random.getstate(), 'torch': torch.get_rng_state()}
    numpy = sys.modules.get('numpy')
    return states if numpy is None else {**states, 'numpy': numpy.random.get_state()}


def _seed_all(seed: int) -> None:
    # By hand and not by torch.manual_seed: that sets the devices' generators too, which the caller wants to keep.
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if 'numpy' in sys.modules:
        sys.modules['numpy'].random.seed(seed)


def _equal_states(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, Tensor) else repr(first) == repr(second)


@check
def eval_mode_never_mixes(policy: MixPolicy) -> str | None:
    """In eval mode the batch stays as it is."""
    images, labels = random_images(8, 6, 6), torch.arange(8)
    policy.eval()
    for seed in range(20):
        for view in draw(policy, images, labels, seed).views:
            require(not has_partner(view) and torch.equal(view.inputs, images), 'it mixes in eval mode')
            require(torch.equal(view.mixture.soft(labels, 8), torch.eye(8)), 'it changes the labels in eval mode')
    return None


def _same(first: Plan, second: Plan, atol: float = 0.0) -> bool:
    pairs = itertools.zip_longest(first.views, second.views)
    return all(one is not None and two is not None and _same_view(one, two, atol) for one, two in pairs)


def _same_view(first: View, second: View, atol: float) -> bool:
    return (
        first.mixture.index.shape == second.mixture.index.shape
        and torch.equal(first.mixture.index, second.mixture.index)
        and torch.equal(first.mixture.weight, second.mixture.weight)
        and torch.allclose(first.inputs, second.inputs, rtol=0, atol=atol)
    )
