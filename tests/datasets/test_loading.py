import itertools
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.datasets import Digits, ImageFolder, build_dataloader
from openmixup.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        for i in range(5):
            image = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
            image.save(tmp_path / name / f'{i}.png')
    return tmp_path


def equal(first, second):
    assert len(first) == len(second)
    return all(torch.equal(a[k], b[k]) for a, b in zip(first, second, strict=True) for k in ('inputs', 'labels'))


def test_loader_of_a_set_in_memory():
    loader = build_dataloader(Digits(), 64, shuffle=True, seed=1, num_workers=2)
    assert loader.num_workers == 0
    state = torch.get_rng_state()
    batches = list(loader)
    assert torch.equal(state, torch.get_rng_state())
    assert len(batches) == len(loader) == 16
    assert batches[0]['inputs'].shape == (64, 1, 8, 8)
    loader.set_epoch(0, start_batch=3)
    assert equal(list(loader), batches[3:])
    loader.set_epoch(1)
    assert not equal(list(loader), batches)
    labels = torch.cat([b['labels'] for b in build_dataloader(Digits(), 64, shuffle=False)])
    assert torch.equal(labels, Digits().labels)


def test_workers_change_nothing(tree):
    epochs = []
    for workers in (0, 2):
        loader = build_dataloader(ImageFolder(tree, size=8, val_fraction=0), 4, shuffle=True, num_workers=workers)
        seen = []
        for epoch in range(3):  # the workers of the first epoch live on
            loader.set_epoch(epoch, start_batch=1 if epoch == 2 else 0)
            seen.append(list(loader))
        epochs.append(seen)
    assert all(equal(a, b) for a, b in zip(*epochs, strict=True))
    assert [len(seen) for seen in epochs[0]] == [3, 3, 2]
    order = [torch.cat([b['inputs'].flatten(1) for b in seen]) for seen in epochs[0][:2]]
    assert not torch.equal(order[0].sort(0).values, order[1].sort(0).values)


def test_infinite_loader_draws_new_crops_in_each_epoch_and_can_be_cut(tree):
    def take(count, **kwargs):
        data = ImageFolder(tree, size=8, val_fraction=0)
        return list(itertools.islice(build_dataloader(data, 4, shuffle=False, infinite=True, **kwargs), count))

    whole = take(10)
    assert equal(take(10, num_workers=2), whole)
    assert equal(take(6, start_batch=4), whole[4:])
    # batches 0 and 5 hold the same pictures, of epochs 0 and 2
    assert torch.equal(whole[0]['labels'], whole[5]['labels'])
    assert not torch.equal(whole[0]['inputs'], whole[5]['inputs'])
    with pytest.raises(InputError, match='infinite'):
        build_dataloader(Digits(), 4, shuffle=True, infinite=True).set_epoch(1)


def test_an_error_in_a_worker_is_one_sentence(tree):
    (tree / 'b' / '2.png').write_bytes(b'no image')
    data = ImageFolder(tree, size=8, val_fraction=0, on_error='raise')
    for workers in (0, 1):
        with pytest.raises(InputError, match=r'^\S*2\.png cannot be decoded') as caught:
            list(build_dataloader(data, 4, shuffle=False, num_workers=workers))
        assert '\n' not in str(caught.value)
        assert not multiprocessing.active_children()


def test_worker_ignores_the_signals_that_end_a_run(tree):
    import os
    import signal

    from openmixup.datasets.loading import _start_worker

    child = os.fork()
    if child == 0:
        _start_worker(0)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(7 if signal.alarm(0) > 100 else 8)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize('ending', ['', 'raise ValueError', 'next(iter(loader))'])
def test_workers_of_a_loader_that_nobody_closed_end_with_python(tree, ending):
    code = (
        'import sys\nfrom openmixup.datasets import ImageFolder, build_dataloader\n'
        'data = ImageFolder(sys.argv[1], size=8, val_fraction=0)\n'
        'loader = build_dataloader(data, 4, shuffle=False, num_workers=2)\n'
        f'for batch in loader:\n    print(len(batch["labels"]))\n{ending}\n'
    )
    command = [sys.executable, '-c', code, str(tree)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ['4', '4', '2']
    assert 'killed' not in done.stderr
