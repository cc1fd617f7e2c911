"""A generator of an earlier run is taken from its file and stays as it is; only the classifier learns."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from openmixup.engine.checkpoint import write_checkpoint
from openmixup.engine.optim import GroupedOptimizer
from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.models.generator import begin_from, check_generator
from openmixup.policies import AdAutoMix, AutoMix, Context, Mixup, RandomChoice, RegMixup, SAMix, SuperMix
from openmixup.testing import check_policy
from openmixup.testing.devices import _Counter
from openmixup.testing.stage import learner_of

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
ALL = pytest.mark.parametrize('policy', [AutoMix, SAMix, AdAutoMix])


def built(policy, seed=0, classes=5, width=8, depth=8):
    torch.manual_seed(seed)
    return MixClassifier(
        {'type': 'CifarResNet', 'depth': depth, 'width': width}, {'type': 'LinearHead', 'num_classes': classes}, policy,
        teacher={'decay': 0.5, 'bn': 'batch'},
    ).train()  # fmt: skip


def trained(learner, steps=3):
    """Some steps as a run makes them; the optimizer is returned."""
    config = {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.1}}
    wrapper = GroupedOptimizer({**config, 'policy': {'lr': 0.2}})(learner)
    for step in range(steps):
        learner.context = Context(step=step, progress=step / steps)
        total, _ = learner.parse_losses(learner.loss(IMAGES, LABELS))
        wrapper.update_params(total)
        learner.update_teacher()
    return wrapper


@pytest.fixture
def file_of(tmp_path):
    """The path of a checkpoint of a learner, which some steps have trained."""

    def saved(learner, name='earlier.pth'):
        trained(learner)
        write_checkpoint({'state_dict': learner.state_dict(), 'meta': {}}, tmp_path / name)
        return str(tmp_path / name)

    return saved


def state(learner, *parts):
    found = {name: value.clone() for name, value in learner.state_dict().items() if name.startswith(parts)}
    assert found
    return found


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@ALL
def test_block_and_teacher_are_those_of_the_file_and_stay_so(policy, file_of):
    earlier = built(policy())
    path = file_of(earlier)
    learner = built(policy(generator={'pretrained': path}), seed=1)
    kept = state(earlier, 'policy.', 'teacher.')
    assert equal(state(learner, 'policy.', 'teacher.'), kept)  # every weight, statistic and counter
    before, theirs = state(learner, 'student.'), state(earlier, 'student.')
    wrapper = trained(learner)
    assert equal(state(learner, 'policy.', 'teacher.'), kept)
    now = state(learner, 'student.')
    weights = [f'student.{name}' for name, value in learner.student.named_parameters() if value.ndim > 1]
    assert not [name for name in weights if torch.equal(before[name], theirs[name])]  # it began anew
    assert not [name for name in weights if torch.equal(before[name], now[name])]  # and learned
    optimized = {id(weight) for group in wrapper.optimizer.param_groups for weight in group['params']}
    assert optimized == {id(weight) for weight in learner.student.parameters()}
    for part in (learner.policy, learner.teacher):
        assert all(weight.grad is None and not weight.requires_grad for weight in part.parameters())
    assert not learner.policy.sometimes_unused  # nothing is unused where nothing is trained


@ALL
def test_masks_are_those_of_the_earlier_generator(policy, file_of):
    earlier = built(policy())
    path = file_of(earlier)
    learner = built(policy(generator={'pretrained': path, 'skip': 0.5}), seed=1)
    trained(learner)
    earlier.policy._generator['until'] = 0.0
    earlier.policy.mix_block.eval()
    for step in range(3):
        plans = []
        for each in (earlier, learner):
            each.context = Context(step=step)
            plans.append(each.plan(IMAGES, LABELS)[0])
        assert torch.equal(plans[0].views[1].inputs, plans[1].views[1].inputs)
        assert torch.equal(plans[0].views[1].masks, plans[1].views[1].masks)
        assert not plans[1].losses


def test_the_classifier_learns(file_of):
    learner = built(SAMix(generator={'pretrained': file_of(built(SAMix()))}), seed=1)
    images = IMAGES + LABELS[:, None, None, None]
    optimizer, losses = torch.optim.SGD(learner.student.parameters(), 0.05, 0.9), []
    for step in range(40):
        learner.context = Context(step=step)
        optimizer.zero_grad()
        total, _ = learner.parse_losses(learner.loss(images, LABELS))
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@ALL
def test_a_step_costs_no_pass_of_the_generator_branch(policy, file_of):
    path, costs = file_of(built(policy())), {}
    for generator in ({}, {'until': 0.0}, {'pretrained': path}):
        learner = built(policy(generator=generator))
        learner.context = Context(step=2)
        learner.policy.draw_lam = lambda count, rng: torch.full((count,), 0.5, dtype=torch.float64)
        with FlopCounterMode(display=False) as flops, _Counter(IMAGES.device) as launches:
            learner.parse_losses(learner.loss(IMAGES, LABELS))[0].backward()
        costs[next(iter(generator), '')] = flops.get_total_flops(), len(launches.names)
    assert costs['pretrained'][0] == costs['until'][0] < 0.85 * costs[''][0]
    assert costs['pretrained'][1] <= costs['until'][1] < costs[''][1]


@pytest.mark.parametrize(('before', 'after'), [
    (lambda own: RegMixup({'type': 'SAMix'}, join=False), lambda own: own),
    (lambda own: RandomChoice([{'type': 'Mixup'}, {'type': 'SAMix'}]), lambda own: RegMixup(own, join=False)),
    (lambda own: SAMix(), lambda own: RandomChoice([own, Mixup()])),
])  # fmt: skip
def test_it_may_have_stood_among_other_policies(before, after, file_of):
    earlier = built(before(None))
    path = file_of(earlier)
    own = SAMix(generator={'pretrained': path})
    learner = built(after(own), seed=1)
    (block,) = [part.mix_block for part in earlier.policy.modules() if isinstance(part, SAMix)]
    assert equal(dict(own.mix_block.state_dict()), dict(block.state_dict()))
    kept = state(learner, 'policy.', 'teacher.')
    trained(learner)
    assert equal(state(learner, 'policy.', 'teacher.'), kept)


def test_the_classes_may_be_others(file_of):
    earlier = built(SAMix(), classes=7)
    path = file_of(earlier)
    learner = built(SAMix(generator={'pretrained': path}), seed=1)
    assert equal(state(learner, 'teacher.network.backbone'), state(earlier, 'teacher.network.backbone'))
    trained(learner)
    assert equal(state(learner, 'policy.'), state(earlier, 'policy.'))


def test_weights_to_start_from_are_for_the_student(file_of):
    learner = built(SAMix(generator={'pretrained': file_of(built(SAMix()))}), seed=1)
    kept = state(learner, 'policy.', 'teacher.')
    other = built(SAMix(), seed=2).state_dict()
    for taken in (other, {name: value for name, value in other.items() if name.startswith('student.')}):
        begin_from(learner, lambda taken=taken: (learner.load_state_dict(taken, strict=False), list(taken))[1])
        assert equal(state(learner, 'policy.', 'teacher.'), kept)
        assert equal(state(learner, 'student.'), {name: other[name] for name in state(learner, 'student.')})


def test_of_other_classes_even_the_heads_of_the_teacher_are_kept(file_of):
    learner = built(SAMix(generator={'pretrained': file_of(built(SAMix(), classes=7))}), seed=1)
    kept = state(learner, 'teacher.')
    other = built(SAMix(), seed=2).state_dict()
    begin_from(learner, lambda: (learner.load_state_dict(other), list(other))[1])
    assert equal(state(learner, 'teacher.'), kept)


def test_what_is_taken_from_a_file_has_no_gradient_whatever_the_policy(file_of):
    class Tinted(Mixup):
        def __init__(self, frozen_from=None):
            super().__init__()
            self.tint, self._file = torch.nn.Parameter(torch.zeros(3, 1, 1)), frozen_from

        @property
        def frozen_from(self):
            return self._file

        def view(self, batch, partner, lam, ctx):
            view = super().view(batch, partner, lam, ctx)
            return replace(view, inputs=view.inputs + self.tint)

    earlier = built(Tinted())
    with torch.no_grad():
        earlier.policy.tint += 0.5
    path = file_of(earlier)
    learner = built(Tinted(path), seed=1)
    trained(learner)
    assert equal(state(learner, 'policy.'), state(earlier, 'policy.'))

    class Borrowed(Mixup):  # learns nothing, and looks at the teacher of an earlier run
        frozen_from = path

    assert equal(state(built(Borrowed(), seed=1), 'teacher.'), state(earlier, 'teacher.'))


@pytest.mark.parametrize('other', [SuperMix, AutoMix])
def test_a_teacher_whose_head_is_untrained_is_for_no_other_policy(other, file_of):
    path = file_of(built(SAMix(), classes=7))
    learner = built(RandomChoice([SAMix(generator={'pretrained': path}), other()]))
    with pytest.raises(InputError, match=f'does not fit the heads .*main.* which {other.__name__} would read'):
        check_generator(learner.teacher)
    learner = built(RandomChoice([SAMix(generator={'pretrained': file_of(built(SAMix()), 'fitting.pth')}), other()]))
    check_generator(learner.teacher)
    assert learner.teacher.frozen


def test_one_file_may_be_written_in_two_ways(file_of, tmp_path):
    path = file_of(built(SAMix()))
    (tmp_path / 'below').mkdir()
    both = [tmp_path / 'earlier.pth', str(tmp_path / 'below' / '..' / 'earlier.pth')]
    learner = built(RandomChoice([SAMix(generator={'pretrained': each}) for each in both]))
    assert Path(path) == both[0]
    assert learner.teacher.frozen


def test_a_missing_file_is_a_mistake_only_where_nothing_else_brings_the_weights(file_of):
    path = file_of(built(SAMix()))
    whole = built(SAMix(generator={'pretrained': path}), seed=1)
    Path(path).unlink()
    learner = built(SAMix(generator={'pretrained': path}), seed=2)
    assert all(not weight.requires_grad for part in (learner.policy, learner.teacher) for weight in part.parameters())
    for wanting in (
        lambda: learner.loss(IMAGES, LABELS),
        lambda: begin_from(learner, lambda: (learner.load_state_dict(whole.state_dict()), [])[1]),  # for the student
    ):
        with pytest.raises(InputError, match=r'is not a file, and no checkpoint .*: give the path of a checkpoint'):
            wanting()
    learner.load_state_dict(state(whole, 'student.'), strict=False)
    with pytest.raises(InputError, match='no checkpoint has brought the generator'):
        learner.loss(IMAGES, LABELS)
    learner.load_state_dict(whole.state_dict())
    kept = state(whole, 'policy.', 'teacher.')
    trained(learner)
    assert equal(state(learner, 'policy.', 'teacher.'), kept)


def without(*parts):
    def left_out(learner):
        learner.state_dict = lambda: {
            name: value for name, value in MixClassifier.state_dict(learner).items() if not name.startswith(parts)
        }
        return learner

    return left_out


@pytest.mark.parametrize(('made', 'match'), [
    (lambda: built(SAMix(), width=16), r'does not fit SAMix: of another shape mix_block.query.0.weight'),
    (lambda: built(AutoMix()), 'does not fit SAMix: missing mix_block.key.0.weight'),
    (lambda: built(SAMix(), depth=14), 'does not fit the teacher: unexpected backbone.'),
    (lambda: built(Mixup()), 'has no learned parts of a policy that SAMix could take'),
    (lambda: built(RandomChoice([SAMix(), SAMix()])), 'has learned parts of 2 policies'),
    (lambda: without('teacher.')(built(SAMix())), 'has no weights of a momentum teacher'),
    (lambda: without('teacher.network.backbone.stem')(built(SAMix())), 'does not fit the teacher: missing'),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(made, match, file_of):
    path = file_of(made())
    learner = built(SAMix(generator={'pretrained': path}))
    with pytest.raises(InputError, match=match) as caught:
        learner.loss(IMAGES, LABELS)
    assert str(caught.value).count('. ') == 0
    assert '...' not in str(caught.value)
    assert path in str(caught.value)


def test_other_mistakes_are_told_too(file_of, tmp_path):
    (tmp_path / 'text.pth').write_text('no weights')
    damaged = built(AutoMix(generator={'pretrained': str(tmp_path / 'text.pth')}))
    with pytest.raises(InputError, match='pretrained=.*text.pth.*is damaged'):
        check_generator(damaged.teacher)
    with pytest.raises(InputError, match=r'AutoMix\(generator=dict\(pretrained=True\)\): expected the path'):
        AutoMix(generator={'pretrained': True})
    with pytest.raises(InputError, match=r"AutoMix\(generator=dict\(pretrained=''\)\): expected the path"):
        AutoMix(generator={'pretrained': ''})
    first, second = (file_of(built(SAMix(), seed=seed), f'{seed}.pth') for seed in (0, 1))
    both = [SAMix(generator={'pretrained': path}) for path in (first, second)]
    with pytest.raises(InputError, match=r'share one teacher, but they name .*0.pth and .*1.pth: give one file'):
        built(RandomChoice(both))


@pytest.mark.slow
@pytest.mark.parametrize('policy', [AutoMix, SAMix])
def test_all_checks_hold(policy, tmp_path):
    learner = learner_of(policy())
    path = str(tmp_path / 'tiny.pth')
    write_checkpoint({'state_dict': learner.state_dict()}, path)
    check_policy(policy(generator={'pretrained': path}), raise_on_failure=True)
