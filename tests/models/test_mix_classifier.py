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


def test_the_teacher_stays_in_eval_mode_and_is_evaluated():
    model = learner({'type': 'Vanilla'}, teacher={'decay': 0.9})
    model.train()
    assert model.teacher is not None
    assert not any(module.training for module in model.teacher.modules())
    assert set(model.predict(IMAGES)) == {'student', 'teacher'}
    assert any(key.startswith('teacher.') for key in model.state_dict())


def test_every_head_of_every_branch_is_evaluated():
    class TwoHeads(Fixed):
        heads = ('mix',)

    model = learner(TwoHeads(), teacher={'decay': 0.9}).eval()
    found = model.predict(IMAGES)
    assert list(found) == ['student', 'student/mix', 'teacher', 'teacher/mix']
    torch.testing.assert_close(found['student/mix'], model.student(IMAGES, head='mix').logits)
    assert not torch.equal(found['student'], found['student/mix'])


def test_joined_views_share_a_pass():
    """One batch for BatchNorm, and the parts of its output go to their views."""
    pictures = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(2))

    class Joined(Fixed):
        def plan(self, batch, ctx):
            return Plan(batch, (View(IMAGES, mixture()), View(pictures, mixture(), share=0.5)), self, join=True)

        def finish(self, plan, outputs, ctx):
            self.logits = [output.logits for output in outputs]
            return plan

    model = learner(Joined()).train()
    model.loss(IMAGES, LABELS)
    expected = model.student(torch.cat([IMAGES, pictures])).logits
    torch.testing.assert_close(torch.cat(model.policy.logits), expected)
    assert not torch.allclose(expected[:4], model.student(IMAGES).logits)


def test_joined_views_cannot_have_a_tap():
    class Joined(Fixed):
        def plan(self, batch, ctx):
            views = (View(IMAGES, mixture(), tap=Tap(0, lambda hidden: hidden)), View(IMAGES, mixture()))
            return Plan(batch, views, self, join=True)

    with pytest.raises(InputError, match='Joined joins views with a change of a hidden stage'):
        learner(Joined()).loss(IMAGES, LABELS)


def test_frozen_networks_of_a_policy_are_neither_trained_nor_saved():
    class Asking(Fixed):
        @property
        def networks(self):
            return {'guide': {'type': 'ThreeLayers'}}

        def plan(self, batch, ctx):
            self.seen = ctx.probe.features(batch.images[:, :, None].flatten(1)[:, :, None, None], 0, of='guide')
            return Plan(batch, (View(IMAGES, mixture()),), self)

    model = learner(Asking()).train()
    plain = learner(Fixed((View(IMAGES, mixture()),)))
    assert set(model.state_dict()) == set(plain.state_dict())
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    guide = model._guides['guide']
    assert not any(module.training for module in guide.modules())
    model.double()
    assert all(p.dtype == torch.float64 for p in guide.parameters())


def test_a_policy_sees_normalisation_probe_and_loss():
    class Curious(Fixed):
        def plan(self, batch, ctx):
            self.seen = ctx
            return Plan(batch, (View(batch.images, mixture()),), self)

    preprocessor = {'type': 'BatchPreprocessor', 'mean': (0.1, 0.2), 'std': (0.3, 0.4)}
    model = learner(Curious(), data_preprocessor=preprocessor).train()
    model.context = Context(seed=3, step=5, progress=0.25)
    model.loss(IMAGES, LABELS)
    seen = model.policy.seen
    assert (seen.seed, seen.step, seen.progress, seen.mean, seen.std) == (3, 5, 0.25, (0.1, 0.2), (0.3, 0.4))
    assert seen.criterion is model.criterion
    assert seen.probe.logits(IMAGES).shape == (4, 5)


def test_a_second_loader_is_needed_where_the_policy_takes_partners_from_it():
    class Banked(Fixed):
        needs = ('bank',)

        def __init__(self):
            MixPolicy.__init__(self)

        def plan(self, batch, ctx):
            self.bank = batch.bank
            return self.unmixed(batch)

    model = learner(Banked()).train()
    with pytest.raises(InputError, match=r'add train_dataloader.bank=dict'):
        model(IMAGES, LABELS, mode='loss')
    model(IMAGES, LABELS, bank_inputs=IMAGES + 1, bank_labels=LABELS.flip(0), mode='loss')
    assert torch.equal(model.policy.bank.images, IMAGES + 1)
    assert torch.equal(model.policy.bank.labels, LABELS.flip(0))


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
        ({'policy': Fixed(needs=('smell',))}, 'Fixed needs smell, which MixClassifier does not provide'),
        ({'policy': Fixed(needs=('attention',))}, 'Fixed needs the attention of a class token, which ThreeLayers'),
        ({'policy': Fixed(needs=('teacher',))}, r'needs a momentum teacher.*model.teacher=dict\(decay=0.999\)'),
        ({'policy': {'type': 'Vanilla'}, 'teacher': {'decay': 2}}, 'decay=2'),
        ({'policy': {'type': 'Vanilla'}, 'teacher': {'momentum': 0.1}}, "no argument 'momentum'"),
        ({'policy': {'type': 'Vanilla'}, 'target': 'index'}, "target='index'"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(arguments, message):
    with pytest.raises(InputError, match=message):
        learner(**arguments)


VIT = {'img_size': 32, 'patch_size': 8, 'depth': 2, 'embed_dim': 24, 'num_heads': 2}
WHOLE = (
    {'type': 'MixPro', 'progressive': False},
    {'type': 'SMMix', 'fine': 0.0},
    {'type': 'FeatureCutMix', 'layers': (0, 1)},
)


def of_timm(policy: dict, model: str, **options) -> MixClassifier:
    backbone = {'type': 'TimmBackbone', 'model': model, 'options': options}
    return MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, policy).train()


@pytest.mark.parametrize('policy', ['TransMix', 'TLAlign', 'MixPro', 'SMMix', 'TokenMixup', 'FeatureCutMix'])
def test_patches_that_training_drops_cannot_be_gone_by(policy):
    choice = {'type': 'RandomChoice', 'policies': [{'type': 'Mixup'}, {'type': policy}]}
    with pytest.raises(InputError, match=f'{policy} goes by the place of each patch, but patch_drop_rate=0.5 drops'):
        of_timm(choice, 'vit_tiny_patch16_224', patch_drop_rate=0.5, **VIT)


@pytest.mark.parametrize('policy', [*WHOLE, {'type': 'MergeMix'}, {'type': 'TokenMix'}, {'type': 'ManifoldMix'}])
def test_policies_that_look_in_eval_mode_or_not_at_patches_train_with_dropped_ones(policy):
    model = of_timm(policy, 'vit_tiny_patch16_224', patch_drop_rate=0.5, **VIT)
    assert bool(model.loss(torch.randn(4, 3, 32, 32), LABELS)['loss_main'].isfinite())


def test_tokens_of_hiera_can_be_blended_but_no_box_cut():
    options = {'img_size': 64, 'embed_dim': 8, 'stages': (1, 1, 1, 1)}
    with pytest.raises(
        InputError, match='FeatureCutMix goes by the place of each patch, but Hiera keeps its tokens in'
    ):
        of_timm({'type': 'FeatureCutMix'}, 'hiera_tiny_224', **options)
    model = of_timm({'type': 'ManifoldMix', 'layers': (1, 4)}, 'hiera_tiny_224', **options)
    assert bool(model.loss(torch.randn(4, 3, 64, 64), LABELS)['loss_main'].isfinite())


def test_a_view_that_reads_what_a_pass_does_not_return_is_refused():
    with pytest.raises(InputError, match='Fixed wants to read smell'):
        learner(Fixed((View(IMAGES, mixture(), read=('smell',)),))).loss(IMAGES, LABELS)


def test_a_head_without_a_number_of_classes_is_refused():
    with pytest.raises(InputError, match='num_classes=None: expected a number of classes'):
        MixClassifier({'type': 'ThreeLayers'}, {'type': 'LinearHead', 'num_classes': None})


def test_soft_and_multi_label_targets_train():
    model = learner({'type': 'Mixup'}, target='multilabel', loss={'type': 'BinaryCrossEntropy'}).train()
    losses = model(IMAGES, torch.tensor([[1.0, 0, 1, 0, 0]] * 4), mode='loss')
    losses['loss_main'].backward()
    assert set(losses) == {'loss_main'}
