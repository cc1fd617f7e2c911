import math

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from openmixup.errors import InputError
from openmixup.policies.dynamic.mix_block import MixBlock

SAMIX = {'embedding': 'multiply', 'remap': 0.25, 'value': 'two_layer', 'joint': True, 'upsample': 'bilinear'}
KINDS = {
    'plain': {},
    'concat': {'embedding': 'concat'},
    'concat_value': {'embedding': 'concat_value'},
    'multiply': {'embedding': 'multiply'},
    'remapped': {'embedding': 'multiply', 'remap': 0.25},
    'two_layer': {'value': 'two_layer'},
    'norm': {'norm': True},
    'joint': {'joint': True},
    'joint_concat': {'joint': True, 'embedding': 'concat'},
    'joint_concat_value': {'joint': True, 'embedding': 'concat_value', 'norm': True},
    'samix': SAMIX,
}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def block_of(channels, options, spread=1.0):
    """A block in eval mode whose weights matter: wider than at the start, with biases."""
    block = MixBlock(channels, **options).eval()
    for i, parameter in enumerate(block.parameters()):
        parameter.data.copy_(noise(*parameter.shape, seed=i + 1) * spread)
    for name, buffer in block.named_buffers():
        if 'var' in name:
            buffer.data.copy_(noise(*buffer.shape, seed=9).abs() + 0.5)
    return block


def by_hand(block, features, partner, lam, remap, embedding):
    """(N, h * w) share of the own image, place by place, from the definition."""
    size, _, height, width = features.shape
    shares = torch.empty(size, height * width)

    def layers(layer, vector):
        return layer(vector[None, :, None, None]).flatten()

    def remapped(x):
        return x if remap == -1 else (4 / 3 * x**3 - 2 * x**2 + (remap + 1) * x) / (remap + 1 / 3)

    for n in range(size):
        own, other = features[n].flatten(1).T, features[partner[n]].flatten(1).T  # (places, C)
        x = float(lam[n])
        if embedding == 'multiply':
            own, other = own * (1 + remapped(x)), other * (1 + remapped(1 - x))
        if embedding == 'concat':
            own, other = functional.pad(own, (0, 1), value=x), functional.pad(other, (0, 1), value=1 - x)
        valued = functional.pad(other, (0, 1), value=1 - x) if embedding == 'concat_value' else other
        asks, answers = own, other
        if block.key is not None:
            asks = answers = torch.cat([own, other], 1)
        queries = torch.stack([layers(block.query, place) for place in asks])
        keys = torch.stack([layers(block.key or block.query, place) for place in answers])
        values = torch.cat([layers(block.value, place) for place in valued])
        for i in range(height * width):
            scores = torch.tensor([float(queries[i] @ key) for key in keys]) / math.sqrt(queries.shape[1])
            weights = scores.exp() / scores.exp().sum()
            shares[n, i] = 1 - torch.sigmoid((weights * values).sum())
    return shares


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_masks_follow_the_definition_place_by_place(kind):
    options = KINDS[kind]
    block = block_of(6, options)
    features, partner = noise(4, 6, 2, 3, seed=20), torch.tensor([2, 0, 3, 3])
    lam = torch.tensor([0.1, 0.35, 0.8, 0.6], dtype=torch.float64)
    masks = block(features, partner, block.encode(lam), (2, 3))
    expected = by_hand(block, features, partner, lam, options.get('remap', -1), options.get('embedding', 'none'))
    assert masks.shape == (4, 1, 2, 3)
    assert float(expected.std()) > 0.03
    torch.testing.assert_close(masks.flatten(1), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_shared_projections_change_nothing(kind):
    block = block_of(6, KINDS[kind])
    features, code = noise(4, 6, 2, 3), block.encode(torch.tensor([0.3], dtype=torch.float64))
    shared = block.project(features)
    for partner in (torch.tensor([1, 2, 3, 0]), torch.tensor([3, 2, 1, 0])):
        alone = block(features, partner, code, (4, 6))
        torch.testing.assert_close(block(features, partner, code, (4, 6), shared=shared), alone)
    found = (shared.query is not None, shared.value is not None)
    blind = KINDS[kind].get('embedding', 'none')
    assert found == (blind in ('none', 'concat_value') and 'joint' not in KINDS[kind], blind == 'none')


@torch.no_grad()
def test_the_logit_is_that_of_the_partner():
    """A value above 0 wherever the partner is bright gives the partner; the own brightness has no part in it."""
    block = MixBlock(2)
    torch.nn.init.zeros_(block.query[0].weight)  # all places count alike
    block.value[0].weight.fill_(10)
    features = torch.stack([torch.full((2, 3, 3), value) for value in (1.0, -1.0)])
    masks = block(features, torch.tensor([1, 0]), block.encode(torch.tensor([0.5])), (3, 3))
    assert float(masks[0].min()) > 0.999  # its partner is dark
    assert float(masks[1].max()) < 0.001


@pytest.mark.parametrize('options', [{}, {'embedding': 'concat'}, SAMIX, {**SAMIX, 'norm': True}])
@torch.no_grad()
def test_masks_start_near_one_half(options):
    """A linear value of 256 rectified normal channels is N(0, 0.064) at all places: a mask deviates by N(0, 0.016)."""
    mode, partner, gaps = options.get('upsample', 'nearest'), torch.arange(8).roll(1), []
    for seed in range(9):
        torch.manual_seed(seed)
        block = MixBlock(256, **options)
        code = block.encode(torch.tensor([0.1 + 0.1 * seed], dtype=torch.float64))
        masks = block(noise(8, 256, 8, 8, seed=seed).relu(), partner, code, (32, 32), mode)
        gaps.append(float((masks - 0.5).abs().max()))
    assert 0 < sorted(gaps)[4] <= 0.03
    assert max(gaps) <= 0.065
    torch.nn.init.zeros_(block.value[-1].weight)
    masks = block(noise(8, 256, 8, 8).relu(), partner, code, (32, 32), mode)
    assert torch.equal(masks, torch.full((8, 1, 32, 32), 0.5))


def test_weights_start_from_a_narrow_normal_law_and_biases_from_zero():
    torch.manual_seed(0)
    for module in MixBlock(256, **SAMIX).modules():
        if isinstance(module, torch.nn.Conv2d):
            assert float(module.weight.detach().std()) == pytest.approx(
                0.01, rel=5 / math.sqrt(2 * module.weight.numel())
            )
            assert float(module.bias.detach().abs().max()) == 0
            assert module.kernel_size == (1, 1)


@pytest.mark.parametrize(
    ('options', 'queries', 'values'),
    [
        ({}, 8, 8),
        ({'embedding': 'concat'}, 9, 9),
        ({'embedding': 'concat_value'}, 8, 9),
        ({'embedding': 'multiply'}, 8, 8),
        ({'joint': True}, 16, 8),
        ({'joint': True, 'embedding': 'concat'}, 18, 9),
        ({'joint': True, 'embedding': 'concat_value'}, 16, 9),
    ],
)
def test_channels(options, queries, values):
    block = MixBlock(8, **options)
    assert block.query[0].weight.shape == (4, queries, 1, 1)
    assert (block.key is not None) == options.get('joint', False)
    assert block.value[0].in_channels == values
    state = {f'here.{name}': value for name, value in block.state_dict().items()}
    full = {'joint': False, 'embedding': 'none', **options}
    assert MixBlock.channels_of(state, 'here.', full) == 8
    assert MixBlock.channels_of(state, 'there.', full) is None


@pytest.mark.parametrize('remap', [-1, 0.0, 0.25, 2.0])
def test_remap_keeps_the_ends_and_the_middle_and_is_symmetric(remap):
    block = MixBlock(2, embedding='multiply', remap=remap)
    lam = torch.linspace(0, 1, 21, dtype=torch.float64)
    ours, theirs = (block.encode(lam) - 1).double().unbind(1)
    torch.testing.assert_close(ours[[0, 10, 20]], torch.tensor([0, 0.5, 1], dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours + theirs, torch.ones_like(ours), rtol=0, atol=1e-6)
    assert bool((ours.diff() > 0).all())
    if remap == -1:
        torch.testing.assert_close(ours, lam, rtol=0, atol=1e-6)
    else:
        slope = float((ours[11] - ours[10]) / 0.05)
        assert slope == pytest.approx(remap / (remap + 1 / 3), abs=0.03)  # the derivative at 1/2


@pytest.mark.parametrize('mode', ['nearest', 'bilinear'])
@torch.no_grad()
def test_logits_are_enlarged_before_the_sigmoid(mode):
    block = block_of(6, {}, spread=2.0)
    features, code = noise(2, 6, 3, 4), block.encode(torch.tensor([0.5]))
    small = block(features, torch.tensor([1, 0]), code, (3, 4), mode)
    logits = functional.interpolate(torch.logit(1 - small), (8, 9), mode=mode)
    assert float(logits.abs().max()) > 1
    large = block(features, torch.tensor([1, 0]), code, (8, 9), mode)
    torch.testing.assert_close(large, 1 - logits.sigmoid(), rtol=0, atol=2e-3)  # the logit of a small number is rough
    late = functional.interpolate(small, (8, 9), mode=mode)
    assert mode == 'nearest' or float((late - large).abs().max()) > 0.01


def test_a_list_of_ways_to_enlarge_is_drawn_from():
    rng = torch.Generator().manual_seed(0)
    drawn = [MixBlock(2, upsample=['nearest', 'bilinear']).draw_mode(rng) for _ in range(400)]
    assert abs(drawn.count('nearest') - 200) < 5 * 10
    before = rng.get_state()
    assert MixBlock(2, upsample='bilinear').draw_mode(rng) == 'bilinear'
    assert torch.equal(rng.get_state(), before)


class Types(TorchDispatchMode):
    """Notes the types of the floating point inputs of each operator."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {x.dtype for x in args if isinstance(x, torch.Tensor) and x.is_floating_point()}
        self.seen.setdefault(func.overloadpacket.__name__, set()).update(given)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('options', [{}, SAMIX])
def test_attention_and_sigmoid_stay_in_float32_under_autocast(options):
    block = MixBlock(8, **options)
    mode = options.get('upsample', 'nearest')
    for features in (noise(4, 8, 3, 3), noise(4, 8, 3, 3).bfloat16()):
        with torch.autocast('cpu', torch.bfloat16), Types() as types:
            masks = block(features, torch.arange(4), block.encode(torch.tensor([0.3])), (6, 6), mode)
        assert masks.dtype == torch.float32
        assert types.seen['convolution'] == {torch.bfloat16}
        for name in ('bmm', '_softmax', 'sigmoid', f'upsample_{mode}2d'):
            assert types.seen[name] == {torch.float32}


@torch.no_grad()
def test_large_scores_do_not_overflow_under_autocast():
    block = MixBlock(8)
    block.query[0].weight.fill_(100)
    with torch.autocast('cpu', torch.bfloat16):
        masks = block(noise(2, 8, 3, 3) * 1e10, torch.tensor([1, 0]), block.encode(torch.tensor([0.3])), (6, 6))
    assert bool(masks.isfinite().all())


@pytest.mark.parametrize('bad', [math.nan, math.inf])
@torch.no_grad()
def test_features_that_are_not_finite_are_not_hidden(bad):
    features = noise(3, 8, 3, 3)
    features[1, 2, 0, 0] = bad
    block = MixBlock(8)
    masks = block(features, torch.tensor([1, 2, 0]), block.encode(torch.tensor([0.3])), (6, 6))
    assert masks.isnan().any((1, 2, 3)).tolist() == [True, True, False]


@pytest.mark.parametrize('kind', KINDS)
def test_runs_where_there_are_no_values(kind):
    block = MixBlock(8, **KINDS[kind]).to('meta')
    code = block.encode(torch.tensor([0.3])).to('meta')
    features = torch.empty(4, 8, 3, 3, device='meta')
    masks = block(features, torch.arange(4).to('meta'), code, (6, 6))
    masks.sum().backward()
    assert masks.shape == (4, 1, 6, 6)
    assert all(parameter.grad is not None for parameter in block.parameters())


@torch.no_grad()
def test_dropout_acts_in_training_only():
    block = MixBlock(8, value='two_layer', dropout=0.5)
    features, code = noise(4, 8, 3, 3), block.encode(torch.tensor([0.3]))
    first, second = (block(features, torch.arange(4), code, (3, 3)) for _ in range(2))
    assert not torch.equal(first, second)
    block.eval()
    first, second = (block(features, torch.arange(4), code, (3, 3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'channels': 0}, 'channels=0'),
        ({'channels': 2.0}, 'channels=2.0'),
        ({'embedding': 'concatt'}, "did you mean 'concat'"),
        ({'value': 'three_layer'}, "did you mean 'two_layer'"),
        ({'upsample': 'bicubic'}, 'nearest, bilinear'),
        ({'upsample': []}, 'upsample='),
        ({'upsample': 3}, "upsample='3'"),
        ({'remap': -0.2}, 'remap=-0.2'),
        ({'remap': math.inf}, 'remap=inf'),
        ({'remap': True}, 'remap=True'),
        ({'dropout': False}, 'dropout=False'),
        ({'dropout': 1.0, 'value': 'two_layer'}, 'dropout=1.0'),
        ({'dropout': 0.1}, "use value='two_layer'"),
        ({'joint': 'yes'}, "joint='yes'"),
        ({'norm': 1}, 'norm=1'),
    ],
)
def test_wrong_arguments_are_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        MixBlock(**{'channels': 4, **options})
