"""A training step made again from its keys: its samples, its batch, and the first value in it that is not finite."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from openmixup.datasets.loading import BatchLoader
from openmixup.datasets.samplers import BankSampler, EpochBatchSampler
from openmixup.engine.distributed import learner_of
from openmixup.engine.loops import IterLoop, seed_noise
from openmixup.policies import Batch, Context, Plan
from openmixup.randomness import derive_seed

__all__ = [
    'Findings', 'bad_gradients', 'bad_weights', 'inspect_step', 'rebuild_batch', 'sample_ids', 'sample_indices',
    'step_context',
]  # fmt: skip


START = 0, 0, 0  # origin of a run whose batches never changed their size


def step_context(runner: Any, step: int) -> Context:
    """The context that a training step of this process had or will have."""
    loop = runner.train_loop
    if isinstance(loop, IterLoop):
        _, begin, before = loop.origin
        samples = before + (step - begin) * runner.batch_size * runner.world_size
        epoch = samples // len(runner.dataset('train'))
    else:
        epoch = step // len(loop.dataloader)
    return Context(seed=runner.seed, step=step, rank=runner.rank, epoch=epoch, progress=step / loop.max_iters)


def sample_indices(
    loader: BatchLoader, step: int, rank: int | None = None, origin: tuple[int, int, int] = START
) -> list[int]:
    """What the loader's sampler asks the data set for at a step, without touching the loader.

    Args:
        loader: of the training batches.
        step: number of the micro-batch, counted from 0 over the whole run.
        rank: number of the process; None: the loader's own.
        origin: that of the loop, behind which the step is: where the run went on with batches of another size.

    Returns:
        Indices of the batch, then those of its bank if there is one; both may carry an epoch, as
        ``index + epoch * length``.
    """
    epoch, begin, before = origin
    sampler: Any = copy.copy(loader.batch_sampler)
    batches = sampler
    if isinstance(sampler, BankSampler):
        batches = sampler.batches = copy.copy(sampler.batches)
    if rank is not None:
        batches.rank = rank
    if isinstance(batches, EpochBatchSampler):
        behind = begin <= step < (epoch + 1) * len(batches)
        batches.set_epoch(*((epoch, step - begin, before) if behind else divmod(step, len(batches))))
    else:
        batches.start_batch, batches.start_sample = step - begin, before
    return next(iter(sampler))


def sample_ids(
    loader: BatchLoader, step: int, rank: int | None = None, origin: tuple[int, int, int] = START
) -> tuple[list[int], list[int]]:
    """Numbers in the data set of the samples of a step, and of those of its bank; arguments as above."""
    dataset: Any = loader.dataset
    numbers = [index % len(dataset) for index in sample_indices(loader, step, rank, origin)]
    sampler = loader.batch_sampler
    if not isinstance(sampler, BankSampler):
        return numbers, []
    own = len(numbers) - (sampler.batch_size or len(numbers) // 2)
    return numbers[:own], numbers[own:]


def rebuild_batch(loader: BatchLoader, step: int, origin: tuple[int, int, int] = START) -> dict[str, Tensor]:
    """The loaded batch of a step of this process, as its loader made it; sets the data set to the step's epoch."""
    dataset: Any = loader.dataset
    indices = sample_indices(loader, step, origin=origin)
    sampler: Any = loader.batch_sampler
    if isinstance(getattr(sampler, 'batches', sampler), EpochBatchSampler) and hasattr(dataset, 'set_epoch'):
        dataset.set_epoch(step // len(sampler))
    whole = getattr(dataset, '__getitems__', None)
    return loader.collate_fn(whole(indices) if whole else [dataset[index] for index in indices])


@dataclass
class Findings:
    """What a step that was made again shows.

    Attributes:
        names: what is not finite, in the order in which a step makes it: images, weights, masks, mixed images, logits,
            loss terms, gradients. What comes first is the cause, as far as tensors tell.
        rows: places in the batch of images that are not finite before they are mixed.
        weights: names of weights that are not finite.
        terms: loss terms by name.
        plan: what the policy made of the batch.
        error: what kept the step from being made again to its end, if anything.
    """

    names: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    terms: dict[str, float] = field(default_factory=dict)
    plan: Plan | None = None
    error: str = ''

    def look(self, name: str, value: Any) -> None:
        """Note ``name`` if ``value`` is a tensor with an entry that is not finite."""
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
            self.names.append(name)


def bad_weights(learner: Any) -> list[str]:
    """Names of the weights that are not finite."""
    return [name for name, value in learner.named_parameters() if not bool(value.isfinite().all())]


def bad_gradients(learner: Any) -> list[str]:
    """Names of the weights whose gradients are not finite."""
    named = learner.named_parameters()
    return [name for name, value in named if value.grad is not None and not bool(value.grad.isfinite().all())]


def inspect_step(learner: Any, wrapper: Any, batch: dict[str, Tensor], context: Context) -> Findings:
    """Make a step again up to its gradients, and look at each tensor on the way.

    It draws as the step did and needs the weights and the policy's history of before it. Buffers and history move as in
    any step; weights and gradients are not touched. All processes must call it where BatchNorm is synchronised.

    Args:
        learner: the learner without a wrapper.
        wrapper: the optimizer wrapper, for its precision.
        batch: as the loader made it.
        context: of the step.
    """
    found, last_plan = Findings(weights=bad_weights(learner)), getattr(learner, 'last_plan', None)
    try:
        _make_again(found, learner, wrapper, batch, context)
    except Exception as error:  # a report of a failure must not fail in its turn
        found.error = f'{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ""}'
    learner.last_plan = last_plan
    return found


def _make_again(found: Findings, learner: Any, wrapper: Any, batch: dict[str, Tensor], context: Context) -> None:
    learner.context = learner.data_preprocessor.context = context
    seed_noise(derive_seed(context.seed, 'noise', context.step, context.rank))
    learner.train()
    with wrapper.optim_context(learner):
        for name, value in batch.items():
            found.look(f'loaded {name}', value)
        data = learner.data_preprocessor(batch, True)
        for name in ('inputs', 'bank_inputs'):
            found.look(f'{name} behind the data_preprocessor', data.get(name))
        found.rows = _bad_rows(data['inputs'])
        if found.weights:
            found.names.append(f'weights {shown(found.weights)}')
        terms = _terms(found, learner, data) if hasattr(learner, 'run_views') else learner(**data, mode='loss')
        for name, value in terms.items():
            found.look(f'loss term {name}', value)
        total, _ = learner.parse_losses(terms)
    found.terms = {name: float(value.detach()) for name, value in terms.items()}
    if not found.names:
        named = [(name, value) for name, value in learner.named_parameters() if value.requires_grad]
        gradients = torch.autograd.grad(total, [value for _, value in named], allow_unused=True)
        bad = [
            name for (name, _), value in zip(named, gradients, strict=True)
            if value is not None and not bool(value.isfinite().all())
        ]  # fmt: skip
        found.names += [f'gradients of {shown(bad)}'] if bad else []


def _terms(found: Findings, learner: Any, data: dict[str, Tensor]) -> dict[str, Tensor]:
    """Loss terms of a learner with views, with a look at what they are made of."""
    bank = None
    if data.get('bank_inputs') is not None:
        bank = Batch(data['bank_inputs'], data['bank_labels'], target=learner.target)
    plan, ctx = learner.plan(data['inputs'], data['labels'], bank)
    found.plan = plan
    for number, view in enumerate(plan.views):
        found.look(f'weights of the mixture in view {number}', view.mixture.weight)
        found.look(f'mask of view {number}', view.masks)
        found.look(f'mixed images of view {number}', view.inputs)
    outputs = learner.run_views(plan)
    for number, (view, output) in enumerate(zip(plan.views, outputs, strict=True)):
        found.look(f'logits of view {number} (head {view.head})', output.logits)
    found.plan = plan = learner.policy.finish(plan, outputs, ctx)
    return learner.terms(plan, outputs)


def _bad_rows(images: Tensor) -> list[int]:
    return (~images.isfinite().flatten(1).all(1)).nonzero()[:, 0].tolist()


def shown(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f' and {len(listed) - most} more' if len(listed) > most else ''
    return ', '.join(listed[:most]) + more


def newest_weights(runner: Any, content: dict[str, Any]) -> None:
    """Give the learner weights, and the policy the history, of a checkpoint of this run."""
    learner = learner_of(runner)
    learner.load_state_dict(content['state_dict'])
    histories = content.get('rank_states')
    if histories:
        learner.policy.load_rank_state(dict(histories[runner.rank]))
