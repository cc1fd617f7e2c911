"""Tensors come out of files that hold objects of other programs; nothing else does."""

from __future__ import annotations

import argparse
import collections
import copyreg

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import load_file

from openmixup.cli.import_weights import main as import_weights
from openmixup.engine.imported import import_weights as imported
from openmixup.errors import InputError
from openmixup.models import TimmBackbone
from openmixup.reading import foreign_names, read_foreign

FORMS = [True, False]  # the zip archive, and the format before torch 1.6


def tensors() -> dict[str, torch.Tensor]:
    whole = torch.arange(24.0).view(4, 6)
    kinds = ['float64', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8', 'bool']
    return {
        'whole': whole, 'transposed': whole.t(), 'part': whole[1:3, ::2], 'scalar': torch.tensor(2.5),
        'empty': torch.empty(0, 7), 'parameter': torch.nn.Parameter(torch.randn(3)), 'last': torch.ones(2, 3),
        'channels_last': torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        **{kind: torch.tensor([1, 0, 1], dtype=getattr(torch, kind)) for kind in kinds},
    }  # fmt: skip


def run_of_mmengine(state: dict) -> dict:
    """What its runner saves: scalars of numpy and objects of its own, which torch reads by builtins.getattr."""
    return {
        'meta': {'epoch': 3, 'time': np.float64(1.5), 'seed': np.int64(7), 'dataset_meta': np.array(['a', 'b'])},
        'state_dict': collections.OrderedDict(state),
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.0, 2.0], [1, 1])}},
        'optimizer': torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1).state_dict(),
    }


@pytest.mark.parametrize('new_format', FORMS)
def test_all_kinds_of_tensors_come_out_as_they_were(tmp_path, new_format):
    path = tmp_path / 'old.pth'
    state = tensors()
    content = run_of_mmengine(state)
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    found, dropped = read_foreign(path)
    for name, value in state.items():
        assert found['state_dict'][name].dtype == value.dtype
        assert torch.equal(found['state_dict'][name], value), name
    assert 'mmengine.logging.history_buffer.HistoryBuffer' in dropped
    assert set(foreign_names(path)) == set(dropped)
    assert found['meta']['epoch'] == 3
    assert found['meta']['time'] is None
    assert found['message_hub'] == {'log_scalars': {'loss': None}}


@pytest.mark.parametrize('new_format', FORMS)
def test_the_tool_writes_them_as_safetensors(tmp_path, capsys, new_format):
    state = {f'module.backbone.{key}': value for key, value in TimmBackbone('resnet10t').net.state_dict().items()}
    torch.save(run_of_mmengine(state), tmp_path / 'old.pth', _use_new_zipfile_serialization=new_format)
    new = tmp_path / 'new.safetensors'
    assert import_weights([str(tmp_path / 'old.pth'), str(new)]) == 0
    said = capsys.readouterr().out
    assert 'left out: ' in said
    assert 'HistoryBuffer' in said
    assert f'written: {new} ({len(state)} tensors; use it as model.backbone.pretrained={new})' in said
    loaded = TimmBackbone('resnet10t', pretrained=new)
    for key, value in loaded.net.state_dict().items():
        assert torch.equal(value, state[f'module.backbone.{key}']), key


def test_shared_weights_are_written_out(tmp_path):
    weight = torch.randn(4, 4)
    torch.save(
        {'model': {'a': weight, 'b': weight, 'c': weight[:2]}, 'args': argparse.Namespace(x=1)}, tmp_path / 'o.pth'
    )
    assert imported(tmp_path / 'o.pth', tmp_path / 'n.safetensors') == (3, ['argparse.Namespace'])
    found = load_file(tmp_path / 'n.safetensors')
    assert torch.equal(found['b'], weight)
    assert torch.equal(found['c'], weight[:2])


@pytest.mark.parametrize(
    ('content', 'key', 'expected'),
    [
        ({'state_dict': {'a': torch.ones(1)}, 'model': {'b': torch.ones(1)}}, None, {'a'}),
        ({'model': {'b': torch.ones(1)}, 'model_ema': {'c': torch.ones(1)}}, None, {'b'}),
        ({'model': {'b': torch.ones(1)}, 'model_ema': {'c': torch.ones(1)}}, 'model_ema', {'c'}),
        ({'model_ema': {'c': torch.ones(1), 'step': 7}}, None, {'c'}),
        ({'a': torch.ones(1), 'b': {'c': 1}, 3: torch.ones(1)}, None, {'a'}),
        ({'module.a': torch.ones(1), 'module.b': torch.ones(1)}, None, {'a', 'b'}),
    ],
)
@pytest.mark.parametrize('objects', [False, True])
def test_where_the_state_dict_is(tmp_path, content, key, expected, objects):
    torch.save({**content, 'extra': argparse.Namespace() if objects else 1}, tmp_path / 'old.pth')
    imported(tmp_path / 'old.pth', tmp_path / 'new.safetensors', key)
    assert set(load_file(tmp_path / 'new.safetensors')) == expected


@pytest.mark.parametrize(
    ('content', 'key', 'said'),
    [
        (torch.nn.Linear(1, 1), None, 'has no state dict'),
        ({'net': {'a': torch.ones(1)}}, None, 'choose one by --key: net'),
        ({'net': {'a': torch.ones(1)}}, 'nets', "no tensors under --key nets; did you mean 'net'?"),
        ({'epoch': 1}, None, 'has no state dict'),
        ([1], None, 'has no state dict'),
    ],
)
def test_what_has_none_is_refused(tmp_path, content, key, said):
    torch.save(content, tmp_path / 'old.pth')
    with pytest.raises(InputError) as caught:
        imported(tmp_path / 'old.pth', tmp_path / 'new.safetensors', key)
    assert said in str(caught.value)
    assert not (tmp_path / 'new.safetensors').exists()


def test_the_new_file_has_the_right_name_and_a_place(tmp_path):
    torch.save({'a': torch.ones(1)}, tmp_path / 'old.pth')
    with pytest.raises(InputError, match=r'expected NAME\.safetensors'):
        imported(tmp_path / 'old.pth', tmp_path / 'new.pth')
    with pytest.raises(InputError, match='cannot be written'):
        imported(tmp_path / 'old.pth', tmp_path / 'nowhere' / 'new.safetensors')
    with pytest.raises(InputError, match='no such file'):
        imported(tmp_path / 'gone.pth', tmp_path / 'new.safetensors')


def test_a_class_known_to_copyreg_is_not_looked_up_either(tmp_path):
    copyreg.add_extension('argparse', 'Namespace', 200)
    try:
        torch.save({'a': torch.ones(2), 'args': argparse.Namespace(x=1)}, tmp_path / 'old.pth')
        found, dropped = read_foreign(tmp_path / 'old.pth')
    finally:
        copyreg.remove_extension('argparse', 'Namespace', 200)
    assert dropped == ['argparse.Namespace']
    assert found['args'] is None
    assert torch.equal(found['a'], torch.ones(2))


def test_views_beyond_their_storage_are_refused(tmp_path):
    path = tmp_path / 'old.pth'
    for change in (
        lambda data: data.replace(b'K\x02K\x03\x86', b'K\x7fK\x7f\x86'),  # the shape (2, 3)
        lambda data: data.replace(b'K\x03K\x01\x86', b'K\x7fK\x7f\x86'),  # its strides
    ):
        torch.save({'a': torch.ones(2, 3), 'args': argparse.Namespace()}, path, _use_new_zipfile_serialization=False)
        data = path.read_bytes()
        assert change(data) != data
        path.write_bytes(change(data))
        with pytest.raises(InputError, match=r'does not fit 24 bytes|would grow'):
            read_foreign(path)
