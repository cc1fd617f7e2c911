"""A trained network and the batches of one of its data sets, for what is measured after training."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openmixup.datasets.loading import build_dataloader
from openmixup.engine.checkpoint import read_checkpoint
from openmixup.engine.distributed import learner_of
from openmixup.engine.inference import without_downloads
from openmixup.engine.launch import build_runner
from openmixup.engine.published import compare_classes, data_of
from openmixup.errors import InputError, did_you_mean

__all__ = ['SPLITS', 'Trained', 'quiet_runner', 'trained']

SPLITS = ('test', 'val', 'train')
TRAINING = ('optim_wrapper', 'param_scheduler')  # beside train_dataloader and train_cfg


@contextlib.contextmanager
def quiet_runner(config: Any, leave_out: Sequence[str] = ()) -> Iterator[Any]:
    """A runner of a copy of ``config`` in one process, without hooks and some keys, that leaves nothing behind."""
    tried = copy.deepcopy(config)
    for key in leave_out:
        tried.pop(key, None)
    with tempfile.TemporaryDirectory(prefix='openmixup-') as folder:
        tried.update({'work_dir': folder, 'launcher': 'none', 'resume': False, 'load_from': None, 'log_level': 'ERROR'})
        tried['default_hooks'], tried['custom_hooks'] = {}, []
        yield build_runner(tried)


@dataclass
class Trained:
    """A trained learner, in eval mode, beside data.

    Args:
        learner: on the device of the runner.
        loader: batches of raw images and labels in their order.
        branch: whose outputs are asked for: 'student', 'teacher' ...
    """

    learner: Any
    loader: Any
    branch: str

    @torch.no_grad()
    def outputs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (N, C) and labels (N,) of each batch, on the device."""
        for inputs, labels in self.batches():
            yield self.learner.predict(inputs)[self.branch], labels

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (N, C, H, W) of the network and labels of each batch, on the device, without draws of its own."""
        for batch in self.loader:
            ready = self.learner.data_preprocessor(batch, training=False)
            yield ready['inputs'], ready['labels']


@contextlib.contextmanager
def trained(
    config: Any, checkpoint: str, split: str = 'test', branch: str = 'student', images: int | None = None
) -> Iterator[Trained]:
    """The learner of ``config`` with the weights of ``checkpoint``, beside the images of a split.

    Args:
        config: a loaded config of a classification; it is not changed.
        checkpoint: file written by training.
        split: 'test', 'val' or 'train'; the images of the last as they are loaded, without mixing, but with what the
            data set itself does at random, such as the crops of class folders.
        branch: 'student', 'teacher', or one of their heads, as 'student/mix'.
        images: only so many, at even distances in the data set, which may be sorted by class; None: all.

    Raises:
        InputError: the config has no such data or branch, is no classification, or the files do not fit.
    """
    if split not in SPLITS or config.get(f'{split}_dataloader') is None:
        there = ', '.join(name for name in SPLITS if config.get(f'{name}_dataloader') is not None)
        raise InputError(f'the config has no {split}_dataloader: choose another --split (it has {there}).')
    target = config['model'].get('target', 'class')
    if target != 'class':
        raise InputError(f'model.target is {target!r}: what is measured here needs one class for each image.')
    needed = copy.deepcopy(config)
    needed['model'] = without_downloads(needed['model'])
    if needed['model']['backbone'].get('pretrained'):  # the checkpoint has the weights
        needed['model']['backbone']['pretrained'] = None
    keys = [f'{part}_{key}' for part in SPLITS if part != split for key in ('dataloader', 'cfg', 'evaluator')]
    classes = data_of(read_checkpoint(checkpoint), checkpoint)[0]
    with quiet_runner(needed, keys if split == 'train' else [*keys, *TRAINING]) as runner:
        compare_classes(checkpoint, classes, runner.classes)
        runner.load_weights(checkpoint)
        learner = learner_of(runner).eval()
        if branch not in learner.branches:
            hint = did_you_mean(branch, learner.branches)
            raise InputError(f'the model has no branch {branch!r}{hint}: choose one of {", ".join(learner.branches)}.')
        given, dataset = config[f'{split}_dataloader'], runner.dataset(split)
        if images is not None and images < len(dataset):
            places = torch.arange(images) * len(dataset) // images
            dataset = dataset.select(places, f'{images} images at even distances')
        workers = given.get('num_workers', 0)
        loader = build_dataloader(dataset, batch_size=given['batch_size'], shuffle=False, num_workers=workers)
        try:
            yield Trained(learner, loader, branch)
        finally:
            loader.close()
