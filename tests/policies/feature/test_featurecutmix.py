"""Feature CutMix: CutMix at layer 0, the same part of the map at any hidden layer, in the layouts of all networks."""

from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, CutMix, FeatureCutMix, Tap
from openmixup.policies.context import Network
from openmixup.policies.feature.featurecutmix import covered, pasted

IMAGES = torch.randn(6, 3, 16, 24, generator=torch.Generator().manual_seed(0))
SQUARES = IMAGES[..., :16].contiguous()
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
NETWORK = Network(5, 8, ('early', 'late'), (4, 8), (1, -1), prefix_tokens=1, name='a small one')
TOKENS = {'img_size': 16, 'patch_size': 4, 'depth': 3, 'embed_dim': 24, 'num_heads': 3}
CAIT = {**TOKENS, 'init_values': 1.0}  # of 1e-5 the blocks would change next to nothing
WINDOWS = {
    'img_size': 16, 'patch_size': 2, 'window_size': 4, 'depths': (1, 1), 'embed_dim': 12, 'num_heads': (2, 2),
}  # fmt: skip
BACKBONES = {
    'cifar_resnet': {'type': 'CifarResNet', 'depth': 8, 'width': 4},
    'vit': {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': TOKENS},
    'cait': {'type': 'TimmBackbone', 'model': 'cait_xxs24_224', 'options': CAIT},
    'swin': {'type': 'TimmBackbone', 'model': 'swin_tiny_patch4_window7_224', 'options': WINDOWS},
}


def only(layer: int, network: Network = NETWORK, **arguments) -> FeatureCutMix:
    policy = FeatureCutMix(layers=(layer, layer + 1), **arguments)
    policy.bind(network)
    return policy


def view(policy, seed=0, rank=0, images=IMAGES):
    return policy(Batch(images, LABELS), Context(seed=seed, rank=rank)).views[0]


def learner(backbone: str, policy: FeatureCutMix) -> MixClassifier:
    torch.manual_seed(0)
    model = MixClassifier(dict(BACKBONES[backbone]), {'type': 'LinearHead', 'num_classes': 5}, policy)
    for parameter in model.student.heads.parameters():
        parameter.data.mul_(100)  # so that the logits tell samples apart
    return model


def edges_of(*boxes: tuple[float, float, float, float]) -> Tensor:
    """(2, b, 2) of boxes (top, left, bottom, right), in pixels."""
    return torch.tensor(boxes, dtype=torch.float32).view(-1, 2, 2).transpose(0, 1)


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('pairing', ['permutation', 'derangement', 'flip'])
@pytest.mark.parametrize('minmax', [None, (0.25, 0.5)])
def test_layer_0_is_cutmix_bit_for_bit(minmax, pairing, per):
    for seed in range(5):
        policies = only(0, alpha=0.7, per=per, pairing=pairing, minmax=minmax), CutMix(0.7, per, pairing, minmax)
        ours, cutmixs = (view(policy, seed) for policy in policies)
        assert torch.equal(ours.inputs, cutmixs.inputs)
        assert torch.equal(ours.mixture.index, cutmixs.mixture.index)
        assert torch.equal(ours.mixture.weight, cutmixs.mixture.weight)
        assert torch.equal(ours.masks, cutmixs.masks)
        assert ours.tap is None


@pytest.mark.parametrize('per', ['batch', 'sample'])
def test_labels_and_partners_do_not_depend_on_the_layer(per):
    for seed in range(10):
        pairs = [view(only(layer, per=per), seed).mixture for layer in range(3)]
        for pair in pairs[1:]:
            assert torch.equal(pair.index, pairs[0].index)
            torch.testing.assert_close(pair.weight, pairs[0].weight)


def test_layers_of_the_half_open_range_are_drawn_alike_and_by_all_ranks():
    policy, found = FeatureCutMix(layers=(0, 3)), Counter()
    policy.bind(NETWORK)
    for seed in range(600):
        first, second = (view(policy, seed, rank) for rank in range(2))
        stage = None if first.tap is None else first.tap.stage
        assert stage == (None if second.tap is None else second.tap.stage)
        found[stage] += 1
    assert set(found) == {None, 0, 1}
    for hits in found.values():
        assert abs(hits - 200) <= 5 * sqrt(600 * 2 / 9)


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('size', [(8, 8), (4, 6), (2, 4), (1, 1)])
def test_a_cell_takes_from_the_partner_what_the_box_covers_of_it(size, per):
    """The mask of CutMix, averaged over the pixels under each cell."""
    for seed in range(8):
        ours, masks = view(only(1, per=per), seed), view(CutMix(per=per), seed).masks
        hidden = torch.randn(6, 5, *size)
        taken = functional.adaptive_avg_pool2d(masks[:, 1:], size)
        expected = torch.lerp(hidden, hidden[ours.mixture.index[:, 1]], taken)
        torch.testing.assert_close(ours.tap.function(hidden), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('size', [(7, 9), (16, 5), (3, 3), (1, 1), (31, 17)])
def test_the_map_holds_as_much_of_each_source_as_its_labels(size):
    """A map of one for the first sample and zero for the others tells who is where."""
    for seed in range(8):
        ours = view(only(1, per='sample'), seed)
        for source in range(6):
            hidden = torch.zeros(6, 1, *size)
            hidden[source] = 1
            share = ours.tap.function(hidden).mean((1, 2, 3))
            expected = (ours.mixture.weight * (ours.mixture.index == source)).sum(1)
            torch.testing.assert_close(share, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('scale', [1, 4, 7, 32])
def test_where_edges_meet_it_is_a_plain_box(scale):
    hidden, partner = torch.randn(3, 4, 8, 6), torch.tensor([2, 0, 1])
    expected = hidden.clone()
    expected[:, :, 2:6, 1:4] = hidden[partner][:, :, 2:6, 1:4]
    box, size = scale * edges_of((2, 1, 6, 4)), (8 * scale, 6 * scale)
    assert torch.equal(pasted(hidden, partner, box, 1, 0, size), expected)
    last = pasted(hidden.movedim(1, -1), partner, box, -1, 0, size)
    assert torch.equal(last, expected.movedim(1, -1))


@pytest.mark.parametrize('prefix', [0, 1, 3])
def test_tokens_are_cut_on_the_grid_of_their_patches(prefix):
    """The patches as a map; the tokens in front by the area of the box."""
    hidden, partner = torch.randn(3, prefix + 12, 7), torch.tensor([2, 0, 1])
    boxes = edges_of((4, 12, 32, 60), (0, 0, 48, 64), (24, 32, 24, 64))
    found = pasted(hidden, partner, boxes, -1, prefix, (48, 64))  # 3 rows and 4 columns of patches
    grid = hidden[:, prefix:].transpose(1, 2).unflatten(2, (3, 4))
    expected = pasted(grid, partner, boxes, 1, 0, (48, 64)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found[:, prefix:], expected)
    area = torch.tensor([28 * 48 / (48 * 64), 1, 0])[:, None, None]
    torch.testing.assert_close(found[:, :prefix], torch.lerp(hidden, hidden[partner], area)[:, :prefix])


def test_a_stage_that_the_class_token_has_not_joined_yet_has_patches_only():
    hidden, partner, box = torch.randn(3, 12, 7), torch.tensor([2, 0, 1]), edges_of((16, 0, 32, 64))
    assert torch.equal(pasted(hidden, partner, box, -1, 1, (48, 64)), pasted(hidden, partner, box, -1, 0, (48, 64)))


def test_each_stage_is_read_in_the_layout_of_the_network():
    """The second stage of NETWORK has its channels behind: as a map, and as tokens of 4 x 6 patches behind another."""
    tap = view(only(2, per='sample')).tap
    grid = view(only(1, per='sample')).tap.function(hidden := torch.randn(6, 8, 4, 6))
    assert tap.stage == 1
    torch.testing.assert_close(tap.function(hidden.movedim(1, -1)), grid.movedim(1, -1))
    patches = hidden.flatten(2).transpose(1, 2)
    found = tap.function(torch.cat([torch.zeros(6, 1, 8), patches], 1))
    torch.testing.assert_close(found[:, 1:], grid.flatten(2).transpose(1, 2))


def test_cells_are_covered_in_part_at_the_edges_of_a_box():
    rows = torch.tensor([[0.6, 1, 0.6, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0.2, 0, 0]])
    columns = torch.tensor([[1, 0], [0.5, 1], [1, 1], [0, 1]])
    boxes = edges_of((2, 0, 13, 3), (0, 1.5, 20, 6), (10, 0, 10, 6), (6, 3, 7, 6))
    torch.testing.assert_close(covered(boxes, (20, 6), (4, 2)), rows[:, :, None] * columns[:, None])


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('name', BACKBONES)
def test_a_network_goes_on_with_what_was_pasted(name, per):
    model = learner(name, FeatureCutMix(layers=(2, 3), per=per)).eval()
    model.policy.train()
    made, _ = model.plan(SQUARES, LABELS)
    (ours,) = made.views
    index = ours.mixture.index[:, 1]
    backbone = model.student.backbone
    taken = 1 - view(CutMix(per=per), model.context.seed, images=SQUARES).masks[:, :1]

    def by_hand(hidden: Tensor) -> Tensor:
        grid = backbone.to_map(hidden, backbone.channel_dims[1], (16, 16))
        mask = functional.adaptive_avg_pool2d(taken, grid.shape[-2:])
        if hidden.ndim == 3:
            prefix = hidden.shape[1] - grid.shape[2] * grid.shape[3]
            mask = torch.cat([mask.mean((2, 3)).expand(-1, prefix), mask.flatten(1)], 1)[..., None]
        elif backbone.channel_dims[1] == -1:
            mask = mask.movedim(1, -1)
        return torch.lerp(hidden, hidden[index], mask)

    found = model.run_views(made)[0].logits
    torch.testing.assert_close(found, model.student(SQUARES, tap=Tap(1, by_hand)).logits, rtol=1e-4, atol=1e-4)
    assert float((found - model.student(SQUARES).logits).detach().abs().max()) > 0.05
    assert ours.inputs is SQUARES
    assert ours.masks is None


def test_both_samples_get_gradient():
    hidden = torch.randn(2, 3, 4, 4, requires_grad=True)
    box = edges_of((4, 0, 12, 16))
    (gradient,) = torch.autograd.grad(pasted(hidden, torch.tensor([1, 0]), box, 1, 0, (16, 16))[0].sum(), hidden)
    assert gradient[:, 0, :, 0].tolist() == [[1, 0, 0, 1], [0, 1, 1, 0]]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_type_and_memory_format_are_kept(dtype):
    hidden, tap = torch.randn(6, 8, 5, 4).to(dtype), view(only(1)).tap.function
    found, last = tap(hidden), tap(hidden.contiguous(memory_format=torch.channels_last))
    assert found.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert last.dtype == found.dtype == dtype
    assert torch.equal(last, found)


def test_nothing_is_read_from_the_device():
    tap = view(only(1), images=IMAGES.to('meta')).tap
    assert tap.function(torch.empty(6, 4, 5, 5, device='meta')).shape == (6, 4, 5, 5)


@pytest.mark.parametrize('name', BACKBONES)
def test_it_trains_through_the_learner(name):
    model = learner(name, FeatureCutMix(layers=(0, 3))).train()
    for step in range(6):
        model.context = Context(step=step)
        model.zero_grad()
        model.loss(SQUARES, LABELS)['loss_main'].backward()
        gradients = [p.grad for p in model.student.backbone.parameters()]
        assert all(bool(g.isfinite().all()) and bool(g.any()) for g in gradients)


def test_wrong_layers_and_networks_are_refused():
    with pytest.raises(InputError, match=r'FeatureCutMix\(layers=\(3, 3\)\): expected two whole numbers'):
        FeatureCutMix(layers=(3, 3))
    with pytest.raises(InputError, match=r'FeatureCutMix\(minmax=\(2, 1\)\)'):
        FeatureCutMix(minmax=(2, 1))
    with pytest.raises(InputError, match='17 tokens form no grid for an image of 16x24'):
        view(only(2)).tap.function(torch.randn(6, 17, 8))
    with pytest.raises(InputError, match=r'layers up to 3, but a small one has 2 hidden stages .*end the range at 3'):
        FeatureCutMix(layers=(0, 4)).bind(NETWORK)
    with pytest.raises(InputError, match='does not know its network'):
        view(FeatureCutMix(layers=(1, 2)))
    with pytest.raises(InputError, match=r'hidden stage of shape \(6, 9\): expected a feature map or tokens'):
        view(only(1)).tap.function(torch.randn(6, 9))
