"""Too little memory is one sentence that names what to change."""

from __future__ import annotations

import pytest
import torch

from openmixup.engine.failures import out_of_memory
from openmixup.errors import InputError
from openmixup.models import MixClassifier

GPU = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79 GiB.')


def cpu_error() -> RuntimeError:
    try:
        torch.empty(10**15)
    except RuntimeError as error:
        return error
    raise AssertionError


def too_much(monkeypatch, method: str, error: Exception) -> None:
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(MixClassifier, method, refuse)


@pytest.mark.parametrize('error', [GPU, cpu_error(), MemoryError()], ids=['gpu', 'cpu', 'python'])
def test_a_training_step_without_memory_names_batch_policy_and_knobs(train, monkeypatch, error):
    too_much(monkeypatch, 'run_views', error)
    with pytest.raises(InputError, match='memory of cpu was not enough for a training step') as caught:
        train('run', 'optim_wrapper.accumulative_counts=2', argv=('--policy', 'CutMix'))
    text = str(caught.value)
    for part in (
        'train_dataloader.batch_size=16', 'CutMix(', 'optim_wrapper.accumulative_counts=2', '(--amp)',
    ):  # fmt: skip
        assert part in text
    assert '\n' not in text
    assert caught.value.__cause__ is error
    if error is GPU:
        assert 'asked for 2.50 GiB more' in text


def test_a_run_in_mixed_precision_is_not_told_to_use_it(train, monkeypatch):
    too_much(monkeypatch, 'run_views', GPU)
    with pytest.raises(InputError, match='not enough') as caught:
        train('run', argv=('--amp',))
    assert '--amp' not in str(caught.value)


def test_an_evaluation_without_memory_names_its_own_batch(train, monkeypatch, config_file):
    work = train('run', 'train_cfg.max_epochs=1')
    too_much(monkeypatch, 'predict', GPU)
    with pytest.raises(
        InputError, match=r'an evaluation with val_dataloader\.batch_size=50.*lower val_dataloader'
    ) as caught:
        train('other')
    assert caught.value.__cause__ is GPU
    from openmixup.cli.test import main

    with pytest.raises(InputError, match=r'test_dataloader\.batch_size=50'):
        main([str(config_file), str(work / 'epoch_1.pth'), '--work-dir', str(work / 'test')])


def test_other_errors_pass(train, monkeypatch):
    assert not out_of_memory(RuntimeError('shapes do not fit'))
    assert not out_of_memory(ValueError('out of memory'))
    too_much(monkeypatch, 'run_views', RuntimeError('shapes do not fit'))
    with pytest.raises(RuntimeError, match='shapes do not fit'):
        train('run')
