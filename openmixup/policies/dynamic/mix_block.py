"""The network that makes the masks of AutoMix and SAMix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.precision import arithmetic

__all__ = ['MixBlock', 'Projections', 'attend', 'projection']

EMBEDDINGS = ('none', 'concat', 'concat_value', 'multiply')
VALUES = ('linear', 'two_layer')
UPSAMPLINGS = ('nearest', 'bilinear')


@dataclass(frozen=True, eq=False)
class Projections:
    """What a block makes of the features without knowing lam or partners; None where it must know them.

    Args:
        query: (N, C / 2, h, w), the keys of the partners too unless there are others.
        value: (N, 1, h, w).
        key: (N, C / 2, h, w) of a block that makes keys by a convolution of their own.
    """

    query: Tensor | None
    value: Tensor | None
    key: Tensor | None = None


class MixBlock(nn.Module):
    """Cross-attention from an image to its partner; each place learns whether to show the partner.

    Each place of the own features A asks all places of the partner's features B: weights = softmax(q(A) k(B) /
    sqrt(C/2)), and the answer, weights times v(B), is the logit of the *partner*. It is enlarged to the size of the
    images; what is returned is one minus its sigmoid, the share of the own image.

    Attention, enlarging and sigmoid run in float32 under autocast, where half precision overflows. Nothing is tested
    for NaN or replaced: features that are not finite make masks, and so losses, that are not finite.

    All convolutions are 1x1 and start from N(0, 0.01) with a bias of 0, so that masks start near 1/2: within about
    0.03 for 256 channels of rectified noise, exactly only if the last convolution of the values is zeroed.

    Args:
        channels: C, channels of the features.
        embedding: how it learns lam: 'none'; 'concat', a further channel of lam for A and of 1 - lam for B;
            'concat_value', the same for the values only; 'multiply', A times 1 + r(lam) and B times 1 + r(1 - lam).
        remap: k of r(x) = (4/3 x^3 - 2 x^2 + (k + 1) x) / (k + 1/3), which keeps 0, 1/2 and 1 where they are and is
            the flatter around 1/2 the nearer k is to 0; -1 for r(x) = x.
        value: 'linear', or 'two_layer' with BatchNorm, ELU and dropout in between.
        dropout: of the two-layer values, in [0, 1); drawn from torch's global stream like that of the classifier.
        joint: queries and keys each by a convolution of its own on A and B together, 2 C channels; False: both by
            the same convolution, on A and on B.
        norm: BatchNorm behind queries and keys.
        upsample: 'nearest', 'bilinear', or a list of them to draw from.

    Raises:
        InputError: an argument is out of its range.

    Source: Liu et al., AutoMix, ECCV 2022; Li et al., SAMix, 2021. The remap is a reconstruction of the authors' code.
    """

    def __init__(
        self,
        channels: int,
        embedding: str = 'none',
        remap: float = -1.0,
        value: str = 'linear',
        dropout: float = 0.0,
        joint: bool = False,
        norm: bool = False,
        upsample: str | Sequence[str] = 'nearest',
    ) -> None:
        super().__init__()
        _check(channels, embedding, remap, value, dropout, joint=joint, norm=norm)
        self.modes = [str(mode) for mode in (upsample if isinstance(upsample, list | tuple) else [upsample])]
        for mode in self.modes or ['nothing']:
            _one_of('upsample', mode, UPSAMPLINGS)
        self.channels, self.kept = channels, False
        self.embedding, self.remap, self.joint = embedding, remap, joint
        hidden, seen = max(channels // 2, 1), (channels + (embedding == 'concat')) * (2 if joint else 1)
        self.query = projection(seen, hidden, norm)
        self.key = projection(seen, hidden, norm) if joint else None
        valued = channels + (embedding in ('concat', 'concat_value'))
        if value == 'linear':
            self.value = nn.Sequential(_conv(valued, 1))
        else:
            between = (nn.BatchNorm2d(hidden), nn.ELU(), nn.Dropout(dropout))
            self.value = nn.Sequential(_conv(valued, hidden), *between, _conv(hidden, 1))

    def keep(self) -> MixBlock:
        """Stay as it is: no gradient, and eval mode whatever the mode of the policy."""
        self.kept = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> MixBlock:
        """Set the mode, unless it is kept."""
        return super().train(mode and not self.kept)

    @staticmethod
    def channels_of(state: Mapping[str, Tensor], prefix: str, options: Mapping[str, Any]) -> int | None:
        """C of the block whose weights are in ``state`` behind ``prefix``; None if there is none.

        ``options`` are its other arguments.
        """
        weight = state.get(f'{prefix}query.0.weight')
        if weight is None:
            return None
        return weight.shape[1] // (2 if options.get('joint') else 1) - (options['embedding'] == 'concat')

    def draw_mode(self, rng: torch.Generator) -> str:
        """How to enlarge, drawn if there is a choice."""
        if len(self.modes) == 1:
            return self.modes[0]
        return self.modes[int(torch.randint(len(self.modes), (1,), generator=rng))]

    def project(self, features: Tensor) -> Projections:
        """What several calls with the same features (N, C, h, w) can share."""
        alone = not self.joint and self.embedding in ('none', 'concat_value')
        query = self.query(features) if alone else None
        return Projections(query, self.value(features) if self.embedding == 'none' else None)

    def encode(self, lam: Tensor) -> Tensor:
        """(b, 2) what the features A and B are told of ``lam`` (b,): it is added as a channel or multiplied with them.

        Cheapest on the CPU, where lam was drawn.
        """
        both = torch.stack([lam, 1 - lam], 1)
        if self.embedding != 'multiply':
            return both.float()
        k = self.remap
        remapped = both if k == -1 else ((4 / 3 * both - 2) * both + (k + 1)) * both / (k + 1 / 3)
        return (1 + remapped).float()

    def forward(
        self,
        features: Tensor,
        partner: Tensor,
        code: Tensor,
        size: tuple[int, int],
        mode: str = 'nearest',
        shared: Projections | None = None,
    ) -> Tensor:
        """(N, 1, H, W) share of the own image, float32 (float64 for float64 features).

        Args:
            features: (N, C, h, w).
            partner: (N,) int64 partner of each sample.
            code: (N, 2) or (1, 2), :meth:`encode` of the wanted share of the own image.
            size: (H, W) of the images.
            mode: how to enlarge, see :meth:`draw_mode`.
            shared: of :meth:`project` for the same features.
        """
        shared = self.project(features) if shared is None else shared
        query, value = shared.query, shared.value
        if query is None or value is None:
            own, other, valued = self._embed(features, features.index_select(0, partner), code)
        if query is not None:
            key = query.index_select(0, partner)
        elif self.key is None:
            query, key = self.query(own), self.query(other)
        else:
            both = torch.cat([own, other], 1)
            query, key = self.query(both), self.key(both)
        value = self.value(valued) if value is None else value.index_select(0, partner)
        with arithmetic(features.device):
            logits = attend(query, key, value)
            aligned = None if mode == 'nearest' else False
            return functional.interpolate(logits, size, mode=mode, align_corners=aligned).neg().sigmoid()

    def _embed(self, own: Tensor, other: Tensor, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A and B for queries and keys, and B for values."""
        ours, theirs = code.to(own.dtype)[..., None, None].split(1, 1)  # (N or 1, 1, 1, 1)
        if self.embedding == 'multiply':
            own, other = own * ours, other * theirs
        if self.embedding == 'concat':
            own, other = _with_channel(own, ours), _with_channel(other, theirs)
        return own, other, _with_channel(other, theirs) if self.embedding == 'concat_value' else other


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(N, 1, h, w): for each place of the query, the mean of the values by softmax(q k / sqrt(channels))."""
    scale = 1 / math.sqrt(query.shape[1])
    query, key, flat = (x.to(torch.promote_types(x.dtype, torch.float32)).flatten(2) for x in (query, key, value))
    weights = torch.bmm(query.mT * scale, key).softmax(2)  # (N, places of A, places of B)
    return torch.bmm(weights, flat.mT).view(value.shape)


def _with_channel(features: Tensor, value: Tensor) -> Tensor:
    size, _, height, width = features.shape
    return torch.cat([features, value.expand(size, 1, height, width)], 1)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def projection(inputs: int, outputs: int, norm: bool) -> nn.Sequential:
    """A 1x1 convolution from N(0, 0.01), and BatchNorm behind it if asked for."""
    return nn.Sequential(_conv(inputs, outputs), *([nn.BatchNorm2d(outputs)] if norm else []))


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(
            f'MixBlock({name}={value!r}): expected one of {", ".join(known)}{did_you_mean(str(value), known)}.'
        )


def _check(channels: int, embedding: str, remap: float, value: str, dropout: float, **switches: bool) -> None:
    if not is_whole(channels, 1):
        raise InputError(f'MixBlock(channels={channels!r}): expected a whole number of at least 1.')
    _one_of('embedding', embedding, EMBEDDINGS)
    _one_of('value', value, VALUES)
    for name, switch in switches.items():
        if not isinstance(switch, bool):
            raise InputError(f'MixBlock({name}={switch!r}): expected True or False.')
    if not is_number(remap) or not (remap == -1 or remap >= 0):
        raise InputError(f'MixBlock(remap={remap!r}): expected -1 (lam as it is) or a number of at least 0.')
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise InputError(f'MixBlock(dropout={dropout!r}): expected a number in [0, 1).')
    if dropout and value == 'linear':
        raise InputError(f"MixBlock(dropout={dropout}) has no layer to act on: use value='two_layer' or dropout=0.")
