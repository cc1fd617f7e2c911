"""What the report of a step stores can be read back."""

import torch

from openmixup.engine.checkpoint import read_checkpoint, write_checkpoint
from openmixup.engine.step_report import _tensors
from openmixup.policies import Mixture, View


def test_weights_that_repeat_a_row_are_stored_whole(tmp_path):
    index = torch.stack([torch.arange(16), torch.arange(16).flip(0)], 1)
    view = View(torch.zeros(16, 1, 2, 2), Mixture(index, torch.tensor([[0.25, 0.75]]).expand(16, 2)))
    write_checkpoint({'views': [_tensors(view)]}, tmp_path / 'batch.pth')
    (read,) = read_checkpoint(tmp_path / 'batch.pth')['views']
    assert read['weight'].tolist() == [[0.25, 0.75]] * 16
    assert torch.equal(read['index'], index)
