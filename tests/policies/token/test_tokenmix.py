"""TokenMix: blocks of patches, and labels by what each clean image shows of itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.models import BinaryCrossEntropy, MixClassifier
from openmixup.policies import Batch, Context, TokenMix
from openmixup.policies.token.tokenmix import kept_and_pasted
from openmixup.testing import count_operators

IMAGES = torch.randn(5, 3, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4])
OPTIONS = {'img_size': 28, 'patch_size': 4, 'depth': 2, 'embed_dim': 24, 'num_heads': 3}
VIT = {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': OPTIONS}


class Probe:
    """Networks whose answers the test writes down."""

    def __init__(self, answer: Tensor) -> None:
        self.answer, self.asked = answer, []

    def attention(self, images: Tensor, of: str) -> Tensor:
        self.asked.append(('attention', of))
        return self.answer

    def cam(self, images: Tensor, labels: Tensor, of: str) -> Tensor:
        self.asked.append(('cam', of))
        return self.answer


def looked(seed: int = 0, grid: tuple[int, int] = (14, 14)) -> Tensor:
    return torch.rand(5, 3, *grid, generator=torch.Generator().manual_seed(seed)) ** 2


def planned(policy: TokenMix, answer: Tensor, seed: int = 0, images: Tensor = IMAGES):
    """The only view."""
    return policy(Batch(images, LABELS), Context(seed=seed, probe=Probe(answer))).views[0]


def fixed(lam: float, **arguments) -> TokenMix:
    policy = TokenMix(**arguments)
    vars(policy)['draw_lam'] = lambda count, rng: torch.full((count,), lam, dtype=torch.float64)
    return policy


def by_hand(view, maps: Tensor) -> np.ndarray:
    """Each map over the cells where its image shows, one cell after the other."""
    rows, columns = maps.shape[1:]
    height, width = view.inputs.shape[2] // rows, view.inputs.shape[3] // columns
    found = np.zeros((5, 2))
    for i in range(5):
        for k in (0, 1):
            a = maps[view.mixture.index[i, k]].double().numpy()
            a = a / a.sum()
            for row in range(rows):
                for column in range(columns):
                    found[i, k] += a[row, column] * float(view.masks[i, k, row * height, column * width])
    return found


@pytest.mark.parametrize('kind', ['block', 'random'])
@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('grid', [(14, 14), (7, 14), (4, 4)])
def test_each_image_counts_by_its_own_map_where_it_shows(kind, per, grid):
    """The map of the own image over what stays and that of the partner over what is pasted, not the other way round."""
    for seed in range(4):
        answer = looked(seed, grid)
        view = planned(TokenMix(per=per, kind=kind), answer, seed)
        np.testing.assert_allclose(view.mixture.weight.numpy(), by_hand(view, answer.mean(1)), atol=1e-5)
        assert view.mixture.index[:, 1].tolist() == [4, 3, 2, 1, 0]
        again = (view.masks[:, :, None] * IMAGES[view.mixture.index]).sum(1)
        torch.testing.assert_close(view.inputs, again)


def test_the_budget_is_112_of_196_cells():
    for seed in range(20):
        view = planned(TokenMix(kind='random'), looked(), seed)
        cells = view.masks[:, 1, ::2, ::2]
        assert torch.equal(cells.sum((1, 2)), torch.full((5,), 112.0))
        assert torch.equal(view.masks[:, 1], cells.repeat_interleave(2, 1).repeat_interleave(2, 2))
        blocks = planned(TokenMix(), looked(), seed).masks[0, 1, ::2, ::2]
        assert 100 <= int(blocks.sum()) <= 112


@pytest.mark.parametrize(
    ('lam', 'cells'), [(0.0, 196), (0.05, 196), (0.3, 137 + 14), (0.5, 112), (0.999, 14), (1.0, 14)]
)
def test_cells_by_lam(lam, cells):
    view = planned(fixed(lam, kind='random', alpha=1.0), looked())
    assert int(view.masks[0, 1, ::2, ::2].sum()) == cells


def test_the_budget_grows_with_the_grid():
    for grid in ((7, 7), (28, 28), (4, 7), (2, 2)):
        view = planned(TokenMix(kind='random'), looked(grid=grid))
        total = grid[0] * grid[1]
        share = float(view.masks[0, 1].mean())
        assert share == pytest.approx((total // 2 + round(total / 14)) / total)


def test_even_maps_give_labels_by_area():
    for answer in (torch.full((5, 3, 14, 14), 0.004), torch.zeros(5, 3, 14, 14)):
        for seed in range(5):
            view = planned(TokenMix(per='sample'), answer, seed)
            torch.testing.assert_close(view.mixture.weight, view.masks.mean((2, 3)))


def test_a_map_of_one_cell_counts_whole_or_not_at_all():
    answer = torch.zeros(5, 1, 14, 14)
    answer[:, :, 5, 9] = 1
    kinds = set()
    for seed in range(20):
        view = planned(TokenMix(per='sample'), answer, seed)
        expected = view.masks[:, :, 10, 18]
        torch.testing.assert_close(view.mixture.weight, expected)
        kinds.update(map(tuple, expected.int().tolist()))
    assert kinds == {(0, 1), (1, 0)}


def test_weights_need_not_sum_to_one_unless_asked_to():
    assert not TokenMix().normalised
    assert TokenMix(normalise=True).normalised
    for seed in range(5):
        plain = planned(TokenMix(), looked(seed), seed).mixture.weight
        scaled = planned(TokenMix(normalise=True), looked(seed), seed).mixture.weight
        assert float((plain.sum(1) - 1).abs().max()) > 1e-3
        torch.testing.assert_close(scaled, plain / plain.sum(1, keepdim=True))


def test_one_image_at_both_ends_of_the_weights():
    maps = torch.tensor([[[0.7, 0.3]], [[0.1, 0.9]]])
    own = torch.tensor([[[1.0, 0.0]]])
    expected = torch.tensor([[0.7, 0.9], [0.1, 0.3]])
    torch.testing.assert_close(kept_and_pasted(maps, own, torch.tensor([1, 0])), expected)
    torch.testing.assert_close(kept_and_pasted(maps, own * 0 + 1, torch.tensor([1, 0])), torch.tensor([[1.0, 0]] * 2))


def test_lam_is_a_half_or_drawn():
    rng = torch.Generator().manual_seed(0)
    assert torch.equal(TokenMix().draw_lam(4, rng), torch.full((4,), 0.5, dtype=torch.float64))
    assert TokenMix().lam_beta is None
    assert TokenMix(alpha=0.7).lam_beta == (0.7, 0.7)
    assert len(TokenMix(alpha=0.7).draw_lam(4, rng).unique()) == 4


@pytest.mark.parametrize(('arguments', 'asked', 'needs'), [
    ({}, ('attention', 'student'), ('attention',)),
    ({'teacher': 'momentum'}, ('attention', 'teacher'), ('attention', 'teacher')),
    ({'maps': 'cam'}, ('cam', 'student'), ('cam',)),
    ({'maps': 'cam', 'teacher': 'momentum'}, ('cam', 'teacher'), ('cam', 'teacher')),
    ({'teacher': {'type': 'TimmBackbone', 'model': 'vit'}}, ('attention', 'tokenmix'), ('features',)),
])  # fmt: skip
def test_whose_maps_are_taken(arguments, asked, needs):
    policy = TokenMix(**arguments)
    assert policy.needs == needs
    answer = looked() if asked[0] == 'attention' else looked().mean(1) - 0.2
    probe = Probe(answer)
    view = policy(Batch(IMAGES, LABELS), Context(probe=probe)).views[0]
    assert probe.asked == [asked]
    maps = answer.mean(1) if asked[0] == 'attention' else answer.clamp_min(0)
    np.testing.assert_allclose(view.mixture.weight.numpy(), by_hand(view, maps), atol=1e-5)


def test_maps_are_brought_to_another_grid():
    for answer, shape in ((looked(grid=(7, 7)), (14, 14)), (looked(grid=(14, 14)), (7, 4))):
        view = planned(TokenMix(grid=shape), answer)
        small = torch.nn.functional.interpolate(
            answer.mean(1, keepdim=True), size=shape, mode='bilinear', antialias=True
        )[:, 0]
        np.testing.assert_allclose(view.mixture.weight.numpy(), by_hand(view, small), atol=1e-5)
        cells = view.masks[:, 0, :: 28 // shape[0], :: 28 // shape[1]]
        assert torch.equal(
            view.masks[:, 0], cells.repeat_interleave(28 // shape[0], 1).repeat_interleave(28 // shape[1], 2)
        )


def test_through_the_learner_with_the_loss_of_the_paper():
    """Clean maps in eval mode without gradient; binary cross-entropy with weights that are not scaled."""
    torch.manual_seed(0)
    model = MixClassifier(
        {**VIT, 'drop_path': 0.5}, {'type': 'LinearHead', 'num_classes': 5}, {'type': 'TokenMix'}, BinaryCrossEntropy()
    ).train()
    passes = []
    block = model.student.backbone.net.blocks[0]
    block.register_forward_hook(lambda m, a, out: passes.append((m.training, out.requires_grad)))
    model.loss(IMAGES, LABELS)['loss_main'].backward()
    assert passes == [(False, False), (True, True)]
    model.eval()
    model.policy.train()
    terms = model.loss(IMAGES, LABELS)
    (view,) = model.last_plan.views
    maps = model.student(IMAGES, read=('attention',)).attention.mean(1)
    expected = by_hand(view, maps)
    np.testing.assert_allclose(view.mixture.weight.numpy(), expected, atol=1e-5)
    target = np.zeros((5, 5))
    for i in range(5):
        target[i, LABELS[i]] += expected[i, 0]
        target[i, LABELS[4 - i]] += expected[i, 1]
    target = torch.tensor(target).clamp(max=1).float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(view.inputs), target)
    torch.testing.assert_close(terms['loss_main'], loss)


def test_a_convolutional_network_learns_by_its_own_class_activation_map_or_a_teacher():
    torch.manual_seed(0)
    net = {'type': 'TimmBackbone', 'model': 'resnet10t', 'stem': 'cifar'}
    head = {'type': 'LinearHead', 'num_classes': 5}
    for policy in ({'type': 'TokenMix', 'maps': 'cam'}, {'type': 'TokenMix', 'teacher': dict(VIT)}):
        model = MixClassifier(net, head, policy)
        model.loss(IMAGES, LABELS)['loss_main'].backward()
        view = model.last_plan.views[0]
        assert not view.mixture.weight.requires_grad
        if 'teacher' in policy:
            maps = model.probe().attention(IMAGES, of='tokenmix').mean(1)
            assert maps.shape[1:] == (7, 7)
            np.testing.assert_allclose(view.mixture.weight.numpy(), by_hand(view, maps), atol=1e-5)


def test_what_has_no_class_activation_map_is_refused():
    head = {'type': 'LinearHead', 'num_classes': 5}
    net = {'type': 'TimmBackbone', 'model': 'resnet10t'}
    with pytest.raises(InputError, match='takes the map of the true class, but the labels are soft'):
        MixClassifier(net, head, {'type': 'TokenMix', 'maps': 'cam'}, target='soft')
    with pytest.raises(InputError, match='TokenMix needs the attention of a class token'):
        MixClassifier(net, head, {'type': 'TokenMix'})


@pytest.mark.parametrize('around', [
    lambda policy: policy, lambda policy: {'type': 'LUMix', 'policy': policy},
    lambda policy: {'type': 'RandomChoice', 'policies': [{'type': 'Mixup'}, policy]},
])  # fmt: skip
def test_a_teacher_without_attention_is_refused_when_the_model_is_built(around):
    policy = {'type': 'TokenMix', 'teacher': {'type': 'TimmBackbone', 'model': 'resnet10t'}}
    with pytest.raises(InputError, match=r"with its frozen network 'tokenmix' needs the attention .* with ResNet"):
        MixClassifier(dict(VIT), {'type': 'LinearHead', 'num_classes': 5}, around(policy))


def test_no_option_launches_more_operators_than_declared():
    policy = TokenMix(grid=(3, 5), normalise=True)
    images, labels = torch.zeros(6, 3, 8, 8, device='meta'), torch.zeros(6, dtype=torch.long, device='meta')
    assert count_operators(policy, images, labels) <= TokenMix.operators


@pytest.mark.parametrize('arguments', [
    {'alpha': 0.0}, {'kind': 'blocks'}, {'grid': 14}, {'grid': (14,)}, {'grid': (14, 0)}, {'grid': (14.0, 14)},
    {'maps': 'camera'}, {'teacher': 'me'}, {'teacher': {}}, {'normalise': 1}, {'per': 'image'},
    {'maps': 'cam', 'teacher': {'type': 'CifarResNet'}},
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(InputError, match=rf'TokenMix\({next(iter(arguments))}='):
        TokenMix(**arguments)
