"""Pictures of the batches that a config trains or evaluates on, behind loader, transforms and mixing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor

from openmixup.analysis.doctor.steps import stream
from openmixup.analysis.gallery import label_texts, pictures
from openmixup.analysis.mix_pictures import LOOKS, stacked, title
from openmixup.analysis.trained import quiet_runner
from openmixup.engine.distributed import learner_of
from openmixup.errors import InputError
from openmixup.policies import Batch, Context, Plan

__all__ = ['browse', 'picture_grid', 'unguided']

CELL, GAP, LINE, LETTER = 96, 6, 14, 6  # least side of a picture, margin, height of a line and width of a letter
MOST_SOURCES = 4


def picture_grid(images: np.ndarray, captions: Sequence[Sequence[str]], columns: int = 8) -> np.ndarray:
    """Pictures in rows, each with its lines of text below.

    Args:
        images: (N, H, W, 3) uint8.
        captions: lines for each picture.
        columns: pictures in a row.

    Returns:
        (height, width, 3) uint8.
    """
    import cv2

    scale = max(1, -(-CELL // min(images.shape[1:3])))
    big = images.repeat(scale, 1).repeat(scale, 2)
    height, width = big.shape[1:3]
    lines = max(map(len, captions))
    rows = []
    for start in range(0, len(big), columns):
        row: Any = np.full((height + lines * LINE + GAP, columns * (width + GAP), 3), 255, np.uint8)
        for place, number in enumerate(range(start, min(start + columns, len(big)))):
            left = place * (width + GAP) + GAP // 2
            row[:height, left : left + width] = big[number]
            for k, line in enumerate(captions[number]):
                text = line.encode('ascii', 'replace').decode()[: width // LETTER]  # the font knows no other letters
                at = (left, height + LINE * (k + 1) - 3)
                cv2.putText(row, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
        rows.append(row)
    return stacked(rows)


def unguided(runner: Any) -> bool:
    """Whether the policy looks at a network, which without a checkpoint is an untrained one."""
    policy = getattr(learner_of(runner), 'policy', None)
    return policy is not None and bool(set(policy.needs) & LOOKS)


def browse(
    config: Any, split: str = 'train', batches: int = 1, most: int = 16, checkpoint: str | None = None
) -> tuple[np.ndarray, bool]:
    """The first batches as a run of ``config`` makes them, with the labels of each picture below it.

    Those of 'train' are mixed, and are those of the first steps of a run with the config's seed; of a policy with
    several views each is shown. A policy that looks at a network, or has learned parts, has those of the checkpoint.

    Args:
        config: a loaded config; it is not changed.
        split: 'train' or 'val'.
        batches: number of batches.
        most: pictures shown of each.
        checkpoint: weights of the network and of learned parts.

    Returns:
        The picture (height, width, 3) uint8, and whether the policy looked at an untrained network.

    Raises:
        InputError: the config has no such data, or its images are neither grey nor of three colours.
    """
    if config.get(f'{split}_dataloader') is None:
        raise InputError(f'the config has no {split}_dataloader: choose another --split.')
    with quiet_runner(config) as runner:
        if checkpoint:
            runner.load_weights(checkpoint)
        loop = runner.train_loop if split == 'train' else runner.val_loop
        parts = []
        try:
            for number, batch in enumerate(islice(stream(loop.dataloader), batches)):
                for name, images, lines in _shown(runner, loop, number, batch, split == 'train'):
                    grid = picture_grid(images[:most], lines[:most])
                    parts.append(np.concatenate([title(f'{split} batch {number}{name}', grid.shape[1]), grid]))
        finally:
            loop.dataloader.close()
        return stacked(parts), split == 'train' and not checkpoint and unguided(runner)


def _shown(
    runner: Any, loop: Any, number: int, batch: dict[str, Tensor], training: bool
) -> Iterator[tuple[str, np.ndarray, list[list[str]]]]:
    """Name, pictures (N, H, W, 3) and captions of each view of a loaded batch."""
    learner = learner_of(runner)
    preprocessor = learner.data_preprocessor
    progress = number / loop.max_iters if training else 0.0
    epoch = number // len(loop.dataloader) if training and hasattr(loop.dataloader.batch_sampler, '__len__') else 0
    context = Context(seed=runner.seed, step=number, epoch=epoch, progress=progress)
    learner.context = preprocessor.context = context
    data = preprocessor(batch, training=training)
    mean, std, names = preprocessor.mean, preprocessor.std, runner.classes or None
    if not training or not hasattr(learner, 'plan'):
        texts = label_texts(data['inputs'], data['labels'], names)
        yield '', pictures(data['inputs'], mean, std), [[text] for text in texts]
        return
    learner.train()
    bank = Batch(data['bank_inputs'], data['bank_labels'], target=learner.target) if 'bank_inputs' in data else None
    plan, ctx = learner.plan(data['inputs'], data['labels'], bank)
    plan = learner.policy.finish(plan, learner.run_views(plan), ctx)
    texts = label_texts(plan.batch.source_images, plan.batch.source_labels, names)
    for place, view in enumerate(plan.views):
        several = f', view {place + 1} of {len(plan.views)}' if len(plan.views) > 1 else ''
        hidden = ', mixed in hidden maps' if view.tap is not None else ''
        yield f'{several}{hidden}', pictures(view.inputs, mean, std), _captions(plan, place, texts)


def _captions(plan: Plan, place: int, texts: Sequence[str]) -> list[list[str]]:
    """The sources of each sample with their weights, and of a regression the mixed target."""
    mixture = plan.views[place].mixture
    lines = []
    for index, weight in zip(mixture.index.tolist(), mixture.weight.detach().tolist(), strict=True):
        shares = zip(weight[:MOST_SOURCES], index[:MOST_SOURCES], strict=True)
        lines.append([f'{share:.2f} x {texts[source]}' for share, source in shares])
    if plan.batch.target == 'regression':
        mixed = mixture.of(plan.batch.source_labels.float()).detach().reshape(len(lines), -1).tolist()
        for each, values in zip(lines, mixed, strict=True):
            each.append('= ' + ', '.join(f'{value:.3g}' for value in values))
    return lines
