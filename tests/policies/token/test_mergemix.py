"""MergeMix: the best patches by the attention of a pass that merges tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, MergeMix

IMAGES = torch.randn(5, 3, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4])
OPTIONS = {'img_size': 28, 'patch_size': 4, 'depth': 3, 'embed_dim': 24, 'num_heads': 3}
VIT = {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': OPTIONS}


class Probe:
    """A network whose answer the test writes down."""

    def __init__(self, answer: Tensor) -> None:
        self.answer, self.asked = answer, []

    def merged_attention(self, images: Tensor, merge: float, block: int) -> Tensor:
        self.asked.append((images is IMAGES, merge, block))
        return self.answer


def looked(seed: int = 0, grid: tuple[int, int] = (14, 14)) -> Tensor:
    return torch.rand(5, *grid, generator=torch.Generator().manual_seed(seed))


def planned(policy: MergeMix, answer: Tensor, seed: int = 0):
    return policy(Batch(IMAGES, LABELS), Context(seed=seed, probe=Probe(answer))).views


def fixed(lam: float, **arguments) -> MergeMix:
    policy = MergeMix(mixup=None, **arguments)
    vars(policy)['draw_lam'] = lambda count, rng: torch.full((count,), lam, dtype=torch.float64)
    return policy


@pytest.mark.parametrize('lam', [0.0, 0.004, 0.3, 0.5, 0.996, 1.0])
@pytest.mark.parametrize('grid', [(14, 14), (7, 7), (4, 7)])
def test_the_best_int_lam_t_patches_of_each_image_stay(lam, grid):
    total, answer = grid[0] * grid[1], looked(grid=grid)
    (view,) = planned(fixed(lam), answer)
    kept = int(lam * total)
    height, width = 28 // grid[0], 28 // grid[1]
    for i in range(5):
        best = np.argsort(-answer[i].numpy().ravel(), kind='stable')[:kept]
        own = np.zeros(total)
        own[best] = 1
        own = np.kron(own.reshape(grid), np.ones((height, width)))
        np.testing.assert_array_equal(view.masks[i, 0].numpy(), own)
        partner = int(view.mixture.index[i, 1])
        assert partner != i
        expected = IMAGES[i].numpy() * own + IMAGES[partner].numpy() * (1 - own)
        np.testing.assert_allclose(view.inputs[i].numpy(), expected, atol=1e-6)
        assert float(view.mixture.weight[i, 0]) == pytest.approx(kept / total, abs=1e-6)
    torch.testing.assert_close(view.mixture.weight.sum(1), torch.ones(5))


def test_no_sample_is_forced_to_be_whole():
    """The weights follow each lam, and not the least and the greatest of the batch."""
    policy = MergeMix(per='sample', mixup=None)
    for seed in range(10):
        (view,) = planned(policy, looked(seed), seed)
        drawn = policy.draw_lam(5, _behind_the_pairs(seed))
        expected = (drawn * 196).long() / 196
        torch.testing.assert_close(view.mixture.weight[:, 0], expected.float())


def _behind_the_pairs(seed: int) -> torch.Generator:
    rng = Context(seed=seed).rng
    torch.randperm(5, generator=rng)
    return rng


def test_a_mixup_of_the_same_batch_is_learned_beside_it():
    first, second = planned(MergeMix(mixup=0.8), looked())
    for view in (first, second):
        assert view.share == 1
        assert view.mixture.index[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert not torch.equal(first.mixture.weight, second.mixture.weight)
    for i in range(5):
        lam, partner = float(second.mixture.weight[i, 0]), int(second.mixture.index[i, 1])
        expected = lam * IMAGES[i] + (1 - lam) * IMAGES[partner]
        torch.testing.assert_close(second.inputs[i], expected)
    assert len(planned(MergeMix(mixup=None), looked())) == 1


def test_what_is_asked_of_the_network():
    probe = Probe(looked())
    MergeMix(merge=0.25, block=8)(Batch(IMAGES, LABELS), Context(probe=probe))
    assert probe.asked == [(True, 0.25, 8)]


@pytest.mark.parametrize('merge', [0.0, 0.5])
def test_through_the_learner(merge):
    """A clean pass in eval mode that ends at the block, and two that are trained."""
    torch.manual_seed(0)
    policy = {'type': 'MergeMix', 'merge': merge, 'block': 1}
    model = MixClassifier({**VIT, 'drop_path': 0.5}, {'type': 'LinearHead', 'num_classes': 5}, policy).train()
    blocks, passes = model.student.backbone.net.blocks, []
    for place in (0, 2):
        blocks[place].register_forward_hook(lambda m, a, out, place=place: passes.append((place, m.training)))
    terms = model.loss(IMAGES, LABELS)
    assert passes == [(0, False), *[(0, True), (2, True)] * 2]
    terms['loss_main'].backward()
    scores = model.probe().merged_attention(IMAGES, merge, 1)
    view = model.last_plan.views[0]
    for i in range(5):
        kept = view.masks[i, 0, ::4, ::4].bool()
        if 0 < int(kept.sum()) < 49:
            assert float(scores[i][kept].min()) >= float(scores[i][~kept].max())
    first, second = model.last_plan.views
    model.eval()
    expected = sum(
        torch.nn.functional.cross_entropy(model(v.inputs), v.mixture.soft(LABELS, 5)) for v in (first, second)
    )
    model.policy.train()
    torch.testing.assert_close(model.loss(IMAGES, LABELS)['loss_main'], expected)


def test_merging_changes_what_is_kept():
    torch.manual_seed(0)
    model = MixClassifier(VIT, {'type': 'LinearHead', 'num_classes': 5}, {'type': 'MergeMix'}).eval()
    with torch.no_grad():
        for block in model.student.backbone.net.blocks:
            block.attn.qkv.weight.mul_(20)
    model.policy.train()
    plain, merged = (planned_by(model, MergeMix(merge=merge, mixup=None)).masks[:, 0] for merge in (0.0, 0.75))
    assert plain.mean() == merged.mean()
    assert not torch.equal(plain, merged)


def planned_by(model: MixClassifier, policy: MergeMix):
    return policy(Batch(IMAGES, LABELS), Context(seed=1, probe=model.probe())).views[0]


def test_a_network_that_cannot_merge_is_refused():
    head = {'type': 'LinearHead', 'num_classes': 5}
    with pytest.raises(InputError, match='MergeMix needs the attention of a class token'):
        MixClassifier({'type': 'CifarResNet'}, head, {'type': 'MergeMix'})
    model = MixClassifier(VIT, head, {'type': 'MergeMix', 'block': 3})
    with pytest.raises(InputError, match='block 3 is asked for, but TimmBackbone has 3 blocks'):
        model.loss(IMAGES, LABELS)


@pytest.mark.parametrize('arguments', [
    {'merge': 1.0}, {'merge': -0.1}, {'merge': True}, {'merge': '0.5'}, {'block': 1.0}, {'block': False},
    {'mixup': 0.0}, {'mixup': True}, {'mixup': 'no'}, {'alpha': -1}, {'pairing': 'overlap'},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError, match=rf'MergeMix\({next(iter(arguments))}='):
        MergeMix(**arguments)
