import dataclasses

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch, MixPolicy, Mixture, Mixup, Plan, Vanilla, View
from openmixup.policies.mixture import FORMS, target_kind

INDEX = torch.tensor([[0, 2, 1], [1, 1, 3], [2, 0, 4], [3, 3, 3]])
WEIGHT = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]])


@pytest.mark.parametrize('shape', [(5,), (5, 3), (5, 3, 4, 6)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_of_is_the_weighted_sum(shape, dtype):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    mixed = Mixture(INDEX, WEIGHT).of(values)
    assert mixed.shape == (4, *shape[1:])
    assert mixed.dtype == dtype
    for sample in range(4):
        expected = sum(WEIGHT[sample, k].to(dtype) * values[INDEX[sample, k]] for k in range(3))
        torch.testing.assert_close(mixed[sample], expected)


def test_of_passes_gradients_to_values_and_weights():
    values, weight = torch.randn(5, 2, requires_grad=True), WEIGHT.clone().requires_grad_()
    Mixture(INDEX, weight).of(values).sum().backward()
    torch.testing.assert_close(weight.grad, values.detach().sum(1)[INDEX])
    counts = torch.zeros(5).scatter_add_(0, INDEX.flatten(), WEIGHT.flatten())
    torch.testing.assert_close(values.grad, counts[:, None].expand(-1, 2))


def test_soft_of_class_indices_adds_sources_of_one_class():
    labels = torch.tensor([0, 1, 0, 2, 1])
    target = Mixture(INDEX, WEIGHT).soft(labels, 3)
    expected = torch.zeros(4, 3)
    for sample in range(4):
        for k in range(3):
            expected[sample, labels[INDEX[sample, k]]] += WEIGHT[sample, k]
    torch.testing.assert_close(target, expected)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_soft_takes_any_integer_type(dtype):
    labels = torch.tensor([0, 1, 0, 2, 1])
    expected = Mixture(INDEX, WEIGHT).soft(labels, 3)
    assert torch.equal(Mixture(INDEX, WEIGHT).soft(labels.to(dtype), 3), expected)


def test_soft_of_dense_targets_is_of():
    labels = torch.rand(5, 3)
    mixture = Mixture(INDEX, WEIGHT)
    assert torch.equal(mixture.soft(labels), mixture.of(labels))
    assert torch.equal(mixture.soft(labels, 3), mixture.of(labels))
    with pytest.raises(InputError, match='3 columns'):
        mixture.soft(labels, 4)


def test_soft_of_class_indices_needs_the_number_of_classes():
    with pytest.raises(InputError, match='num_classes is missing'):
        Mixture(INDEX, WEIGHT).soft(torch.zeros(5, dtype=torch.long))


@pytest.mark.parametrize(
    ('labels', 'said'),
    [
        ([0, 1, 2, 3, 4], '5 labels from 0 to 4 for sources up to 4 and num_classes=4'),
        ([0, 1, -1, 0, 0], 'labels from -1 to 1'),
        ([0, 1], '2 labels from 0 to 1 for sources up to 4'),
    ],
)
def test_soft_refuses_labels_that_are_no_class_or_too_few(labels, said):
    with pytest.raises(InputError, match=said + '.*expected a label from 0 to 3 for each source'):
        Mixture(INDEX, WEIGHT).soft(torch.tensor(labels), 4)


def test_soft_passes_on_what_is_not_the_fault_of_labels():
    with pytest.raises(RuntimeError, match='size'):
        Mixture(INDEX, WEIGHT[:2]).soft(torch.zeros(5, dtype=torch.long), 4)


def test_sources_are_the_batch_and_then_its_bank():
    far = Batch(torch.zeros(1, 3, 4, 4), torch.tensor([9]))
    bank = Batch(torch.zeros(2, 3, 4, 4), torch.tensor([7, 8]), bank=far)
    batch = Batch(torch.zeros(3, 3, 4, 4), torch.tensor([0, 1, 2]), bank=bank)
    assert len(batch) == 3
    assert batch.source_labels.tolist() == [0, 1, 2, 7, 8, 9]


def test_value_objects_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Mixture(INDEX, WEIGHT).weight = WEIGHT * 2


def test_masks_are_made_when_asked_for():
    view = Vanilla().mix(torch.zeros(2, 3, 4, 6))
    assert view.masks.shape == (2, 1, 4, 6)
    assert dataclasses.replace(view, lazy_masks=None).masks is None


@pytest.mark.parametrize(('labels', 'target', 'kind'), [
    (torch.zeros(4, dtype=torch.long), None, 'class'),
    (torch.zeros(4, dtype=torch.uint8), None, 'class'),
    (torch.zeros(4, 3), None, 'soft'),
    (torch.zeros(4, 3), 'multilabel', 'multilabel'),
    (torch.zeros(4), 'regression', 'regression'),
    (torch.zeros(4, 2), 'regression', 'regression'),
])  # fmt: skip
def test_target_kind_is_told_by_type_and_shape(labels, target, kind):
    assert target_kind(labels, 4, target) == kind


@pytest.mark.parametrize(('labels', 'target', 'hint'), [
    (torch.zeros(4), None, 'labels.long()'),
    (torch.zeros(4, 3, dtype=torch.long), None, 'labels.float()'),
    (torch.zeros(4, 3, dtype=torch.long), 'multilabel', 'labels.float()'),
    (torch.zeros(4, dtype=torch.long), 'regression', 'regression targets'),
    (torch.zeros(4, dtype=torch.bool), None, 'torch.bool'),
    (torch.zeros(4, dtype=torch.complex64), None, 'torch.complex64'),
    (torch.zeros(4, 3, 2), None, '(4, 3, 2)'),
    (torch.zeros(5, dtype=torch.long), None, 'for 4 images'),
    (torch.tensor(1), None, 'for 4 images'),
    ([1, 2, 3, 4], None, 'labels are a list'),
])  # fmt: skip
def test_other_targets_are_refused_with_the_forms(labels, target, hint):
    with pytest.raises(InputError) as error:
        target_kind(labels, 4, target)
    assert hint in str(error.value)
    assert FORMS in str(error.value)


def test_an_unknown_target_kind_is_refused():
    with pytest.raises(InputError, match='class, soft, multilabel, regression'):
        target_kind(torch.zeros(4), 4, 'regresion')


def test_mix_without_labels_mixes_pictures_only():
    view = Mixup().mix(torch.randn(4, 3, 6, 6), rng=torch.Generator().manual_seed(0))
    assert view.mixture.weight.shape == (4, 2)


def test_the_view_to_show_is_the_first_trained_one_of_several_sources():
    images, plain = torch.zeros(2, 1, 2, 2), Mixture(torch.tensor([[0], [1]]), torch.ones(2, 1))
    pair = Mixture(torch.tensor([[0, 1], [1, 0]]), torch.full((2, 2), 0.5))
    clean, looked, first, second = (
        View(images, mixture, share=share) for mixture, share in ((plain, 1.0), (pair, 0.0), (pair, 0.5), (pair, 1.0))
    )
    batch, policy = Batch(images, torch.arange(2)), MixPolicy()
    assert Plan(batch, (clean, looked, first, second), policy).mixed == 2
    assert Plan(batch, (clean, looked), policy).mixed == 0
    inner = Plan(batch, (clean, first), policy)
    assert Plan(batch, (clean, looked, second), policy, inner=inner).mixed == 1, 'trained by a term of the outer policy'
    plain_inner = Plan(batch, (clean,), policy)
    assert Plan(batch, (clean, looked, second), policy, inner=plain_inner).mixed == 2, 'a view of the outer policy'
