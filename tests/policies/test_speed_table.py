"""The table of benchmarks/speed/policies.py, and what its shortcuts must not change."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from openmixup.policies import CutMix
from openmixup.policies.masks import cutmix_boxes

SCRIPT = Path(__file__).parents[2] / 'benchmarks' / 'speed' / 'policies.py'
IMAGES, LABELS = torch.randn(6, 3, 14, 20, generator=torch.Generator().manual_seed(0)), torch.arange(6)


@pytest.mark.slow
def test_the_table_has_all_candidates():
    done = subprocess.run([sys.executable, SCRIPT, '--rounds', '2'], capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in done.stdout.splitlines() if line[:1] == '|']
    assert len(rows) == 2 + 1 + 5 + 6
    assert all(len(row) == 9 for row in rows)
    for name, *cells in rows[3:8]:
        assert all(int(cells[at]) <= 12 for at in (2, 6)), name
        assert all(cells[at] == '0' for at in (3, 7)), name


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
