"""A run does not go on with other labels, which nothing in its config tells."""

import pytest
from PIL import Image

from openmixup.engine.resume import _labels_digest
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


def test_a_data_set_of_others_may_have_no_labels():
    assert _labels_digest([1, 2, 3]) is None
