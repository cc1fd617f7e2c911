import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, Context
from openmixup.policies.static.kmixup import KMixup
from openmixup.testing import check_policy

IMAGES = torch.randn(7, 3, 4, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(7)


def drawn(policy, count, size=7):
    ctx = Context(generator=torch.Generator().manual_seed(0))
    batch = Batch(IMAGES[:size, :1, :1, :1], LABELS[:size])
    return [policy(batch, ctx).views[0].mixture for _ in range(count)]


@pytest.mark.parametrize('policy', [KMixup(0.4, 4), KMixup(k=7, per='sample'), KMixup(k=12), KMixup(k=2)], ids=repr)
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_picture_and_target_are_the_weighted_sums(per):
    view = KMixup(per=per).mix(IMAGES, LABELS, torch.Generator().manual_seed(1))
    index, weight = view.mixture.index, view.mixture.weight
    by_hand = sum(weight[:, k, None, None, None] * IMAGES[index[:, k]] for k in range(3))
    torch.testing.assert_close(view.inputs, by_hand)
    target = view.mixture.soft(LABELS, 7)
    assert ((target > 0).sum(1) == 3).all()
    torch.testing.assert_close(target.gather(1, index), weight)


@pytest.mark.parametrize(('alpha', 'k'), [(1.0, 3), (0.5, 4), (4.0, 2), (2.0, 5)])
def test_weights_follow_a_dirichlet_law(alpha, k):
    """Mean 1/K, variance (K - 1) / (K^2 (K alpha + 1)), and covariance -1 / (K^2 (K alpha + 1)), for all sources."""
    count = 20_000
    images = torch.zeros(count, 1, 1, 1)
    plan = KMixup(alpha, k, per='sample')(Batch(images, None), Context(generator=torch.Generator().manual_seed(0)))
    weight = plan.views[0].mixture.weight.double()
    variance = (k - 1) / (k**2 * (k * alpha + 1))
    assert weight.mean(0).tolist() == pytest.approx([1 / k] * k, abs=5 * (variance / count) ** 0.5)
    expected = torch.full((k, k), -1 / (k**2 * (k * alpha + 1)), dtype=torch.float64).fill_diagonal_(variance)
    torch.testing.assert_close(weight.T.cov(), expected, rtol=0.1, atol=0.1 * variance)
    torch.testing.assert_close(weight.sum(1), torch.ones(count, dtype=torch.float64))
    third = ((weight - 1 / k) ** 3).mean(0)  # a Dirichlet is skewed, alike for all sources
    assert float((third - third.mean()).abs().max()) < 5 * float(((weight - 1 / k) ** 3).std()) / count**0.5


def test_the_own_image_comes_first_and_no_image_twice():
    met = torch.zeros(7, 7)
    for mixture in drawn(KMixup(k=3), 1000):
        assert torch.equal(mixture.index[:, 0], torch.arange(7))
        assert all(len(set(row)) == 3 for row in mixture.index.tolist())
        assert torch.equal(mixture.index.sort(0).values, torch.arange(7)[:, None].expand(7, 3))  # each used K times
        met[torch.arange(7)[:, None], mixture.index[:, 1:]] += 1
    others = met[~torch.eye(7, dtype=torch.bool)]
    deviation = (1000 / 3 * (2 / 3)) ** 0.5
    assert float((others - 1000 / 3).abs().max()) < 5 * deviation


def test_a_small_batch_is_blended_as_a_whole():
    (mixture,) = drawn(KMixup(k=5), 1, size=3)
    assert mixture.index.sort(1).values.tolist() == [[0, 1, 2]] * 3
    torch.testing.assert_close(mixture.weight.sum(1), torch.ones(3))


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize(('alpha', 'size'), [(1.0, 2), (0.5, 3), (2.0, 4)])
def test_a_small_batch_follows_the_dirichlet_law_of_its_own_size(alpha, size, per):
    """All sources alike: Beta(alpha, (size - 1) alpha) for the own image too, not with the K = 8 that was asked for."""
    count = 4000
    weight = torch.stack([mixture.weight[0].double() for mixture in drawn(KMixup(alpha, 8, per), count, size)])
    variance = (size - 1) / (size**2 * (size * alpha + 1))
    assert weight.mean(0).tolist() == pytest.approx([1 / size] * size, abs=5 * (variance / count) ** 0.5)
    assert weight.var(0).tolist() == pytest.approx([variance] * size, rel=0.15)


def test_an_empty_batch_stays_empty_and_one_image_with_a_bank_stays_whole():
    view = KMixup().mix(IMAGES[:0], LABELS[:0])
    assert view.inputs.shape == (0, 3, 4, 5)
    assert view.mixture.soft(LABELS[:0], 7).shape == (0, 7)
    for per in ('batch', 'sample'):
        batch = Batch(IMAGES[:1], LABELS[:1], Batch(IMAGES[1:], LABELS[1:]))
        mixture = KMixup(per=per)(batch, Context()).views[0].mixture
        assert mixture.weight.tolist() == [[1.0]]


def test_one_draw_a_batch_or_one_a_sample():
    assert all(bool((m.weight == m.weight[0]).all()) for m in drawn(KMixup(), 20))
    assert all(len(m.weight[:, 1].unique()) == 7 for m in drawn(KMixup(per='sample'), 20))


def test_tools_can_fix_the_own_weight():
    policy = KMixup()
    policy.draw_lam = lambda count, rng: torch.full((count,), 0.3, dtype=torch.float64)
    weights = torch.stack([mixture.weight[0] for mixture in drawn(policy, 2000)])
    torch.testing.assert_close(weights[:, 0], torch.full((2000,), 0.3))
    assert float(weights[:, 1].mean()) == pytest.approx(0.35, abs=5 * 0.7 / 12**0.5 / 2000**0.5)


@pytest.mark.parametrize(('options', 'match'), [
    ({'alpha': 0.0}, '0.01 to 10000'),
    ({'alpha': True}, '0.01 to 10000'),
    ({'k': 1}, 'at least 2'),
    ({'k': 2.0}, 'whole number'),
    ({'per': 'image'}, "'batch'"),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        KMixup(**options)
