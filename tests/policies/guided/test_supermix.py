"""SuperMix: masks by which a teacher recognises all images of a mixture, checked against a search by plain loops."""

import pytest
import torch
import torch.nn.functional as F

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context
from openmixup.policies.guided.supermix import SuperMix, recognised, soft_classes
from openmixup.testing import count_operators

RESNET = {'type': 'TimmBackbone', 'model': 'resnet10t', 'stem': 'cifar'}
HEAD = {'type': 'LinearHead', 'num_classes': 4}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64).to(dtype)


def teacher_of(scale=1.0, size=(9, 12), classes=5, dtype=torch.float32):
    """A fixed network of two layers that is neither linear nor blind to where pixels lie."""
    first = noise(3 * size[0] * size[1], 40, dtype=dtype) / 12
    second = noise(40, classes, seed=1, dtype=dtype)
    return lambda pictures: scale * (pictures.flatten(1) @ first).tanh() @ second


def searched_plainly(images, aim, teacher, k, steps, sigma, sparsity):
    """(masks, recognised) of one sample (K, C, H, W), step by step with other operators, in float64."""
    height, width = images.shape[-2:]
    radius = int(-(-3 * sigma // 1))
    window = torch.tensor([2.718281828459045 ** (-(at**2) / (2 * sigma**2)) for at in range(-radius, radius + 1)])
    window = (window[:, None] * window / window.sum() ** 2).double()[None, None]
    maps = torch.zeros(k, 1, 8, 8, dtype=torch.float64)
    order = [c for c in aim.argsort(descending=True).tolist() if aim[c] > 0]

    def masks_of(maps):
        raised = torch.sigmoid(F.interpolate(maps, size=(height, width), mode='bilinear', align_corners=False))
        return raised / sum(raised)

    def recognises(masks):
        return teacher((masks * images).sum(0)[None])[0].argsort(descending=True)[: len(order)].tolist() == order

    for _ in range(steps):
        maps = maps.detach().requires_grad_()
        masks = masks_of(maps)
        if recognises(masks):
            return masks[:, 0].detach(), True
        p = teacher((masks * images).sum(0)[None])[0].log_softmax(0)
        loss = sum(aim[c] * (aim[c].log() - p[c]) for c in order) + sparsity * (masks * (masks - 1)).abs().mean()
        (gradient,) = torch.autograd.grad(loss, maps)
        smooth = F.conv2d(F.pad(gradient, [radius] * 4, mode='reflect'), window)
        step = min(max(float(loss.detach() / ((gradient * smooth).sum() + 1e-10)), 1e-4), 2000.0)
        maps = maps - step * smooth
    return masks_of(maps)[:, 0].detach(), recognises(masks_of(maps))


@pytest.mark.parametrize(('scale', 'k', 'sigma', 'sparsity'), [
    (1.0, 2, 1.0, 25.0), (1.0, 2, 2.0, 0.0), (1.0, 3, 1.0, 5.0), (3e-3, 2, 1.0, 0.0), (1e5, 2, 1.0, 0.0),
])  # fmt: skip
@pytest.mark.parametrize('steps', [1, 4])
def test_the_search_by_plain_loops(scale, k, sigma, sparsity, steps):
    """Also where the length of a step is cut: a teacher of tiny or of huge gradients."""
    policy = SuperMix(k=k, steps=steps, sigma=sigma, sparsity=sparsity)
    images = [noise(12, 3, 9, 12, seed=seed, dtype=torch.float64) for seed in range(k)]
    teacher = teacher_of(scale, dtype=torch.float64)
    weight = torch.rand(12, k, generator=rng(), dtype=torch.float64).softmax(1)
    classes = torch.stack([torch.randperm(5, generator=rng(seed))[:k] for seed in range(12)])
    aim = torch.zeros(12, 5, dtype=torch.float64).scatter_(1, classes, weight)
    matrices = [matrix.double() for matrix in policy._matrices((9, 12))]
    masks, done = policy.search(images, aim, teacher, matrices)
    assert masks.shape == (12, k, 9, 12)
    for sample in range(12):
        sources = torch.stack([image[sample] for image in images])
        expected, recognises = searched_plainly(sources, aim[sample], teacher, k, steps, sigma, sparsity)
        torch.testing.assert_close(masks[sample], expected, atol=1e-4, rtol=1e-4)
        assert bool(done[sample]) == recognises


def two_classes(count=48, steps=10, **options):
    """A search for pairs of different classes, and what the teacher finds in even blends."""
    policy, teacher = SuperMix(steps=steps, **options), teacher_of(classes=6)
    first, second = noise(count, 3, 9, 12), noise(count, 3, 9, 12, seed=1)
    classes = torch.stack([teacher(first).argmax(1), teacher(second).argmax(1)], 1)
    apart = classes[:, 0] != classes[:, 1]
    first, second, classes = first[apart], second[apart], classes[apart]
    weight = torch._sample_dirichlet(torch.full((len(first), 2), 3.0), generator=rng(2))
    aim = torch.zeros(len(first), 6).scatter_(1, classes, weight)
    masks, done = policy.search([first, second], aim, teacher, policy._matrices((9, 12)))
    mixed = masks[:, :1] * first + masks[:, 1:] * second
    return policy, aim, done[:, 0].bool(), masks, teacher(mixed), teacher((first + second) / 2)


def test_the_teacher_finds_the_drawn_shares_afterwards():
    policy, aim, _, masks, after, before = two_classes(sparsity=0.0, unfinished='keep')
    even = torch.full_like(masks, 0.5)
    assert float(policy.loss(after, aim, masks).mean()) < 0.7 * float(policy.loss(before, aim, even).mean())


def test_it_lowers_the_loss_and_raises_what_is_recognised():
    policy, aim, done, masks, after, before = two_classes()
    even = torch.full_like(masks, 0.5)
    assert float(policy.loss(after, aim, masks).mean()) < 0.9 * float(policy.loss(before, aim, even).mean())
    at_first = recognised(before, aim, 2).mean()
    assert float(done.float().mean()) > float(at_first) + 0.2
    wanted, found = aim.topk(2).indices, after.topk(2).indices
    assert torch.equal((wanted == found).all(1), done)  # the rule of the paper
    torch.testing.assert_close(masks.sum(1), torch.ones_like(masks[:, 0]))


def test_a_mixture_that_is_recognised_at_once_stays_even():
    policy, images = SuperMix(k=3, steps=3), [noise(4, 3, 9, 12, seed=seed) for seed in range(3)]
    aim = torch.eye(5)[[2, 2, 2, 2]]
    masks, done = policy.search(images, aim, lambda pictures: aim + 0 * pictures.sum(), policy._matrices((9, 12)))
    torch.testing.assert_close(masks, torch.full((4, 3, 9, 12), 1 / 3))
    assert done.tolist() == [[1.0]] * 4


@pytest.mark.parametrize(('logits', 'aim', 'expected'), [
    ([3, 2, 1, 0], [0.6, 0.4, 0, 0], 1), ([2, 3, 1, 0], [0.6, 0.4, 0, 0], 0), ([2, 3, 1, 0], [0.4, 0.6, 0, 0], 1),
    ([3, 1, 2, 0], [0.6, 0.4, 0, 0], 0), ([3, 1, 2, 0], [1.0, 0, 0, 0], 1), ([1, 3, 2, 0], [1.0, 0, 0, 0], 0),
    ([3, 2, 1, 0], [1.0, 0, 0, 0], 1), ([3, 0, 1, 2], [1.0, 0, 0, 0], 1),
])  # fmt: skip
def test_recognised_by_hand(logits, aim, expected):
    assert recognised(torch.tensor([logits]).float(), torch.tensor([aim]), 2).tolist() == [[expected]]
    assert recognised(torch.tensor([logits]).float(), torch.tensor([aim]), 4).shape == (1, 1)


def test_the_aim_sums_the_weights_of_images_of_a_class():
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0], [0.0, 3.0, 1.0]])
    index, weight = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.3, 0.6]])
    torch.testing.assert_close(soft_classes(logits, index, weight), torch.tensor([[0.2, 0.8, 0.0], [0.1, 0.9, 0.0]]))


@pytest.mark.parametrize(('k', 'size'), [(2, 7), (3, 7), (5, 3)])
def test_sources_differ_and_weights_are_dirichlet(k, size):
    policy, count = SuperMix(k=k), min(k, size)
    index, weight = policy._drawn(size, rng())
    assert index.shape == weight.shape == (size, count)
    assert index[:, 0].tolist() == list(range(size))
    assert all(len(set(row)) == count for row in index.tolist())
    assert sorted(index[:, -1].tolist()) == list(range(size))
    many = policy._drawn(6000, rng())[1].double()
    torch.testing.assert_close(many.sum(1), torch.ones(6000, dtype=torch.float64))
    mean, variance = 1 / k, (1 / k) * (1 - 1 / k) / (3 * k + 1)  # alpha is 3 in the authors' code
    assert many.mean(0).tolist() == pytest.approx([mean] * k, abs=5 * (variance / 6000) ** 0.5)
    assert many.var(0).tolist() == pytest.approx([variance] * k, rel=0.12)


class Teacher:
    """A probe with a teacher, which remembers by which name it was asked for."""

    def __init__(self, size):
        self.logits_of, self.names = teacher_of(classes=6, size=size), set()

    def logits(self, pictures, of):
        self.names.add(of)
        return self.logits_of(pictures)


def view_of(policy, size=(9, 12), count=24):
    images, probe = noise(count, 3, *size), Teacher(size)
    plan = policy.train()(Batch(images, torch.arange(count) % 4), Context(generator=rng(), probe=probe))
    assert probe.names == {'student' if policy.teacher == 'student' else 'teacher'}
    return images, plan.views[0], probe.logits_of


@pytest.mark.parametrize('options', [{}, {'teacher': 'student'}, {'k': 3}, {'grid': 4}])
def test_what_is_not_recognised_stays_plain(options):
    images, view, teacher = view_of(SuperMix(steps=3, **options))
    weight, index = view.mixture.weight, view.mixture.index
    aim = soft_classes(teacher(images), index, weight)
    found = teacher(view.inputs).topk(index.shape[1]).indices
    plain = weight[:, 0] == 1
    assert 0 < int(plain.sum()) < len(plain)
    assert torch.equal(view.inputs[plain], images[plain])
    assert bool((view.masks[plain][:, 0] == 1).all())
    wanted = aim.topk(index.shape[1])
    agrees = ((wanted.indices == found) | (wanted.values == 0)).all(1)
    assert bool(agrees[~plain].all())
    again = (view.masks[:, :, None] * images[index]).sum(1)
    torch.testing.assert_close(view.inputs, again, atol=1e-4, rtol=1e-4)


def test_unfinished_samples_may_be_kept():
    """Labels are the drawn weights then, and the others are as they would be."""
    _, plain, _ = view_of(SuperMix(steps=3))
    images, kept, _ = view_of(SuperMix(steps=3, unfinished='keep'))
    left = plain.mixture.weight[:, 0] == 1
    assert float(kept.mixture.weight.max()) < 1
    torch.testing.assert_close(kept.mixture.weight[~left], plain.mixture.weight[~left])
    torch.testing.assert_close(kept.inputs[~left], plain.inputs[~left])
    assert bool((kept.inputs[left] != images[left]).flatten(1).any(1).all())
    assert SuperMix(unfinished='keep').label == 'drawn'
    assert SuperMix().label == 'semantic'


@pytest.mark.parametrize('size', [(2, 3), (5, 17), (33, 20)])
def test_any_size(size):
    _, view, _ = view_of(SuperMix(steps=2, unfinished='keep', k=3), size, count=5)
    torch.testing.assert_close(view.masks.sum(1), torch.ones(5, *size))
    assert float(view.masks.std()) > 0.01


def test_a_momentum_teacher_that_never_moves_is_a_frozen_one():
    torch.manual_seed(0)
    model = MixClassifier(RESNET, HEAD, SuperMix(steps=1), teacher={'decay': 1.0}).train()
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    model(noise(4, 3, 16, 16), torch.arange(4), mode='loss')['loss_main'].backward()
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(1)
    model.update_teacher()
    after = model.teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if 'num_batches' not in name)
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_without_a_teacher_the_model_is_refused():
    assert SuperMix().needs == ('teacher',)
    assert SuperMix(teacher='student').needs == ('input_grad',)
    with pytest.raises(InputError, match=r'add model.teacher=dict\(decay=0.999\)'):
        MixClassifier(RESNET, HEAD, SuperMix())


def test_operators_grow_with_the_steps():
    images, labels = torch.zeros(6, 3, 10, 12, device='meta'), torch.zeros(6, dtype=torch.long, device='meta')
    one, three = (count_operators(SuperMix(steps=steps), images, labels) for steps in (1, 3))
    assert one <= 150
    assert three - one <= 2 * 90


@pytest.mark.parametrize('arguments', [
    {'alpha': 0}, {'k': 1}, {'k': 2.0}, {'steps': 0}, {'grid': 1}, {'grid': True}, {'sigma': 0}, {'sparsity': -1},
    {'unfinished': 'drop'}, {'teacher': 'frozen'}, {'teacher': {'type': 'LeNet5'}},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError, match=rf'SuperMix\({next(iter(arguments))}='):
        SuperMix(**arguments)
