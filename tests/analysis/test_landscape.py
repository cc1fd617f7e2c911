"""Directions, moved weights and the loss around them, against closed forms."""

import csv
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from openmixup.analysis.landscape import direction, draw_landscape, landscape, moved
from openmixup.analysis.trained import Trained
from openmixup.errors import InputError


def network():
    """A small network with what moves and what does not."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)).eval()


def beside_data(student, size=10, teacher=None):
    """A learner of the network, beside random images in batches of four."""
    rng = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(size, 1, 3, 3, generator=rng), torch.randint(4, (size,), generator=rng)

    def predict(images):
        return {'student': student(images), **({'teacher': teacher(images)} if teacher else {})}

    learner = SimpleNamespace(
        data_preprocessor=lambda batch, training: batch,  # noqa: ARG005
        predict=predict,
        student=student,
        teacher=SimpleNamespace(network=teacher),
    )
    loader = [{'inputs': a, 'labels': b} for a, b in zip(inputs.split(4), labels.split(4), strict=True)]
    return Trained(learner, loader, 'teacher' if teacher else 'student'), inputs, labels


def test_each_filter_of_a_direction_has_the_norm_of_the_weights():
    student = network()
    for weight, part in zip(student.parameters(), direction(student, 0), strict=True):
        if weight.ndim < 2:
            assert part.eq(0).all(), 'biases and norms stay'
            continue
        norms = [each.flatten(1).norm(dim=1) for each in (weight, part)]
        assert torch.allclose(*norms, rtol=1e-5)
        cosine = F.cosine_similarity(weight.detach().flatten(), part.flatten(), dim=0)
        assert abs(float(cosine)) < 0.9
    first, again, other, second = (direction(student, *key)[0] for key in ((3,), (3,), (4,), (3, 1)))
    assert first.equal(again)
    assert not first.equal(other)
    assert not first.equal(second)


def test_weights_move_and_come_back_exactly():
    student = network()
    before = [weight.clone() for weight in student.parameters()]
    one, two = direction(student, 0), direction(student, 1)
    with moved(student, (0.5, one), (-2.0, two)):
        for weight, start, a, b in zip(student.parameters(), before, one, two, strict=True):
            assert torch.allclose(weight, start + 0.5 * a - 2 * b)
    assert all(map(torch.equal, student.parameters(), before))
    with pytest.raises(ZeroDivisionError), moved(student, (1.0, one)):
        _ = 1 / 0
    assert all(map(torch.equal, student.parameters(), before)), 'after an error too'


def test_the_loss_is_that_of_the_moved_network():
    student = network()
    given, inputs, labels = beside_data(student)
    found = landscape(given, -0.5, 1, 4, seed=2)
    assert found.steps.tolist() == [-0.5, 0, 0.5, 1]
    along = direction(student, 2)
    for step, loss, top1 in zip(*(values.tolist() for values in vars(found).values()), strict=True):
        with moved(student, (step, along)), torch.no_grad():
            logits = student(inputs)
        assert loss == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
        assert top1 == pytest.approx(100 * float((logits.argmax(1) == labels).double().mean()))


def test_over_a_plane_rows_follow_the_first_direction():
    student = network()
    given, inputs, labels = beside_data(student)
    found = landscape(given, -1, 1, 3, plane=True, seed=5)
    assert found.loss.shape == (3, 3)
    assert found.loss[1, 1] == pytest.approx(float(F.cross_entropy(student(inputs), labels).detach()), rel=1e-5)
    assert torch.allclose(found.loss[:, 1], landscape(given, -1, 1, 3, seed=5).loss)
    with moved(student, (1.0, direction(student, 5)), (-1.0, direction(student, 5, 1))), torch.no_grad():
        assert found.loss[2, 0] == pytest.approx(float(F.cross_entropy(student(inputs), labels)), rel=1e-5)


def test_of_the_teacher_only_the_teacher_moves():
    student, teacher = network(), network()
    given, *_ = beside_data(student, teacher=teacher)
    loss = landscape(given, -1, 1, 3).loss
    assert len(set(loss.tolist())) == 3


@pytest.mark.parametrize(
    ('given', 'names'),
    [((1, 1, 3), 'from 1 to 1'), ((0, float('inf'), 3), 'to inf'), ((-1, 1, 1), '1 points along')],
)
def test_a_range_that_cannot_be_used(given, names):
    with pytest.raises(InputError, match=names):
        landscape(beside_data(network())[0], *given)


@pytest.mark.parametrize('plane', [False, True])
def test_the_figure_and_its_table(tmp_path, plane):
    given, *_ = beside_data(network())
    found = {name: landscape(given, -1, 1, 3, plane, seed=seed) for seed, name in enumerate(('one', 'other'))}
    figure, table = draw_landscape(found, tmp_path / 'a.png')
    assert figure.read_bytes().startswith(b'\x89PNG')
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 2 * (9 if plane else 3)
    row, loss = (rows[9 + 5], found['other'].loss[1, 2]) if plane else (rows[3 + 2], found['other'].loss[2])
    assert row['name'] == 'other'
    assert float(row['loss']) == float(loss)
    if plane:
        assert (float(row['first']), float(row['second'])) == (0, 1)


def test_a_network_without_a_finite_loss_is_refused():
    student = network()
    with torch.no_grad():
        student[0].weight.fill_(float('nan'))
    with pytest.raises(InputError, match='no loss is finite'):
        landscape(beside_data(student)[0], -1, 1, 3)


def test_a_loss_that_overflows_is_drawn(tmp_path):
    given, *_ = beside_data(network())
    found = landscape(given, -1, 1, 3, plane=True)
    found.loss[0, 0], found.loss[2, 2] = float('inf'), float('nan')
    figure, _ = draw_landscape({'one': found}, tmp_path / 'a.svg')
    assert '<svg' in figure.read_text()
    found.loss.zero_()
    figure, _ = draw_landscape({'none': found}, tmp_path / 'b.svg')
    assert '<svg' in figure.read_text()
