"""Files of weights that want to run code, or to fill the memory, at each door that reads weights."""

from __future__ import annotations

import collections
import ctypes
import functools
import io
import operator
import os
import pickle
import re
import runpy
import struct
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from openmixup.cli.import_weights import main as import_weights
from openmixup.cli.inspect_checkpoint import main as inspect_checkpoint
from openmixup.engine.checkpoint import latest_checkpoint, read_checkpoint
from openmixup.errors import InputError
from openmixup.models.backbones import torchvision as torchvision_backbone
from openmixup.models.backbones.pretrained import load_pretrained
from openmixup.reading import plain, read_foreign

ONE_LINE = r'^[^\n]+$'


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __call__(self):
        """So that it may stand for a function in another call."""

    def __reduce__(self):
        return self.call


class WithState:
    def __init__(self, function, arguments, state):
        self.parts = function, arguments, state

    def __reduce__(self):
        return self.parts


def touch(marker: Path) -> str:
    return f'touch {marker}'


def code(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w')"


def nested(marker: Path) -> bytes:
    return pickle.dumps(Call(os.system, touch(marker)), protocol=2)


def unsafe_load(marker: Path) -> Call:
    inner = marker.with_name('inner.pth')
    inner.write_bytes(torch_archive(nested(marker)))
    return Call(functools.partial(torch.load, weights_only=False), str(inner))


def script(marker: Path) -> str:
    path = marker.with_name('script.txt')
    path.write_text(code(marker))
    return str(path)


# the calls that a pickle may ask for, by name: what makes them, and a name that the refusal must say
CALLS: dict[str, tuple[Callable[[Path], object], str]] = {
    'os.system': (lambda m: Call(os.system, touch(m)), 'posix.system'),
    'os.popen': (lambda m: Call(os.popen, touch(m)), 'os.popen'),
    'subprocess.Popen': (lambda m: Call(subprocess.Popen, ['touch', str(m)]), 'subprocess.Popen'),
    'subprocess.run': (lambda m: Call(subprocess.run, ['touch', str(m)]), 'subprocess.run'),
    'exec': (lambda m: Call(exec, code(m)), 'exec'),
    'eval': (lambda m: Call(eval, code(m)), 'eval'),
    'open': (lambda m: Call(open, str(m), 'w'), 'open'),
    'import': (lambda m: Call(__import__, 'planted'), '__import__'),
    'compile': (lambda m: Call(exec, Call(compile, code(m), 'x', 'exec')), 'compile'),
    'getattr chain': (lambda m: Call(Call(getattr, Call(__import__, 'os'), 'system'), touch(m)), 'getattr'),
    'attrgetter': (
        lambda m: Call(Call(Call(operator.attrgetter, 'system'), Call(__import__, 'os')), touch(m)),
        'operator.attrgetter',
    ),
    'methodcaller': (lambda m: Call(Call(operator.methodcaller, 'touch'), m), 'operator.methodcaller'),
    'partial': (lambda m: Call(functools.partial(os.system, touch(m))), 'functools.partial'),
    'runpy': (lambda m: Call(runpy.run_path, script(m)), 'runpy.run_path'),
    'map': (lambda m: Call(list, Call(map, os.system, [touch(m)])), 'map'),
    'torch.load of another file': (unsafe_load, 'torch.serialization.load'),
    'pickle.loads of bytes': (lambda m: Call(pickle.loads, nested(m)), 'loads'),
    'numpy.load': (lambda m: Call(np.load, str(m)), 'numpy'),
    'torch.hub': (lambda m: Call(torch.hub.load, str(m.parent), 'planted'), 'torch.hub'),
    'a storage of bytes': (
        lambda m: Call(torch.storage._load_from_bytes, torch_archive(nested(m))),
        'torch.storage._load_from_bytes',
    ),
    'ctypes': (lambda m: Call(ctypes.CDLL, str(m)), 'ctypes.CDLL'),
    'config of mmengine': (lambda m: Call(Config.fromfile, script(m)), 'getattr'),
    'state of an object': (lambda m: WithState(Call, (os.system, touch(m)), {'call': (exec, (code(m),))}), 'Call'),
    'state of a dict': (
        lambda m: WithState(collections.OrderedDict, (), {'x': Call(os.system, touch(m))}),
        'posix.system',
    ),
    'a whole module': (lambda m: torch.nn.Linear(1, 1), 'torch.nn.modules.linear.Linear'),
}  # fmt: skip


def raw(text: str) -> Callable[[Path], bytes]:
    """A pickle written by hand; {0} stands for the marker."""
    return lambda marker: text.format(marker).encode('latin1')


def short(text: str) -> bytes:
    """The instruction that pushes a text."""
    return b'\x8c' + bytes([len(text)]) + text.encode()


SYSTEM = "(S'touch {0}'\n"
HAND_MADE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    'GLOBAL of protocol 0': (raw(f'cos\nsystem\n{SYSTEM}tR.'), 'os.system'),
    'INST': (raw(f'{SYSTEM}ios\nsystem\n.'), ''),
    'OBJ': (raw('(cos\nsystem\nS\'touch {0}\'\no.'), ''),
    'STACK_GLOBAL': (
        lambda m: b'\x80\x04\x8c\x05posix\x8c\x06system\x93' + short(touch(m)) + b'\x85R.',
        'posix.system',
    ),
    'STACK_GLOBAL by the memo': (
        lambda m: b'\x80\x04\x8c\x06system\x94\x8c\x05posixh\x00\x93' + short(touch(m)) + b'\x85R.',
        'posix.system',
    ),
    'NEWOBJ': (raw('\x80\x02csubprocess\nPopen\n(S\'touch\'\nS\'{0}\'\nl\x85\x81.'), 'subprocess.Popen'),
    'EXT1': (raw('\x80\x02\x82\x01.'), ''),
    'a module in place of a class': (raw('cplanted\nBomb\n(tR.'), 'planted.Bomb'),
    'a dotted name': (raw('\x80\x04\x8c\x08builtins\x8c\x10getattr.__call__\x93.'), 'getattr'),
    'a persistent id that is no storage': (raw('\x80\x02(X\x06\x00\x00\x00modulecos\nsystem\ntQ.'), 'os.system'),
}  # fmt: skip


def torch_archive(pickled: bytes, **entries: bytes) -> bytes:
    """The bytes of an archive as torch writes it, around a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr('archive/data.pkl', pickled)
        archive.writestr('archive/byteorder', b'little')
        archive.writestr('archive/version', b'3\n')
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def old_format(pickled: bytes) -> bytes:
    """The bytes of a file as torch wrote it before version 1.6, around a pickle."""
    system = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}}
    before = [0x1950A86A20F9469CFC6C, 1001, system]
    return b''.join([*(pickle.dumps(part, protocol=2) for part in before), pickled, pickle.dumps([], protocol=2)])


FORMS: dict[str, Callable[[bytes], bytes]] = {
    'archive': torch_archive,
    'old format': old_format,
    'bare pickle': lambda pickled: pickled,
}
BOMBS = {
    **{name: (lambda m, make=make: pickle.dumps({'state_dict': make(m)}, protocol=2), said)
       for name, (make, said) in CALLS.items()},
    **HAND_MADE,
}  # fmt: skip


def refused(path: Path, said: str) -> None:
    """Each door that loads refuses the file in one sentence, and finds no tensor to import."""
    for read in (read_checkpoint, lambda p: load_pretrained(torch.nn.Linear(1, 1), p)):
        with pytest.raises(InputError) as caught:
            read(path)
        assert '\n' not in str(caught.value)
        assert said in str(caught.value)
    newest = path.with_name('epoch_1.pth')
    newest.write_bytes(path.read_bytes())
    assert latest_checkpoint(path.parent) is None
    with pytest.raises(InputError, match=ONE_LINE):
        import_weights([str(path), str(path.with_name('new.safetensors'))])


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('bomb', BOMBS)
def test_a_pickle_with_code_is_refused_by_name(tmp_path, marker, capsys, bomb, form):
    make, said = BOMBS[bomb]
    path = tmp_path / 'hostile.pth'
    path.write_bytes(FORMS[form](make(marker)))
    refused(path, said)
    if said:
        assert inspect_checkpoint([str(path)]) == 1
        assert re.search(rf'asks for: .*{re.escape(said)}', capsys.readouterr().out)


@pytest.mark.parametrize('bomb', ['os.system', 'exec', 'open', 'getattr chain', 'attrgetter', 'STACK_GLOBAL', 'INST'])
def test_these_files_do_harm_where_they_are_trusted(tmp_path, marker, bomb):
    path = tmp_path / 'hostile.pth'
    for form in (torch_archive, old_format):
        path.write_bytes(form(BOMBS[bomb][0](marker)))
        torch.load(path, weights_only=False)
        marker.unlink()


def deflated(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', pickle.dumps({}, protocol=2))
        archive.writestr('archive/data/0', content)
    return stream.getvalue()


def overlapping() -> bytes:
    """An archive whose directory has one entry a hundred times."""
    plain = torch_archive(pickle.dumps({}, protocol=2), **{'archive/data/0': bytes(2000)})
    begin = struct.unpack('<I', plain[-6:-2])[0]
    directory = plain[begin:-22]
    last = directory[directory.rindex(b'PK\x01\x02') :]
    more = b''.join(last.replace(b'archive/data/0', b'archive/data/%c' % (48 + n)) for n in range(1, 10))
    end = struct.pack('<4s4H2IH', b'PK\x05\x06', 0, 0, 13, 13, len(directory + more), begin, 0)
    return plain[:begin] + directory + more + end


def laughs() -> bytes:
    """A list of lists of lists, each ten times the same: a billion of a billion in 200 bytes."""
    pickled = b'\x80\x02]q\x00'
    for level in range(20):
        pickled += b'](' + b'h' + bytes([level]) + (b'h' + bytes([level])) * 9 + b'eq' + bytes([level + 1])
    return pickled + b'.'


def expanded() -> object:
    return {'state_dict': {'weight': torch.zeros(1).expand(1 << 20, 1 << 20)}}


def saved(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def scripted(path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), path)


# files of another kind that do harm, and what the refusal must say
OTHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    'a compressed entry': (lambda p: p.write_bytes(deflated(bytes(5_000_000))), 'compressed'),
    'overlapping entries': (lambda p: p.write_bytes(overlapping()), 'overlap'),
    'a name above the archive': (
        lambda p: p.write_bytes(torch_archive(pickle.dumps({}, protocol=2), **{'archive/../../ran': b'x'})), 'outside'
    ),
    'an absolute name': (
        lambda p: p.write_bytes(torch_archive(pickle.dumps({}, protocol=2), **{'/tmp/ran': b'x'})), 'outside'
    ),
    'a name with backslashes': (
        lambda p: p.write_bytes(torch_archive(pickle.dumps({}, protocol=2), **{'..\\ran': b'x'})), 'outside'
    ),
    'lists of lists': (lambda p: p.write_bytes(torch_archive(laughs())), 'unfolds'),
    'an expanded tensor': (saved(expanded()), 'would grow from 4 to'),
    'a sparse tensor': (lambda p: torch.save({'w': torch.eye(2).to_sparse()}, p), 'sparse'),
    'a tensor without values': (saved({'w': torch.empty(1 << 40, device='meta')}), 'without values'),
    'a tensor made of its size alone': (
        lambda p: p.write_bytes(torch_archive(b'\x80\x02}X\1\0\0\0wctorch\nTensor\nJ\0\0\1\0J\0\0\1\0\x86Rs.')),
        'take more than',
    ),
    'bytes made of their size alone': (
        lambda p: p.write_bytes(torch_archive(b'\x80\x02}X\1\0\0\0wc__builtin__\nbytearray\nJ\0\0\0\x10\x85Rs.')),
        'take more than',
    ),
    'a TorchScript program': (scripted, ''),
    'a file of zeros': (lambda p: p.write_bytes(bytes(1000)), ''),
    'an empty file': (lambda p: p.write_bytes(b''), ''),
    'a text': (lambda p: p.write_text("__import__('os').system('touch ran')"), ''),
    'an archive without a pickle': (lambda p: zipfile.ZipFile(p, 'w').writestr('x', b''), ''),
    'a bytearray of any size': (
        lambda p: p.write_bytes(torch_archive(b'\x80\x02c__builtin__\nbytearray\n\x8a\x07' + b'\x7f' * 7 + b'\x85R.')),
        '',
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', OTHERS)
def test_other_harm_is_refused(tmp_path, monkeypatch, name):
    make, said = OTHERS[name]
    path = tmp_path / 'hostile.pth'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch's about what is made here
        make(path)
    monkeypatch.setattr(plain, 'MOST_VALUES', 10_000)
    refused(path, said)


def test_a_pickle_gets_no_memory_for_the_asking(tmp_path):
    path = tmp_path / 'hostile.pth'
    path.write_bytes(old_format(b'\x80\x02}r\xff\xff\xff\x7f.'))  # number 2,147,483,647 of the memo
    assert read_checkpoint(path) == {}
    assert read_foreign(path) == ({}, [])


@pytest.mark.parametrize(
    'header', [b'', b'\xff' * 8, b'\x10' + bytes(7) + b'{"a": 1}        ', (1 << 20).to_bytes(8, 'little')]
)
def test_a_hostile_safetensors_is_refused(tmp_path, header):
    path = tmp_path / 'hostile.safetensors'
    path.write_bytes(header)
    for read in (read_checkpoint, inspect_checkpoint, lambda p: load_pretrained(torch.nn.Linear(1, 1), p)):
        with pytest.raises(InputError, match=ONE_LINE):
            read([str(path)] if read is inspect_checkpoint else path)


def test_an_environment_variable_opens_no_door(tmp_path, monkeypatch, marker):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    path = tmp_path / 'hostile.pth'
    path.write_bytes(torch_archive(nested(marker)))
    refused(path, 'posix.system')


def test_code_in_the_texts_of_a_checkpoint_stays_text(tmp_path, marker, capsys):
    text = f"custom_imports = dict(imports=['planted'])\n{code(marker)}\n"
    meta = {
        'cfg': text,
        'config': text,
        'type': 'os.system',
        'classes': [f'\x1b]0;{text}', 'b'],
        'image_shape': [3, 8, 8],
    }
    state = {'student.x': torch.zeros(2), "'; import planted #": torch.zeros(1)}
    path = tmp_path / 'texts.pth'
    torch.save({'state_dict': state, 'meta': meta, 'settings': {'model.type': 'planted.Bomb'}}, path)
    assert read_checkpoint(path)['meta'] == meta
    assert inspect_checkpoint([str(path)]) == 0
    assert '\x1b' not in capsys.readouterr().out


def test_a_file_in_the_cache_of_torch_is_checked_and_read_as_weights(tmp_path, monkeypatch, marker):
    from torchvision import models

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    cached = tmp_path / 'torch' / 'hub' / 'checkpoints' / Path(models.ResNet18_Weights.DEFAULT.url).name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(torch_archive(nested(marker)))
    with pytest.raises(InputError, match=r'has the SHA-256 .* remove it'):
        torchvision_backbone.TorchvisionBackbone('resnet18', pretrained=True)
    monkeypatch.setattr(torchvision_backbone, 'check_cached', lambda url: None)  # as if its digits were those
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(InputError, match=r'could not get the weights .*UnpicklingError'):
        torchvision_backbone.TorchvisionBackbone('resnet18', pretrained=True)
    assert os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] == '1'
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ
