"""The momentum teacher: closed form of the average, schedule, statistics."""

import copy
import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.models import CifarResNet, LinearHead, Student
from openmixup.models.teacher import Teacher, scheduled_decay


def student():
    torch.manual_seed(0)
    return Student(CifarResNet(depth=8, width=4), {'main': LinearHead(16, 5)})


def test_after_n_steps_it_is_the_closed_form():
    """A student that stands still: the gap shrinks by the decay at each step, for weights and statistics alike."""
    learner = student()
    teacher = Teacher(learner, decay=0.9)
    start = copy.deepcopy(teacher.network.state_dict())
    with torch.no_grad():
        for value in [*learner.parameters(), *learner.buffers()]:
            value.add_(1)
    for _ in range(5):
        teacher.update(learner, 0.0)
    for name, value in teacher.network.state_dict().items():
        moved = 1 if name.endswith('num_batches_tracked') else 1 - 0.9**5
        torch.testing.assert_close(value, start[name] + moved)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


def test_a_moving_student_is_averaged_by_the_geometric_weights():
    learner = student()
    teacher = Teacher(learner, decay=0.7)
    weight, expected = learner.heads['main'].fc.weight, learner.heads['main'].fc.weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            weight.fill_(float(step))
        teacher.update(learner, 0.0)
        expected = 0.7 * expected + 0.3 * step
    torch.testing.assert_close(teacher.network.heads['main'].fc.weight, expected)


def test_the_decay_follows_the_schedule():
    """Constant first; then half a cosine over the whole run, so that the end is the end value."""
    assert scheduled_decay(0.0999, 0.999, 0.999999, 0.1) == 0.999
    for progress in (0.1, 0.37, 1.0):
        expected = 0.999999 - 0.000999 * (1 + math.cos(math.pi * progress)) / 2
        assert scheduled_decay(progress, 0.999, 0.999999, 0.1) == pytest.approx(expected, abs=1e-12)
    assert scheduled_decay(1.0, 0.999, 0.999999, 0.1) == pytest.approx(0.999999, abs=1e-12)
    learner = student()
    teacher = Teacher(learner, decay=0.5, end=1.0)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(1)
    teacher.update(learner, 1.0)  # a decay of 1 keeps the teacher where it is
    fresh = student()
    assert all(torch.equal(a, b) for a, b in zip(teacher.network.parameters(), fresh.parameters(), strict=True))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'decay': 1.5}, r'teacher=dict\(decay=1.5\): expected a number from 0 to 1'),
        ({'end': -1}, r'teacher=dict\(end=-1\)'),
        ({'hold': 1.0}, r'teacher=dict\(hold=1.0\): expected a share of the run'),
        ({'bn': 'none'}, "teacher=dict\\(bn='none'\\): expected 'running' or 'batch'"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Teacher(student(), **arguments)
