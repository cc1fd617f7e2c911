"""What tests of learned policies begin with."""

import itertools

import pytest
import torch

from openmixup.models import MixClassifier
from openmixup.policies import AutoMix, Context, Network, SAMix

NETWORK = Network(5, 32, ('stage1', 'stage2', 'stage3'), (8, 16, 32), (1, 1, 1), name='a small network')
IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
BOTH = pytest.mark.parametrize('policy', [AutoMix, SAMix])


def learner_of(policy, seed=0, bn='running', **options):
    """A learner whose teacher is another network than its student, with heads that matter."""
    torch.manual_seed(seed)
    backbone = {'type': 'CifarResNet', 'depth': 8, 'width': 8}
    teacher = {'decay': 0.5, 'bn': bn} if 'teacher' in policy.needs else None
    learner = MixClassifier(backbone, {'type': 'LinearHead', 'num_classes': 5}, policy, teacher=teacher, **options)
    networks = [learner.student] if teacher is None else [learner.student, learner.teacher.network]
    for network in networks:
        for head in network.heads.values():
            torch.nn.init.normal_(head.fc.weight)
    return learner.train()


def plan_of(learner, images=IMAGES, labels=LABELS, **context):
    learner.context = Context(**context)
    return learner.plan(images, labels)[0]


def fix_lam(policy, *values):
    """Let the policy draw these lams: of the generator branch, then of the classifier branch."""
    calls = itertools.cycle(torch.tensor(value, dtype=torch.float64).reshape(-1) for value in values)
    policy.draw_lam = lambda count, rng: next(calls).expand(count)


def opaque(learner):
    """Let masks differ from place to place and from sample to sample, as after training."""
    for i, parameter in enumerate(learner.policy.mix_block.parameters()):
        parameter.data.normal_(generator=torch.Generator().manual_seed(i))
    return learner


def gradients(learner, total):
    """Whether the student, the teacher and the block got any gradient."""
    learner.zero_grad()
    total.backward()
    parts = (learner.student, learner.teacher, learner.policy.mix_block)
    return [any(p.grad is not None and bool(p.grad.any()) for p in part.parameters()) for part in parts]
