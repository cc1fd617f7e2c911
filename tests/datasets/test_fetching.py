"""Files are fetched from a server of this machine and unpacked: what is there is whole, and nothing lands elsewhere."""

import dataclasses
import hashlib
import http.server
import io
import stat
import tarfile
import threading
import zipfile

import pytest

from openmixup.datasets.fetching import fetch, unpack
from openmixup.datasets.official import Archive, Official
from openmixup.errors import InputError


def tar(path, members, mode='w:gz'):
    """A tar archive of (name, content) or of TarInfo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


class Cutting(http.server.SimpleHTTPRequestHandler):
    """Gives the files of a folder, of each no more than the first ``server.part`` bytes of those that it announces."""

    def copyfile(self, source, outputfile):
        outputfile.write(source.read()[: self.server.part])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    def handler(*args):
        return Cutting(*args, directory=str(tmp_path / 'source'))

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        running.part = None
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def birds(server):
    """A data set that is one archive of the server."""

    def make(md5='', **changes):
        url = f'http://127.0.0.1:{server.server_port}/birds.tgz'
        return official(Archive(**{'name': 'birds.tgz', 'url': url, 'md5': md5, 'gives': 'birds', **changes}))

    return make


@pytest.fixture
def source(tmp_path):
    content = [(f'birds/{i}.jpg', bytes([i]) * 5000) for i in range(20)]
    return tar(tmp_path / 'source' / 'birds.tgz', content, 'w')


def official(*archives):
    return Official(
        name='birds', title='Birds', splits={'train': 20}, classes=1, needs={'train': ('birds',)}, places=('',),
        page='https://example.org/birds', access='', download='', put='the folder birds there',
        archives=lambda: archives,
    )  # fmt: skip


def left(root):
    """All that is below a root, but for the lock."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob('*') if path.name != '.download.lock')


@pytest.mark.parametrize('hashed', [True, False])
def test_a_file_is_fetched_once_and_unpacked(tmp_path, birds, source, hashed):
    md5 = hashlib.md5(source.read_bytes()).hexdigest() if hashed else ''
    said = []
    fetch(birds(md5), tmp_path / 'data', said.append)
    assert left(tmp_path / 'data') == sorted(['birds', 'birds.tgz', *(f'birds/{i}.jpg' for i in range(20))])
    assert (tmp_path / 'data/birds/7.jpg').read_bytes() == b'\7' * 5000
    assert [line.split()[0] for line in said] == ['fetching', 'unpacking']
    source.unlink()
    said.clear()
    fetch(birds(md5), tmp_path / 'data', said.append)
    assert said == []


@pytest.mark.parametrize('part', [0, 100, 30_000, 60_000])
@pytest.mark.usefixtures('source')
def test_a_transfer_that_is_cut_off_leaves_nothing(tmp_path, birds, server, part):
    """Without a hash, too: the archive comes to its place after it was unpacked."""
    server.part = part
    with pytest.raises(InputError, match=r'cannot be unpacked .*cut off or damaged'):
        fetch(birds(), tmp_path / 'data')
    assert left(tmp_path / 'data') == []


@pytest.mark.usefixtures('source')
def test_another_hash_leaves_nothing(tmp_path, birds):
    with pytest.raises(InputError, match=r'download failed: .*put the folder birds there; its page is https://example'):
        fetch(birds('0' * 32), tmp_path / 'data')
    assert left(tmp_path / 'data') == []


def test_an_address_without_a_file(tmp_path, birds, source):
    source.unlink()
    with pytest.raises(InputError, match=r'Birds \(train\) is not in .* \(the download failed: ') as caught:
        fetch(birds(), tmp_path / 'data')
    assert '\n' not in str(caught.value)
    assert left(tmp_path / 'data') == []


def test_an_archive_put_there_by_hand(tmp_path, birds, source):
    """It is unpacked where it has the known hash, or none is known; another one stays and is named."""
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/birds.tgz').write_bytes(source.read_bytes())
    with pytest.raises(InputError, match='birds.tgz is not the official file, whose MD5 is 000'):
        fetch(birds('0' * 32, url=''), tmp_path / 'data')
    assert left(tmp_path / 'data') == ['birds.tgz']
    fetch(birds(url=''), tmp_path / 'data')
    assert len(left(tmp_path / 'data')) == 22


@pytest.mark.usefixtures('source')
def test_what_an_earlier_process_left_by_half(tmp_path, birds):
    """Its workplace goes; a folder of the name that it does not know is named and not written into."""
    (tmp_path / 'data/.part/unpacked/birds').mkdir(parents=True)
    (tmp_path / 'data/birds/images').mkdir(parents=True)
    with pytest.raises(InputError, match='birds is there, but not complete: remove it'):
        fetch(birds(gives='birds/0.jpg'), tmp_path / 'data')
    assert left(tmp_path / 'data') == ['birds', 'birds/images']


@pytest.mark.usefixtures('source')
def test_a_folder_that_is_not_complete_is_named(tmp_path, birds):
    """Nothing is fetched over it; one that was unpacked beside it is no reason to remove anything."""
    root, by_half = tmp_path / 'data', birds()
    by_half = dataclasses.replace(by_half, needs={'train': ('birds/19.jpg',)})
    (root / 'birds').mkdir(parents=True)
    with pytest.raises(
        InputError, match=r'data/birds is there, but not complete: remove it, .* or put the folder birds'
    ):
        fetch(by_half, root)
    assert left(root) == ['birds']
    nests = Archive(name='nests.tgz', gives='nests')
    fetch(dataclasses.replace(by_half, archives=lambda: (*birds().archives(), nests)), root)  # for its finder to tell
    assert left(root) == ['birds']
    by_hand = Archive(name='birds.tgz', gives='birds')  # cannot be fetched again, so nothing is to be removed
    fetch(dataclasses.replace(by_half, archives=lambda: (by_hand,)), root)
    assert left(root) == ['birds']


def test_an_archive_of_archives(tmp_path, birds):
    """As that of ImageNet's training images: each of the inner ones becomes a folder of its name."""
    inner = [tar(tmp_path / f'{name}.tar', [(f'{name}_1.JPEG', name.encode())], 'w') for name in ('n01', 'n02')]
    tar(tmp_path / 'source/birds.tgz', [(file.name, file.read_bytes()) for file in inner], 'w')
    fetch(birds(gives='net/train', into='net/train', nested=True), tmp_path / 'data')
    assert left(tmp_path / 'data/net/train') == ['n01', 'n01/n01_1.JPEG', 'n02', 'n02/n02_1.JPEG']


@pytest.mark.parametrize(
    'member',
    [
        ('../out', b'x'), ('a/../../out', b'x'), link('door', '..'), link('door', '/etc'),
        link('door', '../../source/birds.tgz', tarfile.LNKTYPE), link('null', '', tarfile.CHRTYPE),
    ],
    ids=['up', 'up within', 'link up', 'link to root', 'hard link', 'device'],
)  # fmt: skip
def test_a_tar_stays_in_its_folder(tmp_path, member):
    file = tar(tmp_path / 'bad.tar', [('good', b'y'), member], 'w')
    with pytest.raises(InputError, match=r'bad\.tar was not unpacked'):
        unpack(file, tmp_path / 'to')
    assert left(tmp_path) in (['bad.tar', 'to'], ['bad.tar', 'to', 'to/good'])


def test_an_absolute_name_of_a_tar_is_taken_below(tmp_path):
    unpack(tar(tmp_path / 'a.tar', [(f'{tmp_path}/out', b'x')], 'w'), tmp_path / 'to')
    assert not (tmp_path / 'out').exists()
    assert (tmp_path / 'to' / f'{tmp_path}/out'.lstrip('/')).read_bytes() == b'x'


@pytest.mark.parametrize('name', ['../out', 'a/../../out', '/out', '..\\out', 'C:/out'])
def test_a_zip_stays_in_its_folder(tmp_path, name):
    with zipfile.ZipFile(tmp_path / 'bad.zip', 'w') as archive:
        archive.writestr('good', 'y')
        archive.writestr(name, 'x')
    with pytest.raises(InputError, match=r'bad\.zip was not unpacked, since its entry .* leads out'):
        unpack(tmp_path / 'bad.zip', tmp_path / 'to')
    assert left(tmp_path) == ['bad.zip', 'to']


def test_a_zip_has_no_links(tmp_path):
    info = zipfile.ZipInfo('door')
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / 'bad.zip', 'w') as archive:
        archive.writestr(info, '/etc')
    with pytest.raises(InputError, match='leads out'):
        unpack(tmp_path / 'bad.zip', tmp_path / 'to')


def test_a_zip_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
        archive.writestr('x/y.txt', 'z')
    unpack(tmp_path / 'a.zip', tmp_path / 'to')
    assert (tmp_path / 'to/x/y.txt').read_text() == 'z'
