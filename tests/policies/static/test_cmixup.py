"""C-Mixup: partners by a Gaussian kernel over the labels."""

import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.static.cmixup import CMixup
from openmixup.testing import count_operators

IMAGES = torch.randn(5, 2, 3, 4, generator=torch.Generator().manual_seed(0))
VALUES = torch.tensor([0.0, 0.5, 1.5, 1.6, 4.0])
CALLS = 3000


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def meetings(policy, labels, target='regression', bank=None, size=5):
    """(N, S) how often each source was the partner of each sample in many calls."""
    generator = rng()
    sources = size if bank is None else size + len(bank)
    met = torch.zeros(size, sources)
    batch = Batch(torch.zeros(size, 1, 1, 1), labels, bank, target)
    for _ in range(CALLS):
        index = policy(batch, Context(generator=generator)).views[0].mixture.index
        assert torch.equal(index[:, 0], torch.arange(size))
        met[index[:, 0], index[:, 1]] += 1
    return met


def kernel(own, sources, sigma):
    """Probabilities in plain numbers; labels are lists."""
    rows = []
    for a in own:
        row = [math.exp(-sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / (2 * sigma**2)) for b in sources]
        rows.append([value / sum(row) for value in row])
    return torch.tensor(rows)


def agree(met, rates):
    assert float(((met - CALLS * rates).abs() - 5 * (CALLS * rates * (1 - rates)).sqrt()).max()) <= 1


@pytest.mark.parametrize('sigma', [0.3, 1.0, 3.0])
def test_partners_follow_the_kernel(sigma):
    values = [[value] for value in VALUES.tolist()]
    agree(meetings(CMixup(sigma=sigma), VALUES), kernel(values, values, sigma))


def test_labels_of_several_values_and_a_bank():
    labels, bank = torch.randn(5, 3, generator=rng(1)), torch.randn(4, 3, generator=rng(2))
    met = meetings(CMixup(), labels, bank=Batch(torch.zeros(4, 1, 1, 1), bank, target='regression'))
    agree(met, kernel(labels.tolist(), [*labels.tolist(), *bank.tolist()], 1.0))


def test_classes_are_as_far_apart_as_one_hot_labels():
    classes = torch.tensor([0, 1, 1, 2, 0])
    dense = torch.nn.functional.one_hot(classes, 3).float()
    rates = kernel(dense.tolist(), dense.tolist(), 0.8)
    agree(meetings(CMixup(sigma=0.8), classes, 'class'), rates)
    agree(meetings(CMixup(sigma=0.8), dense, 'soft'), rates)


def test_limits_of_the_kernel():
    equal = torch.tensor([3.0, 7.0, 3.0, 7.0, 7.0])
    met = meetings(CMixup(sigma=1e-3), equal)
    assert torch.equal(met > 0, equal[:, None] == equal)
    agree(meetings(CMixup(sigma=1e6), VALUES), torch.full((5, 5), 0.2))  # plain Mixup


def test_large_labels_that_are_near_keep_their_distance():
    size = 40  # from 26 on torch would take inner products
    labels = 4096 + torch.arange(size) / 8
    met = meetings(CMixup(sigma=0.01), labels, size=size)
    assert torch.equal(met, CALLS * torch.eye(size))


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_images_and_values_are_mixed_alike(per):
    view = CMixup(per=per).mix(IMAGES, VALUES, rng(4), target='regression')
    (own, partner), weight = view.mixture.index.unbind(1), view.mixture.weight
    assert bool((own != partner).any())
    lam = weight[:, 0].view(-1, 1, 1, 1)
    torch.testing.assert_close(view.inputs, lam * IMAGES[own] + (1 - lam) * IMAGES[partner])
    torch.testing.assert_close(view.mixture.of(VALUES), weight[:, 0] * VALUES[own] + weight[:, 1] * VALUES[partner])
    assert len(weight.unique(dim=0)) == (5 if per == 'sample' else 1)


def test_settings_of_the_paper():
    policy = CMixup()
    assert policy.lam_beta == (2.0, 2.0)
    lam = policy.draw_lam(20_000, rng())
    assert float(lam.var()) == pytest.approx(0.05, rel=0.05)  # of Beta(2, 2)


@pytest.mark.parametrize('target', ['class', 'regression'])
def test_nothing_is_read_and_operators_are_few(target):
    labels = torch.arange(5) if target == 'class' else VALUES.half()
    batch = Batch(IMAGES.to('meta'), labels.to('meta'), target=target)
    view = CMixup()(batch, Context()).views[0]
    assert view.inputs.is_meta
    assert view.mixture.index.is_meta
    assert count_operators(CMixup(), batch.images, batch.labels.long()) <= 8


def test_without_labels_it_says_so():
    with pytest.raises(InputError, match='the batch has none: give labels'):
        CMixup().mix(IMAGES)


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'sigma': 0}, 'sigma=0'), ({'sigma': float('inf')}, 'sigma=inf'), ({'sigma': '1'}, "sigma='1'"),
    ({'sigma': True}, 'sigma=True'), ({'alpha': -1}, 'alpha=-1'), ({'per': 'image'}, "per='image'"),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        CMixup(**arguments)
