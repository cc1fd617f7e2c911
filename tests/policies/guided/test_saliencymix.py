"""SaliencyMix: the box lies around the most salient pixel of each image's own partner."""

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context
from openmixup.policies.guided.saliencymix import SaliencyMix
from openmixup.policies.saliency import blur, peaks
from openmixup.testing import CHECKS, count_operators

PLACES = ((9, 25), (20, 6), (15, 15), (4, 18), (27, 28))
SIZE = 32
LAM = 1 - (8 / SIZE) ** 2  # a box of 8 x 8 pixels
RESNET = {'type': 'TimmBackbone', 'model': 'resnet10t', 'stem': 'cifar'}

OPERATORS = {  # with images that are reduced for the map, and without
    ('fine_grained', False): SaliencyMix.operators, ('fine_grained', True): 31, ('spectral', False): 34,
    ('spectral', True): 41,
}  # fmt: skip


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def spots(places=PLACES, size=(SIZE, SIZE), channels=3, sigma=2.0):
    """(N, C, H, W) one bright spot in each image."""
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
    pictures = [(-((rows - i) ** 2 + (columns - j) ** 2) / (2 * sigma**2)).exp() for i, j in places]
    return torch.stack(pictures)[:, None].expand(-1, channels, -1, -1).contiguous()


def fixed(policy, lam=LAM):
    policy.draw_lam = lambda count, rng: torch.full((count,), lam, dtype=torch.float64)
    return policy.train()


def box(place, side, size=(SIZE, SIZE)):
    """(H, W) 1 in the clipped box of CutMix around a pixel."""
    inside = torch.zeros(size)
    rows, columns = ((max(at - side // 2, 0), min(at + side // 2, most)) for at, most in zip(place, size, strict=True))
    inside[slice(*rows), slice(*columns)] = 1
    return inside


def expected(places, partner, side, size=(SIZE, SIZE)):
    """(N, H, W) masks of the own image."""
    return torch.stack([1 - box(places[other], side, size) for other in partner.tolist()])


class Gradients:
    """A probe that knows the input gradients of images."""

    def input_grad(self, images, labels):
        return images * 2


def view_of(policy, images, ctx=None, labels=None, bank=None):
    labels = torch.arange(len(images)) if labels is None else labels
    ctx = Context(generator=rng(), probe=Gradients()) if ctx is None else ctx
    return policy(Batch(images, labels, bank), ctx).views[0]


@pytest.mark.parametrize('pairing', ['derangement', 'permutation', 'flip'])
def test_each_box_lies_around_the_brightest_spot_of_the_own_partner(pairing):
    """Not around that of the own image, and not one box for the batch."""
    view = view_of(fixed(SaliencyMix(pairing=pairing)), spots())
    partner = view.mixture.index[:, 1]
    assert torch.equal(view.masks[:, 0], expected(PLACES, partner, 8))
    assert len(view.masks[:, 0].flatten(1).unique(dim=0)) == len(partner.unique())


def test_pixels_in_the_box_are_the_partners_at_the_same_place():
    images = spots() + 0.01 * torch.randn(5, 3, SIZE, SIZE, generator=rng())
    view = view_of(fixed(SaliencyMix(pairing='derangement')), images)
    own, partner = view.masks[:, :1], view.mixture.index[:, 1]
    assert torch.equal(view.inputs, torch.where(own == 1, images, images[partner]))


@pytest.mark.parametrize('saliency', ['spectral', 'gradient'])
def test_the_place_is_the_peak_of_the_chosen_map(saliency):
    policy = fixed(SaliencyMix(saliency=saliency))
    images = spots(sigma=0.5)
    view = view_of(policy, images)
    at = peaks(policy.maps(Batch(images, torch.arange(5)), Context(probe=Gradients())), (SIZE, SIZE))
    assert int((at - torch.tensor(PLACES)).abs().max()) <= 3
    assert torch.equal(view.masks[:, 0], expected(at.tolist(), view.mixture.index[:, 1], 8))


@pytest.mark.parametrize(('size', 'places', 'atol'), [
    ((224, 224), ((60, 171), (112, 30), (180, 90)), 3), ((40, 56), ((9, 41), (30, 12), (21, 28)), 0),
    ((256, 128), ((200, 31), (40, 90), (130, 64)), 3),
])  # fmt: skip
def test_large_and_oblong_images(size, places, atol):
    """The centre is right to the 3 or 4 pixels that are put together in images above 64 pixels."""
    images = spots(places, size, sigma=size[0] / 16)
    view = view_of(fixed(SaliencyMix(), 1 - 0.2**2), images)
    inside = 1 - view.masks[:, 0]
    rows = (torch.arange(size[0]) + 0.5) @ inside.sum(2).T / inside.sum((1, 2))
    columns = (torch.arange(size[1]) + 0.5) @ inside.sum(1).T / inside.sum((1, 2))
    wanted = torch.tensor(places)[view.mixture.index[:, 1]]
    assert float((torch.stack([rows, columns], 1) - wanted).abs().max()) <= atol
    sides = [int(0.2 * side) // 2 * 2 for side in size]
    assert inside.sum((1, 2)).tolist() == [sides[0] * sides[1]] * 3


@pytest.mark.parametrize('lam', [0.0, 0.1, 0.36, 0.5, 0.9, 0.999, 1.0])
def test_labels_follow_the_area_after_clipping(lam):
    view = view_of(fixed(SaliencyMix(pairing='derangement'), lam), spots())
    side = 2 * (int((1 - lam) ** 0.5 * SIZE) // 2)
    masks = expected(PLACES, view.mixture.index[:, 1], side)
    assert torch.equal(view.masks[:, 0], masks)
    torch.testing.assert_close(view.mixture.weight[:, 0], masks.mean((1, 2)))
    central = PLACES.index((15, 15))
    if 0.36 <= lam <= 1:  # a box that is not clipped has the area of lam, but for whole pixels
        own = view.mixture.weight[view.mixture.index[:, 1] == central, 0]
        assert float(own) == pytest.approx(1 - (side / SIZE) ** 2, abs=1e-6)
        assert float(own) == pytest.approx(lam, abs=0.08)


def test_one_size_a_batch_or_one_each():
    sides = {}
    for per in ('batch', 'sample'):
        view = view_of(SaliencyMix(per=per).train(), spots(((15, 15),) * 5))
        sides[per] = (1 - view.masks[:, 0]).sum((1, 2)).tolist()
    assert len(set(sides['batch'])) == 1
    assert len(set(sides['sample'])) == 5


def test_brightness_is_that_of_the_pixels_not_of_the_normalised_images():
    """A small standard deviation enlarges a faint channel; with that of the data the true peak is found."""
    pixels = torch.zeros(2, 3, SIZE, SIZE)
    pixels[:, 1] = spots(((9, 9), (24, 20)))[:, 1]
    pixels[:, 2] = 0.2 * spots(((25, 25), (6, 8)))[:, 2]
    mean, std = (0.3, 0.3, 0.1), (0.3, 0.3, 0.003)
    images = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    policy = fixed(SaliencyMix(pairing='derangement'))
    informed = view_of(policy, images, Context(generator=rng(), mean=mean, std=std))
    assert torch.equal(informed.masks[:, 0], expected(((9, 9), (24, 20)), torch.tensor([1, 0]), 8))
    without = view_of(policy, images, Context(generator=rng()))
    assert torch.equal(without.masks[:, 0], expected(((25, 25), (6, 8)), torch.tensor([1, 0]), 8))


@pytest.mark.parametrize('saliency', ['fine_grained', 'spectral', 'gradient'])
def test_half_precision_and_autocast_give_the_same_boxes(saliency):
    policy, images = fixed(SaliencyMix(saliency=saliency)), spots(sigma=1.0)
    plain = view_of(policy, images)
    for dtype in (torch.bfloat16, torch.float16):
        view = view_of(policy, images.to(dtype))
        assert view.inputs.dtype == dtype
        assert torch.equal(view.masks.float(), plain.masks)
        torch.testing.assert_close(view.mixture.weight, plain.mixture.weight)
    with torch.autocast('cpu', torch.bfloat16):
        view = view_of(policy, images)
    assert torch.equal(view.masks, plain.masks)
    assert torch.equal(view.inputs, plain.inputs)


@pytest.mark.parametrize('saliency', ['fine_grained', 'spectral', 'gradient'])
def test_partners_of_a_bank_lend_their_place(saliency):
    policy = fixed(SaliencyMix(saliency=saliency))
    batch = Batch(spots(PLACES[:2]), torch.arange(2), Batch(spots(PLACES[2:]), torch.arange(3)))
    context, partner = Context(probe=Gradients()), torch.tensor([4, 2])
    at = PLACES if saliency == 'fine_grained' else peaks(policy.maps(batch, context), (SIZE, SIZE)).tolist()
    view = policy.view(batch, partner, torch.tensor([LAM]), context)
    assert torch.equal(view.masks[:, 0], expected(at, partner, 8))
    assert torch.equal(view.mixture.index[:, 1], partner)


def test_gradients_are_those_of_the_learner():
    policy = fixed(SaliencyMix(saliency='gradient', pairing='flip'))
    torch.manual_seed(0)
    model = MixClassifier(RESNET, {'type': 'LinearHead', 'num_classes': 4}, policy=policy).train()
    images, labels = torch.randn(4, 3, SIZE, SIZE, generator=rng()), torch.arange(4)
    plan, _ = model.plan(images, labels)
    model.eval()
    pixels = images.clone().requires_grad_()
    torch.nn.functional.cross_entropy(model(pixels), labels, reduction='sum').backward()
    at = peaks(blur(pixels.grad.square().mean(1).sqrt()), (SIZE, SIZE)).tolist()
    view = plan.views[0]
    assert torch.equal(view.masks[:, 0], expected(at, torch.tensor([3, 2, 1, 0]), 8))


def test_only_the_gradient_needs_a_network():
    assert SaliencyMix().needs == SaliencyMix(saliency='spectral').needs == ()
    assert SaliencyMix(saliency='gradient').needs == ('input_grad',)
    view = SaliencyMix(pairing='derangement').mix(spots(), torch.arange(5), rng())
    assert view.inputs.shape == (5, 3, SIZE, SIZE)
    with pytest.raises(InputError, match='needs input_grad of a network'):
        SaliencyMix(saliency='gradient').mix(spots(), torch.arange(5), rng())


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('saliency', ['fine_grained', 'spectral', 'gradient'])
def test_few_operators_and_no_read_from_the_device(saliency, per):
    policy = SaliencyMix(per=per, saliency=saliency).train()
    for dtype in (torch.float32, torch.bfloat16):
        for size in ((32, 32), (150, 224)):
            images, labels = torch.zeros(4, 3, *size, dtype=dtype, device='meta'), torch.arange(4, device='meta')
            view = view_of(policy, images, labels=labels)
            assert view.inputs.is_meta
            assert view.mixture.weight.is_meta
            assert view.masks.shape == (4, 2, *size)
            if saliency != 'gradient':  # which needs a probe
                most = OPERATORS[saliency, max(size) > 32] + (dtype == torch.bfloat16) * 2
                assert count_operators(policy, images, labels) <= most


def test_the_same_stream_gives_the_same_boxes():
    images = torch.randn(6, 3, SIZE, SIZE, generator=rng(1))
    policy = SaliencyMix(per='sample').train()
    first, again, other = (view_of(policy, images, Context(generator=rng(seed))) for seed in (3, 3, 4))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.mixture.weight, again.mixture.weight)
    assert not torch.equal(first.inputs, other.inputs)


def test_no_gradient_flows_through_the_place():
    images = spots().requires_grad_()
    view = view_of(fixed(SaliencyMix(pairing='derangement')), images)
    view.inputs.sum().backward()
    taken = (1 - view.masks[:, 0])[view.mixture.index[:, 1].argsort()]  # where each image lends its pixels
    assert torch.equal(images.grad[:, 0], view.masks[:, 0].detach() + taken.detach())


def test_noise_has_its_peaks_everywhere():
    """In place of the common check, whose flat images have no peak: each pixel shows the partner at times."""
    policy = fixed(SaliencyMix(), 1 - (4 / 12) ** 2)
    images = torch.randn(1500, 3, 12, 20, generator=rng())
    shown = 1 - view_of(policy, images).masks[:, 0].mean(0)
    assert float(shown.min()) > 0
    torch.testing.assert_close(shown, shown.flip(0), rtol=0, atol=0.05)  # up and down alike, left and right too
    torch.testing.assert_close(shown, shown.flip(1), rtol=0, atol=0.05)


def test_exemptions_name_checks_and_give_reasons():
    assert set(SaliencyMix.exempt) <= set(CHECKS)
    assert all(len(reason.split()) > 5 for reason in SaliencyMix.exempt.values())


def test_an_unknown_saliency_is_refused():
    with pytest.raises(InputError, match="did you mean 'spectral'"):
        SaliencyMix(saliency='spectrum')
