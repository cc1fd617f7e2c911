"""PuzzleMix (Kim, Choo and Song, ICML 2020)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import PairPolicy
from openmixup.policies.context import Context
from openmixup.policies.guided.puzzle_energy import Energy, border_costs, puzzle, solve, surprise
from openmixup.policies.guided.puzzle_noise import Noise
from openmixup.policies.guided.puzzle_transport import Board, Tiles, sources
from openmixup.policies.masks import own_masks
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import pair_index, pair_weights
from openmixup.policies.saliency import gradient_saliency
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['PuzzleMix']

GRIDS = (2, 32)
LEVELS = (2, 8)
TINY = 1e-30  # below any sum of gradients
NUMBERS = (
    ('energy', 'beta', 'of at least 0', lambda value: value >= 0),
    ('energy', 'gamma', 'from 0 to 1', lambda value: 0 <= value <= 1),
    ('energy', 'eta', 'of at least 0', lambda value: value >= 0),
    ('energy', 'neigh_size', 'of whole pixels, at least 1', lambda value: value >= 1 and value == int(value)),
    ('transport', 't_eps', 'from 0 to 100', lambda value: 0 <= value <= 100),
    ('adversarial', 'prob', 'from 0 to 1', lambda value: 0 <= value <= 1),
    ('adversarial', 'eps', 'of steps of 1/255, from 0 to 255', lambda value: 0 <= value <= 255),
)


@POLICIES.register_module()
class PuzzleMix(PairPolicy):
    """Keep what the network finds salient of both images, in cells of a grid that are then moved where they show.

    The saliency of a pixel is the root mean square over the channels of the gradient of the loss of the plain images.
    For each pair a mask with a few levels is sought on a (g, g) grid, which loses little saliency, has its share near
    lam, and changes where the colours of the two images differ little. Then salient patches of each image move to where
    the mask shows it ("transport"), which leaves the share of each cell as it is. The labels follow the mean of each
    sample's mask.

    The mask is found by message passing for all samples at once, which comes near the least energy and need not reach
    it; the authors take a graph cut for each. Where the grid does not divide the image, cells differ by a pixel; a grid
    finer than the image is cut down to its pixels. A patch travels at most four cells, in at most eight turns.

    Published settings: CIFAR-100 as by default; Tiny-ImageNet ``transport=dict(t_size=-1)`` and ``clean_lam=1``;
    ImageNet, 300 epochs, ``transport=dict(t_size=-1)``; ImageNet, 100 epochs, the same with
    ``energy=dict(beta=1.5, neigh_size=2)`` and ``clean_lam=(1, 40)``. For CIFAR-10 none were published. Variants with
    noise have ``adversarial=dict(prob=0.1)``, on Tiny-ImageNet 0.15.

    The authors train by binary cross-entropy of softmax probabilities, their ImageNet code by cross-entropy; here it is
    the learner's loss. The clean term is theirs beside cross-entropy; the gradient of their saliency pass, in training
    mode, serves for it, while here the plain images are a view of their own and saliency is always looked at in eval
    mode.

    Args:
        alpha: lam ~ Beta(alpha, alpha), one a batch, above 0; the mean of a mask is only drawn towards it.
        grids: numbers of cells along each side, of which one is drawn for each batch, all alike.
        levels: values that a mask can have, 0 and 1 and those between, from 2 to 8.
        energy: dict of ``beta`` (price of any change of the mask), ``gamma`` in [0, 1] (how much of it depends on the
            colours at a border), ``eta`` (strength of lam) and ``neigh_size`` (colours along each side of a cell); what
            is not given has the default. None: beta 1.2, gamma 0.5, eta 0.2, neigh_size 4.
        transport: dict of ``t_eps`` (price of a move of one image side, in shares of the saliency) and ``t_size``: side
            in pixels of the patches that are moved if cells are larger (no more than 16 patches a side), -1 for whole
            cells, None for no transport. None: t_eps 0.8, t_size 4.
        clean_lam: weight of the loss of the plain images, which are a second view; 0 leaves it out. A pair (weight,
            epochs) is for the first epochs only.
        adversarial: dict of ``prob``, for each of the two images of a pair the probability that it gets adversarial
            noise, one draw each for a batch, and ``eps``, the bound of the noise in 1/255 of the pixel range. None:
            prob 0, eps 10.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
    """

    paper = 'https://arxiv.org/abs/2009.06962'
    needs = ('pixels', 'input_grad')
    operators = 350
    exempt = {'pixels_stay_in_place': 'patches move to where the mask shows their image'}

    ENERGY: ClassVar[dict[str, Any]] = {'beta': 1.2, 'gamma': 0.5, 'eta': 0.2, 'neigh_size': 4}
    TRANSPORT: ClassVar[dict[str, Any]] = {'t_eps': 0.8, 't_size': 4}
    ADVERSARIAL: ClassVar[dict[str, Any]] = {'prob': 0.0, 'eps': 10.0}

    def __init__(
        self,
        alpha: float = 1.0,
        grids: Sequence[int] = (2, 4, 8, 16),
        levels: int = 3,
        energy: dict[str, Any] | None = None,
        transport: dict[str, Any] | None = None,
        clean_lam: float | Sequence[float] = 0.0,
        adversarial: dict[str, Any] | None = None,
        pairing: str = 'permutation',
    ) -> None:
        super().__init__(alpha, 'batch', pairing)
        self.grids, self.levels, self.energy, self.transport = grids, levels, energy, transport
        self.clean_lam, self.adversarial = clean_lam, adversarial
        self._energy = _merged('energy', energy, self.ENERGY)
        self._transport = _merged('transport', transport, self.TRANSPORT)
        self._adversarial = _merged('adversarial', adversarial, self.ADVERSARIAL)
        self._check()

    def _check(self) -> None:
        low, high = GRIDS
        listed = isinstance(self.grids, Sequence) and not isinstance(self.grids, str) and len(self.grids) > 0
        if not listed or not all(is_whole(grid, low, high) for grid in self.grids):
            raise InputError(
                f'PuzzleMix(grids={self.grids!r}): expected whole numbers from {low} to {high}, as (2, 4, 8).'
            )
        if not is_whole(self.levels, *LEVELS):
            raise InputError(
                f'PuzzleMix(levels={self.levels!r}): expected a whole number from {LEVELS[0]} to {LEVELS[1]}.'
            )
        for argument, key, expected, holds in NUMBERS:
            value = getattr(self, f'_{argument}')[key]
            if not is_number(value) or not holds(value):
                raise InputError(f'PuzzleMix({argument}=dict({key}={value!r})): expected a number {expected}.')
        size = self._transport['t_size']
        if size is not None and (not is_whole(size, -1) or size == 0):
            raise InputError(
                f'PuzzleMix(transport=dict(t_size={size!r})): expected pixels, at least 1, -1 for whole cells or None '
                'for no transport.'
            )
        clean = self.clean_lam if isinstance(self.clean_lam, Sequence) else (self.clean_lam, 0)
        if isinstance(clean, str) or len(clean) != 2 or not all(is_number(part, 0) for part in clean):
            raise InputError(
                f'PuzzleMix(clean_lam={self.clean_lam!r}): expected a weight of at least 0, or (weight, epochs).'
            )

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The mixed view, and a plain one if ``clean_lam`` is above 0."""
        plan = super().plan(batch, ctx)
        share = self.clean_share(ctx)
        if share == 0:
            return plan
        return replace(plan, views=(*plan.views, replace(self.unmixed(batch).views[0], share=share)))

    def clean_share(self, ctx: Context) -> float:
        """Weight of the loss of the plain images in this epoch."""
        if not isinstance(self.clean_lam, Sequence):
            return float(self.clean_lam)
        weight, epochs = self.clean_lam
        return float(weight) if ctx.epoch < epochs else 0.0

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """Solve the puzzles of all pairs, move patches and blend."""
        images, size = batch.source_images, len(batch)
        board = self._board((images.shape[-2], images.shape[-1]), ctx)
        tiles, cells = board.tiles, board.tiles.grid[0] * board.tiles.grid[1]
        noisy = self._coins(ctx)
        index = pair_index(partner)
        # where among the patches of all images (with noise: of all plain, then of all noisy ones) those of a pair begin
        start = (index + torch.tensor(noisy) * len(images))[..., None] * cells
        surprises, scale = self._surprises(lam, board), self._colour_scale(images.shape[1], board, ctx)
        index, start, surprises, scale = to_device(images.device, index, start, surprises, scale)
        noise = Noise.drawn(images, self._adversarial['eps'], ctx) if any(noisy) else None
        gradient = ctx.probe.input_grad(images if noise is None else noise.seen, batch.source_labels)
        wide = tiles.widened(images)
        with torch.no_grad():
            saliency = _normalised(F.avg_pool2d(tiles.widened(gradient_saliency(gradient)), tiles.patch))
            saliency = saliency.index_select(0, index.flatten()).view(size, 2, *tiles.grid)
            share = self._share(self._puzzle(saliency, wide, index, surprises, scale, board), board)
            places = start + self._moves(saliency, share).flatten(2)
        if noise is not None:
            wide = torch.cat([wide, tiles.widened(noise.added(gradient))])
        patches = tiles.cut(wide).index_select(0, places.flatten()).view(size, 2, cells, -1)
        mixed = patches[:, 1].lerp_(patches[:, 0], share.to(images.dtype).view(size, cells, 1))
        weight = pair_weights(tiles.mean(share), size)
        masks = functools.partial(_masks, tiles, share)
        return View(tiles.joined(mixed, images.shape[1]), Mixture(index, weight), masks)

    def _board(self, size: tuple[int, int], ctx: Context) -> Board:
        """The grid of this batch, drawn for all ranks alike, and the patches that may be moved."""
        if min(size) < 2:
            raise InputError(f'PuzzleMix got images of {size[0]}x{size[1]} pixels: expected at least 2x2.')
        drawn = self.grids[int(torch.randint(len(self.grids), (1,), generator=ctx.shared_rng))]
        return Board.of(size, drawn, self._transport['t_size'], int(self._energy['neigh_size']))

    def _surprises(self, lam: Tensor, board: Board) -> Tensor:
        """(b, levels) on the CPU: cost of each level in a cell for being far from lam."""
        return surprise(lam, self.levels) * (self._energy['eta'] / (board.grid[0] * board.grid[1]))

    def _colour_scale(self, channels: int, board: Board, ctx: Context) -> Tensor:
        """(C, 1, 1) on the CPU: price of a difference of normalised colours at one point of a border."""
        known = len(ctx.std) == channels
        std = torch.tensor(ctx.std) if known else torch.ones(channels)
        return std[:, None, None] * (self._energy['gamma'] * self._floor(board) / (channels * board.points))

    def _floor(self, board: Board) -> float:
        """Price of a border between the two images whatever their colours."""
        return self._energy['beta'] / (16 * max(board.grid))

    def _puzzle(
        self, saliency: Tensor, wide: Tensor, index: Tensor, surprises: Tensor, scale: Tensor, board: Board
    ) -> Energy:
        """What masks of the pairs cost.

        Args:
            saliency: (N, 2, h, w) of the tiles of both images, each summing to 1.
            wide: (S, C, ., .) all images, widened.
            index: (N, 2) the pairs, on the device.
            surprises: (b, levels) cost of each level in a cell.
            scale: (C, 1, 1) price of a difference of colours.
            board: the grid.
        """
        rows, columns = board.grid
        colours = _pooled(wide, (rows * board.points, columns * board.points)).float() * scale
        both = colours.index_select(0, index.flatten()).view(len(index), 2, *colours.shape[1:])
        if board.split != (1, 1):
            saliency = F.avg_pool2d(saliency, board.split, divisor_override=1)
        return puzzle(saliency, surprises, *border_costs(both, board.points), self._floor(board))

    def _share(self, energy: Energy, board: Board) -> Tensor:
        """(N, h, w) float32 share of the own image in each tile: the mask."""
        share = solve(energy).float().div_(self.levels - 1)
        return share if board.split == (1, 1) else Tiles(board.grid, board.tiles.grid).pixels(share)

    def _moves(self, saliency: Tensor, share: Tensor) -> Tensor:
        """(N or 1, 2 or 1, h, w) int64 which patch of each image of a pair is at which place.

        Args:
            saliency: (N, 2, h, w) of both images.
            share: (N, h, w) of the own image.
        """
        if self._transport['t_size'] is None:
            return torch.arange(share[0].numel(), device=share.device).view(1, 1, *share.shape[1:])
        return sources(saliency, torch.stack([share, 1 - share], 1), float(self._transport['t_eps']))

    def _coins(self, ctx: Context) -> list[bool]:
        """Whether the own images and whether the partners get noise, the same on all ranks."""
        if self._adversarial['prob'] == 0:
            return [False, False]
        return (torch.rand(2, generator=ctx.shared_rng) < self._adversarial['prob']).tolist()


def _masks(tiles: Tiles, share: Tensor) -> Tensor:
    """(N, 2, H, W) shares of both images at each pixel."""
    return own_masks(tiles.pixels(share)[:, None], len(share))


def _normalised(saliency: Tensor) -> Tensor:
    """(S, h, w) maps that sum to 1, or stay 0."""
    return saliency / saliency.sum((1, 2), keepdim=True).clamp_(min=TINY)


def _pooled(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(S, C, *size) means over equal areas, which overlap by a pixel where they cannot be equal."""
    if images.shape[-2:] == size:
        return images
    if images.shape[-2] % size[0] or images.shape[-1] % size[1]:
        return F.adaptive_avg_pool2d(images, size)
    return F.avg_pool2d(images, (images.shape[-2] // size[0], images.shape[-1] // size[1]))


def _merged(argument: str, given: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """``defaults`` with what is given."""
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f'PuzzleMix({argument}={given!r}): expected a dict or None.')
    for key in given or ():
        if key not in defaults:
            raise InputError(
                f'PuzzleMix({argument}=...) has no entry {key!r}{did_you_mean(key, defaults)}: it takes '
                f'{", ".join(defaults)}.'
            )
    return {**defaults, **(given or {})}
