import pytest
import torch
from torch.nn import functional as F

from openmixup.errors import InputError
from openmixup.models import BinaryCrossEntropy, SoftCrossEntropy
from openmixup.policies.mixture import Mixture
from openmixup.registry import MODELS

N, C = 6, 5


def one_source(n=N, dtype=torch.float32):
    return Mixture(torch.arange(n)[:, None], torch.ones(n, 1, dtype=dtype))


def random_case(k=3, seed=0, total=1.0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(N, C, generator=g, dtype=torch.float64)
    labels = torch.randint(C, (N,), generator=g)
    index = torch.stack([torch.randperm(N, generator=g) for _ in range(k)], 1)
    weight = torch.rand(N, k, generator=g, dtype=torch.float64)
    return logits, labels, Mixture(index, weight / weight.sum(1, keepdim=True) * total)


def dense(labels, mixture):
    """The (N, C) target, written out without any shared code."""
    one_hot = labels if labels.is_floating_point() else F.one_hot(labels, C).double()
    return torch.einsum('nk,nkc->nc', mixture.weight, one_hot[mixture.index])


def reference_ce(logits, target):
    return -(target * (logits.exp() / logits.exp().sum(1, keepdim=True)).log()).sum(1)


@pytest.mark.parametrize('e', [0.0, 0.1])
def test_one_source_equals_torch(e):
    logits, labels, _ = random_case()
    loss = SoftCrossEntropy(label_smoothing=e)(logits, labels, one_source(dtype=torch.float64))
    expected = F.cross_entropy(logits, labels, reduction='none', label_smoothing=e)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize('k', [1, 2, 3])
@pytest.mark.parametrize('total', [1.0, 0.7, 1.6])
@pytest.mark.parametrize('soft', [False, True])
def test_per_sample_weights_equal_dense_target(k, total, soft):
    logits, labels, mixture = random_case(k, total=total)
    labels = torch.rand(N, C, dtype=torch.float64).softmax(1) if soft else labels
    expected = reference_ce(logits, dense(labels, mixture))
    torch.testing.assert_close(SoftCrossEntropy()(logits, labels, mixture), expected)


@pytest.mark.parametrize('total', [1.0, 1.6])
@pytest.mark.parametrize('soft', [False, True])
def test_smoothing_scales_with_the_sum_of_weights(total, soft):
    logits, labels, mixture = random_case(2, total=total)
    target = 0.9 * dense(labels, mixture) + 0.1 / C * total
    labels = F.one_hot(labels, C).double() if soft else labels
    loss = SoftCrossEntropy(label_smoothing=0.1)(logits, labels, mixture)
    torch.testing.assert_close(loss, reference_ce(logits, target))
    if total == 1:
        torch.testing.assert_close(loss, F.cross_entropy(logits, target, reduction='none'))


def test_weights_of_each_sample_stay_with_it():
    """Four samples by hand: the mean of weights times the mean of losses would give another number."""
    p = torch.tensor([0.5, 0.8, 0.9, 0.6])  # probability of class 0
    logits = torch.stack([p.log(), (1 - p).log()], 1)
    lam = torch.tensor([0.5, 0.0, 1.0, 0.5])
    mixture = Mixture(torch.tensor([[0, 1], [1, 0], [2, 3], [3, 2]]), torch.stack([lam, 1 - lam], 1))
    labels = torch.tensor([0, 1, 0, 1])
    # half of class 0 and half of class 1; all of source 0, class 0; all of itself, class 0; half and half
    by_hand = torch.tensor([0.6931472, 0.2231436, 0.1053605, 0.5 * (0.9162907 + 0.5108256)])
    loss = SoftCrossEntropy()(logits, labels, mixture)
    torch.testing.assert_close(loss, by_hand)
    own, other = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels[[1, 0, 3, 2]])
    collapsed = lam.mean() * own + (1 - lam.mean()) * other
    assert collapsed - loss.mean() > 0.4


@pytest.mark.parametrize('dtype', [torch.int32, torch.uint8])
def test_small_integer_labels(dtype):
    logits, labels, mixture = random_case()
    torch.testing.assert_close(
        SoftCrossEntropy()(logits, labels.to(dtype), mixture), SoftCrossEntropy()(logits, labels, mixture)
    )


def test_sources_beyond_the_batch():
    logits, _, mixture = random_case(2)
    labels = torch.arange(2 * N) % C
    mixture = Mixture(mixture.index + N, mixture.weight)
    torch.testing.assert_close(
        SoftCrossEntropy()(logits, labels, mixture), reference_ce(logits, dense(labels, mixture))
    )


def test_gradients():
    logits, labels, mixture = random_case(2)
    for soft in (labels, F.one_hot(labels, C).double()):
        for loss in (SoftCrossEntropy(0.1), BinaryCrossEntropy(0.1)):
            assert torch.autograd.gradcheck(
                lambda x, w, loss=loss, soft=soft: loss(x, soft, Mixture(mixture.index, w)),
                (logits.clone().requires_grad_(), mixture.weight.clone().requires_grad_()),
            )


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('threshold', [None, 0.2])
@pytest.mark.parametrize('sum_classes', [False, True])
def test_bce_equals_timm(smoothing, threshold, sum_classes):
    from timm.loss import BinaryCrossEntropy as Reference

    g = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(N, C, generator=g), torch.randint(C, (N,), generator=g)
    reference = Reference(smoothing=smoothing, target_threshold=threshold, reduction='none')(logits, labels)
    expected = reference.sum(1) if sum_classes else reference.mean(1)
    loss = BinaryCrossEntropy(smoothing, scale='sum' if sum_classes else 'mean', threshold=threshold)
    torch.testing.assert_close(loss(logits, labels, one_source()), expected)


def test_bce_of_a_mixture_is_clamped():
    logits, labels, mixture = random_case(3, total=1.6)
    target = dense(labels, mixture)
    assert target.max() > 1
    x = logits.sigmoid()
    t = target.clamp(max=1)
    expected = -(t * x.log() + (1 - t) * (1 - x).log())
    torch.testing.assert_close(BinaryCrossEntropy(scale='sum')(logits, labels, mixture), expected.sum(1))
    above = (target > 0.3).double()
    expected = -(above * x.log() + (1 - above) * (1 - x).log())
    torch.testing.assert_close(BinaryCrossEntropy(threshold=0.3)(logits, labels, mixture), expected.mean(1))


def test_bce_of_multi_hot_labels():
    logits, _, mixture = random_case(2)
    labels = (torch.rand(N, C) > 0.5).double()
    expected = F.binary_cross_entropy_with_logits(logits, dense(labels, mixture), reduction='none').mean(1)
    torch.testing.assert_close(BinaryCrossEntropy()(logits, labels, mixture), expected)


@pytest.mark.parametrize('loss', [SoftCrossEntropy(0.1), BinaryCrossEntropy(0.1)])
@pytest.mark.parametrize('soft', [False, True])
def test_low_precision_logits_are_computed_in_float32(loss, soft):
    logits, labels, mixture = random_case(2)
    mixture = Mixture(mixture.index, mixture.weight.float())
    labels = F.one_hot(labels, C).float() if soft else labels
    coarse = logits.to(torch.bfloat16)
    result = loss(coarse, labels, mixture)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, loss(coarse.float(), labels, mixture))


@pytest.mark.parametrize(
    'loss', [SoftCrossEntropy(), SoftCrossEntropy(0.1), BinaryCrossEntropy(0.1, 'sum', threshold=0.2)]
)
@pytest.mark.parametrize('soft', [False, True])
def test_nothing_is_read_from_the_device(loss, soft):
    with torch.device('meta'):
        labels = torch.empty(N, C) if soft else torch.empty(N, dtype=torch.int64)
        mixture = Mixture(torch.empty(N, 2, dtype=torch.int64), torch.empty(N, 2))
        assert loss(torch.empty(N, C), labels, mixture).shape == (N,)


def test_plain_step_uses_few_operators():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.calls += 1
            return func(*args, **(kwargs or {}))

    logits, labels, mixture = torch.randn(N, C), torch.randint(C, (N,)), one_source()
    with Count() as count:
        SoftCrossEntropy()(logits, labels, mixture)
    assert count.calls <= 8, 'take, select, log_softmax, nll_loss, select, multiply and two bookkeeping calls'


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'type': 'SoftCrossEntropy', 'label_smoothing': 1.0}, r'label_smoothing=1.0 is not in \[0, 1\)'),
        ({'type': 'BinaryCrossEntropy', 'label_smoothing': -0.1}, 'label_smoothing=-0.1'),
        ({'type': 'BinaryCrossEntropy', 'scale': 'means'}, "did you mean 'mean'"),
        ({'type': 'BinaryCrossEntropy', 'threshold': 1.5}, 'threshold=1.5'),
        ({'type': 'SoftCrossEntropy', 'smoothing': 0.1}, "no argument 'smoothing'"),
    ],
)
def test_refuses_arguments(config, message):
    with pytest.raises(InputError, match=message):
        MODELS.build(config)


@pytest.mark.parametrize('loss', [SoftCrossEntropy(), BinaryCrossEntropy()])
@pytest.mark.parametrize('labels', [torch.zeros(N), torch.zeros(N, C, dtype=torch.int64)])
def test_refuses_labels(loss, labels):
    with pytest.raises(InputError, match='labels of shape'):
        loss(torch.zeros(N, C), labels, one_source())
