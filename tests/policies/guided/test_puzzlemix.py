from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context, PuzzleMix
from openmixup.policies.guided.puzzle_energy import solve
from openmixup.policies.guided.puzzle_noise import Noise
from openmixup.policies.guided.puzzle_transport import sources
from openmixup.testing import check_policy

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
SIZES = [(32, 32), (28, 28), (64, 64), (7, 11), (2, 3), (224, 224)]


class Probe:
    """Gives gradients that a test has made, and keeps what they were asked of."""

    def __init__(self, gradient=None):
        self.gradient, self.asked = gradient, []

    def input_grad(self, images, labels):
        self.asked.append((images, labels))
        return random(*images.shape, seed=9) if self.gradient is None else self.gradient


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixels(*shape, seed=0):
    """Images of pixels in [0, 1], normalised."""
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def context(probe, seed=0, **options):
    return Context(probe=probe, mean=MEAN, std=STD, generator=torch.Generator().manual_seed(seed), **options)


def view(policy, images, partner, gradient=None, lam=0.5, seed=0, batch=None):
    batch = Batch(images, torch.arange(len(images))) if batch is None else batch
    lams = torch.tensor([lam], dtype=torch.float64)
    return policy.view(batch, torch.as_tensor(partner), lams, context(Probe(gradient), seed))


def spots(size, side, cells):
    """(N, 3, size, size) gradients that are 1 in one cell of a grid each, and little elsewhere."""
    gradient = torch.full((len(cells), 3, size, size), 1e-3)
    part = size // side
    for one, (row, column) in zip(gradient, cells, strict=True):
        one[:, row * part : (row + 1) * part, column * part : (column + 1) * part] = -1.0
    return gradient


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('transport', [None, {'t_eps': 0.05}, {'t_size': -1, 't_eps': 0.05}, {'t_size': None}])
def test_pixels_of_all_sizes_have_the_shares_of_the_weights(size, transport):
    images = torch.eye(3)[:, :, None, None].expand(-1, -1, *size).contiguous()  # image i is 1 in channel i
    policy = PuzzleMix(transport=transport)
    for seed in range(4 if size[0] < 100 else 1):
        found = view(policy, images, [1, 2, 0], lam=0.4, seed=seed)
        shown = found.inputs.mean((2, 3))
        expected = torch.zeros(3, 3).scatter_add_(1, found.mixture.index, found.mixture.weight)
        torch.testing.assert_close(shown, expected)
        torch.testing.assert_close(found.masks.mean((2, 3)), found.mixture.weight)
        assert torch.equal(found.masks[:, 0], found.inputs[torch.arange(3), torch.arange(3)])


def test_the_picture_is_that_of_moved_patches():
    """Patch by patch, from the mask and the sources of both images."""
    images, gradient, partner = (
        pixels(6, 3, 16, 16),
        random(6, 3, 16, 16, seed=3).pow(3),
        torch.tensor([3, 4, 5, 2, 1, 0]),
    )
    policy = PuzzleMix(grids=(4,), energy={'beta': 0.1}, transport={'t_size': -1, 't_eps': 0.01})
    found = view(policy, images, partner, gradient)
    own = found.masks[:, 0, ::4, ::4]
    saliency = gradient.square().mean(1).sqrt().view(6, 4, 4, 4, 4).mean((2, 4))
    saliency = saliency / saliency.sum((1, 2), keepdim=True)
    of_own, of_partner = sources(saliency, own, 0.01), sources(saliency[partner], 1 - own, 0.01)
    assert int((of_own != torch.arange(16).view(4, 4)).sum()) > 6
    for n in range(6):
        for row in range(4):
            for column in range(4):
                share, shown = own[n, row, column], 0
                for image, source, part in ((n, of_own, share), (partner[n], of_partner, 1 - share)):
                    r, c = divmod(int(source[n, row, column]), 4)
                    shown = shown + part * images[image, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
                place = found.inputs[n, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                torch.testing.assert_close(place, shown)


def test_without_transport_pixels_stay_and_transport_leaves_the_mask_alone():
    images, gradient = pixels(5, 3, 32, 32), random(5, 3, 32, 32, seed=3).pow(3)
    still = view(PuzzleMix(grids=(8,), transport={'t_size': None}), images, [1, 2, 3, 4, 0], gradient)
    blend = (still.masks[:, :, None] * images[still.mixture.index]).sum(1)
    torch.testing.assert_close(still.inputs, blend)
    moved = view(PuzzleMix(grids=(8,), transport={'t_eps': 0.01}), images, [1, 2, 3, 4, 0], gradient)
    assert torch.equal(moved.masks, still.masks)
    assert torch.equal(moved.mixture.weight, still.mixture.weight)
    assert not torch.equal(moved.inputs, still.inputs)


def test_finer_patches_change_no_mask():
    images, gradient = pixels(6, 3, 32, 32), random(6, 3, 32, 32, seed=3).pow(5)
    for grid in (2, 4):
        policies = [PuzzleMix(grids=(grid,), transport={'t_size': t_size}) for t_size in (None, -1, 4, 2)]
        masks = [view(policy, images, torch.arange(6).flip(0), gradient, lam=0.3).masks for policy in policies]
        assert len(masks[0].unique()) > 1
        assert all(torch.equal(mask, masks[0]) for mask in masks[1:])


@pytest.mark.parametrize('t_size', [4, None])
def test_the_puzzle_has_the_prices_of_the_paper(t_size, monkeypatch):
    """Two images of one colour each, where all is known in closed form."""
    seen = []
    monkeypatch.setattr(
        'openmixup.policies.guided.puzzlemix.solve', lambda energy: seen.append(energy) or solve(energy)
    )
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    colours = torch.tensor([[0.2, 0.9, 0.5], [0.6, 0.1, 0.5]])  # of pixels in [0, 1]; they differ by 0.4 in the mean
    images = ((colours - mean) / std)[:, :, None, None].expand(-1, -1, 32, 32)
    side, lam, gradient = 4, 0.3, torch.ones(2, 3, 32, 32)
    gradient[0, ..., :16] = 3.0
    policy = PuzzleMix(grids=(side,), energy={'beta': 1.6, 'gamma': 0.5, 'eta': 0.2}, transport={'t_size': t_size})
    view(policy, images, [1, 0], gradient, lam)
    floor = 1.6 / (16 * side)
    torch.testing.assert_close(seen[0].below, torch.full((2, 3, 4), floor * (1 + 0.5 * 0.4)))
    torch.testing.assert_close(seen[0].beside, torch.full((2, 4, 3), floor * (1 + 0.5 * 0.4)))
    salient = torch.tensor([[3.0, 3.0, 1.0, 1.0], [1.0] * 4]).unsqueeze(1).expand(-1, 4, -1)
    salient = salient / salient.sum((1, 2), keepdim=True)
    around = torch.tensor([[2, 3, 3, 2], [3, 4, 4, 3], [3, 4, 4, 3], [2, 3, 3, 2]])
    borders = around * floor * 0.5 * 0.4 / 2  # of each border half of d[own, partner], whatever is shown
    for level, ways in enumerate((1, 2, 1)):
        share = level / 2
        prior = -0.2 / side**2 * torch.tensor(ways * lam**level * (1 - lam) ** (2 - level)).log()
        lost = share * salient.flip(0) + (1 - share) * salient
        torch.testing.assert_close(seen[0].unary[:, level], lost + prior + borders)


@pytest.mark.parametrize('t_size', [4, -1, None])
def test_what_is_salient_is_shown(t_size):
    gradient = spots(32, 4, [(0, 0), (3, 3)])
    policy = PuzzleMix(grids=(4,), levels=2, transport={'t_size': t_size})
    found = view(policy, pixels(2, 3, 32, 32), [1, 0], gradient)
    own = found.masks[:, 0, ::8, ::8]
    assert own[0, 0, 0] == own[1, 3, 3] == 1
    assert own[0, 3, 3] == own[1, 0, 0] == 0


def test_lam_draws_the_mask_and_eta_says_how_strongly():
    images, gradient = pixels(8, 3, 16, 16), random(8, 3, 16, 16, seed=3)
    means = {}
    for eta in (0.05, 5.0):
        policy = PuzzleMix(grids=(8,), energy={'eta': eta})
        for lam in (0.1, 0.5, 0.9):
            weight = view(policy, images, list(range(7, -1, -1)), gradient, lam).mixture.weight[:, 0]
            means[eta, lam] = float(weight.mean())
    assert means[5.0, 0.1] < 0.02
    assert means[5.0, 0.9] > 0.98
    assert means[5.0, 0.1] < means[0.05, 0.1] < means[0.05, 0.5] < means[0.05, 0.9] < means[5.0, 0.9]


def test_beta_smooths_and_gamma_puts_borders_where_colours_agree():
    images, gradient = pixels(16, 3, 32, 32), random(16, 3, 32, 32, seed=3)
    partner = list(range(15, -1, -1))

    def borders(**energy):
        own = view(PuzzleMix(grids=(16,), levels=2, energy=energy), images, partner, gradient).masks[:, 0, ::2, ::2]
        return float(own.diff(dim=1).abs().sum() + own.diff(dim=2).abs().sum())

    assert borders(beta=0.0) > 2 * borders(beta=0.3) > 2 * borders(beta=3.0)
    # the own image is black, the partner white in its left half and black in its right half
    colours = torch.zeros(2, 3, 16, 16)
    colours[1, ..., :8] = 1
    colours = (colours - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    gradient = torch.full((2, 3, 16, 16), 1e-4)
    gradient[0, ..., :4] = gradient[1, ..., 12:] = 1.0
    gradient[1, ..., 4:12] = 0.02  # a little for the partner in between
    for gamma, row in ((0.0, [1, 0, 0, 0]), (1.0, [1, 1, 0, 0])):
        found = view(PuzzleMix(grids=(4,), levels=2, energy={'gamma': gamma}), colours, [1, 0], gradient)
        assert found.masks[0, 0, ::4, ::4].tolist() == [row] * 4


def test_levels_are_the_values_of_the_mask():
    images, gradient = pixels(16, 3, 32, 32), random(16, 3, 32, 32, seed=3).pow(5)
    for levels in (2, 3, 5):
        own = view(
            PuzzleMix(grids=(16,), levels=levels, energy={'eta': 0.5}), images, torch.arange(16).flip(0), gradient
        )
        expected = torch.linspace(0, 1, levels)
        assert torch.isin(own.masks[:, 0], expected).all()
        assert len(own.masks[:, 0].unique()) == levels


def test_the_grid_is_drawn_evenly_and_alike_on_all_ranks():
    policy = PuzzleMix()
    boards = [policy._board((32, 32), Context(seed=1, step=step)).grid[0] for step in range(800)]
    again = [policy._board((32, 32), Context(seed=1, step=step, rank=5)).grid[0] for step in range(800)]
    assert boards == again
    for hits in Counter(boards).values():
        assert abs(hits - 200) < 5 * (800 * 3 / 16) ** 0.5
    assert set(boards) == {2, 4, 8, 16}


def test_saliency_is_that_of_the_plain_batch_and_its_bank():
    images, bank = pixels(3, 3, 16, 16), Batch(pixels(2, 3, 16, 16, seed=5), torch.tensor([3, 4]))
    batch, probe = Batch(images, torch.arange(3)), Probe()
    PuzzleMix()(batch, context(probe))
    (asked,) = probe.asked
    assert asked[0] is images  # the same tensor, so that others who ask get the same answer
    assert asked[1] is batch.labels
    found = view(PuzzleMix(), images, [3, 4, 0], batch=Batch(images, torch.arange(3), bank))
    assert found.mixture.index.tolist() == [[0, 3], [1, 4], [2, 0]]
    assert found.inputs.shape == images.shape


def test_no_gradient_and_single_pixels_of_it_do_no_harm():
    images = pixels(4, 3, 8, 8)
    gradient = torch.zeros(4, 3, 8, 8)
    gradient[1, 0, 0, 0] = 1e-20
    found = view(PuzzleMix(), images, [1, 0, 3, 2], gradient)
    assert bool(found.inputs.isfinite().all())
    assert bool(found.mixture.weight.isfinite().all())


def test_plain_images_are_a_second_view():
    batch = Batch(pixels(4, 3, 8, 8), torch.arange(4))
    assert len(PuzzleMix()(batch, context(Probe())).views) == 1
    mixed, plain = PuzzleMix(clean_lam=0.7)(batch, context(Probe())).views
    assert (mixed.share, plain.share) == (1, 0.7)
    assert plain.inputs is batch.images
    assert torch.equal(plain.mixture.soft(batch.labels, 4), torch.eye(4))
    policy = PuzzleMix(clean_lam=(1, 40))
    assert [len(policy(batch, context(Probe(), epoch=epoch)).views) for epoch in (0, 39, 40, 99)] == [2, 2, 1, 1]


@pytest.mark.parametrize('coins', [(True, False), (False, True), (True, True)])
def test_noise_is_bounded_clipped_and_only_where_a_coin_says(coins, monkeypatch):
    images, eps = pixels(6, 3, 16, 16), 10.0
    policy = PuzzleMix(grids=(4,), levels=2, transport={'t_size': None}, adversarial={'prob': 0.5, 'eps': eps})
    monkeypatch.setattr(policy, '_coins', lambda ctx: list(coins))
    probe = Probe(spots(16, 4, [(0, 0), (1, 1), (2, 2), (3, 3), (0, 3), (3, 0)]))
    partner = torch.arange(6).flip(0)
    found = policy.view(Batch(images, torch.arange(6)), partner, torch.tensor([0.5]).double(), context(probe))
    std, mean = torch.tensor(STD)[:, None, None], torch.tensor(MEAN)[:, None, None]
    seen = probe.asked[0][0] * std + mean
    for picture in (seen, found.inputs * std + mean):
        assert float(picture.min()) >= -1e-5
        assert float(picture.max()) <= 1 + 1e-5
    assert eps / 255 * 0.9 < float((seen - (images * std + mean)).abs().max()) <= eps / 255 + 1e-5
    own = found.masks[:, :1]
    noise = ((found.inputs - own * images - (1 - own) * images[partner]) * std).abs()
    assert float(noise.max()) <= eps / 255 + 1e-5
    for coin, there in zip(coins, (own == 1, own == 0), strict=True):
        assert (float((noise * there).max()) > 1e-3) == coin


def test_noise_goes_along_the_gradient():
    images = pixels(2, 3, 8, 8) * 0.3  # far from 0 and 1
    noise = Noise.drawn(images, 10.0, context(None))
    gradient = random(2, 3, 8, 8)
    added = (noise.added(gradient) - images) * torch.tensor(STD)[:, None, None]
    # a step of 12/255 from anywhere within 10/255 ends beyond 2/255 on the side of the gradient
    factor = float(noise.factor)
    assert bool((added * gradient.sign() >= factor * 2 / 255 - 1e-6).all())
    torch.testing.assert_close(added.abs().amax(), torch.tensor(factor * 10 / 255), rtol=1e-4, atol=1e-6)
    unknown = Noise.drawn(images, 10.0, Context(generator=torch.Generator().manual_seed(0)))
    assert float((unknown.seen - images).abs().max()) <= 10 / 255 + 1e-6


def test_coins_are_shared_by_ranks_independent_and_nothing_is_drawn_without_them():
    policy = PuzzleMix(adversarial={'prob': 0.3})
    coins = [tuple(policy._coins(Context(seed=0, step=step))) for step in range(600)]
    assert coins == [tuple(policy._coins(Context(seed=0, step=step, rank=3))) for step in range(600)]
    for coin, rate in (((True, True), 0.09), ((True, False), 0.21), ((False, True), 0.21), ((False, False), 0.49)):
        assert abs(coins.count(coin) - 600 * rate) < 5 * (600 * rate * (1 - rate)) ** 0.5
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert PuzzleMix()._coins(SimpleNamespace(shared_rng=generator)) == [False, False]
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'grids': ()}, 'expected whole numbers from 2 to 32'), ({'grids': (1, 2)}, 'from 2 to 32'),
    ({'grids': 4}, 'grids=4'), ({'grids': '24'}, "grids='24'"), ({'levels': 1}, 'levels=1'),
    ({'levels': 9}, 'from 2 to 8'), ({'levels': 2.0}, 'levels=2.0'), ({'energy': {'betta': 1}}, "did you mean 'beta'"),
    ({'energy': 3}, 'expected a dict'), ({'energy': {'gamma': 1.5}}, 'from 0 to 1'),
    ({'energy': {'neigh_size': 2.5}}, 'whole pixels'), ({'energy': {'beta': -1}}, 'at least 0'),
    ({'energy': {'eta': True}}, 'eta=True'), ({'transport': {'t_size': 0}}, 't_size=0'),
    ({'transport': {'t_eps': -0.1}}, 'from 0 to 100'), ({'transport': {'size': 4}}, 't_size'),
    ({'clean_lam': -1}, 'clean_lam=-1'), ({'clean_lam': (1, 2, 3)}, 'weight, epochs'),
    ({'clean_lam': '11'}, "clean_lam='11'"), ({'adversarial': {'prob': 2}}, 'from 0 to 1'),
    ({'energy': {'neigh_size': float('inf')}}, 'neigh_size=inf'), ({'energy': {'beta': float('inf')}}, 'beta=inf'),
    ({'energy': {'eta': float('inf')}}, 'eta=inf'), ({'clean_lam': float('inf')}, 'clean_lam=inf'),
    ({'adversarial': {'eps': 300}}, 'from 0 to 255'), ({'pairing': 'none'}, 'pairing'), ({'alpha': 0}, 'alpha=0'),
])  # fmt: skip
def test_wrong_arguments_are_one_sentence(arguments, message):
    with pytest.raises(InputError, match=message):
        PuzzleMix(**arguments)


def test_images_of_one_pixel_are_refused():
    with pytest.raises(InputError, match='1x4 pixels: expected at least 2x2'):
        view(PuzzleMix(), pixels(2, 3, 1, 4), [1, 0])


@pytest.mark.parametrize(('arguments', 'checks'), [
    ({'transport': {'t_size': None}}, ['masks_equal_the_picture', 'identical_images_stay_identical']),
    ({'transport': {'t_size': -1, 't_eps': 0.01}, 'levels': 5}, ['label_equals_pixels', 'weights_are_sound']),
    ({'adversarial': {'prob': 0.5}}, ['nothing_is_read_from_the_device', 'dtype_is_kept']),
    ({'clean_lam': 1.0}, ['draws_come_from_the_generator', 'inputs_are_not_touched']),
])  # fmt: skip
def test_other_arguments_do_what_they_say(arguments, checks):
    check_policy(PuzzleMix(**arguments), only=checks, raise_on_failure=True)


def test_transport_is_exempt_only_where_pixels_move():
    policy = PuzzleMix(transport={'t_size': None})
    type_of_it = type('Still', (PuzzleMix,), {'exempt': {}, '__doc__': 'Without transport.'})
    check_policy(type_of_it(**policy.arguments()), only=['pixels_stay_in_place'], raise_on_failure=True)
