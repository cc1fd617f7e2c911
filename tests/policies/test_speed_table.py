"""The table of benchmarks/speed/policies.py, and what its shortcuts must not change."""

import random
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from openmixup.policies import Batch, Context, CutMix, GMix, GridMix, HMix, SmoothMix
from openmixup.policies.masks import cutmix_boxes
from openmixup.registry import POLICIES

SCRIPT = Path(__file__).parents[2] / 'benchmarks' / 'speed' / 'policies.py'
PLAIN = runpy.run_path(str(SCRIPT.with_name('plain.py')))['PLAIN']
IMAGES, LABELS = torch.randn(6, 3, 14, 20, generator=torch.Generator().manual_seed(0)), torch.arange(6)


@pytest.mark.slow
def test_the_table_has_all_candidates():
    done = subprocess.run([sys.executable, SCRIPT, '--rounds', '2'], capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in done.stdout.splitlines() if line[:1] == '|']
    assert all(len(row) == 11 for row in rows)
    names = [row[0] for row in rows]
    assert {'clone', 'Mixup()', 'FMix(sample)', 'timm cutmix, elem', 'torchvision MixUp'} <= set(names)
    for name, *cells in rows[3:]:
        kind = POLICIES.module_dict.get(name.split('(')[0])
        if kind is not None and '.static.' in kind.__module__:
            assert all(int(cells[at]) <= kind().operators for at in (3, 8)), name
            assert all(cells[at] == '0' for at in (4, 9)), name
        assert (cells[1] == '-') == (name not in PLAIN)


@pytest.mark.parametrize('name', sorted(PLAIN))
def test_the_plain_code_mixes_by_the_weights_that_it_tells(name):
    """Of images of one value each, so that a mean says how much of which image there is."""
    images = torch.tensor([0.0, 1.0, 10.0])[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    torch.manual_seed(0)
    random.seed(0)
    changed = 0
    for _ in range(30):
        mixed, partner, own = PLAIN[name](images)
        assert mixed.shape == ((3, 3, 64, 32) if name == 'StackMix()' else images.shape)
        assert sorted(partner.tolist()) == [0, 1, 2]
        changed += mixed.shape != images.shape or not torch.equal(mixed, images)
        values = images[:, 0, 0, 0]
        if name == 'SamplePairing()':
            own = 0.5  # in the picture; its label is all of the own image
        if name != 'RICAP()':
            torch.testing.assert_close(mixed.mean((1, 2, 3)), own * values + (1 - own) * values[partner])
            continue
        theirs = (mixed == values[partner][:, None, None, None]).float().mean((1, 2, 3))
        assert (theirs >= 1 - own - 1e-6).all()  # others may be the same image by chance
    assert changed > 20


@pytest.mark.parametrize('kind', [SmoothMix, GMix, HMix, GridMix])
@pytest.mark.parametrize('size', [(14, 20), (32, 32), (1, 7)])
def test_a_mask_in_plain_numbers_is_that_of_tensors(kind, size):
    batch = Batch(torch.zeros(2, 3, *size), None)
    for seed in range(50):
        lam = torch.rand(1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        policy, partner = kind(), torch.tensor([1, 0])
        one = policy.mask(batch, partner, lam, Context(generator=torch.Generator().manual_seed(seed)))
        each = policy.mask(batch, partner, lam.expand(2), Context(generator=torch.Generator().manual_seed(seed)))
        for found, expected in zip(one.parts(), each.parts(), strict=True):
            torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(one.kept()[0], each.kept()[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('size', [(14, 20), (32, 32), (224, 224), (1, 7)])
def test_a_box_in_plain_numbers_is_that_of_tensors(size):
    for seed in range(200):
        lam = torch.rand(1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        lam = lam if seed else lam * 0
        one = cutmix_boxes(lam, size, torch.Generator().manual_seed(seed))
        both = cutmix_boxes(lam.expand(2), size, torch.Generator().manual_seed(seed))
        assert torch.equal(one.low[0], both.low[0])
        assert torch.equal(one.high[0], both.high[0])
        assert one.kept()[0] == both.kept()[0]


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_gradients_flow_through_the_paste(per):
    images = IMAGES.clone().requires_grad_()
    view = CutMix(per=per).mix(images, LABELS, torch.Generator().manual_seed(1))
    assert torch.equal(view.inputs, CutMix(per=per).mix(IMAGES, LABELS, torch.Generator().manual_seed(1)).inputs)
    view.inputs.sum().backward()
    torch.testing.assert_close(images.grad.sum(), torch.tensor(float(images.numel())))
