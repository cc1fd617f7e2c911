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
from openmixup.policies.mixture import FORMS, Batch, Plan, View
from openmixup.testing.report import PolicyCheckError, check, require
from openmixup.testing.scenes import amount, draw, has_partner, noise, random_images, shown, targets
from openmixup.testing.stage import asked, bound, is_staged


@check
def inputs_are_not_touched(policy: MixPolicy) -> str | None:
    """Images and labels keep values and version; a mixed picture has memory of its own, and so has a hidden stage."""
    for size in (1, 2, 3, 5, 8):
        for seed in range(2 if is_staged(policy) else 6):
            batch = noise(policy, size, 9, 12, seed=seed)
            images, labels = batch.source_images, batch.source_labels
            given = [value for part in (batch, batch.bank) if part is not None for value in (part.images, part.labels)]
            versions = [None if value is None else value._version for value in given]
            plan = draw(policy, batch, seed, final=True)
            require(torch.equal(batch.source_images, images), f'the images of a batch of {size} were overwritten')
            require(torch.equal(batch.source_labels, labels), f'the labels of a batch of {size} were overwritten')
            now = [None if value is None else value._version for value in given]
            require(now == versions, 'the images or labels were written to')
            for view in plan.views:
                require(
                    view.inputs.shape == batch.images.shape,
                    f'{size} images of {_size(batch.images)} became {len(view.inputs)} of {_size(view.inputs)}',
                )
                _has_own_memory(view, batch)
    return None


def _size(images: Tensor) -> str:
    return 'x'.join(map(str, images.shape[1:]))


def _has_own_memory(view: View, batch: Batch) -> None:
    if view.tap is not None:
        hidden = random_images(len(batch), 4, 6, channels=5)
        before, version = hidden.clone(), hidden._version
        changed = view.tap.function(hidden)
        require(torch.equal(hidden, before) and hidden._version == version, 'the tap writes to the hidden stage')
        require(changed.shape == hidden.shape, f'the tap makes {tuple(changed.shape)} of {tuple(hidden.shape)}')
        return
    parts = [part for part in (batch, batch.bank) if part is not None]
    theirs = [part.images.untyped_storage().data_ptr() for part in parts]
    apart = not has_partner(view) or view.inputs.untyped_storage().data_ptr() not in theirs
    require(apart, 'the picture shares memory with the images')


@check
def one_image_is_left_alone(policy: MixPolicy) -> str | None:
    """A batch of one has no partner: nothing is mixed."""
    if 'bank' in policy.needs:
        return 'not run: it takes partners from a second loader'
    images = random_images(1, 9, 12)
    for seed in range(4):
        plan = draw(policy, Batch(images, torch.tensor([2])), seed, final=True)
        for view in plan.views:
            alone = not has_partner(view) and torch.equal(view.inputs, images) and view.tap is None
            require(alone, 'a batch of one was changed')
            target = targets(plan, view)
            expected = torch.eye(target.shape[1])[2:3]
            require(torch.equal(target, expected), f'the target of a batch of one became {target[:, :4].tolist()}')
    return None


@check
def memory_layout_does_not_matter(policy: MixPolicy) -> str | None:
    """Strided and channels_last images give the same picture as contiguous ones."""
    plain = noise(policy, 6, 10, 14)
    for name, lay_out in (('channels_last', _channels_last), ('strided', _strided)):
        bank = None if plain.bank is None else Batch(lay_out(plain.bank.images), plain.bank.labels)
        batch = Batch(lay_out(plain.images), plain.labels, bank)
        for seed in range(2 if is_staged(policy) else 4):
            expected, got = draw(policy, plain, seed, final=True), draw(policy, batch, seed, final=True)
            require(_same(expected, got, 1e-5), f'{name} images give another picture than contiguous ones')
    return None


def _channels_last(images: Tensor) -> Tensor:
    return images.to(memory_format=torch.channels_last)


def _strided(images: Tensor) -> Tensor:
    return torch.stack([images, images], -1).flatten(-2)[..., ::2]


@check
def wrong_inputs_are_refused(policy: MixPolicy) -> str | None:
    """Labels and images of a wrong form raise InputError, and the text names the accepted forms.

    A policy that needs a network is refused by ``mix``, with its needs and the remedy.
    """
    if asked(policy):
        message = _refusal(f'mix() without {", ".join(asked(policy))}', policy, random_images(4, 6, 6), torch.arange(4))
        missing = [word for word in (*asked(policy), 'MixClassifier') if word not in message]
        require(not missing, f'mix() is refused, but the message does not name {", ".join(missing)}: {message}')
        return None
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
    batch, pictures = noise(bound(policy), 8, 12, 16), []
    with _kept_states():
        for seed in range(3 if is_staged(policy) else 6):
            found = []
            for poison in (1, 2):
                _seed_all(poison)
                before = _states()
                found.append(draw(policy, batch, seed, final=True))
                if len(found[-1].views) == 1 and not asked(policy):
                    policy.mix(batch.images, batch.labels)  # without a generator: a private stream
                changed = [name for name, state in _states().items() if not _equal_states(state, before[name])]
                require(not changed, f'the global random state of {", ".join(changed)} was advanced')
            require(
                _same(found[0], found[1]),
                'the same generator state gives another mixture: a global random state has a part',
            )
            pictures.append(found[0])
    if policy.rate > 0:
        more = (draw(policy, batch, seed, final=True) for seed in range(6, _enough(policy)))
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
    if asked(policy):
        return f'not run: mix() refuses a policy that needs {", ".join(asked(policy))}'
    images, labels = random_images(6, 12, 16), torch.arange(6)
    if len(draw(policy, Batch(images, labels)).views) != 1:
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
    batch = noise(bound(policy), 8, 6, 6)
    policy.eval()
    for seed in range(amount(policy, 20)):
        plan = draw(policy, batch, seed, final=True)
        require(not plan.losses, f'it has losses in eval mode: {", ".join(plan.losses)}')
        for view in plan.views:
            alone = not has_partner(view) and torch.equal(view.inputs, batch.images) and view.tap is None
            require(alone, 'it mixes in eval mode')
            target = targets(plan, view)
            require(torch.equal(target, torch.eye(target.shape[1])[:8]), 'it changes the labels in eval mode')
    return None


def _same(first: Plan, second: Plan, atol: float = 0.0) -> bool:
    pairs = itertools.zip_longest(first.views, second.views)
    return all(one is not None and two is not None and _same_view(one, two, atol) for one, two in pairs)


def _same_view(first: View, second: View, atol: float) -> bool:
    return (
        (first.tap is None) == (second.tap is None)
        and first.mixture.index.shape == second.mixture.index.shape
        and torch.equal(first.mixture.index, second.mixture.index)
        and torch.allclose(first.mixture.weight, second.mixture.weight, rtol=0, atol=atol)
        and torch.allclose(shown(first), shown(second), rtol=0, atol=atol)
    )
