"""The learner: losses, agreement, teacher, taps, and what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.models import Backbone, MixClassifier
from openmixup.models.mix_classifier import agreement
from openmixup.policies import Batch, Context, CutMix, MixPolicy, Mixture, Plan, Tap, View
from openmixup.registry import MODELS


@MODELS.register_module(force=True)
class ThreeLayers(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.num_features, self.stages = 6, ('first', 'second')
        self.first, self.second = nn.Linear(8, 7), nn.Linear(7, 6)
        self.norm = nn.BatchNorm1d(6)

    def features(self, images: Tensor) -> Tensor:
        return self.norm(self.second(self.first(images.flatten(1)).relu()))

    def pool(self, features: Tensor) -> Tensor:
        return features


def learner(policy: MixPolicy | dict, **arguments) -> MixClassifier:
    torch.manual_seed(0)
    head = {'type': 'LinearHead', 'num_classes': 5}
    return MixClassifier({'type': 'ThreeLayers'}, head, policy, **arguments)


IMAGES, LABELS = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 3, 1, 4])


class Fixed(MixPolicy):
    """A mixture that the test writes down."""

    def __init__(self, views: tuple[View, ...] = (), losses: dict | None = None, needs: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.views, self.losses, self.needs = views, losses or {}, needs  # type: ignore[misc]

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        return Plan(batch, self.views, self, self.losses)


def mixture() -> Mixture:
    index = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
    return Mixture(index, torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]))


def test_vanilla_is_plain_cross_entropy():
    model = learner({'type': 'Vanilla'}).train()
    losses = model(IMAGES, LABELS, mode='loss')
    assert set(losses) == {'loss_main', 'agreement'}
    torch.testing.assert_close(losses['loss_main'], F.cross_entropy(model(IMAGES), LABELS))


def test_each_sample_has_its_own_weights():
    """The mean over the batch comes after the weights: sum_k w_ik nll(y_ik), not mean(w) * mean(nll)."""
    model = learner(Fixed((View(IMAGES, mixture()),)))
    nll = -model(IMAGES).log_softmax(1)
    mixed = mixture()
    by_hand = [
        sum(w * nll[i, LABELS[j]] for j, w in zip(mixed.index[i], mixed.weight[i], strict=True)) for i in range(4)
    ]
    torch.testing.assert_close(model.loss(IMAGES, LABELS)['loss_main'], sum(by_hand) / 4)


def test_views_count_by_their_share_and_auxiliary_terms_are_added():
    views = (View(IMAGES, mixture(), share=0.25), View(IMAGES.flip(0), mixture(), share=0.0))
    model = learner(Fixed(views, {'loss_extra': torch.tensor(2.0)})).eval()
    model.policy.train()
    alone = learner(Fixed((View(IMAGES, mixture()),))).eval()
    alone.policy.train()
    total, log = model.parse_losses(model.loss(IMAGES, LABELS))
    torch.testing.assert_close(total, 0.25 * alone.loss(IMAGES, LABELS)['loss_main'] + 2)
    assert not any(value.requires_grad for value in log.values())


def test_agreement_is_the_weight_of_the_class_found():
    logits = F.one_hot(torch.tensor([0, 1, 4, 0]), 5).float()
    # sample 0 finds its own class (1.0), 1 its partner's (0.1), 2 its partner's (0.5), 3 its partner's (0.8)
    assert agreement(logits, torch.tensor([0, 3, 1, 4]), mixture()).item() == pytest.approx((1 + 0.1 + 0.5 + 0.8) / 4)


def test_prediction_never_mixes(monkeypatch):
    model = learner({'type': 'CutMix'})
    monkeypatch.setattr(CutMix, 'plan', lambda *args: 1 / 0)
    assert set(model.predict(IMAGES)) == {'student'}
    model.eval()
    model(IMAGES, LABELS, mode='loss')  # in eval mode the loss is that of the plain batch too


def test_the_teacher_is_the_closed_form_of_the_average():
    model = learner({'type': 'Vanilla'}, teacher={'decay': 0.9})
    assert model.teacher is not None
    start = [p.detach().clone() for p in model.teacher.parameters()]
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(1)
    model.student.backbone.norm.running_mean.fill_(3)
    for _ in range(5):
        model.update_teacher()
    for before, after in zip(start, model.teacher.parameters(), strict=True):
        torch.testing.assert_close(after, before + 1 - 0.9**5)
    assert model.teacher.backbone.norm.running_mean.eq(3).all()
    assert not any(p.requires_grad for p in model.teacher.parameters())
    model.train()
    assert not model.teacher.training
    assert set(model.predict(IMAGES)) == {'student', 'teacher'}


def test_a_tap_changes_one_stage_in_one_pass_only():
    tapped = View(IMAGES, mixture(), tap=Tap(0, lambda hidden: hidden * 0))
    model = learner(Fixed((tapped,))).eval()
    model.policy.train()
    plain = model(IMAGES)
    second = model.student.backbone
    with torch.no_grad():
        expected = model.student.heads['main'](second.norm(second.second(torch.zeros(4, 7))))
    torch.testing.assert_close(model.student(IMAGES, tap=tapped.tap).logits, expected)
    torch.testing.assert_close(model(IMAGES), plain)
    model.loss(IMAGES, LABELS)
    torch.testing.assert_close(model(IMAGES), plain)


def test_a_tap_is_removed_after_an_error():
    model = learner({'type': 'Vanilla'}).eval()
    plain = model(IMAGES)
    with pytest.raises(ZeroDivisionError):
        model.student(IMAGES, tap=Tap(1, lambda hidden: 1 / 0))
    torch.testing.assert_close(model(IMAGES), plain)


def test_channels_last_changes_the_memory_and_not_the_result():
    config = {'type': 'CifarResNet', 'depth': 8, 'width': 4}
    head = {'type': 'LinearHead', 'num_classes': 5}
    torch.manual_seed(0)
    plain = MixClassifier(config, head).eval()
    torch.manual_seed(0)
    other = MixClassifier(config, head, channels_last=True).eval()
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(plain(images), other(images))
    convolution = next(m for m in other.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'policy': Fixed(needs=('attention',))}, 'Fixed needs attention, which MixClassifier does not provide'),
        ({'policy': {'type': 'Vanilla'}, 'teacher': {'decay': 2}}, 'decay=2'),
        ({'policy': {'type': 'Vanilla'}, 'teacher': {'momentum': 0.1}}, "no argument 'momentum'"),
        ({'policy': {'type': 'Vanilla'}, 'target': 'index'}, "target='index'"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(arguments, message):
    with pytest.raises(InputError, match=message):
        learner(**arguments)


def test_a_view_that_would_read_more_than_logits_is_refused():
    with pytest.raises(InputError, match='Fixed wants to read attention'):
        learner(Fixed((View(IMAGES, mixture(), read=('attention',)),))).loss(IMAGES, LABELS)


def test_a_head_without_a_number_of_classes_is_refused():
    with pytest.raises(InputError, match='num_classes=None: expected a number of classes'):
        MixClassifier({'type': 'ThreeLayers'}, {'type': 'LinearHead', 'num_classes': None})


def test_soft_and_multi_label_targets_train():
    model = learner({'type': 'Mixup'}, target='multilabel', loss={'type': 'BinaryCrossEntropy'}).train()
    losses = model(IMAGES, torch.tensor([[1.0, 0, 1, 0, 0]] * 4), mode='loss')
    losses['loss_main'].backward()
    assert set(losses) == {'loss_main'}
