"""Co-Mixup (Kim, Choo, Jeong and Song, ICLR 2021)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.guided.comixup_energy import Parts, solve
from openmixup.policies.guided.greedy_cycle import groups
from openmixup.policies.guided.puzzle_transport import Tiles
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.saliency import gradient_saliency, peaks
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['CoMixup']

TINY = 1e-30  # below any sum of gradients
ABSENT = 1e6  # cost of an image that is not there: above all others
WINDOW = 8  # pixels along each side, of which the most salient ones say where an object is
WHOLE = {'grid': (2, 8), 'part': (3, 64), 'sweeps': (1, 100)}
NUMBERS = {
    'beta': ('of at least 0', lambda value: value >= 0),
    'gamma': ('of at least 0', lambda value: value >= 0),
    'tau': ('of at least 0', lambda value: value >= 0),
    'eta': ('of at least 0', lambda value: value >= 0),
    'omega': ('from 0 to 1', lambda value: 0 <= value <= 1),
}


@POLICIES.register_module()
class CoMixup(MixPolicy):
    r"""Cut a batch of images into as many mixtures at once, each of what is salient in two or more images.

    The batch is dealt at random into parts. The n images of a part make n mixtures, on a (g, g) grid whose cells show
    one image, or two of them half each. With :math:`s_i` the saliency of image i in the cells, summing to 1, which is
    the root mean square over the channels of the gradient of the loss of the plain images, the shares x of all
    mixtures k shall have little of

    .. math:: g^2 E = \sum_{k, i, p} (-g^2 s_i(p) - \eta \log w_i) x_{k, i, p} + \beta \sum_{borders} \frac{1}{2}
        |x_{k, p} - x_{k, q}|^2 + \gamma \sum_{k, i} f(u_{k, i}) n_{k, i}

    Here w ~ Dirichlet(alpha) for each part, :math:`n_{k, i}` are the cells that mixture k gives to image i, :math:`u_k
    = A \sum_{l \ne k} n_l` says how much of it the others show, f(u) is u above tau of the cells, else 0, and :math:`A
    = (1 - \omega) I + \omega n D / \sum D`, with D the distance, rows and columns added, between the most salient
    windows of 8 x 8 px of two images. So no image is used up by some mixtures while others are not shown, and objects
    that are far apart share a mixture. The labels follow the shares of the pixels.

    Mixtures are sought in turn, from a random start, for all parts at once. The first sweep makes each of a rectangle
    of one image in another one, the next ones lay what lowers E most over one rectangle each, so that a mixture has at
    most one image more with each sweep. A part that would cost more than its plain images stays plain. The authors
    make four sweeps with a graph cut for each mixture, which does not see that others come above tau. With them, a
    border between an image and a half of two others costs as much as any between images, here 3/4 of it; halves have a
    bonus of 5e-4; and before the last sweep mixtures of the same images are told apart, which are few here.

    Where the grid does not divide the image, cells differ by a pixel; a grid finer than the image is cut down to its
    pixels. Parts of a batch differ by one image at most. A mixture belongs to no image of its part more than to
    others: the own image may have no weight.

    The authors train by binary cross-entropy of softmax probabilities; here it is the learner's loss, beside which
    their clean term has the weight ``clean_lam``. The gradient of their saliency pass serves for that term, while here
    the plain images are a view of their own and saliency is always looked at in eval mode. The defaults are the
    published values; usable were beta from 0.16 to 0.48 and tau from 0.81 to 0.84.

    Args:
        alpha: w ~ Dirichlet(alpha, ..., alpha), above 0.
        grid: g, number of cells along each side, from 2 to 8.
        part: most images in a part, from 3 to 64. The steps of a batch grow with it, not with the batch.
        energy: dict of ``beta`` (price of borders), ``gamma`` (of images that are used up), ``tau`` (share of the
            cells of a picture from which on they are), ``eta`` (strength of w) and ``omega`` in [0, 1], meant to be
            small; what is not given has the default. None: beta 0.32, gamma 1, tau 0.83, eta 0.05, omega 0.001.
        sweeps: over the mixtures of a part, from 1 to 100. One leaves most parts plain; of what many sweeps lower E by,
            two reach about 2/3 and four 9/10, at three times the cost.
        clean_lam: weight of the loss of the plain images, which are a second view; 0 leaves it out, as within
            ``RegMixup``, which adds them itself.
    """

    paper = 'https://arxiv.org/abs/2102.03065'
    needs = ('pixels', 'input_grad')

    ENERGY: ClassVar[dict[str, float]] = {'beta': 0.32, 'gamma': 1.0, 'tau': 0.83, 'eta': 0.05, 'omega': 0.001}

    def __init__(
        self,
        alpha: float = 2.0,
        grid: int = 4,
        part: int = 20,
        energy: dict[str, float] | None = None,
        sweeps: int = 4,
        clean_lam: float = 1.0,
    ) -> None:
        super().__init__()
        self.alpha, self.grid, self.part, self.energy = alpha, grid, part, energy
        self.sweeps, self.clean_lam = sweeps, clean_lam
        if not is_number(alpha) or not 0.01 <= alpha < 1e4:
            raise InputError(f'CoMixup(alpha={alpha!r}): expected a number from 0.01 to 10000, as of a Dirichlet.')
        for name, (low, high) in WHOLE.items():
            value = getattr(self, name)
            if not is_whole(value, low, high):
                raise InputError(f'CoMixup({name}={value!r}): expected a whole number from {low} to {high}.')
        if not is_number(clean_lam, 0):
            raise InputError(f'CoMixup(clean_lam={clean_lam!r}): expected a weight of at least 0.')
        self._energy = _merged(energy, self.ENERGY)

    @property
    def operators(self) -> int:  # type: ignore[override]
        """Some for each image of a part and sweep, and those before and behind."""
        return 120 + self.part * (16 + 44 * (self.sweeps - 1))

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The mixed view, and a plain one if ``clean_lam`` is above 0."""
        if len(batch) < 2:
            return self.unmixed(batch)
        plan = Plan(batch, (self._view(batch, ctx),), self)
        if self.clean_lam == 0:
            return plan
        return replace(plan, views=(*plan.views, replace(self.unmixed(batch).views[0], share=float(self.clean_lam))))

    def _view(self, batch: Batch, ctx: Context) -> View:
        """Deal the images into parts, cut them and put the cells together."""
        images, size = batch.images, len(batch)
        tiles = self._tiles((images.shape[-2], images.shape[-1]))
        cells = tiles.grid[0] * tiles.grid[1]
        members = groups(size, self.part, ctx.rng)
        most = members.shape[1]
        prior, start = self._draws(members, size, cells, ctx.rng)
        there = (members < size).float()
        index, rows = _places(members, size)
        tables = (members.clamp(max=size - 1), there, prior, start, index, rows)
        at, there, prior, start, index, rows = to_device(images.device, *tables)
        gradient = ctx.probe.input_grad(images, batch.labels)
        with torch.no_grad():
            saliency = gradient_saliency(gradient)
            cost = prior - _normalised(F.avg_pool2d(tiles.widened(saliency), tiles.patch).flatten(1))[at]
            present = None if size == members.numel() else there[:, -1]
            price, energy = cells**-1, self._energy
            parts = Parts(
                cost,
                self._relation(saliency, at, there),
                present,
                tiles.grid,
                energy['beta'] * price,
                energy['gamma'] * price,
                energy['tau'] * cells,
            )
            shares = solve(parts, start, self.sweeps).view(-1, cells).index_select(0, rows).view(size, most, cells)
        return View(_joined(images, tiles, shares, index), _mixture(tiles, shares, index), _masks(tiles, shares))

    def _tiles(self, size: tuple[int, int]) -> Tiles:
        if min(size) < 2:
            raise InputError(f'CoMixup got images of {size[0]}x{size[1]} pixels: expected at least 2x2.')
        return Tiles((min(self.grid, size[0]), min(self.grid, size[1])), size)

    def _draws(self, members: Tensor, size: int, cells: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(P, K, 1) what a cell of each image costs whatever it shows, and (K, P, K) uses to start from, on the CPU."""
        count, most = members.shape
        law = torch.full((count, most), float(self.alpha), dtype=torch.float64)
        drawn = torch._sample_dirichlet(law, generator=rng)  # without an absent one they need not sum to 1: no matter
        prior = (drawn.clamp(min=TINY).log() * (-self._energy['eta'] / cells)).float()
        prior.masked_fill_(members == size, ABSENT)
        present = (members < size).sum(1)[:, None, None]
        label = (torch.rand(count, most, cells, generator=rng) * present).long().clamp_(max=most - 1)
        start = F.one_hot(label, most).sum(2).float().mul_((members < size)[..., None])
        return prior[..., None], start.transpose(0, 1).contiguous()

    def _relation(self, saliency: Tensor, at: Tensor, there: Tensor) -> Tensor:
        """(P, K, K) how much the use of an image counts as one of another, which is more if they are far apart.

        Args:
            saliency: (N, H, W).
            at: (P, K) images of the parts.
            there: (P, K) 1 for an image, 0 where one is missing.
        """
        omega, same = self._energy['omega'], torch.eye(at.shape[1], device=at.device)
        if omega == 0:
            return same.expand(len(at), -1, -1)
        height, width = saliency.shape[1:]
        columns = F.avg_pool2d(saliency, (min(WINDOW, height), 1), 1)  # of a window first: an eighth of the sums
        windows = F.avg_pool2d(columns, (1, min(WINDOW, width)), 1)
        place = peaks(windows, windows.shape[1:]).float()[at]
        apart = torch.cdist(place, place, 1.0).mul_(there[:, None]).mul_(there[:, :, None])
        scale = there.sum(1).mul_(omega) / apart.sum((1, 2)).clamp_(min=TINY)
        return torch.addcmul(same.mul_(1 - omega), apart, scale[:, None, None])


def _places(members: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(N, K) sources of each sample, itself first, and (N * K,) rows of their shares among (K, P, K) of all mixtures.

    Args:
        members: (P, K) images of the parts, N where one is missing; all on the CPU.
        size: N.
    """
    count, most = members.shape
    part, slot = (x[:, None] for x in torch.unravel_index(members.flatten().argsort()[:size], members.shape))
    order = (slot + torch.arange(most)) % most
    index = members[part, order]
    index = torch.where(index == size, torch.arange(size)[:, None], index)
    return index, ((slot * count + part) * most + order).flatten()


def _joined(images: Tensor, tiles: Tiles, shares: Tensor, index: Tensor) -> Tensor:
    """(N, C, H, W) pictures of shares (N, K, cells) of the sources (N, K): no cell has more than two."""
    share, column = shares.topk(2, 1)
    cells = torch.arange(shares.shape[2], device=images.device)
    source = index.gather(1, column.flatten(1)).view_as(column) * len(cells) + cells
    patches, weight = tiles.cut(tiles.widened(images)), share.mT.flatten(0, 1).to(images.dtype)
    bags = torch.arange(0, weight.numel(), 2, device=images.device)  # two sources each
    mixed = torch.embedding_bag(patches, source.mT.flatten(), bags, per_sample_weights=weight.flatten())[0]
    return tiles.joined(mixed, images.shape[1])


def _mixture(tiles: Tiles, shares: Tensor, index: Tensor) -> Mixture:
    """Of shares (N, K, cells) of the sources (N, K): measured in pixels."""
    return Mixture(index, tiles.mean(shares.view(-1, *tiles.grid)).view(index.shape))


def _masks(tiles: Tiles, shares: Tensor) -> functools.partial[Tensor]:
    """Makes (N, K, H, W) shares at each pixel of those in the cells."""
    return functools.partial(_pixels, tiles, shares)


def _pixels(tiles: Tiles, shares: Tensor) -> Tensor:
    return tiles.pixels(shares.view(-1, *tiles.grid)).view(*shares.shape[:2], *tiles.size)


def _normalised(saliency: Tensor) -> Tensor:
    """(N, cells) maps that sum to 1, or stay 0."""
    return saliency / saliency.sum(1, keepdim=True).clamp_(min=TINY)


def _merged(given: Any, defaults: dict[str, float]) -> dict[str, float]:
    """``defaults`` with what is given."""
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f'CoMixup(energy={given!r}): expected a dict or None.')
    for key, value in (given or {}).items():
        if key not in defaults:
            hint, known = did_you_mean(key, defaults), ', '.join(defaults)
            raise InputError(f'CoMixup(energy=...) has no entry {key!r}{hint}: it takes {known}.')
        expected, holds = NUMBERS[key]
        if not is_number(value) or not holds(value):
            raise InputError(f'CoMixup(energy=dict({key}={value!r})): expected a number {expected}.')
    return {**defaults, **(given or {})}
