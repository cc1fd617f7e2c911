"""Noisy Feature Mixup (Lim et al., ICLR 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.context import Context
from openmixup.policies.feature.manifoldmix import ManifoldMix
from openmixup.policies.mixture import Batch, Tap, View
from openmixup.randomness import draw_seed, generator_on
from openmixup.registry import POLICIES

__all__ = ['NoisyFeatureMixup']

STRENGTH = (2.0, 5.0)  # parameters of the Beta law of both strengths


@POLICIES.register_module()
class NoisyFeatureMixup(ManifoldMix):
    r"""Blend two samples at a drawn layer as ManifoldMix does, then multiply and add noise; labels by lam alone.

    With h the blend, the next layer gets :math:`(1 + s_m\,\mathrm{mult\_noise}\;u) \odot h +
    s_a\,\mathrm{add\_noise}\;n`: u is uniform in [-1, 1] and n standard normal, both for each number of h, and the
    strengths s_m and s_a are drawn from Beta(2, 5) once a batch. Layer, partners and lam are those of ManifoldMix, bit
    for bit. Layer 0 is the input, in normalised units.

    The paper leaves the strengths open; Beta(2, 5), the levels and the range of layers are those of the authors' code
    as we recall it, not checked against it. Strengths are one a batch also with ``per='sample'``.

    Noise is drawn on the device, by a generator of its own that is seeded from the stream of the policy. A run that is
    continued draws the same again, but another kind of device draws other noise.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0.
        layers: (first, end): layers first to end - 1 are drawn alike. (0, 4) is the input and the first three stages.
        add_noise: greatest standard deviation of what is added, at least 0.
        mult_noise: greatest change of the factor 1, from 0 to 1.
        per: 'batch' for one lam a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
    """

    paper = 'https://arxiv.org/abs/2110.02180'
    exempt = {
        'label_equals_pixels': 'noise belongs to no source',
        'masks_equal_the_picture': 'noise belongs to no source',
        'pixels_stay_in_place': 'noise is added to the blend',
        'identical_images_stay_identical': 'noise is added to the blend',
        'per_means_what_it_says': 'each image has noise of its own',
    }

    def __init__(
        self,
        alpha: float = 1.0,
        layers: tuple[int, int] = (0, 4),
        add_noise: float = 0.4,
        mult_noise: float = 0.2,
        per: str = 'batch',
        pairing: str = 'permutation',
    ) -> None:
        super().__init__(alpha, layers, per, pairing)
        if not is_number(add_noise) or not 0 <= add_noise < 1e4:
            raise InputError(
                f'NoisyFeatureMixup(add_noise={add_noise!r}): expected a number from 0 to 10000, a standard deviation; '
                'the authors have 0.4.'
            )
        if not is_number(mult_noise, 0, 1):
            raise InputError(
                f'NoisyFeatureMixup(mult_noise={mult_noise!r}): expected a number from 0 to 1, a share; the authors '
                'have 0.2.'
            )
        self.add_noise, self.mult_noise = add_noise, mult_noise

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """That of ManifoldMix with noise on what is blended."""
        clean = super().view(batch, partner, lam, ctx)
        law = torch.tensor([STRENGTH, STRENGTH], dtype=torch.float64)
        add, mult = torch._sample_dirichlet(law, generator=ctx.rng)[:, 0].tolist()
        noise = Noise(add * self.add_noise, mult * self.mult_noise, draw_seed(ctx.rng))
        if clean.tap is None:
            return replace(clean, inputs=noise.on(clean.inputs))
        blend = clean.tap.function
        return replace(clean, tap=Tap(clean.tap.stage, lambda hidden: noise.on(blend(hidden))))


@dataclass(frozen=True)
class Noise:
    """The noise of one step, the same each time that it is asked for.

    Args:
        add: standard deviation of what is added.
        mult: greatest change of the factor 1.
        seed: of the generator.
    """

    add: float
    mult: float
    seed: int

    def on(self, hidden: Tensor) -> Tensor:
        """(N, ...) noisy copy of a hidden tensor (N, ...), in the memory format that it has."""
        generator = generator_on(hidden.device, self.seed)
        if self.mult > 0:
            change = _like(hidden).uniform_(-self.mult, self.mult, generator=generator)  # near 1 half types are coarse
            hidden = torch.addcmul(hidden, hidden, change)
        if self.add > 0:
            hidden = hidden + _like(hidden).normal_(0, self.add, generator=generator)
        return hidden


def _like(hidden: Tensor) -> Tensor:
    """Memory for noise, in the order of the indices whatever that of ``hidden``, so that noise goes with places."""
    return torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
