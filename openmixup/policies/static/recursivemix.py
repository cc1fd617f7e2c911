"""RecursiveMix (Yang et al., NeurIPS 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.masks import Boxes, cutmix_boxes, own_masks
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['RecursiveMix']


class History(NamedTuple):
    """What is left of the last batch, none of it with a gradient.

    Args:
        images: (M, C, H, W) as the network saw them.
        targets: (M, num_classes) what it should have said.
        logits: (M, num_classes) what it said.
        epoch: in which that was.
    """

    images: Tensor
    targets: Tensor
    logits: Tensor
    epoch: int


@dataclass(frozen=True, eq=False)
class RecursivePlan(Plan):
    """A plan that also knows what its consistency term needs.

    Args:
        box: where the history shows, on the CPU.
        said: (M, num_classes) logits of the images in the history.
    """

    box: Boxes | None = None
    said: Tensor | None = None


@POLICIES.register_module()
class RecursiveMix(MixPolicy):
    """Paste the last mixed batch, made small, into a box of this one; its targets and predictions come along.

    Image i of the history is resized (nearest) into the box of image i. The area of the box is r ~ U(0, alpha) before
    it is clipped to the image, lam is what remains, and y = lam * own + (1 - lam) * target of the history. A further
    term, omega * (1 - lam) * CE(g(v), softmax(logits of the history)), asks the network to see in the box what it saw
    in the whole image: v is the last feature map averaged over the box by RoIAlign, g a linear head that is dropped
    after training. Of RoIAlign's settings (one bin, half-pixel centres, a bilinear sample for each cell that the box
    covers) all but the one bin are our choice. Sigmoid losses, too, keep the softmax of this term.

    The first step of an epoch is not mixed. If the history has more images than the batch, its first ones are used; if
    it has fewer, the samples that have none stay as they are. Targets become soft, with ``num_classes`` columns. In a
    choice of policies the history is the last batch that this policy made.

    Not offered: the authors' option to use the classifier itself as g, which a policy cannot reach.

    Args:
        alpha: greatest area of the box, above 0 and at most 1.
        omega: weight of the consistency term, at least 0; the authors use 0.1 on CIFAR and 0.5 on ImageNet.
    """

    needs = ('features',)
    operators = 16
    paper = 'https://arxiv.org/abs/2203.06844'
    losses_train = 'network'
    exempt = {
        'pixels_stay_in_place': 'the history is resized into the box',
        'identical_images_stay_identical': 'an image with a small copy of itself in it is another image',
    }

    def __init__(self, alpha: float = 0.5, omega: float = 0.1) -> None:
        super().__init__()
        if not is_number(alpha) or not 0 < alpha <= 1:
            raise InputError(f'RecursiveMix(alpha={alpha!r}): expected a number above 0 and at most 1, an area.')
        if not is_number(omega, 0):
            raise InputError(f'RecursiveMix(omega={omega!r}): expected a number of at least 0.')
        self.alpha, self.omega = alpha, omega
        self.head: nn.Linear | None = None
        self.history: History | None = None

    def bind(self, network: Network) -> None:
        """Build g for the width of the last map."""
        width, classes = network.map_channels, network.num_classes
        if width < 1:
            raise InputError(
                f'RecursiveMix looks at the last feature map, which {network.name} does not have: choose another '
                'network.'
            )
        if self.head is None or (self.head.in_features, self.head.out_features) != (width, classes):
            self.head = nn.Linear(width, classes)

    def rank_state(self) -> dict[str, Tensor]:
        """The history; empty before the first step."""
        if self.history is None:
            return {}
        return {**self.history._asdict(), 'epoch': torch.tensor(self.history.epoch)}

    def load_rank_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a history, on whatever device it lies."""
        self.history = None
        if state:
            self.history = History(state['images'], state['targets'], state['logits'], int(state['epoch']))

    def draw_lam(self, count: int, rng: torch.Generator) -> Tensor:
        """(count,) float64 on the CPU, share of the own image before clipping: 1 - r."""
        return 1 - self.alpha * torch.rand(count, generator=rng, dtype=torch.float64)

    def forward(self, batch: Batch, ctx: Context) -> Plan:
        """In eval mode the batch as it is; a batch of one has a partner, too, in the history."""
        return self.plan(batch, ctx) if self.training else self.unmixed(batch)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """The batch with its history in a box, if it has one in this epoch."""
        batch = self._with_soft_labels(batch)
        images, size = batch.images, len(batch)
        past = self.history if self.history is not None and self.history.epoch == ctx.epoch else None
        height, width = images.shape[-2:]
        # The first step of an epoch draws too, and has a term of weight 0, so that g gets a gradient in every step.
        box = cutmix_boxes(self.draw_lam(1, ctx.rng), (height, width), ctx.rng)
        known = 0 if past is None else min(len(past.images), size)
        own = torch.arange(size)
        has_past = own < known
        kept = torch.where(has_past, box.kept(), 1.0)
        index, weight, has_past = to_device(
            images.device,
            torch.stack([own, own + size * has_past], 1),
            torch.stack([kept, 1 - kept], 1).float(),
            has_past,
        )
        inputs, said = images, None
        if past is not None:
            there = [value[:known].to(images.device) for value in past[:3]]
            inputs, said = _pasted(images, there[0].to(images.dtype), box), there[2]
            batch = replace(batch, bank=Batch(there[0], there[1], target=batch.target))

        def masks() -> Tensor:
            pasted = box.dense(images) * has_past[:, None, None, None].to(images.dtype)
            return own_masks(1 - pasted, size)

        view = View(inputs, Mixture(index, weight), masks, read=('features',))
        return RecursivePlan(batch, (view,), self, box=box, said=said)

    def _with_soft_labels(self, batch: Batch) -> Batch:
        """``batch`` with (N, num_classes) targets, since those of the history are such."""
        if self.head is None:
            raise InputError(
                'RecursiveMix has not seen the network yet: use it as policy of a MixClassifier, or call its bind().'
            )
        if batch.labels is None or batch.target == 'regression':
            raise InputError(
                f'RecursiveMix mixes the labels of classes, but the target is {batch.target} and labels '
                f'are {"missing" if batch.labels is None else "values"}: choose another policy.'
            )
        if batch.target != 'class':
            return replace(batch, bank=None)
        labels = batch.labels.long()[:, None]
        soft = torch.zeros(len(batch), self.head.out_features, device=labels.device).scatter_(1, labels, 1.0)
        return Batch(batch.images, soft, target='soft')

    def finish(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:
        """Add the consistency term, then keep what the next step needs."""
        if not isinstance(plan, RecursivePlan):  # eval mode
            return plan
        (view,), (output,) = plan.views, outputs
        targets = view.mixture.soft(plan.batch.source_labels)
        term = self._consistency(plan, output)
        self.history = History(view.inputs.detach(), targets.detach(), output.logits.detach(), ctx.epoch)
        return replace(plan, losses={**plan.losses, 'recursive': term})

    def _consistency(self, plan: RecursivePlan, output: Any) -> Tensor:
        assert plan.box is not None
        assert self.head is not None
        features, size = output.features, len(plan.batch)
        (top, left), (bottom, right) = plan.box.low[0].tolist(), plan.box.high[0].tolist()
        height, width = plan.box.size
        lines = (roi_line(top, bottom, height, features.shape[2]), roi_line(left, right, width, features.shape[3]))
        down, across = to_device(features.device, *(line.to(features.dtype) for line in lines))
        seen = self.head((features @ across) @ down).float()
        said = seen.new_zeros(0, seen.shape[1]) if plan.said is None else plan.said.float()
        wanted = functional.pad(said, (0, 0, 0, size - len(said))).softmax(1)  # of weight 0 behind the history
        loss = functional.cross_entropy(seen, wanted, reduction='none')
        return self.omega * (plan.views[0].mixture.weight[:, 1] * loss).mean()


def _pasted(images: Tensor, past: Tensor, box: Boxes) -> Tensor:
    """A copy of ``images`` with ``past`` (M, C, H', W') resized into the box of the first M."""
    mixed = images.clone()
    down, across = box.slices()
    size = (down.stop - down.start, across.stop - across.start)
    if all(size):  # a small area may leave no pixel
        mixed[: len(past), :, down, across] = functional.interpolate(past, size=size, mode='nearest')
    return mixed


def roi_line(start: int, stop: int, pixels: int, cells: int) -> Tensor:
    """(cells,) float64 weights by which RoIAlign with one bin averages one axis of a map.

    Args:
        start: first pixel of the box.
        stop: first pixel behind it.
        pixels: of the image along the axis.
        cells: of the map along the axis.
    """
    begin, length = start * cells / pixels - 0.5, (stop - start) * cells / pixels
    count = max(1, math.ceil(length))
    at = begin + (torch.arange(count, dtype=torch.float64) + 0.5) * length / count
    at = at.clamp(0, cells - 1)
    return (1 - (at[:, None] - torch.arange(cells)).abs()).clamp_min(0).mean(0)
