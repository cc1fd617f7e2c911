import pytest
import torch
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, CutMix, Mixture, Mixup, Plan, RandomChoice, View
from openmixup.policies.base import MixPolicy
from openmixup.policies.static.kmixup import KMixup
from openmixup.policies.wrap.lumix import LUMix

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 4, 2, 2])
LOGITS = 2 * torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


class Output:
    def __init__(self, logits):
        self.logits = logits


class Given(MixPolicy):
    """The weights that a test writes down."""

    def __init__(self, index, weight):
        super().__init__()
        self.mixture = Mixture(torch.tensor(index), torch.tensor(weight))

    def plan(self, batch, ctx):
        return Plan(batch, (View(batch.images, self.mixture),), self)


def weights(policy, logits=LOGITS, labels=LABELS, seed=0, target='class'):
    """Weights of the plan, and those after ``finish``."""
    ctx = Context(seed=seed)
    plan = policy(Batch(IMAGES[: len(labels)], labels, target=target), ctx)
    done = policy.finish(plan, (Output(logits),), ctx)
    assert done.views[0].inputs is plan.views[0].inputs
    assert torch.equal(done.views[0].mixture.index, plan.views[0].mixture.index)
    return plan.views[0].mixture.weight, done.views[0].mixture.weight


@pytest.mark.parametrize('inner', [CutMix(), Mixup(per='sample'), KMixup()])
def test_without_shares_it_is_the_inner_policy(inner):
    for seed in range(5):
        before, after = weights(LUMix(inner, predicted=0.0, drawn=0.0), seed=seed)
        assert torch.equal(before, after)


@pytest.mark.parametrize('inner', [CutMix(per='sample'), Mixup(0.1), KMixup(0.3, 4)])
@pytest.mark.parametrize(('predicted', 'drawn'), [(0.4, 0.1), (1.0, 0.0), (0.0, 1.0), (0.3, 0.7)])
def test_weights_are_shares(inner, predicted, drawn):
    for seed in range(20):
        _, after = weights(LUMix(inner, predicted, drawn), seed=seed)
        assert float(after.min()) >= 0
        torch.testing.assert_close(after.sum(1), torch.ones(6))


def test_predicted_weights_are_the_prediction_between_the_two_classes():
    policy = LUMix(Mixup(per='sample', pairing='flip'), predicted=0.3, drawn=0.0)
    before, after = weights(policy)
    p = LOGITS.softmax(1)
    a, b = p.gather(1, LABELS[:, None])[:, 0], p.gather(1, LABELS.flip(0)[:, None])[:, 0]
    torch.testing.assert_close(after[:, 0], 0.7 * before[:, 0] + 0.3 * a / (a + b))
    assert float((after - before).abs().max()) > 0.05


def test_equal_predictions_count_half():
    before, after = weights(LUMix(Mixup(per='sample', pairing='flip'), 0.4, 0.0), logits=torch.zeros(6, 5))
    torch.testing.assert_close(after, 0.6 * before + 0.4 * 0.5)
    far = torch.full((6, 5), -300.0)
    far[:, 0] = 300  # both classes of most samples have a probability of 0 in float32
    _, after = weights(LUMix(Given([[1, 2]], [[0.9, 0.1]]), 1.0, 0.0), far[:1], LABELS[:3])
    torch.testing.assert_close(after, torch.full((1, 2), 0.5))


@pytest.mark.parametrize('own', [0.2, 0.9])
def test_random_weights_pull_towards_one_half(own):
    count, drawn = 40_000, 0.4
    policy = LUMix(Given([[0, 1]] * count, [[own, 1 - own]] * count), predicted=0.0, drawn=drawn)
    _, after = weights(policy, logits=torch.zeros(count, 5))
    deviation = drawn / 12**0.5
    assert float(after[:, 0].mean()) == pytest.approx(own + drawn * (0.5 - own), abs=5 * deviation / count**0.5)
    assert float(after[:, 0].std()) == pytest.approx(deviation, rel=0.02)  # each sample draws its own, uniformly


def test_what_the_image_does_not_show_gets_no_weight():
    index, weight = [[0, 1, 2], [1, 2, 0], [2, 0, 1]], [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]
    _, after = weights(LUMix(Given(index, weight), 0.5, 0.5), LOGITS[:3], LABELS[:3])
    assert torch.equal(after[0], torch.tensor([1.0, 0.0, 0.0]))
    assert float(after[1, 2]) == 0
    assert float(after[1:, :2].min()) > 0
    _, after = weights(LUMix(Given([[0, 1]], [[0.0, 0.0]]), 0.5, 0.5), LOGITS[:1], LABELS[:2])
    assert torch.equal(after, torch.zeros(1, 2))


def test_the_sum_of_weights_stays():
    _, after = weights(LUMix(Given([[0, 1], [1, 0]], [[0.9, 0.6], [0.1, 0.2]])), LOGITS[:2], LABELS[:2])
    torch.testing.assert_close(after.sum(1), torch.tensor([1.5, 0.3]))


def test_target_kinds_agree():
    policy = LUMix(KMixup(per='sample'), 0.6, 0.1)
    _, by_class = weights(policy)
    _, by_soft = weights(policy, labels=functional.one_hot(LABELS, 5).float(), target='soft')
    torch.testing.assert_close(by_class, by_soft)
    hot = torch.tensor([[1.0, 1.0, 0, 0, 0], [0, 0, 0, 0, 1.0]])
    logits = torch.tensor([[3.0, 3.0, 0, 0, -1.0]])
    _, multi = weights(LUMix(Given([[0, 1]], [[0.5, 0.5]]), 1.0, 0.0), logits, hot, target='multilabel')
    p, q = torch.tensor(3.0).sigmoid(), torch.tensor(-1.0).sigmoid()
    torch.testing.assert_close(multi[0, 0], p / (p + q))


def test_no_gradient_flows_through_the_weights_and_draws_repeat():
    logits = LOGITS.clone().requires_grad_()
    _, after = weights(LUMix(), logits)
    assert not after.requires_grad
    assert torch.equal(after, weights(LUMix(), logits)[1])
    assert not torch.equal(after, weights(LUMix(predicted=0.0), logits)[1])


def test_the_learner_learns_the_new_weights():
    torch.manual_seed(0)
    backbone = {'type': 'CifarResNet', 'depth': 8, 'width': 4}
    model = MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, LUMix(Mixup(per='sample')))
    model.student.eval()
    losses = model(IMAGES, LABELS, mode='loss')
    plan = model.last_plan
    (view,), (before,) = plan.views, plan.inner.views
    assert not torch.equal(view.mixture.weight, before.mixture.weight)
    expected = functional.cross_entropy(model(view.inputs), view.mixture.soft(LABELS, 5))
    torch.testing.assert_close(losses['loss_main'], expected)


def test_the_library_door_is_shut():
    """It never calls ``finish``, so it would hand out the weights of the inner policy."""
    for policy in (LUMix(), RandomChoice([LUMix()])):
        with pytest.raises(InputError, match='needs logits of a network'):
            policy.mix(IMAGES, LABELS)


@pytest.mark.parametrize(('options', 'match'), [
    ({'predicted': -0.1}, 'from 0 to 1'),
    ({'drawn': 1.5}, 'from 0 to 1'),
    ({'drawn': float('nan')}, 'from 0 to 1'),
    ({'predicted': 0.7, 'drawn': 0.4}, 'at most 1'),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        LUMix(**options)


def test_values_have_no_predicted_class():
    with pytest.raises(InputError, match='regression'):
        weights(LUMix(), labels=torch.randn(6), target='regression')
