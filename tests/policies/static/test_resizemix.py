import math

import pytest
import torch
import torch.nn.functional as F

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.masks import Boxes
from openmixup.policies.static.resizemix import ResizeMix
from openmixup.testing import check_policy

IMAGES = torch.randn(5, 2, 14, 22, generator=torch.Generator().manual_seed(0))
PARTNER = torch.tensor([1, 3, 0, 4, 2])
LOW = torch.tensor([[0, 0], [3, 20], [10, 1], [5, 5], [13, 21]])
HIGH = torch.tensor([[14, 22], [4, 22], [14, 9], [12, 16], [14, 22]])
DRAWS = 40_000


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def view(policy, boxes, images=IMAGES):
    class Given(ResizeMix):
        def mask(self, batch, partner, lam, ctx):
            return boxes

    given = Given(**policy.arguments())
    lam = torch.full((len(boxes),), 0.5, dtype=torch.float64)
    return given.view(Batch(images, torch.arange(5)), PARTNER, lam, Context(generator=rng()))


def resized(image, height, width):
    """(C, height, width) nearest pixels of (C, H, W), one by one."""
    small = torch.empty(len(image), height, width)
    for y in range(height):
        for x in range(width):
            # the pixel below the middle of the new one, in whole numbers
            row, column = (2 * y + 1) * image.shape[1] // (2 * height), (2 * x + 1) * image.shape[2] // (2 * width)
            small[:, y, x] = image[:, row, column]
    return small


@pytest.mark.parametrize('one', [None, 0, 1, 2, 3, 4])
def test_nearest_by_hand_on_images_that_are_not_square(one):
    """The picture, the masks and the labels tell of the same box, rows as rows and columns as columns."""
    boxes = Boxes(LOW, HIGH, (14, 22)) if one is None else Boxes(LOW[one : one + 1], HIGH[one : one + 1], (14, 22))
    mixed = view(ResizeMix(), boxes)
    for sample in range(5):
        (top, left), (bottom, right) = (side[sample % len(boxes)].tolist() for side in (boxes.low, boxes.high))
        expected, mask = IMAGES[sample].clone(), torch.zeros(14, 22)
        expected[:, top:bottom, left:right] = resized(IMAGES[PARTNER[sample]], bottom - top, right - left)
        mask[top:bottom, left:right] = 1
        assert torch.equal(mixed.inputs[sample], expected)
        assert torch.equal(mixed.masks[sample], torch.stack([1 - mask, mask]))
        weight = 1 - (bottom - top) * (right - left) / (14 * 22)
        assert mixed.mixture.weight[sample].tolist() == pytest.approx([weight, 1 - weight])


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
def test_equals_interpolate_for_one_box_and_for_one_each(mode, dtype):
    images = IMAGES.to(dtype)
    each = view(ResizeMix(interpolation=mode), Boxes(LOW, HIGH, (14, 22)), images)
    assert each.inputs.dtype == dtype
    atol = max(8 * torch.finfo(dtype).eps, 2e-5) if mode == 'bilinear' else 0
    for sample in range(5):
        (top, left), (bottom, right) = LOW[sample].tolist(), HIGH[sample].tolist()
        one = view(
            ResizeMix(interpolation=mode),
            Boxes(LOW[sample : sample + 1], HIGH[sample : sample + 1], (14, 22)),
            images,
        )
        expected = images[sample].to(torch.float64, copy=True)
        partner = images[PARTNER[sample]][None].double()
        torch_mode = 'nearest-exact' if mode == 'nearest' else mode
        expected[:, top:bottom, left:right] = F.interpolate(partner, (bottom - top, right - left), mode=torch_mode)[0]
        torch.testing.assert_close(one.inputs[sample].double(), expected, atol=atol, rtol=0)
        torch.testing.assert_close(each.inputs[sample].double(), expected, atol=atol, rtol=0)


@pytest.mark.parametrize(('pixels', 'mean', 'deviation'), [(32, 0.841, 0.128), (224, 0.826, 0.133)])
def test_realised_lam(pixels, mean, deviation):
    policy, generator = ResizeMix(), rng()
    lam = policy.draw_lam(DRAWS, generator)
    batch = Batch(torch.zeros(2, 1, pixels, pixels), None)
    kept = policy.mask(batch, PARTNER, lam, Context(generator=generator)).kept()
    assert float(kept.mean()) == pytest.approx(mean, abs=5 * deviation / DRAWS**0.5 + 5e-4)
    assert float(kept.std()) == pytest.approx(deviation, abs=5 * deviation / (2 * DRAWS) ** 0.5 + 5e-4)


def test_tau_is_uniform_in_the_scope_as_in_the_paper():
    tau = (1 - ResizeMix().draw_lam(DRAWS, rng())).sqrt()
    assert 0.1 <= float(tau.min()) < 0.101
    assert 0.799 < float(tau.max()) <= 0.8
    counts = tau.histc(7, 0.1, 0.8)
    assert bool(((counts - DRAWS / 7).abs() < 5 * (DRAWS * 6 / 49) ** 0.5).all())


def test_a_tau_out_of_the_scope_is_drawn_anew_in_it():
    """Beta(1/2, 1/2), arcsine: it lies in [0.1, 0.8] with 0.500 and below 0.45 in it with 0.263, the rest is even."""
    tau = (1 - ResizeMix(0.5).draw_lam(DRAWS, rng())).sqrt()
    assert 0.1 <= float(tau.min()) <= float(tau.max()) <= 0.8

    def below(x):
        return 2 / math.pi * math.asin(math.sqrt(x))

    inside = below(0.8) - below(0.1)
    expected = below(0.45) - below(0.1) + (1 - inside) / 2
    assert float((tau < 0.45).double().mean()) == pytest.approx(expected, abs=5 * 0.5 / DRAWS**0.5)


@pytest.mark.parametrize('size', [(2, 2), (3, 9), (16, 5)])
def test_a_box_has_a_pixel_at_least_and_stays_in_the_image(size):
    policy = ResizeMix(scope=(0.0, 0.3))
    for count in (1, 200):
        for seed in range(20):
            lam = policy.draw_lam(count, rng(seed))
            batch = Batch(torch.zeros(2, 1, *size), None)
            boxes = policy.mask(batch, PARTNER, lam, Context(generator=rng(seed + 1)))
            assert bool((boxes.high - boxes.low >= 1).all())
            assert bool((boxes.low >= 0).all())
            assert bool((boxes.high <= torch.tensor(size)).all())


def test_a_box_has_tau_of_the_sides():
    boxes = ResizeMix().mask(
        Batch(torch.zeros(2, 1, 100, 40), None),
        PARTNER,
        torch.full((500,), 1 - 0.5**2, dtype=torch.float64),
        Context(generator=rng()),
    )
    assert (boxes.high - boxes.low).amax(0).tolist() == [50, 20]


@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_gradients_of_the_images_go_through(per, mode):
    images = IMAGES.clone().requires_grad_()
    mixed = ResizeMix(per=per, interpolation=mode, pairing='derangement').mix(images, torch.arange(5), rng(1))
    mixed.inputs.sum().backward()
    assert bool(images.grad.isfinite().all())
    assert float(images.grad.sum()) == pytest.approx(images.numel(), rel=1e-5)  # each pixel shows something once


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
def test_the_options_pass_the_checks(per, mode):
    only = ['nothing_is_read_from_the_device', 'few_operators_are_launched', 'label_equals_pixels', 'dtype_is_kept']
    check_policy(ResizeMix(per=per, interpolation=mode), only=only, raise_on_failure=True)


@pytest.mark.parametrize('arguments', [
    {'scope': (0.5, 0.2)}, {'scope': (-0.1, 0.5)}, {'scope': (0.1, 1.5)}, {'scope': 0.3}, {'scope': (True, 1)},
    {'scope': ('a', 'b')}, {'interpolation': 'cubic'}, {'interpolation': None},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    (name,) = arguments
    with pytest.raises(InputError, match=rf'ResizeMix\({name}=.*: expected'):
        ResizeMix(**arguments)
