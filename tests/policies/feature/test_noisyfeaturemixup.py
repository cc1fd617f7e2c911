"""Noisy Feature Mixup: ManifoldMix, and noise of known laws on the blend, drawn by a generator of its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from openmixup.errors import InputError
from openmixup.models import MixClassifier
from openmixup.policies import Batch, Context, ManifoldMix
from openmixup.policies.feature.noisyfeaturemixup import Noise, NoisyFeatureMixup
from openmixup.randomness import generator_on
from openmixup.testing import check_policy, count_operators

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
QUANTILES = {0.1: 0.0926, 0.25: 0.1612, 0.5: 0.2645, 0.75: 0.3895, 0.9: 0.5103}  # of Beta(2, 5)


def view(policy, seed=0, rank=0, images=IMAGES, **context):
    return policy(Batch(images, LABELS), Context(seed=seed, rank=rank, **context)).views[0]


def only(layer: int, **arguments) -> NoisyFeatureMixup:
    return NoisyFeatureMixup(layers=(layer, layer + 1), **arguments)


def noise_of(policy, seed=0, level: float = 1.0, shape=(6, 4, 20, 20)) -> Tensor:
    """What the tap of a policy of layer 1 makes of a hidden tensor that is ``level`` everywhere."""
    return view(policy, seed).tap.function(torch.full(shape, level, dtype=torch.float64))


@pytest.mark.parametrize('per', ['batch', 'sample'])
@pytest.mark.parametrize('pairing', ['permutation', 'derangement', 'flip'])
@pytest.mark.parametrize('own_stream', [True, False])
def test_without_noise_it_is_manifoldmix_bit_for_bit(pairing, per, own_stream):
    arguments = {'alpha': 0.7, 'layers': (0, 3), 'per': per, 'pairing': pairing}
    taps = set()
    for seed in range(12):
        made = []
        for policy in (ManifoldMix(**arguments), NoisyFeatureMixup(**arguments, add_noise=0, mult_noise=0)):
            made.append(view(policy, seed, generator=torch.Generator().manual_seed(seed) if own_stream else None))
        manifold, ours = made
        assert torch.equal(ours.mixture.index, manifold.mixture.index)
        assert torch.equal(ours.mixture.weight, manifold.mixture.weight)
        assert torch.equal(ours.inputs, manifold.inputs)
        assert (ours.tap and ours.tap.stage) == (manifold.tap and manifold.tap.stage)
        taps.add(ours.tap and ours.tap.stage)
        if ours.tap:
            hidden = torch.randn(6, 5, 4, 4)
            assert torch.equal(ours.tap.function(hidden), manifold.tap.function(hidden))
    assert taps == {None, 0, 1}


def test_noise_changes_neither_labels_nor_the_layer():
    for seed in range(8):
        ours, manifold = view(NoisyFeatureMixup(2.0, (0, 3)), seed), view(ManifoldMix(2.0, (0, 3)), seed)
        assert torch.equal(ours.mixture.weight, manifold.mixture.weight)
        assert torch.equal(ours.mixture.index, manifold.mixture.index)
        assert (ours.tap and ours.tap.stage) == (manifold.tap and manifold.tap.stage)


@pytest.mark.parametrize('layer', [0, 1])
@pytest.mark.parametrize('seed', range(4))
def test_the_formula_with_the_draws_of_the_stream(layer, seed):
    """(1 + s_m mult u) * blend + s_a add n, in NumPy, with draws made by hand in the order of the code."""
    policy, stream = only(layer, add_noise=0.5, mult_noise=0.3), torch.Generator().manual_seed(seed)
    made = view(policy, generator=torch.Generator().manual_seed(seed))
    own = float(torch.rand(1, generator=_behind_partners(stream), dtype=torch.float64))
    torch.randint(layer, layer + 1, (1,), generator=stream)
    strengths = torch._sample_dirichlet(torch.tensor([[2.0, 5.0]] * 2, dtype=torch.float64), generator=stream)
    add, mult = strengths[:, 0].tolist()
    device = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, (), generator=stream)))
    hidden = IMAGES if layer == 0 else torch.randn(6, 5, 7, 3)
    u = torch.empty(hidden.shape).uniform_(-0.3 * mult, 0.3 * mult, generator=device).numpy()
    n = torch.randn(hidden.shape, generator=device).numpy() * 0.5 * add
    partner = made.mixture.index[:, 1].tolist()
    assert float(made.mixture.weight[0, 0]) == pytest.approx(own)
    blend = own * hidden.numpy() + (1 - own) * hidden.numpy()[partner]
    found = made.inputs if layer == 0 else made.tap.function(hidden)
    torch.testing.assert_close(found, torch.from_numpy(((1 + u) * blend + n).astype('float32')), rtol=0, atol=1e-5)
    if layer:
        assert made.inputs is IMAGES


def _behind_partners(stream: torch.Generator) -> torch.Generator:
    torch.randperm(6, generator=stream)
    return stream


@pytest.mark.parametrize('kind', ['add', 'mult'])
def test_strengths_follow_beta_2_5_and_are_one_a_batch(kind):
    policy = only(1, **{'add_noise': 0.0, 'mult_noise': 0.0, f'{kind}_noise': 0.4}, pairing='flip')
    strengths = []
    for seed in range(400):
        noise = noise_of(policy, seed, shape=(6, 2, 16, 16)) - 1
        scale = noise.std(dim=(1, 2, 3)) / 0.4 * (1 if kind == 'add' else math.sqrt(3))
        assert float(scale.std() / scale.mean()) < 0.15  # samples of a batch share it
        strengths.append(float(scale.mean()))
    for share, value in QUANTILES.items():
        below = sum(strength < value for strength in strengths) / 400
        assert abs(below - share) < 5 * math.sqrt(share * (1 - share) / 400)


def test_additive_noise_is_normal_and_the_factor_even():
    added = noise_of(only(1, mult_noise=0), level=0.0, shape=(6, 4, 64, 64))
    added /= added.std()
    assert float(added.mean()) == pytest.approx(0, abs=0.02)
    assert float((added.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.01)
    assert float(added.pow(4).mean()) == pytest.approx(3, abs=0.15)
    factor = noise_of(only(1, add_noise=0), level=2.0, shape=(6, 4, 64, 64)) / 2 - 1
    bound = float(factor.abs().max())
    assert bound < 0.2
    assert float((factor.abs() < bound / 2).double().mean()) == pytest.approx(0.5, abs=0.01)
    assert float(factor.mean()) == pytest.approx(0, abs=0.01 * bound)
    assert not noise_of(only(1, add_noise=0), level=0.0).any()  # a factor leaves zeros alone


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('mult', [0.002, 0.01, 0.06])
def test_the_factor_is_even_in_half_precision_too(dtype, mult):
    """Drawn around 1 it would be rounded to steps of 1/256 and biased."""
    noise = Noise(0.0, mult, 3)
    hidden = torch.ones(200_000, dtype=dtype)
    change = noise.on(hidden * 256).float() - 256  # one more bit than there are in the factor is lost here
    drawn = torch.empty_like(hidden).uniform_(-mult, mult, generator=generator_on(hidden.device, 3)).float()
    assert abs(float(drawn.mean())) < 0.01 * mult
    assert float(drawn.std()) == pytest.approx(mult / math.sqrt(3), rel=0.02)
    assert torch.equal(change, (256 * (1 + drawn)).to(dtype).float() - 256)


def test_both_strengths_and_both_noises_are_drawn_apart():
    add, mult = [], []
    for seed in range(60):
        add.append(float(noise_of(only(1, mult_noise=0), seed, 0.0).std()) / 0.4)
        mult.append(float(noise_of(only(1, add_noise=0), seed).std()) / 0.2 * math.sqrt(3))
    assert abs(float(torch.corrcoef(torch.tensor([add, mult]))[0, 1])) < 0.6
    both = Noise(1.0, 1.0, 7).on(torch.ones(4000, dtype=torch.float64))
    factor = Noise(0.0, 1.0, 7).on(torch.ones(4000, dtype=torch.float64))
    assert abs(float(torch.corrcoef(torch.stack([both - factor, factor]))[0, 1])) < 0.08


def test_a_step_repeats_its_noise_and_others_have_their_own():
    """A continued run, and a pass that is run again (activation checkpoints), see the same; ranks and steps differ."""
    hidden = torch.randn(6, 5, 4, 4)
    tap = view(only(1)).tap.function
    assert torch.equal(tap(hidden), tap(hidden))
    assert torch.equal(tap(hidden), view(only(1)).tap.function(hidden))
    policy, base = only(0, alpha=9999, pairing='flip'), view(only(0, alpha=9999, pairing='flip')).inputs
    for other in ({'seed': 1}, {'rank': 1}, {'step': 1}):
        assert float((view(policy, **other).inputs - base).std()) > 0.01
    zeros = torch.zeros(6, 4, 40, 40)
    spread = [float(view(only(1), rank=rank).tap.function(zeros).std()) for rank in range(4)]
    assert max(spread) - min(spread) > 0.01  # of the strengths, which each rank draws for itself
    state = torch.get_rng_state()
    tap(hidden)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('shape', [(6, 8, 5, 4), (6, 7, 6), (6, 9)])
def test_type_shape_and_memory_format_are_kept(dtype, shape):
    tap, hidden = view(only(1)).tap.function, torch.randn(shape).to(dtype)
    found = tap(hidden)
    assert (found.shape, found.dtype) == (hidden.shape, dtype)
    if len(shape) == 4:
        last = tap(hidden.contiguous(memory_format=torch.channels_last))
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(last, found)


def test_gradients_pass_the_factor():
    hidden = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    made = view(only(1))
    made.tap.function(hidden).sum().backward()
    plus = made.tap.function(hidden.detach() + 1e-3 * torch.eye(6, 4)).sum()
    slope = (plus - made.tap.function(hidden.detach()).sum()) / 1e-3
    assert float(hidden.grad.diagonal().sum()) == pytest.approx(float(slope), abs=1e-6)


def test_few_operators_and_none_of_them_on_the_cpu():
    images, labels = IMAGES.to('meta'), LABELS.to('meta')
    policy = only(0)
    policy.needs = ()
    assert count_operators(policy, images, labels) <= 7
    assert view(only(1), images=images).tap.function(torch.empty(6, 4, 5, 5, device='meta')).is_meta


@pytest.mark.parametrize('policy', [only(0), only(2, per='sample'), NoisyFeatureMixup(2.0, (0, 3), 0.1, 1.0)], ids=repr)
def test_does_what_it_says(policy):
    check_policy(policy, raise_on_failure=True)


def test_trains_in_the_learner_and_leaves_evaluation_alone():
    model = MixClassifier(
        {'type': 'CifarResNet', 'depth': 8, 'width': 4}, {'type': 'LinearHead', 'num_classes': 5}, NoisyFeatureMixup()
    ).train()
    for step in range(6):
        model.context = Context(step=step)
        model.zero_grad()
        model.loss(IMAGES, LABELS)['loss_main'].backward()
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    quiet = view(NoisyFeatureMixup().eval())
    assert quiet.inputs is IMAGES
    assert quiet.tap is None


@pytest.mark.parametrize(('arguments', 'match'), [
    ({'add_noise': -1}, 'add_noise=-1'), ({'add_noise': True}, 'add_noise=True'), ({'add_noise': 'a'}, "add_noise='a'"),
    ({'add_noise': float('nan')}, 'add_noise=nan'), ({'mult_noise': 1.5}, 'mult_noise=1.5'),
    ({'mult_noise': -0.1}, 'mult_noise=-0.1'), ({'mult_noise': None}, 'mult_noise=None'),
    ({'layers': (2, 2)}, r'NoisyFeatureMixup\(layers=\(2, 2\)'), ({'alpha': 0}, 'alpha=0'),
])  # fmt: skip
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        NoisyFeatureMixup(**arguments)
