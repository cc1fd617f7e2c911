"""AttentiveMix: the cells that a teacher attends to most are kept, and nothing happens to the teacher."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from openmixup.errors import InputError
from openmixup.models import MixClassifier, TimmBackbone
from openmixup.policies import Batch, Context
from openmixup.policies.guided.attentivemix import AttentiveMix
from openmixup.testing import check_policy, count_operators

RESNET = {'type': 'TimmBackbone', 'model': 'resnet10t', 'stem': 'cifar'}
OWN = {'type': 'TimmBackbone', 'model': 'resnet10t'}
HEAD = {'type': 'LinearHead', 'num_classes': 4}
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed))


class Maps:
    """A probe that gives prepared feature maps and remembers what it was asked."""

    def __init__(self, maps):
        self.maps, self.images, self.of, self.autocast = maps, None, None, None

    def features(self, images, stage=-1, of='student'):
        assert stage == -1
        self.images, self.of = images, of
        self.autocast = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else None
        return self.maps


def fixed(policy, lam):
    policy.draw_lam = lambda count, rng: torch.full((count,), lam, dtype=torch.float64)
    return policy.train()


def view_of(policy, images, maps, seed=0, **context):
    probe = Maps(maps)
    view = policy(Batch(images, torch.arange(len(images))), Context(generator=rng(seed), probe=probe, **context)).views[
        0
    ]
    return view, probe


def kept_cells(view, cells):
    """(N, cells, cells) of a view whose images are a multiple of the cells."""
    side = view.masks.shape[-1] // cells
    return view.masks[:, 0, side // 2 :: side, side // 2 :: side]


def learner(policy, **arguments):
    torch.manual_seed(0)
    return MixClassifier(RESNET, HEAD, policy, **arguments).train()


def model_and_teacher(policy, **arguments):
    model = learner(policy, **arguments)
    teacher = model.teacher.network if policy.teacher is None else model._guides['attentive']
    return model, teacher.backbone


def running_in_eval(images, network):
    """(N, h, w) channel mean of the last map, computed by hand."""
    assert not any(module.training for module in network.modules())
    with torch.no_grad():
        return network.features(images).mean(1)


@pytest.mark.parametrize('own', [False, True])
def test_kept_cells_are_the_best_ones_of_the_teachers_map(own):
    policy = AttentiveMix(lam_law='fixed', top_k=3, teacher=OWN if own else None, feat_size=64 if own else 'auto')
    model, teacher = model_and_teacher(policy, teacher=None if own else {'decay': 0.9})
    images = noise(5, 3, 32, 32)
    plan, context = model.plan(images, torch.tensor([0, 1, 2, 3, 3]))
    scores = running_in_eval(policy.prepared(images, context), teacher)
    cells = kept_cells(plan.views[0], scores.shape[-1]).flatten(1)
    best = scores.flatten(1).topk(3).indices.sort().values
    assert torch.equal(cells.nonzero()[:, 1].view(5, 3), best)
    assert len(cells.unique(dim=0)) > 1  # each image has cells of its own


def test_the_paper_keeps_6_of_49_cells_and_shows_the_partner_elsewhere():
    images, maps = noise(4, 3, 28, 28), noise(4, 8, 7, 7, seed=1)
    view, _ = view_of(AttentiveMix(lam_law='fixed', pairing='derangement').train(), images, maps)
    torch.testing.assert_close(view.mixture.weight, torch.tensor([[6 / 49, 43 / 49]]).expand(4, 2))
    own, partner = view.masks[:, :1], view.mixture.index[:, 1]
    assert torch.equal(view.inputs, torch.where(own == 1, images, images[partner]))
    best = maps.mean(1).flatten(1).topk(6).indices.sort().values
    assert torch.equal(kept_cells(view, 7).flatten(1).nonzero()[:, 1].view(4, 6), best)


@pytest.mark.parametrize(('lam', 'count'), [(1e-9, 1), (0.03, 1), (0.5, 24), (0.501, 24), (0.511, 25), (1.0, 49)])
def test_the_number_of_cells_follows_lam(lam, count):
    view, _ = view_of(fixed(AttentiveMix(), lam), noise(4, 3, 14, 14), noise(4, 8, 7, 7))
    torch.testing.assert_close(view.mixture.weight[:, 0], torch.full((4,), count / 49))


@pytest.mark.parametrize(('law', 'mean', 'variance'), [('beta', 0.5, 1 / 20), ('beta8', 0.2, 16 / 1100)])
def test_laws_of_lam(law, mean, variance):
    """Beta(2, 2), and the Beta(2, 8) that documentation of the variant names."""
    lam = AttentiveMix(2.0, lam_law=law).draw_lam(20_000, rng())
    assert lam.dtype == torch.float64
    assert float(lam.mean()) == pytest.approx(mean, abs=5 * (variance / 20_000) ** 0.5)
    assert float(lam.var()) == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize(('options', 'message'), [
    ({'lam_law': 'beta8'}, 'not run: lam is drawn from Beta(2.0, 8.0), not from Beta(alpha, alpha)'),
    ({'lam_law': 'fixed'}, 'not run: it uses no lam'),
    ({'lam_law': 'fixed', 'top_k': 30}, 'not run: it uses no lam'),
])  # fmt: skip
def test_other_laws_and_many_cells_are_blamed_for_nothing(options, message):
    """The law of Beta(alpha, alpha) is not asked of others, and the checks bring a teacher of more cells if need be."""
    results = {result.name: result.message for result in check_policy(AttentiveMix(**options), raise_on_failure=True)}
    assert results['lam_follows_its_law'] == message
    assert results['weights_follow_lam'] == ('' if options['lam_law'] == 'beta8' else message)
    assert results['mixes_at_its_rate'] == results['label_equals_pixels'] == ''


def test_numbers_of_cells_by_batch_and_by_sample():
    images, maps = noise(8, 3, 14, 14), noise(8, 8, 7, 7)
    counts = {}
    for per in ('batch', 'sample'):
        policy = AttentiveMix(per=per).train()
        view, _ = view_of(policy, images, maps)
        cells, best = kept_cells(view, 7).flatten(1), maps.mean(1).flatten(1).argsort(1, descending=True)
        counts[per] = cells.sum(1).long().tolist()
        for sample, count in enumerate(counts[per]):
            assert set(cells[sample].nonzero()[:, 0].tolist()) == set(best[sample, :count].tolist())
    assert len(set(counts['batch'])) == 1
    assert len(set(counts['sample'])) > 4


@pytest.mark.parametrize('size', [(32, 32), (31, 45), (8, 10), (5, 5)])
def test_labels_are_shares_of_pixels_where_cells_differ_in_size(size):
    view, _ = view_of(AttentiveMix(lam_law='fixed').train(), noise(4, 3, *size), noise(4, 8, 7, 7))
    torch.testing.assert_close(view.mixture.weight, view.masks.mean((2, 3)))
    assert not torch.allclose(view.mixture.weight[:, 0], torch.tensor(6 / 49), atol=1e-3)


def test_of_equal_cells_the_first_are_kept():
    view, _ = view_of(AttentiveMix(lam_law='fixed', top_k=5).train(), noise(2, 3, 12, 12), torch.ones(2, 3, 4, 4))
    assert kept_cells(view, 4).flatten(1).tolist() == [[1.0] * 5 + [0.0] * 11] * 2


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize('own', [False, True])
def test_a_training_step_changes_nothing_of_the_teacher(own):
    policy = AttentiveMix(teacher=OWN if own else None, feat_size=None)
    model, teacher = model_and_teacher(policy, teacher=None if own else {'decay': 0.9})
    before = state_of(teacher)
    model(noise(4, 3, 32, 32), torch.arange(4), mode='loss')['loss_main'].backward()
    assert any('running_mean' in name for name in before)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in model.student.parameters())


def test_a_teacher_of_its_own_is_neither_saved_nor_trained():
    model = learner(AttentiveMix(teacher=OWN, feat_size=32))
    assert model.policy.networks == {'attentive': OWN}
    assert not any('attentive' in name or 'guide' in name for name in model.state_dict())
    assert model.state_dict().keys() == learner(AttentiveMix(), teacher={}).student.state_dict(prefix='student.').keys()
    assert {id(p) for p in model.parameters()} == {id(p) for p in model.student.parameters()}


def test_without_a_teacher_the_model_is_refused():
    assert AttentiveMix().needs == ('teacher',)
    assert AttentiveMix().networks == {}
    assert AttentiveMix(teacher=OWN).needs == ('features',)
    with pytest.raises(InputError, match=r'add model.teacher=dict\(decay=0.999\)'):
        learner(AttentiveMix())
    with pytest.raises(InputError, match='needs features of a network'):
        AttentiveMix(teacher=OWN).mix(noise(4, 3, 32, 32), torch.arange(4))


@pytest.mark.parametrize(('own', 'feat_size', 'size', 'seen'), [
    (True, 'auto', (32, 32), (224, 224)), (True, 'auto', (32, 48), (224, 336)), (True, None, (32, 48), (32, 48)),
    (True, 112, (32, 32), (112, 112)), (False, 'auto', (32, 32), (32, 32)), (False, 48, (32, 32), (48, 48)),
    (True, 64, (150, 100), (64, 43)),
])  # fmt: skip
def test_size_of_the_teachers_images(own, feat_size, size, seen):
    policy = AttentiveMix(teacher=OWN if own else None, feat_size=feat_size).train()
    images = noise(2, 3, *size)
    view, probe = view_of(policy, images, noise(2, 8, 7, 7))
    assert probe.images.shape == (2, 3, *seen)
    assert probe.of == ('attentive' if own else 'teacher')
    assert view.inputs.shape == images.shape
    if seen == size:
        assert probe.images is images  # so that what other policies saw of them need not be computed again


def normalised(pixels, mean, std):
    return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def test_its_own_teacher_sees_images_normalised_as_on_imagenet():
    pixels = torch.rand(2, 3, 16, 16, generator=rng())
    images, ideal = normalised(pixels, CIFAR_MEAN, CIFAR_STD), normalised(pixels, IMAGENET_MEAN, IMAGENET_STD)
    policy, own = AttentiveMix().train(), AttentiveMix(teacher=OWN, feat_size=None).train()
    maps = noise(2, 8, 4, 4)
    _, probe = view_of(own, images, maps, mean=CIFAR_MEAN, std=CIFAR_STD)
    torch.testing.assert_close(probe.images, ideal)
    _, probe = view_of(own, ideal, maps, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert probe.images is ideal  # nothing to do
    _, probe = view_of(own, images, maps)
    assert probe.images is images  # nothing known
    _, probe = view_of(policy, images, maps, mean=CIFAR_MEAN, std=CIFAR_STD)
    assert probe.images is images  # the momentum teacher sees what the student sees


def test_grey_images_become_three_equal_channels_unless_the_teacher_sees_grey():
    pixels, maps = torch.rand(2, 1, 16, 16, generator=rng()), noise(2, 8, 4, 4)
    images = normalised(pixels, (0.286,), (0.353,))
    own = AttentiveMix(teacher=OWN, feat_size=None).train()
    _, probe = view_of(own, images, maps, mean=(0.286,), std=(0.353,))
    torch.testing.assert_close(probe.images, normalised(pixels.expand(-1, 3, -1, -1), IMAGENET_MEAN, IMAGENET_STD))
    _, probe = view_of(own, images, maps)
    assert torch.equal(probe.images, images.expand(-1, 3, -1, -1))
    for teacher in ({**OWN, 'in_channels': 1}, {'type': 'LeNet5'}):  # given, and the default of the class
        _, probe = view_of(AttentiveMix(teacher=teacher, feat_size=None).train(), images, maps)
        assert probe.images is images
    with pytest.raises(InputError, match='5 channels, but the teacher of AttentiveMix takes 3'):
        view_of(own, noise(2, 5, 16, 16), maps)


def test_a_grey_step_with_a_pretrained_file(tmp_path):
    path = tmp_path / 'teacher.pth'
    torch.manual_seed(1)
    saved = TimmBackbone('resnet10t').eval()
    torch.save(saved.net.state_dict(), path)
    policy = AttentiveMix(lam_law='fixed', top_k=2, teacher={**OWN, 'pretrained': str(path)}, feat_size=64)
    torch.manual_seed(0)
    model = MixClassifier({**RESNET, 'in_channels': 1}, HEAD, policy).train()
    images = noise(3, 1, 28, 28)
    plan, context = model.plan(images, torch.arange(3))
    scores = running_in_eval(policy.prepared(images, context), saved)
    best = scores.flatten(1).topk(2).indices.sort().values
    assert torch.equal(kept_cells(plan.views[0], 2).flatten(1).nonzero()[:, 1].view(3, 2), best)


@pytest.mark.parametrize(('precision', 'seen'), [('float32', None), ('bfloat16', torch.bfloat16)])
def test_precision_of_the_teachers_pass(precision, seen):
    policy = AttentiveMix(precision=precision).train()
    images, maps = noise(2, 3, 16, 16), noise(2, 8, 4, 4)
    plain, probe = view_of(policy, images, maps)
    assert probe.autocast is seen
    with torch.autocast('cpu', torch.float16):  # whatever the training step has
        inside, probe = view_of(policy, images, maps)
        assert torch.get_autocast_dtype('cpu') == torch.float16
    assert probe.autocast is seen
    assert torch.equal(plain.inputs, inside.inputs)
    model, teacher = model_and_teacher(policy, teacher={'decay': 0.9})
    dtypes = []
    teacher.net.layer4.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    model(noise(2, 3, 32, 32), torch.arange(2), mode='loss')
    assert dtypes == [seen or torch.float32]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_same_cells(dtype):
    policy, maps = AttentiveMix(lam_law='fixed').train(), noise(3, 8, 7, 7)
    images = noise(3, 3, 32, 32)
    plain, _ = view_of(policy, images, maps)
    half, _ = view_of(policy, images.to(dtype), maps)
    assert half.inputs.dtype == dtype
    assert torch.equal(half.masks.float(), plain.masks)
    torch.testing.assert_close(half.mixture.weight, plain.mixture.weight)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize('feat_size', [16, 48])
def test_images_of_any_type_are_resized_for_the_teacher(dtype, feat_size):
    images = noise(2, 3, 32, 32)
    policy = AttentiveMix(feat_size=feat_size)
    seen = policy.prepared(images.to(dtype), Context())
    assert seen.dtype == dtype
    torch.testing.assert_close(seen.float(), policy.prepared(images, Context()), rtol=0.02, atol=0.02)
    double = images.double() + 1e-9  # less than a step of float32
    assert not torch.equal(policy.prepared(double, Context()), policy.prepared(images.double(), Context()))


@pytest.mark.parametrize('own', [False, True])
@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_few_operators_and_no_read_from_the_device(per, own, monkeypatch):
    """Nine for the mixing; two more bring the images into the form that its own teacher wants."""
    images, labels = torch.zeros(6, 3, 32, 32, device='meta'), torch.arange(6, device='meta')
    context = Context(probe=Maps(torch.zeros(6, 8, 7, 7, device='meta')), mean=CIFAR_MEAN, std=CIFAR_STD)
    policy = AttentiveMix(per=per, teacher=OWN if own else None).train()
    view = policy(Batch(images, labels), context).views[0]
    assert view.inputs.is_meta
    assert view.mixture.weight.is_meta
    assert view.masks.shape == (6, 2, 32, 32)

    class Given(AttentiveMix):
        def plan(self, batch, ctx):
            return super().plan(batch, context)

    assert policy.operators == 9 + 2 * own
    given = Given(**policy.arguments()).train()
    monkeypatch.setattr(Given, 'needs', ())
    monkeypatch.setattr(Given, 'networks', {})
    assert count_operators(given, images, labels) == policy.operators


def test_the_same_stream_keeps_the_same_cells():
    policy, images, maps = AttentiveMix(per='sample').train(), noise(6, 3, 28, 28), noise(6, 8, 7, 7)
    first, again, other = (view_of(policy, images, maps, seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.mixture.weight, again.mixture.weight)
    assert not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize(('arguments', 'most'), [({}, 2.10), ({'feat_size': 112}, 1.40)])
def test_cost_of_a_step_in_multiples_of_a_plain_one(arguments, most):
    """ResNet-18 at 32 pixels with a ResNet-18 teacher at 224 or 112: nothing is run but the step and the teacher."""
    flops = {}
    teacher = {'type': 'TimmBackbone', 'model': 'resnet18'}
    for policy in ({'type': 'Vanilla'}, {'type': 'AttentiveMix', 'teacher': teacher, **arguments}):
        backbone = {'type': 'TimmBackbone', 'model': 'resnet18', 'stem': 'cifar'}
        with torch.device('meta'):  # no weights to draw
            model = MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 100}, policy).train()
        with FlopCounterMode(display=False) as counter:
            labels = torch.zeros(2, dtype=torch.long, device='meta')
            model(torch.zeros(2, 3, 32, 32, device='meta'), labels, mode='loss')['loss_main'].backward()
        flops[policy['type']] = counter.get_total_flops()
    assert 1 < flops['AttentiveMix'] / flops['Vanilla'] <= most


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'lam_law': 'betta'}, "did you mean 'beta'"), ({'precision': 'bf16'}, 'expected one of float32, bfloat16'),
    ({'top_k': 0}, 'at least 1'), ({'top_k': 1.5}, 'whole number'), ({'feat_size': -3}, "'auto' or None"),
    ({'feat_size': True}, "'auto' or None"), ({'teacher': 'resnet18'}, "dict\\(type='TimmBackbone'"),
    ({'teacher': {'model': 'resnet18'}}, "dict\\(type='TimmBackbone'"),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        AttentiveMix(**arguments)


def test_more_cells_than_there_are_is_refused():
    policy = AttentiveMix(lam_law='fixed', top_k=17).train()
    with pytest.raises(InputError, match='keeps more cells than the 16 of the teacher'):
        view_of(policy, noise(2, 3, 16, 16), noise(2, 8, 4, 4))
