"""Remix: the rarer class of a mixture may take the whole label."""

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, CutMix, KMixup, Mixup, Plan
from openmixup.policies.wrap.lumix import LUMix
from openmixup.policies.wrap.remix import Remix

COUNTS = [500, 100, 33, 34, 5]
LABELS = torch.tensor([0, 0, 1, 2, 3, 4])
IMAGES = torch.randn(6, 3, 8, 10, generator=torch.Generator().manual_seed(0))


def view_of(policy, labels=LABELS, target='class', seed=0, epoch=0):
    return policy(Batch(IMAGES, labels, target=target), Context(seed=seed, epoch=epoch)).views[0]


def by_hand(lam, own, partner, kappa, tau):
    """The rule of the paper for the weight of the own label."""
    if own / partner >= kappa and lam < tau:
        return 0.0
    if own / partner <= 1 / kappa and 1 - lam < tau:
        return 1.0
    return lam


@pytest.mark.parametrize('inner', [Mixup(per='sample'), CutMix(per='sample'), CutMix()], ids=repr)
@pytest.mark.parametrize(('kappa', 'tau'), [(3.0, 0.5), (1.5, 0.87), (20, 0.5), (3.0, 0.0), (1.01, 1.0)])
def test_the_rule_by_hand(inner, kappa, tau):
    moved = 0
    for seed in range(12):
        before, after = view_of(inner, seed=seed), view_of(Remix(inner, COUNTS, kappa, tau), seed=seed)
        assert torch.equal(before.inputs, after.inputs)
        assert torch.equal(before.mixture.index, after.mixture.index)
        for row, (lam, _) in zip(before.mixture.index.tolist(), before.mixture.weight.tolist(), strict=True):
            own, partner = (COUNTS[LABELS[source]] for source in row)
            expected = by_hand(lam, own, partner, kappa, tau)
            got = after.mixture.weight[row[0]].tolist()
            assert got == pytest.approx([expected, 1 - expected], abs=1e-6)
            moved += expected != lam
    assert (moved > 0) == (tau > 0)


def test_a_ratio_of_exactly_kappa_counts_and_a_weight_of_exactly_tau_does_not():
    class Fixed(Mixup):
        """lam is 0.25."""

        def draw_lam(self, count, rng):
            return torch.full((count,), 0.25, dtype=torch.float64)

    labels = torch.tensor([0, 1, 0, 1, 0, 1])  # 'flip' pairs 0 with 1
    for counts, tau, own in (([30, 10], 0.5, 0.0), ([29, 10], 0.5, 0.25), ([30, 10], 0.25, 0.25)):
        weight = view_of(Remix(Fixed(pairing='flip'), counts, 3, tau), labels).mixture.weight
        assert weight[0].tolist() == [own, 1 - own]  # the frequent class has lam
        assert weight[1].tolist() == [0.25, 0.75]  # the rare one has it, and 1 - lam is not below tau


def test_balanced_classes_change_nothing():
    for seed in range(5):
        plain = view_of(Mixup(), seed=seed).mixture.weight
        assert torch.equal(view_of(Remix(counts=[7] * 5), seed=seed).mixture.weight, plain)
        assert torch.equal(view_of(Remix(), torch.arange(6), seed=seed).mixture.weight, plain)


def test_without_counts_those_of_the_batch_are_taken():
    labels, moved = torch.tensor([0, 0, 0, 1, 2, 2]), False
    for seed in range(8):
        given = view_of(Remix(counts=[3, 1, 2]), labels, seed=seed).mixture.weight
        assert torch.equal(view_of(Remix(), labels, seed=seed).mixture.weight, given)
        moved |= bool((given == 0).any())
    assert moved


def test_minorities_gain():
    mass = torch.zeros(2, 5)
    for seed in range(200):
        for place, policy in enumerate((Mixup(), Remix(counts=COUNTS))):
            mass[place] += view_of(policy, seed=seed).mixture.soft(LABELS, 5).sum(0)
    assert mass[1, 0] < 0.85 * mass[0, 0]
    assert mass[1, 4] > 1.2 * mass[0, 4]
    torch.testing.assert_close(mass.sum(1), torch.full((2,), 1200.0))


@pytest.mark.parametrize('counts', [COUNTS, None])
@pytest.mark.parametrize('target', ['soft', 'multilabel'])
def test_one_hot_labels_are_as_classes(counts, target):
    policy, labels = Remix(Mixup(per='sample'), counts), torch.tensor([0, 0, 0, 1, 2, 4])
    dense, moved = torch.nn.functional.one_hot(labels, 5).float(), False
    for seed in range(5):
        one, two = view_of(policy, labels, seed=seed), view_of(policy, dense, target, seed)
        assert torch.equal(one.mixture.weight, two.mixture.weight)
        moved |= bool((one.mixture.weight == 0).any())
    assert moved


def test_soft_labels_count_by_their_shares():
    labels = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 1.0]])
    sizes = Remix(counts=[100, 10, 1]).sizes(Batch(IMAGES[:2], labels, target='multilabel'))
    assert sizes.tolist() == pytest.approx([55, 5.5])
    nothing = Batch(IMAGES[:2], torch.zeros(2, 3), target='multilabel')
    assert bool((Remix(counts=[100, 10, 1]).sizes(nothing) > 0).all())


def test_labels_of_a_bank():
    class FromBank(Mixup):
        """Partners are the images of the bank."""

        def plan(self, batch, ctx):
            partner = len(batch) + torch.arange(len(batch))
            lam = torch.tensor([0.4], dtype=torch.float64)
            return Plan(batch, (self.view(batch, partner, lam, ctx),), self)

    batch = Batch(IMAGES[:2], torch.tensor([0, 4]), Batch(IMAGES[2:4], torch.tensor([4, 0])))
    weight = Remix(FromBank(), COUNTS)(batch, Context()).views[0].mixture.weight
    torch.testing.assert_close(weight, torch.tensor([[0.0, 1.0], [0.4, 0.6]]))  # tau is 0.5, and 1 - lam above it


def learner(policy):
    return MixClassifier(
        {'type': 'CifarResNet', 'depth': 8, 'width': 4}, {'type': 'LinearHead', 'num_classes': 5}, policy
    ).train()


@pytest.mark.parametrize('policy', [Remix(counts=COUNTS), LUMix(Remix(CutMix(), COUNTS)), Remix(LUMix())], ids=repr)
def test_trains_in_the_learner(policy):
    model = learner(policy)
    model.context = Context(step=1)
    assert bool(model(IMAGES, LABELS, mode='loss')['loss_main'].isfinite())


def test_what_it_cannot_weigh_is_refused():
    with pytest.raises(InputError, match='counts of 2 classes, but the network has 5'):
        learner(Remix(counts=[3, 4]))
    with pytest.raises(InputError, match='KMixup mixes 3'):
        view_of(Remix(KMixup()))
    with pytest.raises(InputError, match='the target is regression'):
        view_of(Remix(), torch.randn(6), 'regression')


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'counts': []}, r'counts=\[\]'), ({'counts': 5}, 'counts=5'), ({'counts': [1, -2]}, 'counts='),
    ({'counts': [1.5]}, 'counts='), ({'counts': '12'}, 'counts='), ({'kappa': 1}, 'kappa=1'),
    ({'kappa': float('nan')}, 'kappa=nan'), ({'tau': 1.1}, 'tau=1.1'), ({'tau': True}, 'tau=True'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        Remix(**arguments)
