"""A run does not go on with other labels, which nothing in its config tells."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from openmixup.engine.resume import labels_digest
from openmixup.errors import InputError

OPTIONS = (
    'train_dataloader.batch_size=4', 'model.backbone.in_channels=3', 'data_preprocessor.mean=(0.3,0.3,0.3)',
    'data_preprocessor.std=(0.4,0.4,0.4)', 'val_dataloader=None', 'val_cfg=None', 'val_evaluator=None',
    'test_dataloader=None', 'test_cfg=None', 'test_evaluator=None',
)  # fmt: skip


def test_resume_refuses_a_list_of_as_many_images_with_other_labels(train, tmp_path):
    lines = [f'{number}.png {number % 3}' for number in range(12)]
    for number in range(12):
        Image.new('RGB', (8, 8), (20 * number, 90, 200)).save(tmp_path / f'{number}.png')
    listed = tmp_path / 'list.txt'
    listed.write_text('\n'.join(lines))
    data = f"train_dataloader.dataset={{'type':'ImageList','list_file':'{listed}','root':'{tmp_path}','size':8}}"
    train('run', data, *OPTIONS)
    train('run', data, *OPTIONS, argv=('--resume',))
    listed.write_text('\n'.join(['0.png 1', *lines[1:]]))
    with pytest.raises(InputError, match=r"labels \(SHA-256\): '\w{12}' -> '\w{12}'"):
        train('run', data, *OPTIONS, argv=('--resume',))
    listed.write_text('\n'.join(lines))
    train('run', data, *OPTIONS, argv=('--resume',))


def test_a_checkpoint_without_the_digest_is_continued(train, monkeypatch):
    before = {'seed': 0, 'samples': 80, 'world_size': 1, 'batch_size': 16}
    monkeypatch.setattr('openmixup.engine.resume._identity', lambda _: before)
    train('run')
    monkeypatch.undo()
    train('run', argv=('--resume',))


class Labelled:
    def __init__(self, labels):
        self.labels = labels


KINDS = [
    torch.tensor([1, 0, 2, 0]), torch.tensor([1, 0, 2, 0], dtype=torch.int32), torch.tensor([1.5, 0.0, 2.0, 0.0]),
    torch.tensor([True, False, True, False]), torch.tensor([1.5, 0.0, 2.0, 0.0]).bfloat16(),
    torch.tensor([[1.0, 0.0], [2.0, 0.0]], requires_grad=True), torch.arange(6.0).view(2, 3).t(), np.arange(4),
    [1, 0, 2],
]  # fmt: skip


@pytest.mark.parametrize('labels', KINDS, ids=str)
def test_labels_of_any_kind_have_a_digest_of_their_own(labels):
    digests = [labels_digest(Labelled(each)) for each in KINDS]
    assert len(set(digests)) == len(KINDS)
    assert None not in digests
    changed = torch.as_tensor(labels).detach().clone(memory_format=torch.contiguous_format)
    changed.view(-1)[-1] = not changed.view(-1)[-1]
    assert labels_digest(Labelled(changed)) not in digests
    again = labels.detach().clone() if isinstance(labels, torch.Tensor) else copy.copy(labels)
    assert labels_digest(Labelled(again)) == labels_digest(Labelled(labels))


@pytest.mark.parametrize('dataset', [[1, 2, 3], Labelled(None), Labelled(['cat']), Labelled(torch.eye(2).to_sparse())])
def test_labels_that_are_no_numbers_in_order_have_none(dataset):
    assert labels_digest(dataset) is None
