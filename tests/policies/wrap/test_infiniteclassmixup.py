import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import MixClassifier, SoftCrossEntropy
from openmixup.policies import Batch, Context, CutMix, Mixup, RandomChoice, RegMixup
from openmixup.policies.static.kmixup import KMixup
from openmixup.policies.wrap.infiniteclassmixup import InfiniteClassMixup, contrasts, mixed_logits
from openmixup.testing.networks import tiny_network

SIZE, CLASSES = 6, 5
IMAGES = torch.randn(SIZE, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 4, 2, 2])
LOGITS = 2 * torch.randn(SIZE, CLASSES, generator=torch.Generator().manual_seed(1))


class Output:
    def __init__(self, logits):
        self.logits = logits


def finished(policy, labels=LABELS, outputs=(LOGITS,), seed=0, target='class'):
    """The plan before and after ``finish``."""
    ctx = Context(seed=seed, criterion=SoftCrossEntropy())
    plan = policy(Batch(IMAGES, labels, target=target), ctx)
    return plan, policy.finish(plan, tuple(Output(each) for each in outputs), ctx)


def by_loops(logits, mixture, labels=LABELS):
    """Both contrasts, in plain numbers."""
    index, weight = mixture.index.tolist(), mixture.weight.tolist()
    scores = [
        [
            sum(w * float(logits[m, labels[source]]) for source, w in zip(index[n], weight[n], strict=True))
            for n in range(SIZE)
        ]
        for m in range(SIZE)
    ]
    class_axis = sum(math.log(sum(math.exp(s) for s in scores[n])) - scores[n][n] for n in range(SIZE))
    pair_axis = sum(math.log(sum(math.exp(row[n]) for row in scores)) - scores[n][n] for n in range(SIZE))
    return class_axis / SIZE, pair_axis / SIZE


@pytest.mark.parametrize('inner', [Mixup(per='sample'), Mixup(pairing='flip'), CutMix(per='sample'), KMixup()])
def test_the_loss_is_that_of_both_axes(inner):
    for seed in range(3):
        policy = InfiniteClassMixup(inner, class_weight=0.7, pair_weight=2.0)
        plan, done = finished(policy, seed=seed)
        class_axis, pair_axis = by_loops(LOGITS, plan.views[0].mixture)
        assert abs(class_axis - pair_axis) > 0.01
        assert float(done.losses['infiniteclass']) == pytest.approx(0.7 * class_axis + 2 * pair_axis, rel=1e-5)
        (view,) = done.views
        assert view.share == 0
        assert view.inputs is plan.views[0].inputs


def test_scores_are_those_of_classifiers_mixed_as_the_images():
    features = torch.randn(SIZE, 7, generator=torch.Generator().manual_seed(2))
    weight = torch.randn(CLASSES, 7, generator=torch.Generator().manual_seed(3))
    bias = torch.randn(CLASSES, generator=torch.Generator().manual_seed(4))
    (view,) = finished(InfiniteClassMixup(Mixup(per='sample')))[0].views
    lam, partner = view.mixture.weight[:, 0], LABELS[view.mixture.index[:, 1]]
    classifiers = lam[:, None] * weight[LABELS] + (1 - lam)[:, None] * weight[partner]
    biases = lam * bias[LABELS] + (1 - lam) * bias[partner]
    scores = mixed_logits(features @ weight.T + bias, view.mixture.soft(LABELS, CLASSES))
    torch.testing.assert_close(scores, features @ classifiers.T + biases)


def test_unmixed_images_of_all_classes_are_classified():
    logits = LOGITS[:CLASSES]
    by_class, by_image = contrasts(mixed_logits(logits, torch.eye(CLASSES)))
    labels = torch.arange(CLASSES)
    torch.testing.assert_close(by_class, torch.nn.functional.cross_entropy(logits, labels))
    torch.testing.assert_close(by_image, torch.nn.functional.cross_entropy(logits.T, labels))


def test_each_axis_ends_at_zero_for_scores_that_tell_all_apart_and_starts_at_log_n():
    for axis in contrasts(50 * torch.eye(9)):
        assert float(axis) == pytest.approx(0, abs=1e-6)
    for axis in contrasts(torch.zeros(9, 9)):
        assert float(axis) == pytest.approx(math.log(9))
    rows = torch.arange(9.0)[:, None].expand(9, 9)  # each image likes all classifiers alike
    assert float(contrasts(rows)[0]) == pytest.approx(math.log(9))


def test_views_of_one_source_keep_their_loss():
    never = RandomChoice([{'type': 'Vanilla'}])
    plan, done = finished(InfiniteClassMixup(never))
    assert done.losses == {}
    assert done.views[0].share == 1
    policy = InfiniteClassMixup(RegMixup(Mixup(per='sample'), eta=0.5))
    plan, done = finished(policy, outputs=(LOGITS, LOGITS.flip(0)))
    assert [view.share for view in done.views] == [0, 1]
    labelled = InfiniteClassMixup(RegMixup(Mixup(), eta=0.5), label_weight=0.25)
    assert [view.share for view in finished(labelled, outputs=(LOGITS, LOGITS))[1].views] == [0.125, 1]
    class_axis, pair_axis = by_loops(LOGITS, plan.views[0].mixture)
    assert float(done.losses['infiniteclass']) == pytest.approx(0.5 * (class_axis + pair_axis), rel=1e-5)
    around = RegMixup(InfiniteClassMixup(Mixup(per='sample')), eta=0.5)
    plan, done = finished(around, outputs=(LOGITS, LOGITS.flip(0)))
    class_axis, pair_axis = by_loops(LOGITS, plan.views[0].mixture)
    assert float(done.losses['infiniteclass']) == pytest.approx(0.5 * (class_axis + pair_axis), rel=1e-5)
    assert [view.share for view in done.views] == [0, 1]


def test_views_that_the_inner_policy_only_runs_are_not_contrasted():
    plan, done = finished(InfiniteClassMixup(RegMixup(Mixup(), eta=0.0)), outputs=(LOGITS, LOGITS))
    assert done.losses == {}
    assert [view.share for view in done.views] == [0, 1]


def test_the_loss_by_labels_can_be_kept():
    policy = {'type': 'InfiniteClassMixup', 'policy': {'type': 'CutMix'}, 'label_weight': 0.25}
    torch.manual_seed(0)
    head = {'type': 'LinearHead', 'num_classes': CLASSES}
    learner = MixClassifier(tiny_network(), head, policy).train()
    losses = learner(IMAGES, LABELS, mode='loss')
    assert set(losses) == {'loss_main', 'loss_infiniteclass_term', 'agreement'}
    whole = learner.parse_losses(losses)[0]
    torch.testing.assert_close(whole, losses['loss_main'] + losses['loss_infiniteclass_term'])
    (view,) = learner.last_plan.views
    assert view.share == 0.25
    learner.zero_grad()
    losses['loss_infiniteclass_term'].backward()
    assert all(part.grad is not None for part in learner.student.parameters())


def test_soft_labels_are_classifiers_too():
    policy = InfiniteClassMixup(Mixup(per='sample'))
    soft = torch.nn.functional.one_hot(LABELS, CLASSES).float()
    by_class, by_soft = (
        finished(policy, labels, target=kind)[1] for labels, kind in ((LABELS, 'class'), (soft, 'soft'))
    )
    torch.testing.assert_close(by_class.losses['infiniteclass'], by_soft.losses['infiniteclass'])
    with pytest.raises(InputError, match='the target is multilabel: expected class indices or soft labels'):
        finished(policy, soft, target='multilabel')


def test_half_precision_logits_are_contrasted_in_float32():
    plan, done = finished(InfiniteClassMixup(), outputs=(LOGITS.half(),))
    assert done.losses['infiniteclass'].dtype == torch.float32
    class_axis, pair_axis = by_loops(LOGITS.half(), plan.views[0].mixture)
    assert float(done.losses['infiniteclass']) == pytest.approx(class_axis + pair_axis, rel=1e-5)


@pytest.mark.parametrize(('options', 'message'), [
    ({'class_weight': -1}, 'class_weight=-1.*at least 0'),
    ({'pair_weight': math.inf}, 'pair_weight=inf'),
    ({'label_weight': True}, 'label_weight=True'),
    ({'class_weight': 0, 'pair_weight': 0}, 'contrasts nothing'),
    ({'policy': {'type': 'Mixip'}}, 'Mixip'),
])  # fmt: skip
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        InfiniteClassMixup(**options)
