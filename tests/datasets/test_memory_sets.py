import gzip
import pickle
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
import torch

from openmixup.datasets import CIFAR10, CIFAR100, Digits, FashionMNIST, InMemoryDataset, TinyImageNet, decode
from openmixup.datasets import idx as idx_module
from openmixup.datasets.cifar import read_pickle
from openmixup.errors import InputError
from openmixup.registry import DATASETS


def small(n=20, classes=4):
    return torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 4, 4), torch.arange(n) % classes


def test_batches_of_a_set_in_memory():
    data = InMemoryDataset(*small())
    batch = data.__getitems__([3, 0, 3])
    assert batch['inputs'].shape == (3, 3, 4, 4)
    assert batch['inputs'].dtype == torch.uint8
    assert batch['inputs'][:, 0, 0, 0].tolist() == [3, 0, 3]
    assert batch['labels'].tolist() == [3, 0, 3]
    assert torch.equal(data.__getitems__(torch.tensor([3, 0, 3]))['inputs'], batch['inputs'])
    assert data[5]['inputs'].shape == (3, 4, 4)
    assert data[5]['labels'].item() == 1
    assert (len(data), data.num_classes, data.classes) == (20, 4, ('0', '1', '2', '3'))
    assert data.to('cpu') is data
    moved = InMemoryDataset(*small()).to('meta')
    assert moved.__getitems__([1, 2])['inputs'].device.type == 'meta'


def test_a_subset_has_so_many_of_each_class_and_is_fixed_by_its_seed():
    images, labels = small(200)
    state = torch.get_rng_state()
    first = InMemoryDataset(images, labels, per_class=3, subset_seed=1)
    torch.manual_seed(5)
    again = InMemoryDataset(images, labels, per_class=3, subset_seed=1)
    other = InMemoryDataset(images, labels, per_class=3, subset_seed=2)
    torch.set_rng_state(state)
    assert first.labels.bincount().tolist() == [3] * 4
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.equal(first.images[:, 0, 0, 0] % 4, first.labels)
    with pytest.raises(InputError, match='has 50 images'):
        InMemoryDataset(images, labels, per_class=51)
    with pytest.raises(InputError, match='per_class'):
        InMemoryDataset(images, labels, per_class=0)


@pytest.mark.parametrize(
    'wrong',
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2).long()),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2).long()),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3).long()),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 5]), ['a', 'b']),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, -1])),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0).long()),
    ],
)
def test_wrong_tensors_are_refused(wrong):
    with pytest.raises(InputError):
        InMemoryDataset(*wrong)


def test_digits():
    from sklearn.datasets import load_digits

    train, test = Digits(), Digits(split='test')
    assert (len(train), len(test), train.num_classes) == (1000, 797, 10)
    assert train.images.shape == (1000, 1, 8, 8)
    assert train.labels[:10].tolist() == list(range(10))
    assert train.images[0, 0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert int(train.images.max()) == 255
    source = load_digits()
    assert test.labels.tolist() == source.target[1000:].tolist()
    assert (test.images[:, 0].numpy() * (16 / 255) - source.images[1000:]).max() < 0.05
    big = DATASETS.build({'type': 'Digits', 'size': 32, 'per_class': 5})
    assert big.images.shape == (50, 1, 32, 32)
    with pytest.raises(InputError, match='did you mean'):
        Digits(split='trian')


def write_idx(path, array):
    data = b'\0\0\x08' + bytes([array.ndim]) + struct.pack(f'>{array.ndim}I', *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)


@pytest.mark.parametrize(('folder', 'suffix'), [('.', '.gz'), ('.', ''), ('FashionMNIST/raw', '.gz')])
def test_fashion_mnist(tmp_path, monkeypatch, folder, suffix):
    monkeypatch.setattr(idx_module, '_DEBIAN', tmp_path / 'nowhere')
    images = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = (np.arange(30) % 10).astype(np.uint8)
    for stem in ('train', 't10k'):
        write_idx(tmp_path / folder / f'{stem}-images-idx3-ubyte{suffix}', images)
        write_idx(tmp_path / folder / f'{stem}-labels-idx1-ubyte{suffix}', labels)
    data = FashionMNIST(tmp_path, split='test', allow_subset=True)
    assert torch.equal(data.images[:, 0], torch.from_numpy(images))
    assert data.labels.tolist() == labels.tolist()
    assert data.classes[9] == 'Ankle boot'
    assert len(FashionMNIST(tmp_path, per_class=2, allow_subset=True)) == 20
    bad = tmp_path / folder / f't10k-images-idx3-ubyte{suffix}'
    bad.write_bytes(bad.read_bytes()[:-40])
    with pytest.raises(InputError, match='t10k-images'):
        FashionMNIST(tmp_path, split='test')


@pytest.mark.parametrize('suffix', ['', '.gz'])
def test_no_more_of_an_idx_file_is_read_than_its_header_says(tmp_path, suffix):
    file = tmp_path / f'x{suffix}'
    head = b'\0\0\x08\x01' + struct.pack('>I', 10)

    def write(content):
        file.write_bytes(gzip.compress(content) if suffix else content)

    write(head + bytes(range(10)))
    assert idx_module.read_idx(file).tolist() == list(range(10))
    write(head + bytes(100_000_000))  # 100 kB, compressed
    tracemalloc.start()
    with pytest.raises(InputError, match='more values and its header says'):
        idx_module.read_idx(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    for content, reason in {
        head + bytes(9): '9 values',
        head[:6]: 'within its header',
        head[:2]: 'not an idx file',
        b'\0\0\x08\x03' + b'\xff' * 12 + bytes(10): 'over',
    }.items():
        write(content)
        with pytest.raises(InputError, match=reason):
            idx_module.read_idx(file)


def test_fashion_mnist_missing_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(idx_module, '_DEBIAN', tmp_path / 'nowhere')
    with pytest.raises(InputError, match='apt-get install dataset-fashion-mnist'):
        FashionMNIST(tmp_path)


def cifar_tree(root, hundred=False, protocol=2):
    rng = np.random.default_rng(0)
    folder = root / ('cifar-100-python' if hundred else 'cifar-10-batches-py')
    folder.mkdir(parents=True)
    stored = {}

    def dump(name, value):
        (folder / name).write_bytes(pickle.dumps(value, protocol=protocol))

    names = ('train', 'test') if hundred else (*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch')
    for name in names:
        stored[name] = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        labels = [i % 10 for i in range(20)]
        part = {b'data': stored[name], b'filenames': [b'x.png'] * 20}
        part |= {b'fine_labels': labels, b'coarse_labels': [0] * 20} if hundred else {b'labels': labels}
        dump(name, part)
    kinds = [f'class{i}'.encode() for i in range(100 if hundred else 10)]
    dump('meta' if hundred else 'batches.meta', {b'fine_label_names' if hundred else b'label_names': kinds})
    return folder, stored


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_cifar10(tmp_path, protocol):
    folder, stored = cifar_tree(tmp_path, protocol=protocol)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        train = CIFAR10(tmp_path, allow_subset=True)
        test = CIFAR10(folder, split='test', allow_subset=True)
    assert (len(train), len(test), train.classes[3]) == (100, 20, 'class3')
    assert torch.equal(test.images, torch.from_numpy(stored['test_batch']).view(20, 3, 32, 32))
    assert torch.equal(train.images[20:40], torch.from_numpy(stored['data_batch_2']).view(20, 3, 32, 32))
    assert train.labels[:10].tolist() == list(range(10))
    assert len(CIFAR10(tmp_path, per_class=4, allow_subset=True)) == 40


def test_cifar100_has_fine_labels(tmp_path):
    cifar_tree(tmp_path, hundred=True)
    data = CIFAR100(tmp_path, split='test', allow_subset=True)
    assert data.num_classes == 100
    assert data.labels.tolist() == [i % 10 for i in range(20)]
    assert data.classes[99] == 'class99'


class Hostile:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def test_a_pickle_that_asks_for_code_is_refused(tmp_path):
    import codecs
    import os

    folder, _ = cifar_tree(tmp_path)
    marker = tmp_path / 'ran'
    for name, call in {
        'posix.system|nt.system': (os.system, (f'touch {marker}',)),
        'builtins.eval': (eval, (f'open({str(marker)!r}, "w")',)),
        'codecs.decode': (codecs.decode, ('a', 'rot13')),
        'rot13': (codecs.encode, ('a', 'rot13')),
    }.items():
        (folder / 'test_batch').write_bytes(pickle.dumps({b'data': Hostile(*call)}, protocol=4))
        with pytest.raises(InputError, match=name.replace('__builtin__', 'builtins')):
            CIFAR10(tmp_path, split='test')
    assert not marker.exists()


RECONSTRUCT, FROMBUFFER = np.zeros(1).__reduce__()[0], np.zeros(1).__reduce_ex__(5)[0]
BYTE = np.dtype('u1')


@pytest.mark.parametrize(
    'value',
    [
        Hostile(np.ndarray, ((1,), 'O', b'A' * 8)),
        Hostile(np.ndarray, (2**40,)),
        np.array([1, 'x'], dtype=object),
        Hostile(np.dtype, ('O',)),
        Hostile(np.dtype, ([('a', 'O')],)),
        Hostile(RECONSTRUCT, (np.ndarray, (0,), b'b'), (1, (4, 3072), BYTE, False, b'A' * 8)),
        Hostile(RECONSTRUCT, (np.ndarray, (0,), b'b'), (1, (-1, 3072), BYTE, False, b'A' * 3072)),
        Hostile(RECONSTRUCT, (np.ndarray, (0,), b'b'), (1, (1,), BYTE, False, [1])),
        Hostile(RECONSTRUCT, (np.ndarray, (0,), b'b'), (1, (1,), 'O', False, b'A' * 8)),
        Hostile(RECONSTRUCT, (np.ndarray, (2**40,), b'O')),
        Hostile(FROMBUFFER, (b'A' * 8, 'O', (1,), 'C')),
        Hostile(FROMBUFFER, (b'A' * 8, BYTE, (2**62, 4), 'C')),
        Hostile(np.dtype, ('u1', False, True), (3, '|', None, None, None, 8, 8, 63)),
    ],
)
@pytest.mark.parametrize('protocol', [2, 5])
def test_a_pickle_cannot_make_an_array_of_its_own_kind(tmp_path, value, protocol):
    """Several of these would read or write memory that is not theirs if numpy were called as the file says."""
    folder, _ = cifar_tree(tmp_path)
    labels = [0, 1, 2, 3]
    for shape in (value, [value, Hostile(np.ndarray, (value, 'u1', b'A' * 8))]):
        content = pickle.dumps({b'data': shape, b'labels': labels}, protocol=protocol)
        (folder / 'test_batch').write_bytes(content)
        with pytest.raises(InputError, match='test_batch'):
            CIFAR10(tmp_path, split='test')


def test_a_pickle_cannot_change_what_it_names(tmp_path):
    # proto 2, GLOBAL numpy dtype, MARK NONE, {'_function': 1}, TUPLE, BUILD: state for the function itself
    (tmp_path / 'x').write_bytes(b'\x80\x02cnumpy\ndtype\n(N}X\x09\0\0\0_functionK\x01stb.')
    with pytest.raises(InputError, match='state'):
        read_pickle(tmp_path / 'x')


def python2_pickle(data):
    """The bytes that python 2 and numpy 1.x wrote for the official archives: every str is a byte string."""

    def text(content):
        if len(content) < 256:
            return b'U' + bytes([len(content)]) + content
        return b'T' + struct.pack('<I', len(content)) + content

    shape = b''.join(b'J' + struct.pack('<i', side) for side in data.shape) + b'\x86'
    dtype = b'cnumpy\ndtype\n' + text(b'u1') + b'K\0K\1\x87R(K\3' + text(b'|') + b'NNNJ\xff\xff\xff\xff'
    dtype += b'J\xff\xff\xff\xffK\0tb'
    array = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85' + text(b'b') + b'\x87R'
    array += b'(K\1' + shape + dtype + (b'\x88' if data.flags.f_contiguous else b'\x89')
    array += text(data.tobytes('A')) + b'tb'
    return b'\x80\x02}(' + text(b'data') + array + text(b'labels') + b']K\7au.'


@pytest.mark.parametrize('order', ['C', 'F'])
def test_the_pickles_of_python_2_are_read(tmp_path, order):
    data = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8).copy(order)
    for content in (
        python2_pickle(data),
        *(pickle.dumps({b'data': data, b'labels': [7]}, protocol=p) for p in (2, 3, 4, 5)),
        pickle.dumps({b'data': data, b'labels': [7]}, protocol=2).replace(b'numpy._core.', b'numpy.core.'),
        pickle.dumps({b'data': data, b'labels': [7]}, protocol=2).replace(b'numpy.core.', b'numpy._core.'),
    ):
        (tmp_path / 'x').write_bytes(content)
        result = read_pickle(tmp_path / 'x')
        assert type(result[b'data']) is np.ndarray
        assert np.array_equal(result[b'data'], data)
        assert result[b'labels'] == [7]


def test_damaged_or_missing_cifar(tmp_path):
    with pytest.raises(InputError, match='prepare_data.py cifar10 --root .*data_batch_1'):
        CIFAR10(tmp_path)
    folder, _ = cifar_tree(tmp_path)
    file = folder / 'test_batch'
    whole = file.read_bytes()
    for content in (whole[:500], b'', pickle.dumps([1]), pickle.dumps({b'data': np.zeros((2, 5))})):
        file.write_bytes(content)
        with pytest.raises(InputError, match='test_batch'):
            CIFAR10(tmp_path, split='test')


def tiny_tree(root):
    from PIL import Image

    base = root / 'tiny-imagenet-200'
    rng = np.random.default_rng(0)
    wnids = ['n02', 'n01']
    (base / 'val' / 'images').mkdir(parents=True)
    (base / 'wnids.txt').write_text('\n'.join(wnids) + '\n')
    (base / 'words.txt').write_text('n01\tgoldfish, Carassius\nn99\tother\n')
    grey = {'n01': 40, 'n02': 200}
    for wnid in wnids:
        (base / 'train' / wnid / 'images').mkdir(parents=True)
        for i in range(3):
            image = Image.fromarray(np.full((64, 64, 3), grey[wnid] + i, dtype=np.uint8))
            image = image.convert('L') if i == 1 else image
            image.save(base / 'train' / wnid / 'images' / f'{wnid}_{i}.JPEG')
    lines = []
    for i, wnid in enumerate(['n02', 'n01', 'n02']):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(base / 'val/images' / f'val_{i}.JPEG')
        lines.append(f'val_{i}.JPEG\t{wnid}\t0\t0\t62\t62')
    (base / 'val' / 'val_annotations.txt').write_text('\n'.join(lines) + '\n')
    return base


def test_tiny_imagenet_is_decoded_once(tmp_path, monkeypatch):
    from openmixup.datasets import tiny_imagenet

    base = tiny_tree(tmp_path)
    train = TinyImageNet(tmp_path, allow_subset=True)
    val = TinyImageNet(base, split='val', allow_subset=True)
    assert train.images.shape == (6, 3, 64, 64)
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.images[:, 0, 5, 5].tolist() == [40, 41, 42, 200, 201, 202]
    assert (train.classes, train.wnids) == (('goldfish, Carassius', 'n02'), ('n01', 'n02'))
    assert val.labels.tolist() == [1, 0, 1]
    assert torch.equal(val.images, TinyImageNet(base, split='test', allow_subset=True).images)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == ['', '.npy', '.npy']

    decoded = []
    whole = tiny_imagenet._decode
    monkeypatch.setattr(tiny_imagenet, '_decode', lambda *a: (decoded.append(len(a[1])), whole(*a)))
    assert torch.equal(TinyImageNet(tmp_path, allow_subset=True).images, train.images)
    assert decoded == []
    (base / 'train/n01/images/n01_2.JPEG').unlink()
    assert len(TinyImageNet(tmp_path, allow_subset=True)) == 5
    assert decoded == [5]
    for cache in tmp_path.glob('*train-5*.npy'):
        cache.write_bytes(cache.read_bytes()[:-100])
    assert len(TinyImageNet(tmp_path, allow_subset=True)) == 5
    assert decoded == [5, 5]


def test_tiny_imagenet_names_a_bad_file(tmp_path):
    base = tiny_tree(tmp_path)
    (base / 'train/n02/images/n02_1.JPEG').write_bytes(b'no image')
    with pytest.raises(InputError, match=r'n02_1\.JPEG'):
        TinyImageNet(tmp_path, allow_subset=True)
    assert not list(tmp_path.glob('*.npy'))
    with pytest.raises(InputError, match='unpacked'):
        TinyImageNet(tmp_path / 'elsewhere')


def test_tiny_imagenet_limits_the_pixels(tmp_path, monkeypatch):
    tiny_tree(tmp_path)
    monkeypatch.setattr(decode, 'MAX_PIXELS', 64 * 64 - 1)
    with pytest.raises(InputError, match='64x64 pixels are more than'):
        TinyImageNet(tmp_path, allow_subset=True)
