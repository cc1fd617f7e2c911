"""Policies serve a contrastive learner as they are: a mixed query has two positive keys (MoCo with mixed images)."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from openmixup.models.losses import SoftCrossEntropy
from openmixup.policies import Batch, Context, CutMix, Mixup
from openmixup.policies.static.kmixup import KMixup

SIZE, DIM, QUEUE, TEMPERATURE = 8, 16, 24, 0.2


class MoCoMix(nn.Module):
    """A query encoder, a key encoder that follows it, and a queue of old keys.

    The class of an image is its own place in the batch, so the policy's mixture says by itself how much each key of the
    batch counts as a positive.
    """

    def __init__(self, policy):
        super().__init__()
        layers = nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(108, DIM)
        self.query = nn.Sequential(*layers)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.policy, self.criterion = policy, SoftCrossEntropy()
        self.register_buffer('queue', functional.normalize(torch.randn(QUEUE, DIM), dim=1))

    @torch.no_grad()
    def follow(self, decay=0.9):
        for mine, theirs in zip(self.key.parameters(), self.query.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)

    def forward(self, query_images, key_images, ctx):
        """Loss per sample, and what it was made of."""
        own = torch.arange(len(query_images))
        plan = self.policy(Batch(query_images, own), ctx)
        (view,) = plan.views
        queries = functional.normalize(self.query(view.inputs), dim=1)
        with torch.no_grad():
            keys = functional.normalize(self.key(key_images), dim=1)
        logits = torch.cat([queries @ keys.T, queries @ self.queue.T], 1) / TEMPERATURE
        return self.criterion(logits, plan.batch.source_labels, view.mixture), view.mixture, queries, keys

    def enqueue(self, keys):
        self.queue = torch.cat([keys, self.queue])[:QUEUE]


def views_of(seed):
    """Two noisy views of eight of 48 pictures: those in the queue are others."""
    base = torch.randn(48, 3, 12, 12, generator=torch.Generator().manual_seed(0)).view(6, SIZE, 3, 12, 12)[seed % 6]
    generator = torch.Generator().manual_seed(seed + 1)
    return [base + 0.1 * torch.randn(base.shape, generator=generator) for _ in range(2)]


def info_nce(queries, keys, others, positive):
    """-log of the positive key's share, in the words of the paper."""
    found = (queries * keys[positive]).sum(1) / TEMPERATURE
    against = torch.cat([queries @ keys.T, queries @ others.T], 1) / TEMPERATURE
    return against.logsumexp(1) - found


POLICIES = [Mixup(2.0), Mixup(2.0, 'sample', 'derangement'), CutMix(), CutMix(2.0, 'sample'), KMixup()]


@pytest.mark.parametrize('policy', POLICIES, ids=repr)
def test_loss_is_the_weighted_sum_over_the_positives(policy):
    torch.manual_seed(0)
    model = MoCoMix(policy)
    for step in range(5):
        old = model.queue.clone()
        loss, mixture, queries, keys = model(*views_of(step), Context(step=step))
        by_hand = sum(
            mixture.weight[:, k] * info_nce(queries, keys, old, mixture.index[:, k])
            for k in range(mixture.index.shape[1])
        )
        torch.testing.assert_close(loss, by_hand)
        if mixture.index.shape[1] == 2:
            lam, partner = mixture.weight[:, 0], mixture.index[:, 1]
            two = lam * info_nce(queries, keys, old, torch.arange(SIZE)) + (1 - lam) * info_nce(
                queries, keys, old, partner
            )
            torch.testing.assert_close(loss, two)
        model.enqueue(keys)


@pytest.mark.parametrize('policy', POLICIES[:4], ids=repr)
def test_it_learns(policy):
    torch.manual_seed(0)
    model = MoCoMix(policy)
    optimizer = torch.optim.SGD(model.query.parameters(), 0.1, momentum=0.9)
    losses = []
    for step in range(150):
        loss, _, _, keys = model(*views_of(step), Context(step=step))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        model.follow()
        model.enqueue(keys)
        losses.append(float(loss.detach().mean()))
    assert sum(losses[-10:]) < 0.6 * sum(losses[5:15])
    assert all(parameter.grad is None for parameter in model.key.parameters())
    queries, keys = (functional.normalize(model.query(images), dim=1) for images in views_of(999))
    assert torch.equal((queries @ keys.T).argmax(1), torch.arange(SIZE))  # each picture finds its other view


def test_without_mixing_it_is_plain_moco():
    torch.manual_seed(0)
    model = MoCoMix(Mixup().eval())
    old = model.queue.clone()
    loss, _, queries, keys = model(*views_of(0), Context())
    torch.testing.assert_close(loss, info_nce(queries, keys, old, torch.arange(SIZE)))
