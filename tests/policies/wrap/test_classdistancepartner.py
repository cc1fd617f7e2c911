import math

import pytest
import torch
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, Network
from openmixup.policies.wrap.classdistancepartner import ClassDistancePartner, class_distances
from openmixup.testing import check_policy
from openmixup.testing.networks import tiny_network

CLASSES = 4
NETWORK = Network(CLASSES, 8, (), (), ())
LABELS = torch.tensor([0, 1, 1, 1, 2, 3, 3])  # classes of one, three and two images
MEANS = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.2, 0.7, 0.1, 0.0], [0.0, 0.0, 1.0, 0.0], [0.1, 0.1, 0.1, 0.7]])


class Says:
    """A probe that says what a test writes down."""

    def __init__(self, logits):
        self.given = logits

    def logits(self, images):
        return self.given[: len(images)]


def images_of(labels):
    return torch.arange(len(labels)).float()[:, None, None, None].expand(-1, 1, 2, 2).contiguous()


def policy_after(means, accuracy, count=10.0, **options):
    """A policy whose last epoch gave ``means``, with ``accuracy`` in each class."""
    policy = ClassDistancePartner(**options)
    policy.bind(NETWORK)
    counts = torch.full((CLASSES, 1), count)
    policy.last.copy_(torch.cat([count * means, counts, count * torch.tensor(accuracy)[:, None]], 1))
    policy.epoch.fill_(0)
    return policy


def partners_of(policy, labels=LABELS, seeds=1, epoch=0, bank=None, target='class'):
    """(seeds, N) source that each image is mixed with."""
    size = len(labels) if target == 'class' else labels.shape[0]
    probe = Says(torch.zeros(size, CLASSES))
    batch = Batch(images_of(labels), labels, bank, target)
    plans = [policy(batch, Context(seed=seed, epoch=epoch, probe=probe)) for seed in range(seeds)]
    return torch.stack([plan.views[0].mixture.index[:, 1] for plan in plans])


def class_rates(policy, seeds=8, copies=60):
    """(C, C) share of each class among the partners of each class, and the number of draws behind the least of them.

    Draws of one batch are independent, so it holds many copies of each image.
    """
    labels = LABELS.repeat(copies)
    found = functional.one_hot(labels[partners_of(policy, labels, seeds)], CLASSES).float().mean(0)
    rates = torch.zeros(CLASSES, CLASSES).index_add_(0, labels, found)
    return rates / labels.bincount()[:, None], seeds * copies


def written_out(means, accuracy, tau, a):
    """Probabilities of the partner's class for class a, in plain numbers."""
    trend = 2 * accuracy[a] - 1
    rates = [
        0.0 if b == a else math.exp(-trend * math.dist(means[a].tolist(), means[b].tolist()) / tau)
        for b in range(CLASSES)
    ]
    return torch.tensor(rates) / sum(rates)


def test_classes_are_drawn_by_the_formula_and_their_images_alike():
    accuracy = [1.0, 0.9, 0.2, 0.0]
    policy = policy_after(MEANS, accuracy, tau=0.5)
    rates, draws = class_rates(policy)
    expected = torch.stack([written_out(MEANS, accuracy, 0.5, a) for a in range(CLASSES)])
    torch.testing.assert_close(rates, expected, rtol=0, atol=5 * 0.5 / draws**0.5)
    assert torch.equal(rates.diagonal(), torch.zeros(CLASSES))
    labels = torch.cat([torch.zeros(300, dtype=torch.long), torch.tensor([1, 1, 3])])
    found = partners_of(policy, labels, seeds=4)[:, :300].flatten()
    shares = (found[:, None] == torch.tensor([300, 301, 302])).float().mean(0)
    first, last = (expected[0, b] / (expected[0, 1] + expected[0, 3]) for b in (1, 3))
    torch.testing.assert_close(shares, torch.stack([first / 2, first / 2, last]), rtol=0, atol=5 * 0.5 / 1200**0.5)


def test_a_recognised_class_meets_the_nearest_and_one_that_never_is_the_farthest():
    apart = class_distances(MEANS, MEANS, 'l2')
    nearest = (apart + 9 * torch.eye(CLASSES)).argmin(1)
    easy, hard = (partners_of(policy_after(MEANS, [a] * CLASSES, tau=0.001), seeds=20) for a in (1.0, 0.0))
    assert torch.equal(LABELS[easy], nearest[LABELS].expand(20, -1))
    assert torch.equal(LABELS[hard], apart.argmax(1)[LABELS].expand(20, -1))


@pytest.mark.parametrize(('policy', 'why'), [
    (policy_after(MEANS, [0.5] * CLASSES, tau=0.01), 'neither easy nor hard'),
    (policy_after(torch.eye(CLASSES), [1.0] * CLASSES, tau=0.01), 'all classes are as far'),
    (policy_after(torch.eye(CLASSES), [1.0] * CLASSES, tau=0.01, distance='cosine'), 'all classes are as far'),
    (policy_after(MEANS, [1.0, 0.0, 1.0, 0.0], tau=1e6), 'distances do not count'),
    (policy_after(torch.zeros(CLASSES, CLASSES), [0.0] * CLASSES, count=0.0, tau=0.01), 'the first epoch'),
])  # fmt: skip
def test_the_choice_among_the_other_classes_is_even(policy, why):
    even = (1 - torch.eye(CLASSES)) / (CLASSES - 1)
    rates, draws = class_rates(policy)
    torch.testing.assert_close(rates, even, rtol=0, atol=5 * 0.5 / draws**0.5, msg=why)


def test_a_class_that_the_last_epoch_lacked_is_taken_as_unknown():
    accuracy = [1.0, 0.0, 1.0, 0.0]
    policy = policy_after(MEANS, accuracy, tau=0.2)
    policy.last[3] = 0
    means = torch.cat([MEANS[:3], torch.full((1, CLASSES), 0.25)])
    rates, draws = class_rates(policy)
    expected = torch.stack([written_out(means, [*accuracy[:3], 0.5], 0.2, a) for a in range(CLASSES)])
    torch.testing.assert_close(expected[3], torch.tensor([1, 1, 1, 0]) / 3)
    torch.testing.assert_close(rates, expected, rtol=0, atol=5 * 0.5 / draws**0.5)
    torch.testing.assert_close(policy._means(), means)


def test_sums_are_those_of_the_epoch_and_the_last_one():
    policy = ClassDistancePartner()
    policy.bind(NETWORK)
    generator = torch.Generator().manual_seed(0)
    seen = {0: [], 1: [], 2: []}
    for step, epoch in enumerate([0, 0, 1, 1, 1, 2]):
        logits = 3 * torch.randn(7, CLASSES, generator=generator)
        labels = torch.randint(CLASSES, (7,), generator=generator)
        policy(Batch(images_of(labels), labels), Context(step=step, epoch=epoch, probe=Says(logits)))
        seen[epoch] += zip(logits.softmax(1), labels.tolist(), strict=True)
        for name, of in (('sums', epoch), ('last', epoch - 1)):
            expected = torch.zeros(CLASSES, CLASSES + 2)
            for probabilities, a in seen.get(of, ()):
                expected[a, :CLASSES] += probabilities
                expected[a, CLASSES] += 1
                expected[a, CLASSES + 1] += probabilities.argmax() == a
            torch.testing.assert_close(getattr(policy, name), expected)
    torch.testing.assert_close(policy._means().sum(1), torch.ones(CLASSES))


def test_the_sums_of_another_run_are_no_last_epoch():
    for stored, kept in ((99, False), (1, True)):
        policy = policy_after(MEANS, [1.0] * CLASSES)
        policy.sums.copy_(policy.last), policy.epoch.fill_(stored)
        partners_of(policy, epoch=2)
        assert bool(policy.last.any()) == kept


def test_a_policy_that_looks_at_its_sources_sees_the_partners():
    results = check_policy(ClassDistancePartner({'type': 'TokenMix'}), only=['weights_are_sound', 'finish_is_sound'])
    assert [result.ok for result in results] == [True, True]


def test_distances():
    for kind in ('l2', 'cosine'):
        apart = class_distances(MEANS, MEANS, kind)
        torch.testing.assert_close(apart, apart.T)
        torch.testing.assert_close(apart.diagonal(), torch.zeros(CLASSES), rtol=0, atol=1e-6)
    assert float(class_distances(torch.eye(2), torch.eye(2), 'l2')[0, 1]) == pytest.approx(2**0.5)
    assert float(class_distances(torch.eye(2), torch.eye(2), 'cosine')[0, 1]) == 1


@pytest.mark.parametrize('inner', [{'type': 'Mixup', 'per': 'sample'}, {'type': 'CutMix'}, {'type': 'ResizeMix'}])
def test_the_picture_and_the_weights_are_those_of_the_inner_policy(inner):
    policy = policy_after(MEANS, [1.0] * CLASSES, policy=inner)
    images = torch.eye(7)[:, :, None, None].expand(-1, -1, 8, 8).contiguous()  # source i is 1 in channel i
    lams = set()
    for seed in range(10):
        plan = policy(Batch(images, LABELS), Context(seed=seed, probe=Says(torch.zeros(7, CLASSES))))
        (view,) = plan.views
        assert plan.batch.bank is None
        assert plan.chosen is policy.policy
        assert torch.equal(view.mixture.index[:, 0], torch.arange(7))
        by_weight = torch.zeros(7, 7).scatter_add_(1, view.mixture.index, view.mixture.weight)
        torch.testing.assert_close(view.inputs.mean((2, 3)), by_weight)
        lams.add(round(float(view.mixture.weight[0, 0]), 4))
        assert (len(view.mixture.weight[:, 0].unique()) > 1) == (policy.policy.per == 'sample')
    assert len(lams) > 3


def test_partners_may_come_from_a_bank_and_a_single_class_is_no_obstacle():
    policy = policy_after(MEANS, [1.0] * CLASSES, tau=0.001)
    bank = Batch(images_of(LABELS) + 7, LABELS)
    found = partners_of(policy, torch.tensor([0, 0]), seeds=30, bank=bank)
    assert set(found.flatten().tolist()) == {3, 4, 5}  # the three images of class 1, of seven behind the two
    alone = partners_of(policy, torch.tensor([2, 2, 2]), seeds=60)
    assert set(alone.flatten().tolist()) == {0, 1, 2}


def test_soft_labels_count_by_their_largest_share():
    soft = functional.one_hot(LABELS, CLASSES) * 0.6 + 0.1
    policies = [policy_after(MEANS, [1.0, 0.0, 0.7, 0.3]) for _ in range(2)]
    by_class = partners_of(policies[0], seeds=20)
    assert torch.equal(by_class, partners_of(policies[1], soft, seeds=20, target='soft'))
    assert torch.equal(policies[0].sums, policies[1].sums)


def test_its_statistics_are_in_the_state_and_go_on_from_it():
    policy = policy_after(MEANS, [1.0, 0.0, 0.7, 0.3], tau=0.05)
    partners_of(policy, seeds=3)
    assert {name for name, _ in policy.named_buffers()} == {'epoch', 'sums', 'last'}  # which processes share
    again = ClassDistancePartner(tau=0.05)
    again.load_state_dict(policy.state_dict())
    again.bind(NETWORK)
    for epoch in (0, 1):  # the rest of the epoch, then the next one
        assert torch.equal(*(partners_of(each, seeds=5, epoch=epoch) for each in (policy, again)))
    assert all(torch.equal(again.state_dict()[name], value) for name, value in policy.state_dict().items())
    again.bind(Network(7, 8, (), (), ()))
    assert again.sums.shape == (7, 9)


def test_a_learner_counts_its_clean_images():
    head = {'type': 'LinearHead', 'num_classes': CLASSES}
    learner = MixClassifier(
        tiny_network(), head, {'type': 'ClassDistancePartner', 'policy': {'type': 'CutMix'}}
    ).train()
    images = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    learner.eval()
    with torch.no_grad():
        clean = learner(images).softmax(1)
    learner.train()
    loss = learner(images, LABELS, mode='loss')
    assert set(loss) == {'loss_main', 'agreement'}
    expected = torch.zeros(CLASSES, CLASSES).index_add_(0, LABELS, clean)
    torch.testing.assert_close(learner.policy.sums[:, :CLASSES], expected)
    torch.testing.assert_close(learner.policy.sums[:, CLASSES], torch.tensor([1.0, 3.0, 1.0, 2.0]))


@pytest.mark.parametrize(('options', 'message'), [
    ({'policy': {'type': 'RandomChoice'}}, 'RandomChoice.*draws its own: expected a policy such as Mixup or CutMix'),
    ({'policy': {'type': 'CMixup'}}, 'CMixup.*draws its own'),
    ({'policy': {'type': 'ManifoldMix'}}, 'ManifoldMix.*hidden maps'),
    ({'policy': {'type': 'CMO'}}, 'CMO'),
    ({'tau': 0}, 'tau=0.*at least 0.001'),
    ({'tau': math.nan}, 'tau=nan'),
    ({'tau': True}, 'tau=True'),
    ({'distance': 'L2'}, "distance='L2'.*l2, cosine.*did you mean"),
])  # fmt: skip
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ClassDistancePartner(**options)


def test_what_it_cannot_work_with_is_refused():
    policy = ClassDistancePartner()
    with pytest.raises(InputError, match=r'call bind\(network\) first'):
        policy(Batch(images_of(LABELS), LABELS), Context(probe=Says(torch.zeros(7, CLASSES))))
    with pytest.raises(InputError, match='the target is multilabel: expected class indices or soft labels'):
        policy.bind(Network(CLASSES, 8, (), (), (), target='multilabel'))
