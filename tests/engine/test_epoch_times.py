"""benchmarks/speed/epochs.py: its loops train, and they train alike."""

import argparse
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

SCRIPT = Path(__file__).parents[2] / 'benchmarks' / 'speed' / 'epochs.py'


@pytest.fixture(scope='module')
def script():
    """What the file defines; run as it is from the command line, with its folder in the search path."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        return runpy.run_path(str(SCRIPT))
    finally:
        sys.path.remove(str(SCRIPT.parent))


@pytest.fixture
def built(script, tmp_path):
    """The runner and the other loops of a tiny case."""

    def build(size='cifar', policy='Vanilla', images=4):
        case = argparse.Namespace(
            size=size, network='tiny', policy=policy, images=images, batch_size=2, workers=0, rounds=2, amp=False,
            channels_last=False, device='cpu',
        )  # fmt: skip
        if size == 'imagenet':
            script['write_folder'](tmp_path / 'images', images)
        runner = script['ours'](case, tmp_path)
        return runner, script['peers'](runner, case, tmp_path)

    return build


pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='the sizes are for a CPU')


@pytest.mark.parametrize('size', ['cifar', 'imagenet'])
def test_a_table_has_all_loops_and_ratios_to_ours(script, monkeypatch, capsys, size):
    options = f'--sizes {size} --networks tiny --policies CutMix --images 5 --batch-size 2 --rounds 2'.split()
    monkeypatch.setattr(sys, 'argv', [str(SCRIPT), *options])
    script['main']()
    lines = [line.split('|')[1:-1] for line in capsys.readouterr().out.splitlines() if line[:1] == '|']
    cells = [[cell.strip() for cell in line] for line in lines[2:]]
    assert {cell[0] for cell in cells} == {f'{size}, tiny, CutMix, 4 images by 2'}
    assert [cell[1] for cell in cells] == [
        'openmixup', 'timm, training script', 'torchvision, reference, PIL', 'torchvision, reference, tensors',
    ]  # fmt: skip
    assert cells[0][4] == '1.00 (1.00-1.00)'
    assert all(float(cell[2]) > 0 for cell in cells)


def test_ratios_are_taken_within_a_round(script):
    case = argparse.Namespace(size='cifar', network='tiny', policy='CutMix', images=8, batch_size=2)
    rounds = [{'openmixup': 1.0, 'b': 2.0}, {'openmixup': 10.0, 'b': 5.0}, {'openmixup': 4.0, 'b': 3.0}]
    ours, theirs = script['rows'](case, rounds)
    assert '| 2.0 | 4.000 (' in ours  # 8 images in the median of 4 seconds
    assert '| 0.75 (0.62-1.38), missed |' in theirs  # of 2, 0.5 and 0.75; the quartiles lie half way


@pytest.mark.parametrize('size', ['cifar', 'imagenet'])
def test_all_begin_from_the_same_weights_and_optimizer(built, size):
    runner, loops = built(size)
    images = torch.randn(2, 3, 32, 32)
    student = runner.model.student.eval()
    expected = student(images).logits
    config = runner.cfg['optim_wrapper']['optimizer']
    for loop in loops.values():
        torch.testing.assert_close(loop.network.eval()(images), expected)
        (only,) = loop.optimizer.param_groups
        assert (only['lr'], only['momentum'], only['weight_decay'], only['nesterov']) == (
            config['lr'], config['momentum'], config['weight_decay'], False,
        )  # fmt: skip
        assert len(only['params']) == len(list(student.parameters()))


@pytest.mark.parametrize('policy', ['Vanilla', 'Mixup', 'CutMix'])
def test_all_take_the_same_normalised_batches(script, built, policy):
    """Grey of one value: what they hand out is its normalised value, or that of the black border."""
    runner, _ = built(policy=policy)
    data = runner.dataset('train')
    data.images = torch.full_like(data.images, 200)
    case = argparse.Namespace(
        size='cifar', network='tiny', policy=policy, images=4, batch_size=2, workers=0, rounds=2, amp=False,
        channels_last=False, device='cpu',
    )  # fmt: skip
    grey = torch.tensor([0.0, 200.0])[:, None] / 255
    preprocessor = runner.model.data_preprocessor
    values = (grey - torch.tensor(preprocessor.mean)) / torch.tensor(preprocessor.std)  # (2, 3)
    for loop in script['peers'](runner, case, Path(runner.work_dir).parent).values():
        batches = list(loop.loader)
        assert len(batches) == 2
        for images, target in batches:
            assert images.shape == (2, 3, 32, 32)
            assert images.dtype == torch.float32
            low, high = (value[None, :, None, None] for value in values)
            if policy == 'Mixup':
                assert ((images >= low - 0.02) & (images <= high + 0.02)).all()
            else:
                near = torch.minimum((images - low).abs(), (images - high).abs())
                assert near.max() < 0.02
            assert ((images - high).abs() < 0.02).float().mean() > 0.4
            labels = F.one_hot(target, 10).float() if policy == 'Vanilla' else target
            torch.testing.assert_close(labels.sum(1), torch.ones(2))


def test_each_loop_trains_one_epoch_a_round(script, built):
    runner, loops = built()
    before = {name: [p.clone() for p in loop.network.parameters()] for name, loop in loops.items()}
    ticks = iter(range(1000))
    turns = script['Turns']({name: loop.epoch for name, loop in loops.items()}, lambda: next(ticks))
    runner.register_hook(turns)
    runner.train()
    assert runner.train_loop.iter == 6  # 3 epochs of 2 batches
    assert all(set(seconds) == {'openmixup', *loops} for seconds in turns.rounds)
    assert len(turns.rounds) == 3
    assert all(second == 1 for seconds in turns.rounds for second in seconds.values())  # no loop inside another's time
    assert loops['timm, training script'].updates == 6
    for name, loop in loops.items():
        assert any(not torch.equal(a, b) for a, b in zip(before[name], loop.network.parameters(), strict=True)), name
        assert loop.optimizer.param_groups[0]['lr'] == pytest.approx(0, abs=1e-6)  # the cosine has ended
