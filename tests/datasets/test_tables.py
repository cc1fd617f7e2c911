"""Tables of image files, and folders with a table in place of class folders."""

import json

import pytest
import torch

from openmixup.datasets import ImageFolder, ImageTable
from openmixup.errors import InputError

ROWS = [('a/1.png', 'cat', 'train'), ('a/2.png', 'ant', 'train'), ('3.png', 'cat', 'val'), ('4.png', 'bee', 'val')]


@pytest.fixture
def images(tmp_path):
    """The images of ROWS, each of one grey."""
    from PIL import Image

    for number, (name, *_) in enumerate(ROWS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 40), (50 * number,) * 3).save(tmp_path / name)
    return tmp_path


def table(root, name='table.csv', rows=ROWS, columns=('path', 'label', 'split')):
    file = root / name
    if name.endswith('.jsonl'):
        lines = [json.dumps(dict(zip(columns, row, strict=False))) for row in rows]
    else:
        separator = '\t' if name.endswith('.tsv') else ','
        lines = [separator.join(columns), *(separator.join(map(str, row)) for row in rows)]
    file.write_text(''.join(f'{line}\n' for line in lines))
    return file


@pytest.mark.parametrize('name', ['table.csv', 'table.tsv', 'table.jsonl'])
def test_the_rows_of_a_split(images, name):
    """Classes are those of all splits, in sorted order."""
    file = table(images, name)
    train, val = (ImageTable(file, split=split, size=32) for split in ('train', 'val'))
    assert train.classes == val.classes == ('ant', 'bee', 'cat')
    assert (train.labels.tolist(), val.labels.tolist()) == ([2, 0], [2, 1])
    assert (train.train, val.train) == (True, False)
    batch = val.__getitems__([0, 1])
    assert batch['inputs'][:, 0, 16, 16].tolist() == [100, 150]
    assert batch['labels'].dtype == torch.int64


def test_a_table_in_another_place_and_other_names(images, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp('tables')
    file = table(elsewhere, columns=('photo', 'animal', 'part'), rows=[(n, k, {'val': 'Validation'}.get(s, s))
                                                                       for n, k, s in ROWS])  # fmt: skip
    data = ImageTable(
        file, root=images, split='val', size=32, columns={'path': 'photo', 'label': 'animal', 'split': 'part'}
    )
    assert [path.relative_to(images).as_posix() for path in data.paths] == ['3.png', '4.png']
    table(images, 'inner.csv')
    assert len(ImageTable('inner.csv', root=images, size=32)) == 2
    assert len(ImageTable(table(images, columns=('path', 'label'), rows=[row[:2] for row in ROWS]), size=32)) == 4


def test_numbers_are_class_numbers(images):
    file = table(images, rows=[('3.png', 0, 'train'), ('4.png', 2, 'train')])
    assert ImageTable(file).classes == ('0', '1', '2')
    named = ImageTable(file, classes=['x', 'y', 'z'])
    assert (named.classes, named.labels.tolist()) == (('x', 'y', 'z'), [0, 2])
    ids = table(images, 'ids.csv', rows=[('3.png', 7, 'train'), ('4.png', 20_000_000, 'train')])
    assert ImageTable(ids, classes=['20000000', '7']).labels.tolist() == [1, 0]
    with pytest.raises(InputError, match='label 2 for 2 classes'):
        ImageTable(file, classes=['x', 'y'])
    ordered = ImageTable(table(images), classes=['cat', 'bee', 'ant'])
    assert (ordered.classes, ordered.labels.tolist()) == (('cat', 'bee', 'ant'), [0, 2])
    with pytest.raises(InputError, match="label 'ant', which is not in classes"):
        ImageTable(file.parent / 'table.csv', classes=['cat', 'bee', 'aunt'])


def test_a_regression(images):
    rows = [('3.png', '1.5', 'train'), ('4.png', '-2', 'train')]
    data = ImageTable(table(images, rows=rows), target='regression', size=32)
    batch = data.__getitems__([0, 1])
    assert (batch['labels'].dtype, batch['labels'].tolist()) == (torch.float32, [[1.5], [-2.0]])
    assert (data.num_classes, data.classes) == (None, ())
    for text in ('nan', 'old', '', True):
        with pytest.raises(InputError, match=r'row 2: .* is not a finite number'):
            ImageTable(table(images, 'table.jsonl', [rows[0], ('4.png', text, 'train')]), target='regression')


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'columns': ('pth', 'label', 'split')}, r"has no column 'path or file_name' \(it has pth, label, split\)"),
        ({'columns': ('path', 'labels', 'split')}, r"has no column 'label'.*columns=dict\(label=\.\.\.\)"),
        ({'rows': [('../x.png', 'cat', 'train')]}, r"row 1: '\.\./x\.png' is not a path below"),
        ({'rows': [('/etc/passwd', 'cat', 'train')]}, 'is not a path below'),
        ({'rows': [('3.png', '', 'train')]}, 'row 1: the label is missing'),
        ({'rows': [*ROWS, ('4.png', 'cat', 'trian')]}, "row 5: the split 'trian' is none of train, val, test; did you"),
        ({'rows': [*ROWS, ('4.png', 'cat', '')]}, "row 5: the split '' is none of train, val, test: correct it"),
        ({'name': 'table.jsonl', 'rows': [('3.png', [1, 0], 'train')]}, 'row 1: the label .* is several values'),
        ({'rows': [('3.png', 7, 'train'), ('4.png', 20_000_000, 'train')]}, 'has the label 20000000, but'),
        ({'rows': [('3.png', 'cat', 'test')]}, "has no row of the split 'train'"),
        ({'rows': []}, 'has no rows with named columns'),
        ({'name': 'table.txt'}, 'is of an unknown kind'),
    ],
)  # fmt: skip
def test_one_sentence_for_a_table_that_will_not_do(images, change, reason):
    with pytest.raises(InputError, match=reason) as caught:
        ImageTable(table(images, **change))
    assert '\n' not in str(caught.value)


def test_one_sentence_for_what_is_not_there(images):
    with pytest.raises(InputError, match=r'no\.csv is not a file'):
        ImageTable(images / 'no.csv')
    (images / 'bad.jsonl').write_text('{"path": \n')
    with pytest.raises(InputError, match=r'bad\.jsonl cannot be read'):
        ImageTable(images / 'bad.jsonl')
    with pytest.raises(InputError, match='columns'):
        ImageTable(table(images), columns={'image': 'path'})
    data = ImageTable(table(images, rows=[('9.png', 'cat', 'train')]), on_error='raise')
    with pytest.raises(InputError, match=r'9\.png'):
        data[0]


def test_a_metadata_table_beside_the_images(images):
    table(images, 'metadata.csv', columns=('file_name', 'label'), rows=[row[:2] for row in ROWS])
    data = ImageFolder(images, split='all', size=32)
    assert data.classes == ('ant', 'bee', 'cat')
    assert sorted(zip([p.name for p in data.paths], data.labels.tolist(), strict=True)) == [
        ('1.png', 2), ('2.png', 0), ('3.png', 2), ('4.png', 1)
    ]  # fmt: skip


@pytest.mark.parametrize('held', ['val', 'validation', 'test'])
@pytest.mark.parametrize('whole', [True, False])
def test_a_metadata_table_of_each_part(images, held, whole):
    """Beside train/, or in each part; numbers of classes are those of train/."""
    (images / 'a').rename(images / 'train')
    (images / held).mkdir()
    for name in ('3.png', '4.png'):
        (images / name).rename(images / held / name)
    parts = {'train': [('1.png', 'cat'), ('2.png', 'ant')], held: [('3.png', 'cat'), ('4.png', 'ant')]}
    columns = ('file_name', 'label')
    if whole:
        rows = [(f'{part}/{name}', label) for part, found in parts.items() for name, label in found]
        table(images, 'metadata.jsonl', rows, columns)
    else:
        for part, rows in parts.items():
            table(images / part, 'metadata.csv', rows, columns)
    train, val = ImageFolder(images, size=32), ImageFolder(images, split='val', size=32)
    assert train.classes == val.classes == ('ant', 'cat')
    assert (train.labels.tolist(), val.labels.tolist()) == ([1, 0], [1, 0])
    assert [path.relative_to(images).as_posix() for path in val.paths] == [f'{held}/3.png', f'{held}/4.png']
    assert val.train is False


def test_a_metadata_table_without_a_label(images):
    table(images, 'metadata.csv', columns=('file_name', 'text'), rows=[row[:2] for row in ROWS])
    with pytest.raises(InputError, match=r"metadata\.csv has no column 'label'"):
        ImageFolder(images, split='all')
