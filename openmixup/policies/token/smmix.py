"""SMMix (Chen et al., ICCV 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openmixup.checks import is_number, is_range
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.masks import own_masks
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import PAIRINGS, pair_index, pair_weights, partners
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['SMMix', 'window_means']


@POLICIES.register_module()
class SMMix(MixPolicy):
    r"""Paste the most attended square of the partner over the least attended one, and teach both regions.

    The score of a patch is the attention that it gets from all patches in the mean, in the last block, of the clean
    image in eval mode. One side for the batch is drawn evenly from the whole numbers of patches within ``sides`` times
    the shorter side of the grid. Patches are moved, so the partner's square need not lie where it was. Labels follow
    the area, :math:`\lambda = 1 - s^2 / T` for a side of s on T patches. Besides the loss of the mixed image there are

    - ``fine``: the mean of the last block's patches of each region, behind the last norm, is classified by a second
      linear head as the image that the region is of; half of the loss of both;
    - ``consistency``: :math:`KL(softmax(\lambda z_A + (1 - \lambda) z_B) \,\|\, softmax(z))` of the logits of the
      mixed and of both clean images, the latter without gradient, mean over the batch. For multi-hot labels it is that
      of the sigmoid of each class, mean over the classes.

    A step costs one further pass, without gradient. The second head, of the policy, is trained along and not used to
    predict. The authors change between this and Mixup 0.8 with probability 1/2, for which there is ``RandomChoice``.
    With ``fine=0, consistency=0`` the images are mixed and nothing else is learned.

    Args:
        sides: least and greatest side of the square, as shares of the grid's shorter side, rounded down but to at least
            one patch; 0 < least <= greatest < 1.
        pairing: 'flip' (the authors' code), 'permutation' or 'derangement'.
        fine: weight of the loss of the regions, at least 0.
        consistency: weight of the loss of the logits, at least 0.
    """

    needs = ('attention',)
    operators = 22
    losses_train = 'network'
    paper = 'https://arxiv.org/abs/2212.12977'
    exempt = {
        'pixels_stay_in_place': "the partner's square moves to where the own image is attended least",
        'identical_images_stay_identical': 'a square of the image moves to another place of it',
    }

    def __init__(
        self,
        sides: Sequence[float] = (0.25, 0.75),
        pairing: str = 'flip',
        fine: float = 1.0,
        consistency: float = 1.0,
    ) -> None:
        super().__init__()
        if not is_range(sides) or not 0 < sides[0] <= sides[1] < 1:
            raise InputError(
                f'SMMix(sides={sides!r}): expected two shares of the side of the grid, as (0.25, 0.75), the first not '
                'above the second, both between 0 and 1.'
            )
        if pairing not in tuple(PAIRINGS):
            raise InputError(f'SMMix(pairing={pairing!r}): expected one of {", ".join(PAIRINGS)}.')
        for name, value in (('fine', fine), ('consistency', consistency)):
            if not is_number(value, 0):
                raise InputError(f'SMMix({name}={value!r}): expected a number of at least 0, the weight of a loss.')
        self.sides, self.pairing, self.fine, self.consistency = sides, pairing, fine, consistency
        self.fine_head: nn.Linear | None = None

    def bind(self, network: Network) -> None:
        """Build the second head; one that is there for as many features and classes is kept.

        Raises:
            InputError: the network drops patches in training, which the second head learns by, or its logits are
                values, which ``consistency`` would take for classes.
        """
        if self.consistency > 0 and network.target == 'regression':
            raise InputError(
                f'SMMix(consistency={self.consistency!r}) compares the probabilities of classes, but the target is '
                'regression: give consistency=0.'
            )
        if self.fine > 0:
            network.check_patches('SMMix')
            self._build(network.map_channels, network.num_classes)

    def _build(self, features: int, classes: int) -> None:
        head = self.fine_head
        if head is None or (head.in_features, head.out_features) != (features, classes):
            self.fine_head = nn.Linear(features, classes)
            nn.init.normal_(self.fine_head.weight, std=0.01)
            nn.init.zeros_(self.fine_head.bias)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Build the head that the state was saved of, if none is there yet."""
        saved = state_dict.get(f'{prefix}fine_head.weight')
        if self.fine_head is None and saved is not None:
            self._build(saved.shape[1], saved.shape[0])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Look at the clean images, and paste."""
        images, size = batch.images, len(batch)
        received = ctx.probe.look(images, ('received',)).received
        scores = received.mean(1)
        (rows, columns), (height, width) = scores.shape[1:], images.shape[-2:]
        side = self._side(min(rows, columns), ctx.rng)
        square = side * (height // rows), side * (width // columns)  # in pixels
        own = torch.tensor([1 - square[0] * square[1] / (height * width)], dtype=torch.float64)
        index = pair_index(partners(self.pairing, size, ctx.rng))
        index, weight = to_device(images.device, index, pair_weights(own, size))
        means = window_means(scores, side)
        places = torch.stack([means.argmin(1), means.argmax(1).index_select(0, index[:, 1])])
        down = places.div(columns - side + 1, rounding_mode='floor').mul_(height // rows)
        across = (places % (columns - side + 1)).mul_(width // columns)
        mixed, inside = paste(images, index[:, 1], down, across, square)
        read = ('features',) if self.fine > 0 else ()
        return Plan(batch, (View(mixed, Mixture(index, weight), lambda: own_masks(1 - inside, size), read=read),), self)

    def _side(self, shorter: int, rng: torch.Generator) -> int:
        """Side of the square in cells of a grid whose shorter side has ``shorter``."""
        low, high = (max(1, int(share * shorter)) for share in self.sides)
        return int(torch.randint(low, high + 1, (), generator=rng))

    def finish(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:
        """The losses of the regions and of the logits."""
        (view,), (output,), batch = plan.views, outputs, plan.batch
        if view.mixture.index.shape[1] == 1:  # nothing was mixed
            return plan
        losses = dict(plan.losses)
        if self.fine > 0:
            losses['fine'] = self.fine * self._fine_loss(output.features, view, batch, ctx)
        if self.consistency > 0:
            clean = ctx.probe.look(batch.images, ('received',)).logits
            losses['consistency'] = self.consistency * consistency_loss(output.logits, clean, view.mixture, batch)
        return replace(plan, losses=losses)

    def _fine_loss(self, features: Tensor, view: View, batch: Batch, ctx: Context) -> Tensor:
        """Half of the losses of both regions; each is of one source."""
        assert self.fine_head is not None
        assert view.masks is not None
        height, width = features.shape[2:]
        inside = F.adaptive_avg_pool2d(view.masks.float(), (height, width))  # (N, 2, h, w)
        vectors = torch.einsum(
            'nkhw,nchw->nkc', inside / inside.sum((2, 3), keepdim=True).clamp_min(1e-6), features.float()
        )
        logits = self.fine_head(vectors.to(self.fine_head.weight.dtype))
        index, one = view.mixture.index, torch.ones_like(view.mixture.weight[:, :1])
        sides = [ctx.criterion(logits[:, k], batch.source_labels, Mixture(index[:, k : k + 1], one)) for k in (0, 1)]
        return (sides[0] + sides[1]).mean() / 2


def window_means(scores: Tensor, side: int) -> Tensor:
    """(N, (h - side + 1) * (w - side + 1)) mean score in each square of ``side`` cells, by its first row and column.

    Args:
        scores: (N, h, w).
        side: not above h or w.
    """
    return F.avg_pool2d(scores[:, None].float(), side, stride=1).flatten(1)


def paste(
    images: Tensor, partner: Tensor, down: Tensor, across: Tensor, square: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Images with rectangles of their partners, (N, C, H, W), and (N, 1, H, W) 1 in the rectangles, else 0.

    Args:
        images: (N, C, H, W).
        partner: (N,) index into them, on their device.
        down: (2, N) first row that is covered in each image, and first row that is taken from its partner.
        across: (2, N) the same with columns.
        square: height and width of the rectangles in pixels.
    """
    lines = [torch.arange(length) for length in (*images.shape[-2:], images.shape[1])]
    *lines, channels = to_device(images.device, *lines)
    inside, taken = [], []
    for line, (low, source), length in zip(lines, (down, across), square, strict=True):
        offset = line - low[:, None]
        within = offset.clamp(0, length - 1)
        inside.append(within == offset)
        taken.append(within + source[:, None])
    covered = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(images.dtype)
    at = (partner[:, None, None, None], channels[:, None, None], taken[0][:, None, :, None], taken[1][:, None, None])
    return torch.lerp(images, images[at], covered), covered


def consistency_loss(logits: Tensor, clean: Tensor, mixture: Mixture, batch: Batch) -> Tensor:
    """() mean divergence of the prediction from the mixture of the clean logits.

    Args:
        logits: (N, C) of the mixed images.
        clean: (N, C) of the clean ones, without gradient.
        mixture: of two sources a sample.
        batch: whose target says whether classes exclude each other.
    """
    logits, wanted = logits.float(), mixture.of(clean.detach().float())
    if batch.target == 'multilabel':
        each = F.binary_cross_entropy_with_logits(logits, wanted.sigmoid(), reduction='none')
        least = F.binary_cross_entropy_with_logits(wanted, wanted.sigmoid(), reduction='none')
        return (each - least).mean()
    return F.kl_div(logits.log_softmax(1), wanted.log_softmax(1), reduction='batchmean', log_target=True)
