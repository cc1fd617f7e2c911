"""The data sets of a run, and what must fit between them, the head and the processes, before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from logging import WARNING
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor

from openmixup.datasets.bad_images import REPORT
from openmixup.engine.distributed import accelerator
from openmixup.errors import InputError
from openmixup.registry import DATASETS

__all__ = ['build_data', 'check_data', 'set_classes', 'set_outputs']


def build_data(loader: Mapping[str, Any], name: str, seed: int, work_dir: Path) -> Any:
    """The data set of a loader's config, as a run needs it.

    Args:
        loader: config of the loader.
        name: its name, for messages.
        seed: of the run.
        work_dir: where unreadable images are written down.

    Raises:
        InputError: it cannot be built, or held on the device as the config asks.
    """
    built = DATASETS.build(loader.get('dataset'))
    if getattr(built, 'reads_epoch', False):  # its crops are drawn by key and must differ between seeds
        built.seed = seed
    changes = getattr(built, 'changes', ())
    if changes and name != 'train_dataloader':
        part = name.removesuffix('_dataloader')
        print_log(f'the {part} data is changed ({"; ".join(changes)}), and so are its figures', 'current', WARNING)
    if hasattr(built, 'bad_images'):
        built.bad_images.report = work_dir / REPORT
    if loader.get('on_device'):
        if not hasattr(built, 'to'):
            raise InputError(f'{name}.on_device=True: {type(built).__name__} is not held in memory.')
        built = built.to(accelerator())
    return built


def check_data(datasets: Mapping[str, Any], world_size: int) -> tuple[int | None, tuple[str, ...]]:
    """Number of classes and class names that all data sets share.

    Args:
        datasets: by the part of the run that they serve: 'train', 'val', 'test'.
        world_size: processes among which each is divided.

    Raises:
        InputError: they have different classes, one says nothing of its images, or is smaller than the processes.
    """
    for part, dataset in datasets.items():
        if not hasattr(dataset, 'image_shape'):
            raise InputError(
                f'{type(dataset).__name__} has no image_shape: give it the attributes classes (names), num_classes and '
                'image_shape (C, H, W).'
            )
        if len(dataset) < world_size:
            raise InputError(f'the {part} data has {len(dataset)} samples for {world_size} processes: use fewer.')
    counts = {part: getattr(dataset, 'num_classes', None) for part, dataset in datasets.items()}
    known = {part: count for part, count in counts.items() if count is not None}
    if len(set(known.values())) > 1:
        found = ', '.join(f'{part} {count}' for part, count in known.items())
        raise InputError(f'the data sets have different numbers of classes ({found}): check their roots.')
    names = {part: tuple(getattr(dataset, 'classes', ())) for part, dataset in datasets.items()}
    first, shared = next(((part, classes) for part, classes in names.items() if classes), ('', ()))
    for part, classes in names.items():
        if classes and classes != shared:
            one, other = next((a, b) for a, b in zip_longest(shared, classes) if a != b)
            raise InputError(
                f'the {part} data has other class names than the {first} data ({other!r} for {one!r}), so that labels '
                'would be confused: use the same class folders.'
            )
    return next(iter(known.values()), None), shared


def set_outputs(model: dict[str, Any], count: int | None, dataset: Any) -> None:
    """Fill the number of outputs of a model's config from the data, or check it and the kind of the labels.

    Args:
        model: config of the model.
        count: number of classes of the data; None: there are none, or they are not known.
        dataset: one of the data sets.

    Raises:
        InputError: the data is for a regression and the model is not, or the other way round, or the head has another
            number of outputs.
    """
    labels, target = getattr(dataset, 'labels', None), model.get('target', 'class')
    values = labels if count is None and isinstance(labels, Tensor) and labels.is_floating_point() else None
    if values is not None and target != 'regression':
        raise InputError(
            f"{type(dataset).__name__} has regression targets, but model.target is {target!r}: set it to 'regression', "
            "with model.loss=dict(type='RegressionLoss') and RegressionMetric."
        )
    if count is not None and target == 'regression':
        raise InputError(f"model.target='regression', but {type(dataset).__name__} has {count} classes: leave it out.")
    if values is not None:
        outputs = 1 if values.ndim == 1 else values.shape[1]
        if model['head'].get('num_classes') not in (None, outputs):
            raise InputError(
                f'model.head.num_classes={model["head"]["num_classes"]}, but the data has {outputs} targets an image: '
                'correct it, or set None to take the number from the data.'
            )
        model['head']['num_classes'] = outputs
    elif count is not None:
        set_classes(model['head'], count)


def set_classes(head: dict[str, Any], count: int) -> None:
    """Fill the number of classes of a head's config from the data, or check it against them."""
    if head.get('num_classes') is None:
        head['num_classes'] = count
    elif head['num_classes'] != count:
        raise InputError(
            f'model.head.num_classes={head["num_classes"]}, but the data has {count} classes: '
            'correct it, or set None to take the number from the data.'
        )
