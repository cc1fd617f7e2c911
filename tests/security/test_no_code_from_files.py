"""What could turn bytes into code is called where it is said below and nowhere else, and not between processes."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob('openmixup/**/*.py'), *ROOT.glob('tools/*.py'), *ROOT.glob('benchmarks/**/*.py')])
WATCHED = re.compile(
    r'(eval|exec|compile|__import__|import_module|runpy\.\w+|Config\.fromfile|os\.(system|popen|exec\w*|spawn\w*)'
    r'|(pickle|_pickle|dill|marshal|shelve|joblib|cloudpickle)\.(load|loads|open|Unpickler|_Unpickler)'
    r'|yaml\.(load|load_all|unsafe_load|full_load)|torch\.(load|hub\.load\w*|jit\.load|package\..*|ops\.load_library)'
    r'|(np|numpy)\.(load|fromfile)|(.*\.)?(add_)?safe_globals'
    r'|.*(_object|_object_list|collect_results\w*)|.*\.(urlopen|urlretrieve|extractall|unpack_archive))'
)
OBJECTS = re.compile(r'(all_gather|gather|broadcast|scatter|send|recv)_object(_list)?|collect_results\w*')
# file and call: why it is no door for files of strangers
ALLOWED = {
    ('benchmarks/speed/policies.py', 'os.execve'): 'itself, with other settings of the allocator',
    ('openmixup/benchmark/leaves.py', 'Config.fromfile'): 'recipes of this project, in Python',
    ('openmixup/benchmark/runs.py', 'Config.fromfile'): 'recipes of this project, in Python',
    (
        'openmixup/benchmark/table_files.py',
        'runpy.run_path',
    ): 'tables are Python, run as named by the user',
    ('openmixup/cli/__init__.py', 'importlib.import_module'): 'one of the files in this folder',
    ('openmixup/cli/verify_policy.py', 'importlib.import_module'): 'MODULE:CLASS of the command line',
    ('openmixup/datasets/fetching.py', 'archive.extractall'): 'data only; names that lead out are refused before',
    ('openmixup/engine/config.py', 'Config.fromfile'): 'configs in Python are run, as the documents say',
    ('openmixup/engine/timm_optimizers.py', 'import_module'): 'timm.optim',
    ('openmixup/policies/__init__.py', 'importlib.import_module'): 'the files in this folder',
    ('openmixup/testing/construction.py', 'pickle.loads'): 'what the same line has dumped',
    ('openmixup/datasets/cifar.py', 'class of pickle._Unpickler'): 'looks up stand-ins only',
    ('openmixup/reading/foreign.py', 'class of pickle._Unpickler'): 'looks up stand-ins only',
}
SAFE = {'torch.load': ('weights_only', True), 'np.load': ('allow_pickle', False)}


def suspects(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (f'class of {ast.unparse(base)}' for base in node.bases if 'pickle' in ast.unparse(base))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if given.get('shell') == 'True':
                yield f'{name}(shell=True)'
            key, value = SAFE.get(name, ('', None))
            watched = WATCHED.fullmatch(name) or WATCHED.fullmatch(name.removeprefix('importlib.'))
            if watched and (not key or given.get(key) != str(value)):
                yield name
        if isinstance(node, ast.ImportFrom | ast.Import):
            yield from (alias.name for alias in node.names if OBJECTS.fullmatch(alias.name))


def test_no_other_call_can_turn_bytes_into_code():
    found = {
        (path.relative_to(ROOT).as_posix(), name) for path in FILES for name in suspects(ast.parse(path.read_text()))
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    'line',
    [
        'torch.load(path)', 'torch.load(path, weights_only=False)', 'pickle.load(stream)', 'pickle.loads(data)',
        'eval(text)', 'exec(text)', 'yaml.load(text, Loader=yaml.Loader)', 'yaml.unsafe_load(text)',
        'dist.all_gather_object(found, value)', 'dist.broadcast_object_list([value])', 'collect_results(found, 3)',
        'from mmengine.dist import broadcast_object_list', 'np.load(path, allow_pickle=True)', 'np.load(path)',
        'subprocess.run(text, shell=True)', 'os.system(text)', 'torch.serialization.add_safe_globals([getattr])',
        'class Reader(pickle.Unpickler): pass', 'archive.extractall(folder)', 'importlib.import_module(name)',
    ],
)  # fmt: skip
def test_the_search_finds(line):
    assert list(suspects(ast.parse(line)))


def test_no_import_makes_more_names_loadable():
    """torch lists exceptions and classes of its own, which :func:`openmixup.reading.plain.plain` refuses."""
    code = (
        'import torch, openmixup.engine.runner, openmixup.models, timm\n'
        'for item in torch.serialization.get_safe_globals():\n'
        '    kind = item[0] if isinstance(item, tuple) else item\n'
        "    own = kind.__module__.split('.')[0] in ('torch', 'traceback')\n"
        '    assert own or issubclass(kind, BaseException), item\n'
    )
    environ = {**os.environ, 'PYTHONPATH': str(ROOT)}
    subprocess.run([sys.executable, '-c', code], check=True, env=environ, timeout=300)


CONFIG = """
default_scope = 'openmixup'
custom_imports = dict(imports=['tensors_only'])
data_preprocessor = dict(type='BatchPreprocessor', mean=(0.3,), std=(0.4,))
train_dataloader = dict(dataset=dict(type='Digits', split='train', per_class=8), batch_size=16)
val_dataloader = dict(dataset=dict(type='Digits', split='test', per_class=10), batch_size=50)
test_dataloader = val_dataloader
val_evaluator = [dict(type='ClassificationMetric', topk=(1, 5))]
test_evaluator = val_evaluator
model = dict(
    type='MixClassifier', backbone=dict(type='CifarResNet', depth=8, width=4, in_channels=1),
    head=dict(type='LinearHead', num_classes=None), policy=dict(type='RecursiveMix'), teacher=dict(decay=0.9))
train_cfg = dict(type='EpochLoop', max_epochs=2)
val_cfg = dict(type='EvalLoop')
test_cfg = dict(type='EvalLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=2, by_epoch=True)]
default_hooks = dict(
    log=dict(type='LogHook', interval=2), checkpoint=dict(type='CheckpointHook', interval=1, keep=2),
    gallery=dict(type='MixGalleryHook'), summary=dict(type='SummaryHook'))
"""
TENSORS_ONLY = """
import torch.distributed.distributed_c10d as c10d


def refused(*args, **kwargs):
    raise AssertionError('an object is sent to another process as a pickle')


assert c10d._object_to_tensor and c10d._tensor_to_object  # what all collectives of objects go through
c10d._object_to_tensor = c10d._tensor_to_object = refused
print('tensors only')
"""


@pytest.mark.slow
def test_processes_exchange_tensors_only(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    (tmp_path / 'tensors_only.py').write_text(TENSORS_ONLY)
    environ = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': f'{ROOT}{os.pathsep}{tmp_path}'}
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    work = str(tmp_path / 'work')
    for command in (
        ['train.py', 'config.py', '--cfg-options', 'train_cfg.max_epochs=1', 'param_scheduler.0.T_max=1'],
        ['train.py', 'config.py', '--resume', '--cfg-options', 'train_cfg.max_epochs=1', 'param_scheduler.0.T_max=1'],
        ['test.py', 'config.py', f'{work}/epoch_1.pth'],
    ):
        whole = [*launch, str(ROOT / 'tools' / command[0]), '--launcher', 'pytorch', '--work-dir', work, *command[1:]]
        done = subprocess.run(whole, capture_output=True, text=True, env=environ, timeout=400, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count('tensors only') == 2
