"""A config: whether it loads, its work dir can be written, and its data and model can be built."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from openmixup.analysis.doctor import files, places
from openmixup.analysis.doctor.report import Effort, Finding, Say, attempt, brief
from openmixup.analysis.doctor.trial import trial
from openmixup.engine.launch import build_runner
from openmixup.errors import InputError
from openmixup.registry import DATASETS, MODELS

__all__ = ['examine_folder', 'examine_run']

PARTS = ('train', 'val', 'test')


def examine_folder(root: str, effort: Effort, say: Say) -> None:
    """Look at a folder of class folders, without a config.

    Args:
        root: the folder.
        effort: how much to look at.
        say: gets each finding.
    """
    datasets: dict[str, Any] = {}

    def built() -> Iterator[Finding]:
        datasets.update({
            part: DATASETS.build({'type': 'ImageFolder', 'root': root, 'split': part}) for part in ('train', 'val')
        })  # fmt: skip
        yield from files.sizes(datasets)

    for finding in attempt('data', built):
        say(finding)
    if datasets:
        _say_data(datasets, effort, say)


def _say_data(datasets: Mapping[str, Any], effort: Effort, say: Say) -> None:
    for finding in attempt('classes', files.classes, datasets):
        say(finding)
    for finding in attempt('images', files.images, datasets, effort.images, effort.full):
        say(finding)


def examine_run(config: Any, effort: Effort, say: Say) -> None:
    """Build the run of a config as training does, look at its data and try some of its steps.

    All that a run writes goes to a temporary folder; the work dir of the config is only looked at.

    Args:
        config: a loaded config with a ``work_dir``.
        effort: how much to look at.
        say: gets each finding.
    """
    place = Path(config['work_dir'])
    for finding in attempt('work dir', places.work_dir, place):
        say(finding)
    with tempfile.TemporaryDirectory(prefix='openmixup-doctor-') as folder, warnings.catch_warnings():
        for said in ('skipped: ', 'This DataLoader will create'):  # findings say it
            warnings.filterwarnings('ignore', message=said)
        runner = _built(_tried(config, folder), say)
        if runner is None:
            return
        datasets = {part: runner.dataset(part) for part in PARTS if config.get(f'{part}_dataloader') is not None}
        if datasets:
            for finding in files.sizes(datasets):
                say(finding)
            _say_data(datasets, effort, say)
        if config.get('train_cfg') is None:
            say(Finding('training', 'ok', 'the config has none'))
            return
        trial(runner, place, effort, say)


def _tried(config: Any, folder: str) -> Any:
    """``config`` for a trial: one process, a folder that is thrown away, nothing on the screen."""
    tried = copy.deepcopy(config)
    if tried.get('resume'):  # the checkpoint of another work dir
        tried['load_from'] = None
    tried.update({'work_dir': folder, 'launcher': 'none', 'resume': False, 'log_level': 'ERROR'})
    return tried


def _built(config: Any, say: Say) -> Any:
    """The runner of a config, or None after the findings that say why there is none."""
    try:
        runner = build_runner(config)
    except Exception as error:  # of the data, the model or a hook, which the parts tell apart
        missing = [finding for part in PARTS for finding in _data_fault(config, part)]
        for finding in missing[:1] or [Finding('model', 'FAIL', _sentence(error))]:
            say(finding)
        if missing:
            for finding in attempt('model', _model_alone, config):
                say(finding)
        return None
    learner = runner.model
    count = sum(parameter.numel() for parameter in learner.parameters())
    device = next((parameter.device for parameter in learner.parameters()), 'no device')
    policy = getattr(learner, 'policy', None)
    found = f'{type(learner).__name__} with {count / 1e6:.2f} M parameters on {device}, policy {policy!r}'
    say(Finding('model', 'ok', found, values={'parameters': count, 'device': str(device)}))
    return runner


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f'{type(error).__name__}: {brief(error)}'


def _data_fault(config: Any, part: str) -> Iterator[Finding]:
    """A finding if the data of a part cannot be built."""
    if config.get(f'{part}_dataloader') is None:
        return
    try:
        DATASETS.build(config[f'{part}_dataloader']['dataset'])
    except Exception as error:
        yield Finding('data', 'FAIL', f'{part}: {_sentence(error)}')


def _model_alone(config: Any) -> Iterator[Finding]:
    """Whether the model can be built where there is no data to tell the number of classes."""
    model = {**config['model'], 'data_preprocessor': config.get('data_preprocessor')}
    model['head'] = {**model['head'], 'num_classes': model['head'].get('num_classes') or 2}
    count = sum(parameter.numel() for parameter in MODELS.build(model).parameters())
    yield Finding('model', 'ok', f'{count / 1e6:.2f} M parameters; without data no step is tried')
