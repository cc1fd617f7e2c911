"""The losses of AugMix: the divergence of the predictions beside the loss of the clean batch."""

import numpy as np
import pytest
import torch

from openmixup.models import BinaryCrossEntropy, MixClassifier
from openmixup.policies import AugMix, Batch, Context, RandomChoice, RegMixup
from openmixup.policies.static.augmix import jensen_shannon

LABELS = torch.tensor([0, 3, 1, 4, 2])
MEAN, STD = (0.49, 0.45, 0.40), (0.25, 0.2, 0.3)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(count=5, height=20, width=28):
    """Smooth pictures in [0, 1]."""
    coarse = torch.rand(count, 3, 4, 5, generator=rng())
    return torch.nn.functional.interpolate(coarse, (height, width), mode='bicubic').mul(255).round().clamp(0, 255) / 255


def each(values):
    return torch.tensor(values)[:, None, None]


def numpy_divergence(logits):
    """The authors' loss without its weight: (KL(p || m) + KL(a || m) + KL(b || m)) / 3, of batchmean."""
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    middle = np.log(np.clip(p.mean(0), 1e-7, 1))
    return float(np.mean([(view * (np.log(view) - middle)).sum(-1).mean() for view in p]))


def test_the_divergence_by_numpy():
    logits = torch.randn(3, 6, 9, generator=rng(), dtype=torch.float64) * 3
    assert float(jensen_shannon(logits)) == pytest.approx(numpy_divergence(logits.numpy()), rel=1e-9)
    both = np.stack([logits.numpy(), np.zeros(logits.shape)], -1)
    assert float(jensen_shannon(logits, multilabel=True)) == pytest.approx(numpy_divergence(both), rel=1e-9)
    equal = logits[:1].expand(3, -1, -1)
    assert float(jensen_shannon(equal)) == pytest.approx(0, abs=1e-7)
    assert float(jensen_shannon(equal, multilabel=True)) == pytest.approx(0, abs=1e-7)


def test_the_slope_of_the_divergence_is_that_of_the_authors_formula():
    """The predictions of all views, the clean one too, are drawn to each other."""
    logits = torch.randn(3, 6, 9, generator=rng(), dtype=torch.float64).requires_grad_()
    p = logits.softmax(-1)
    middle = p.mean(0).clamp(1e-7, 1).log()
    written = sum(torch.nn.functional.kl_div(middle, view, reduction='batchmean') for view in p) / 3
    (expected,) = torch.autograd.grad(written, logits)
    (found,) = torch.autograd.grad(jensen_shannon(logits), logits)
    torch.testing.assert_close(found, expected)
    assert float(expected[0].abs().max()) > 1e-3


def test_the_divergence_of_sure_predictions_is_finite_and_so_is_its_slope():
    """Three views that are each sure of another class: log 3. Their other probabilities are 0 in float32."""
    logits = (torch.eye(3)[:, None] * 200).requires_grad_()
    value = jensen_shannon(logits)
    value.backward()
    assert float(value.detach()) == pytest.approx(np.log(3), rel=1e-5)
    assert bool(logits.grad.isfinite().all())
    assert jensen_shannon(torch.randn(3, 2, 4).bfloat16()).dtype == torch.float32


def learner(policy, **options):
    torch.manual_seed(0)
    backbone = {'type': 'CifarResNet', 'depth': 8, 'width': 4}
    preprocessor = {'type': 'BatchPreprocessor', 'mean': MEAN, 'std': STD}
    head = {'type': 'LinearHead', 'num_classes': 5}
    model = MixClassifier(backbone, head, policy, data_preprocessor=preprocessor, **options)
    model.student.eval()
    model.context = Context(seed=3)
    return model


@pytest.mark.parametrize('target', ['class', 'soft', 'multilabel'])
def test_the_loss_is_that_of_the_clean_batch_and_the_divergence_of_three_views(target):
    raw, labels = pixels(), LABELS
    images = (raw - each(MEAN)) / each(STD)
    options = {'target': target}
    if target != 'class':
        labels = torch.rand(5, 5, generator=rng())
        labels = labels.softmax(1) if target == 'soft' else (labels > 0.5).float()
    if target == 'multilabel':
        options['loss'] = BinaryCrossEntropy()
    model = learner(AugMix(jsd_weight=7.0), **options)
    with torch.no_grad():
        for parameter in model.student.heads.parameters():
            parameter.mul_(100)
        total, _ = model.parse_losses(model(images, labels, mode='loss'))
        plan = model.last_plan
        logits = torch.stack([model(view.inputs) for view in plan.views])
    assert [view.share for view in plan.views] == [0, 0, 1]
    assert plan.join
    assert plan.views[2].inputs is images
    seen = [(view.inputs * each(STD) + each(MEAN)) for view in plan.views[:2]]
    again = AugMix(mean=(0, 0, 0), std=(1, 1, 1))(Batch(raw, LABELS), Context(seed=3)).views[:2]
    for found, expected in zip(seen, again, strict=True):  # the preprocessor of the learner says the normalisation
        torch.testing.assert_close(found, expected.inputs, rtol=0, atol=1e-4)
    numbers = logits.double().numpy()
    if target == 'multilabel':
        learned = torch.nn.functional.binary_cross_entropy_with_logits(logits[2], labels)
        numbers = np.stack([numbers, np.zeros(numbers.shape)], -1)
    else:
        learned = torch.nn.functional.cross_entropy(logits[2], labels)
    divergence = numpy_divergence(numbers)
    assert divergence > 1e-3
    assert float(total) == pytest.approx(float(learned) + 7 * divergence, rel=1e-4)


def test_without_the_divergence_one_augmented_view_is_learned_in_one_pass():
    images = (pixels() - each(MEAN)) / each(STD)
    model = learner(AugMix(jsd=False))
    terms = model(images, LABELS, mode='loss')
    (view,) = model.last_plan.views
    assert not torch.equal(view.inputs, images)
    assert set(terms) == {'loss_main', 'agreement'}
    expected = torch.nn.functional.cross_entropy(model(view.inputs), LABELS)
    torch.testing.assert_close(terms['loss_main'], expected)
    torch.testing.assert_close(view.mixture.soft(LABELS, 5), torch.eye(5)[LABELS])


def test_inside_a_choice_and_a_wrapper_the_divergence_is_there():
    images = (pixels() - each(MEAN)) / each(STD)
    alone = learner(AugMix())(images, LABELS, mode='loss')
    for policy in (RandomChoice([AugMix()]), RegMixup(AugMix())):
        terms = learner(policy)(images, LABELS, mode='loss')
        assert set(terms) == set(alone) == {'loss_main', 'agreement', 'loss_jsd_term'}
    assert float(alone['loss_jsd_term'].detach()) > 0
