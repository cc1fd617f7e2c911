"""What must fit between data sets, head and processes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from openmixup.engine.data_checks import check_data, set_classes
from openmixup.errors import InputError


class Data(SimpleNamespace):
    def __len__(self):
        return 4


def data(*classes: str, **more) -> Data:
    return Data(**{'classes': classes, 'num_classes': len(classes), 'image_shape': (3, 8, 8), **more})


def test_what_fits():
    both = {'train': data('cat', 'dog'), 'val': data('cat', 'dog')}
    assert check_data(both, 4) == (2, ('cat', 'dog'))
    assert check_data({'train': Data(image_shape=(1, 2, 2))}, 1) == (None, ())
    head = {'num_classes': None}
    set_classes(head, 2)
    set_classes(head, 2)
    assert head == {'num_classes': 2}


@pytest.mark.parametrize(
    ('datasets', 'world_size', 'message'),
    [
        ({'train': data('a', 'b'), 'val': data('a')}, 1, r'different numbers of classes \(train 2, val 1\)'),
        ({'train': data('cat', 'dog'), 'val': data('dog', 'horse')}, 1, "the val data .*'dog' for 'cat'"),
        ({'train': data('a'), 'val': data('a', 'b', num_classes=None)}, 1, "'b' for None"),
        ({'val': data('a')}, 5, 'the val data has 4 samples for 5 processes'),
        ({'train': SimpleNamespace(classes=('a',))}, 1, 'SimpleNamespace has no image_shape'),
    ],
)
def test_what_does_not_fit_is_said(datasets, world_size, message):
    with pytest.raises(InputError, match=message):
        check_data(datasets, world_size)


def test_a_head_of_another_size():
    with pytest.raises(InputError, match='num_classes=7, but the data has 2 classes'):
        set_classes({'num_classes': 7}, 2)
