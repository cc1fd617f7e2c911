import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from openmixup.datasets import (
    ColorJitter,
    Compose,
    Normalize,
    Pad,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    Resize,
)
from openmixup.datasets.transforms.boxes import draw_boxes
from openmixup.errors import InputError
from openmixup.registry import TRANSFORMS

EVERY = [
    Pad(2),
    Pad(2, mode='reflect'),
    RandomCrop(8),
    RandomCrop((6, 10), padding=2, mode='reflect'),
    RandomFlip(),
    RandomResizedCrop(12),
    RandomResizedCrop(12, interpolation='bicubic'),
    Resize(12),
    Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]),
    RandomErasing(1.0),
    RandomErasing(1.0, value='noise'),
    RandAugment(3, prob=1.0),
    RandAugment(operations='fixmatch', interpolation='bicubic'),
    ColorJitter(),
    Compose([{'type': 'RandomCrop', 'size': 8}, RandomFlip(), Normalize([0.5] * 3, [0.2] * 3)]),
]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n=16, c=3, h=8, w=8, seed=0):
    return torch.randint(0, 256, (n, c, h, w), dtype=torch.uint8, generator=rng(seed))


def coordinates(n, h, w):
    """Every pixel knows its place: value 16 * row + column + 1, so that 0 is the padding."""
    return (torch.arange(h)[:, None] * 16 + torch.arange(w) + 1).to(torch.uint8).expand(n, 2, h, w).contiguous()


@pytest.mark.parametrize('transform', EVERY, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_same_generator_same_result_and_nothing_else_is_touched(transform, dtype):
    images = noise().to(dtype)
    copy, state = images.clone(), torch.get_rng_state()
    first = transform(images, rng(1))
    assert torch.equal(first, transform(images, rng(1)))
    assert torch.equal(images, copy)
    assert torch.equal(state, torch.get_rng_state())
    if any(word in type(transform).__name__ for word in ('Rand', 'Jitter')):
        assert not torch.equal(first, transform(images, rng(2)))
        with pytest.raises(InputError, match=r'torch\.Generator'):
            transform(images)


def spaced(images):
    n, c, h, w = images.shape
    wide = torch.zeros(n, c + 1, h, 2 * w, dtype=images.dtype)
    wide[:, :c, :, ::2] = images
    return wide[:, :c, :, ::2]


@pytest.mark.parametrize('transform', EVERY, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
@pytest.mark.parametrize('channels', [1, 3])
def test_the_layout_changes_nothing(transform, dtype, channels):
    if channels == 1 and isinstance(transform, Normalize | Compose):
        pytest.skip('made for three channels')
    images = noise(c=channels).to(dtype)
    expected = transform(images, rng(1))
    layouts = {
        'channels_last': images.contiguous(memory_format=torch.channels_last),
        'transposed': images.transpose(2, 3).contiguous().transpose(2, 3),
        'by batch': images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
        'spaced': spaced(images),
    }
    for name, other in layouts.items():
        torch.testing.assert_close(transform(other, rng(1)), expected, msg=lambda m, name=name: f'{name}: {m}')


class NoHostReads(TorchDispatchMode):
    """Refuse what would make the host wait for the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        on_device = [a for a in args if isinstance(a, torch.Tensor) and a.device.type == 'meta']
        result = func(*args, **(kwargs or {}))
        if on_device and isinstance(result, torch.Tensor):
            assert result.device.type == 'meta', func
        assert not (on_device and any(s in str(func) for s in ('_local_scalar_dense', 'is_nonzero', 'nonzero'))), func
        return result


@pytest.mark.parametrize('transform', EVERY, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_no_host_reads(transform, dtype):
    with NoHostReads():
        result = transform(torch.empty(4, 3, 8, 8, dtype=dtype, device='meta'), rng())
    expected = transform(noise(4).to(dtype), rng())
    assert result.device.type == 'meta'
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)


@pytest.mark.parametrize('transform', EVERY, ids=lambda t: type(t).__name__)
def test_wrong_batches_are_refused(transform):
    for wrong in (noise()[0], noise().long()):
        with pytest.raises(InputError, match=r'\(N, C, H, W\)'):
            transform(wrong, rng())


@pytest.mark.parametrize('mode', ['zero', 'reflect'])
def test_every_crop_is_a_window_of_the_padded_image_and_every_place_occurs(mode):
    n, p, size = 600, 2, (5, 4)
    images = coordinates(n, 6, 7)
    crops = RandomCrop(size, padding=p, mode=mode)(images, rng())
    padded = F.pad(images[:1].float(), (p,) * 4, mode='constant' if mode == 'zero' else 'reflect')[0].to(torch.uint8)
    windows = {}
    for top in range(6 + 2 * p - 5 + 1):
        for left in range(7 + 2 * p - 4 + 1):
            windows[bytes(padded[:, top : top + 5, left : left + 4].reshape(-1).tolist())] = (top, left)
    found = [windows[bytes(crop.reshape(-1).tolist())] for crop in crops]
    assert len(windows) == 48
    assert set(found) == set(windows.values())


def test_crop_keeps_the_samples_apart_and_takes_any_layout():
    images = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 8, 8)
    crops = RandomCrop(8, padding=0)(images, rng())
    assert torch.equal(crops, images)
    last = noise().contiguous(memory_format=torch.channels_last)
    assert torch.equal(RandomCrop(6, padding=0)(last, rng()), RandomCrop(6, padding=0)(last.contiguous(), rng()))


def test_reflect_padding_is_that_of_torch():
    images = noise(4, 3, 7, 9)
    expected = F.pad(images.float(), (3,) * 4, mode='reflect').to(torch.uint8)
    assert torch.equal(Pad(3, mode='reflect')(images), expected)
    with pytest.raises(InputError, match='cannot be reflected'):
        Pad(7, mode='reflect')(images)
    with pytest.raises(InputError, match='larger than'):
        RandomCrop(20)(images, rng())


def test_flip_mirrors_about_half_of_the_samples():
    images = noise(400)
    flipped = RandomFlip()(images, rng())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 150 < int(mirrored.sum()) < 250
    assert torch.equal(RandomFlip(1.0)(images, rng()), images.flip(3))
    assert torch.equal(RandomFlip(0.0)(images, rng()), images)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32, torch.float64])
def test_normalise_is_the_formula(dtype):
    mean, std = [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]
    images = noise().to(dtype)
    expected = (images.double() / 255 - torch.tensor(mean).double()[:, None, None]) / torch.tensor(std)[:, None, None]
    result = Normalize(mean, std)(images)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('mean', 'std'), [([125.0], [60.0]), ([0.5], [0.0]), ([0.5, 0.5], [0.2]), ([], [])])
def test_normalise_refuses_other_units(mean, std):
    with pytest.raises(InputError):
        Normalize(mean, std)


def test_normalise_refuses_other_channels():
    with pytest.raises(InputError, match='channels'):
        Normalize([0.5], [0.5])(noise())


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_resized_crop_of_the_whole_image_is_the_image(interpolation):
    images = noise(8, 3, 16, 16)
    result = RandomResizedCrop(16, (1, 1), (1, 1), interpolation)(images, rng())
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, images.float(), rtol=0, atol=1e-2)


def test_resized_crop_reads_the_drawn_box():
    row = torch.arange(32.0)[:, None].expand(32, 24)
    column = torch.arange(24.0).expand(32, 24)
    images = torch.stack([row, column]).expand(64, 2, 32, 24)
    transform = RandomResizedCrop(8, scale=(0.1, 0.5))
    boxes = transform.draw(64, 32, 24, rng())
    result = transform(images, rng())
    top, left, h, w = boxes[:, :, None].double().unbind(1)
    centres = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(result[:, 0, :, 3].double(), (top + h * centres - 0.5).clamp(0, 31), rtol=0, atol=1e-3)
    torch.testing.assert_close(result[:, 1, 5].double(), (left + w * centres - 0.5).clamp(0, 23), rtol=0, atol=1e-3)
    assert len({tuple(b.tolist()) for b in boxes}) > 50


def test_resized_crop_falls_back_to_the_central_box():
    transform = RandomResizedCrop(8, scale=(1, 1), ratio=(0.75, 4 / 3))
    assert transform.draw(3, 10, 40, rng()).tolist() == [[0, 13, 10, 13]] * 3
    assert transform.draw(1, 40, 10, rng()).tolist() == [[13, 0, 13, 10]]


def test_boxes_are_inside_and_have_the_area_and_the_ratio():
    boxes, found = draw_boxes(3000, (64, 48), (0.1, 0.4), (0.5, 2.0), rng())
    top, left, h, w = boxes[found].unbind(1)
    assert float(found.float().mean()) > 0.99
    assert int(top.min()) == int(left.min()) == 0
    assert int((top + h).max()) == 64
    assert int((left + w).max()) == 48
    share, ratio = (h * w) / (64 * 48), w / h
    assert 0.09 < float(share.min()) < 0.12
    assert 0.37 < float(share.max()) < 0.42
    assert float(ratio.min()) > 0.45
    assert float(ratio.max()) < 2.2
    assert abs(float(share.mean()) - 0.25) < 0.01


def test_erasing_area_and_probability():
    images = torch.full((2000, 1, 32, 32), 7, dtype=torch.uint8)
    erased = (RandomErasing(0.4)(images, rng()) == 0).flatten(1).float().mean(1)
    hit = erased[erased > 0]
    assert abs(len(hit) / 2000 - 0.4) < 0.04
    assert float(hit.min()) > 0.015
    assert float(hit.max()) < 0.36
    assert abs(float(hit.mean()) - (0.02 + 1 / 3) / 2) < 0.02
    assert torch.equal(RandomErasing(0.0)(images, rng()), images)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_erasing_by_noise_writes_inside_one_box_only(dtype):
    images = torch.full((64, 3, 32, 32), 77).to(dtype)
    result = RandomErasing(1.0, value='noise')(images, rng())
    changed = (result != images).any(1)
    assert bool(changed.any())
    for sample in changed[changed.flatten(1).any(1)]:
        rows, columns = sample.any(1).nonzero()[:, 0], sample.any(0).nonzero()[:, 0]
        box = sample[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert float(box.float().mean()) > 0.95
    written = result[(result != images)].double()
    assert abs(float(written.mean()) - (127.5 if dtype == torch.uint8 else 0)) < (5 if dtype == torch.uint8 else 0.1)
    assert not torch.equal(result[0, 0], result[0, 1])


def test_resize():
    images = noise(4, 3, 16, 16)
    expected = F.interpolate(images.float(), (8, 8), mode='bilinear', antialias=True)
    assert (Resize(8)(images).float() - expected).abs().max() <= 1
    torch.testing.assert_close(Resize(8)(images.float()), expected)
    assert Resize(16)(images) is images


def test_configs_are_checked():
    assert isinstance(TRANSFORMS.build({'type': 'RandomFlip', 'prob': 0.3}), RandomFlip)
    with pytest.raises(InputError, match='did you mean'):
        TRANSFORMS.build({'type': 'RandomFlip', 'probe': 0.3})
    for make in (
        lambda: RandomFlip(1.5), lambda: RandomCrop(0), lambda: RandomCrop(8, mode='edge'), lambda: Pad(-1),
        lambda: RandomResizedCrop(8, scale=(0, 1)), lambda: RandomResizedCrop(8, ratio=(2, 1)),
        lambda: RandomErasing(value='white'), lambda: RandomErasing(scale=(0.1, 1.2)), lambda: RandomErasing(-1),
    ):  # fmt: skip
        with pytest.raises(InputError):
            make()


def preprocess(*train, **kwargs):
    from openmixup.models import BatchPreprocessor

    return BatchPreprocessor(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4], train=train, **kwargs)


@pytest.mark.parametrize('composed', [False, True])
@pytest.mark.parametrize('value', ['zero', 'noise'])
def test_the_preprocessor_erases_normalised_images(value, composed):
    erasing = {'type': 'RandomErasing', 'prob': 1.0, 'value': value}
    chain = [erasing, {'type': 'RandomFlip', 'prob': 1.0}]
    chain = [{'type': 'Compose', 'transforms': chain}] if composed else chain
    images = torch.full((200, 3, 32, 32), 255, dtype=torch.uint8)
    data = {'inputs': images, 'labels': torch.zeros(200)}
    result = preprocess(*chain)(data, training=True)['inputs']
    plain = preprocess()(data, training=True)['inputs']
    assert result.dtype == torch.float32
    written = result[result != plain]
    assert 0.1 < len(written) / result.numel() < 0.25
    assert abs(float(written.mean())) < 0.05
    assert abs(float(written.std()) - (1 if value == 'noise' else 0)) < 0.05
    assert torch.equal(preprocess(test=chain)(data)['inputs'], result)


def test_a_second_batch_of_one_step_draws_anew():
    from openmixup.policies import Context
    from openmixup.randomness import keyed_generator

    model = preprocess({'type': 'RandomCrop', 'size': 8})
    data = {'inputs': noise(), 'labels': torch.zeros(16)}
    model.context = Context(seed=3, step=7, rank=1)
    first, second = (model(data, training=True)['inputs'] for _ in range(2))
    assert not torch.equal(first, second)
    expected = RandomCrop(8)(noise(), keyed_generator(3, 'augment', 7, 1))
    assert torch.equal(first, model.normalize(expected))
    model.context = Context(seed=3, step=7, rank=1)
    assert torch.equal(model(data, training=True)['inputs'], first)
    assert torch.equal(model(data, training=True)['inputs'], second)
