"""TL-Align: labels of patches go the way of the tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, CutMix, MixPolicy, Mixup, RandomChoice, TLAlign, TransMix, Vanilla
from openmixup.policies.token.tlalign import aligned_shares

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
OPTIONS = {'img_size': 16, 'patch_size': 4, 'depth': 3, 'embed_dim': 24, 'num_heads': 3}
VIT = {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': OPTIONS}


@dataclass
class Seen:
    """What a pass gives, as far as the policy looks at it."""

    rollout: Tensor | None = None
    attention: Tensor | None = None


def plan(policy: MixPolicy, seed: int = 0):
    return policy(Batch(IMAGES, LABELS), Context(seed=seed))


def finished(policy: MixPolicy, rollout: Tensor | None, seed: int = 0):
    """The only view before and after its pass."""
    before = plan(policy, seed)
    return before.views[0], policy.finish(before, (Seen(rollout),), Context(seed=seed)).views[0]


def rolled(maps: np.ndarray) -> Tensor:
    """(N, 4, 4) what the class token gets of 16 patches by attention maps (blocks, N, tokens, tokens)."""
    whole = np.broadcast_to(np.eye(maps.shape[2]), maps.shape[1:])
    for each in maps:
        whole = (each @ whole + whole) / 2
    return torch.tensor(whole[:, 0, -16:]).float().reshape(-1, 4, 4)


def by_classes(maps: np.ndarray, masks: Tensor, index: Tensor, area: Tensor) -> np.ndarray:
    """(N, 5) targets by the full matrix of labels, (tokens, classes), that each block aligns."""
    found = []
    for i in range(len(index)):
        onehot = np.eye(5)[LABELS[index[i]].numpy()]
        patches = masks[i].numpy().reshape(-1, 4, 4, 4, 4).mean((2, 4)).reshape(-1, 16)
        prefix = maps.shape[2] - 16
        tokens = np.concatenate([np.tile(area[i].numpy() @ onehot, (prefix, 1)), patches.T @ onehot])
        for each in maps:
            tokens = (each[i] @ tokens + tokens) / 2
            np.testing.assert_allclose(tokens.sum(1), 1, atol=1e-5)
        found.append(tokens[0])
    return np.stack(found)


@pytest.mark.parametrize('prefix', [1, 2])
@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_the_weights_of_the_sources_give_the_target_of_the_paper(per, prefix):
    random, moved = np.random.default_rng(0), []
    for seed in range(6):
        maps = random.random((4, 6, 16 + prefix, 16 + prefix)) ** 3
        maps /= maps.sum(3, keepdims=True)
        before, after = finished(TLAlign(CutMix(per=per)), rolled(maps), seed)
        expected = by_classes(maps, before.masks, before.mixture.index, before.mixture.weight)
        np.testing.assert_allclose(after.mixture.soft(LABELS, 5).numpy(), expected, atol=1e-5)
        torch.testing.assert_close(after.mixture.weight.sum(1), torch.ones(6))
        moved.append(float((after.mixture.weight - before.mixture.weight).abs().max()))
    assert max(moved) > 1e-3


@pytest.mark.parametrize('attention', ['identity', 'even'])
def test_even_attention_and_none_at_all_leave_the_area(attention):
    one = np.eye(17) if attention == 'identity' else np.full((17, 17), 1 / 17)
    rollout = rolled(np.broadcast_to(one, (12, 6, 17, 17)))
    for seed in range(20):
        before, after = finished(TLAlign(CutMix(per='sample')), rollout, seed)
        torch.testing.assert_close(after.mixture.weight, before.mixture.weight)


def test_one_block_gives_half_of_the_label_to_where_the_class_token_looks():
    maps = np.broadcast_to(np.eye(17), (1, 6, 17, 17)).copy()
    for seed in range(10):
        before = plan(TLAlign(CutMix()), seed).views[0]
        patch = seed % 16
        maps[:, :, 0] = np.eye(17)[1 + patch]
        _, after = finished(TLAlign(CutMix()), rolled(maps), seed)
        row, column = 4 * (patch // 4), 4 * (patch % 4)
        there = before.masks[:, :, row : row + 4, column : column + 4].mean((2, 3))
        torch.testing.assert_close(after.mixture.weight, (there + before.mixture.weight) / 2)


def test_three_sources():
    masks = torch.zeros(2, 3, 16, 16)
    masks[:, 0, :, :8], masks[:, 1, :8, 8:], masks[:, 2, 8:, 8:] = 1, 1, 1
    rollout, weight = torch.zeros(2, 4, 4), torch.tensor([[0.5, 0.25, 0.25]]).expand(2, -1)
    rollout[0, 0, 0], rollout[0, 3, 3], rollout[1, 0, 3] = 0.4, 0.2, 1.0
    expected = torch.tensor([[0.4 + 0.2, 0.1, 0.2 + 0.1], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(aligned_shares(rollout, masks, weight), expected)


def test_pairs_and_pictures_are_those_of_the_inner_policy():
    inner = plan(CutMix()).views[0]
    before, after = finished(TLAlign(), torch.rand(6, 4, 4).softmax(1) / 8)
    assert before.read == ('rollout',)
    for view in (before, after):
        assert torch.equal(view.inputs, inner.inputs)
        assert torch.equal(view.mixture.index, inner.mixture.index)
        assert torch.equal(view.masks, inner.masks)
    assert torch.equal(before.mixture.weight, inner.mixture.weight)
    assert after.inputs is before.inputs


@pytest.mark.parametrize('policy', [Mixup(), Vanilla()])
def test_what_has_no_regions_keeps_its_weights_and_reads_nothing(policy):
    before, after = finished(TLAlign(policy), None)
    assert before.read == ()
    assert torch.equal(after.mixture.weight, before.mixture.weight)


def test_no_gradient_flows_into_the_rollout():
    rollout = torch.rand(6, 4, 4).div(16).requires_grad_()
    _, after = finished(TLAlign(), rollout)
    assert not after.mixture.weight.requires_grad


@pytest.mark.parametrize('model', ['vit_tiny_patch16_224', 'deit_tiny_distilled_patch16_224'])
def test_through_the_learner(model):
    """One pass; the target is that of the attention of each block of an equal network without fused attention."""
    torch.manual_seed(0)
    learner = MixClassifier({**VIT, 'model': model}, {'type': 'LinearHead', 'num_classes': 5}, {'type': 'TLAlign'})
    learner.eval().policy.train()
    with torch.no_grad():  # attention that is far from even
        for block in learner.student.backbone.net.blocks:
            block.attn.qkv.weight.mul_(30)
    passes = []
    learner.student.register_forward_hook(lambda module, args, output: passes.append(1))
    learner.context = Context(seed=3)
    terms = learner.loss(IMAGES, LABELS)
    assert len(passes) == 1
    (view,) = learner.last_plan.views
    maps = []
    for block in learner.student.backbone.net.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, i, out: maps.append(out.mean(1)))
    logits = learner(view.inputs)
    expected = by_classes(torch.stack(maps).detach().numpy(), view.masks, view.mixture.index, view.masks.mean((2, 3)))
    target = view.mixture.soft(LABELS, 5)
    np.testing.assert_allclose(target.numpy(), expected, atol=1e-5)
    assert float((view.mixture.weight - view.masks.mean((2, 3))).abs().max()) > 1e-3
    torch.testing.assert_close(terms['loss_main'], torch.nn.functional.cross_entropy(logits, target))
    terms['loss_main'].backward()


def test_it_nests_with_choices_and_with_transmix():
    rollout, looked = torch.rand(6, 4, 4) / 16, torch.rand(6, 3, 4, 4)
    for policy in (RandomChoice([TLAlign()]), TLAlign(RandomChoice([CutMix()]))):
        before, after = finished(policy, rollout)
        expected = aligned_shares(rollout, before.masks, before.mixture.weight)
        torch.testing.assert_close(after.mixture.weight, expected)
    both = TLAlign(TransMix())
    made = plan(both)
    assert set(made.views[0].read) == {'attention', 'rollout'}
    done = both.finish(made, (Seen(rollout, looked),), Context())
    torch.testing.assert_close(done.views[0].mixture.weight.sum(1), torch.ones(6))


def test_a_network_without_a_class_token_is_refused():
    assert TLAlign().needs == ('attention',)
    with pytest.raises(InputError, match='TLAlign needs the attention of a class token'):
        MixClassifier({'type': 'CifarResNet'}, {'type': 'LinearHead', 'num_classes': 5}, {'type': 'TLAlign'})
