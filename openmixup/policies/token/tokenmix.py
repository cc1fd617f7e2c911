"""TokenMix (Liu et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import PairPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.mixture import Batch, Mixture, View
from openmixup.policies.pairing import pair_index
from openmixup.policies.tokens import block_cells, cell_view, random_cells
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['TokenMix', 'kept_and_pasted']

KINDS = ('block', 'random')
MAPS = ('attention', 'cam')
OWN_LAM = 0.5  # of the authors' code
EXTRA = 1 / 14  # of the tokens are replaced beside those that lam leaves: 14 of 14 x 14


@POLICIES.register_module()
class TokenMix(PairPolicy):
    r"""Replace blocks of patches by the partner's; labels follow the activation of each clean image that shows.

    On a grid of T cells at most :math:`\min(T, \lfloor (1 - \lambda) T \rfloor + T / 14)` are taken from the partner,
    by one mask for the batch. With A, the activation map of an image, scaled to sum to one, the own image has the
    weight :math:`s_a = \sum A\,(1 - m)` of the cells that stay, the partner :math:`s_b = \sum A'\,m` of those that are
    pasted. The two need not sum to one, so train with ``BinaryCrossEntropy``, as the authors do, or set ``normalise``.

    The authors fix lam at 0.5, which makes 112 of 196 cells, and change between this and Mixup 0.8 with probability
    1/2, for which there is ``RandomChoice``. Their maps are stored score maps of the true class by an NFNet, which are
    not to be had here. Instead, the maps are made of the images as loaded, without gradient and in eval mode, by

    - ``maps='attention'``: attention of the class token to the patches in the last block, mean over the heads;
    - ``maps='cam'``: the class activation map of the true class, negative values as zero; for class indices only.

    A map that is zero throughout counts as even, and even maps give labels by area.

    Deviation: label smoothing is the learner's, which scales both weights by one factor. The authors take half of the
    smoothing from each of the two labels whatever its weight, which is the same only where both weigh 1/2.

    Args:
        alpha: None for lam = 0.5 (the authors' code), or lam ~ Beta(alpha, alpha), above 0.
        per: 'batch' for one mask a batch (the authors' code), 'sample' for one each, which takes the host longer.
        pairing: 'flip' (the authors' code), 'permutation' or 'derangement'.
        kind: 'block' for rectangles as in BEiT, which may leave a few cells less, or 'random' for single cells.
        grid: cells of a mask, (rows, columns); None: those of the map. Maps are brought to another one bilinearly.
        maps: 'attention' or 'cam'.
        teacher: whose maps: None for the network itself, 'momentum' for the learner's momentum teacher, or, for
            'attention', the config of a frozen backbone, ``dict(type='TimmBackbone', model='deit_small_patch16_224',
            pretrained=True)``, which sees the images as they are.
        normalise: scale both weights to sum to one.
    """

    label = 'semantic'
    operators = 21
    paper = 'https://arxiv.org/abs/2207.08409'

    def __init__(
        self,
        alpha: float | None = None,
        per: str = 'batch',
        pairing: str = 'flip',
        kind: str = 'block',
        grid: tuple[int, int] | None = None,
        maps: str = 'attention',
        teacher: str | dict[str, Any] | None = None,
        normalise: bool = False,
    ) -> None:
        super().__init__(1.0 if alpha is None else alpha, per, pairing)
        for name, value, known in (('kind', kind, KINDS), ('maps', maps, MAPS)):
            if value not in known:
                raise InputError(
                    f'TokenMix({name}={value!r}){did_you_mean(str(value), known)}: expected one of {", ".join(known)}.'
                )
        if grid is not None and not _is_grid(grid):
            raise InputError(
                f'TokenMix(grid={grid!r}): expected (rows, columns) of cells, or None for those of the map.'
            )
        config = isinstance(teacher, Mapping) and 'type' in teacher
        if not (teacher in (None, 'momentum') or config):
            raise InputError(
                f"TokenMix(teacher={teacher!r}): expected None for the network itself, 'momentum', or a backbone as "
                "dict(type='TimmBackbone', model='deit_small_patch16_224', pretrained=True)."
            )
        if config and maps == 'cam':
            raise InputError(
                "TokenMix(maps='cam') needs a classifier, which a backbone as teacher does not have: give teacher=None "
                "or 'momentum', or maps='attention'."
            )
        if not isinstance(normalise, bool):
            raise InputError(f'TokenMix(normalise={normalise!r}): expected True or False.')
        self.alpha: Any = alpha
        self.kind, self.grid, self.maps, self.teacher, self.normalise = kind, grid, maps, teacher, normalise

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """What makes the maps: of a teacher of its own nothing is asked of the network that learns."""
        if isinstance(self.teacher, Mapping):
            return ('features',)
        return (self.maps,) if self.teacher is None else (self.maps, 'teacher')

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Its own teacher, if it has one."""
        return {'tokenmix': dict(self.teacher)} if isinstance(self.teacher, Mapping) else {}

    @property
    def attention_of(self) -> tuple[str, ...]:
        """Its own teacher, if it has one."""
        return tuple(self.networks)

    @property
    def normalised(self) -> bool:  # type: ignore[override]
        """Whether weights sum to one."""
        return self.normalise

    @property
    def lam_beta(self) -> tuple[float, float] | None:
        """Both alpha; None where lam is fixed."""
        return None if self.alpha is None else super().lam_beta

    def bind(self, network: Network) -> None:
        """Refuse labels that have no class activation map."""
        if self.maps == 'cam' and network.target != 'class':
            raise InputError(
                f"TokenMix(maps='cam') takes the map of the true class, but the labels are {network.target}: give "
                "maps='attention'."
            )

    def draw_lam(self, count: int, rng: torch.Generator) -> Tensor:
        """(count,) float64 on the CPU: 0.5, or from Beta(alpha, alpha)."""
        if self.alpha is None:
            return torch.full((count,), OWN_LAM, dtype=torch.float64)
        return super().draw_lam(count, rng)

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """Look at the clean images, and paste."""
        maps = self.activation(batch, ctx)
        grid = (maps.shape[1], maps.shape[2])
        own = 1 - self.replaced(lam, grid, ctx.rng)
        index, own = to_device(batch.images.device, pair_index(partner), own)
        weight = kept_and_pasted(maps, own, index[:, 1])
        if self.normalise:
            weight = weight / weight.sum(1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
        return replace(cell_view(batch, index, own), mixture=Mixture(index, weight))

    def replaced(self, lam: Tensor, grid: tuple[int, int], rng: torch.Generator) -> Tensor:
        """(b, rows, columns) float32 on the CPU: 1 where cells are taken from the partner."""
        cells = grid[0] * grid[1]
        count = (((1 - lam) * cells).long() + round(cells * EXTRA)).clamp_(max=cells)
        return block_cells(count, rng, grid) if self.kind == 'block' else random_cells(count, len(count), rng, grid)

    @torch.no_grad()
    def activation(self, batch: Batch, ctx: Context) -> Tensor:
        """(S, rows, columns) float32 maps of all sources, which sum to one each."""
        of = 'student' if self.teacher is None else 'teacher' if self.teacher == 'momentum' else 'tokenmix'
        if self.maps == 'cam':
            maps = ctx.probe.cam(batch.source_images, batch.source_labels, of=of).clamp_min(0)
        else:
            maps = ctx.probe.attention(batch.source_images, of=of).mean(1)
        if self.grid is not None and tuple(maps.shape[1:]) != tuple(self.grid):
            maps = F.interpolate(maps[:, None], size=tuple(self.grid), mode='bilinear', antialias=True)[:, 0]
        maps = maps.float() + torch.finfo(torch.float32).tiny  # a map of zeros becomes an even one
        return maps / maps.sum((1, 2), keepdim=True)


def kept_and_pasted(maps: Tensor, own: Tensor, partner: Tensor) -> Tensor:
    """(N, 2) sum of each own map over the cells that stay, and of the partner's over those that are pasted.

    Args:
        maps: (S, h, w) of all sources, which sum to one each.
        own: (1 or N, h, w) 1 where the own image stays, else 0.
        partner: (N,) index into the sources.
    """
    theirs = maps.index_select(0, partner)
    return torch.stack([(maps[: len(partner)] * own).sum((1, 2)), (theirs * (1 - own)).sum((1, 2))], 1)


def _is_grid(grid: Any) -> bool:
    whole = isinstance(grid, tuple | list) and len(grid) == 2
    return whole and all(is_whole(side, 1) for side in grid)
