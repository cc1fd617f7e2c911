"""LUMix (Sun et al., ICASSP 2024), a reconstruction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.transfer import to_device
from openmixup.policies.wrap.base import WrapPolicy
from openmixup.registry import POLICIES

__all__ = ['LUMix']

FAR = 1e4  # exp(-FAR) is 0 in float32, and unlike an infinite one it leaves no NaN where all sources are without weight


@POLICIES.register_module()
class LUMix(WrapPolicy):
    r"""After LUMix: blend the weights of any policy with predicted and with random ones.

    The image stays as it is. The weights of each sample become
    :math:`(1 - r - s) w + r\,\lambda^r + s\,\lambda^s`: :math:`w` are those of the inner policy, :math:`\lambda^r` is
    the prediction restricted to the sources (for two classes a and b, p_a / (p_a + p_b)), :math:`\lambda^s` is drawn
    uniformly for each sample. The sum of the weights stays, and a source that had no weight gets none.

    No code was published, so the formula is a reconstruction from memory, and so are its constants and that no gradient
    flows through the prediction. Figures of the paper need not hold.

    Args:
        policy: what makes the images and the weights to start from.
        predicted: r, share of the predicted weights, at least 0.
        drawn: s, share of the random weights, at least 0; both together at most 1.
    """

    label = 'semantic'
    paper = 'https://arxiv.org/abs/2211.15846'
    own_needs = ('logits',)

    def __init__(
        self,
        policy: MixPolicy | dict[str, Any] = {'type': 'CutMix'},  # noqa: B006  (never changed)
        predicted: float = 0.4,
        drawn: float = 0.1,
    ) -> None:
        super().__init__(policy)
        for name, share in (('predicted', predicted), ('drawn', drawn)):
            if not is_number(share, 0, 1):
                raise InputError(f'LUMix({name}={share!r}): expected a number from 0 to 1.')
        if predicted + drawn > 1:
            raise InputError(
                f'LUMix(predicted={predicted}, drawn={drawn}) leaves nothing to the weights of the policy: expected a '
                'sum of at most 1.'
            )
        self.predicted, self.drawn = predicted, drawn

    def complete(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:
        """New weights for every view of more than one source."""
        if plan.batch.target == 'regression':
            raise InputError('LUMix weighs sources by their predicted classes, but the target is regression.')
        views = tuple(
            self._blended(view, output.logits.detach().float(), plan.batch, ctx.rng)
            for view, output in zip(plan.views, outputs, strict=True)
        )
        return replace(plan, views=views)

    def _blended(self, view: View, logits: Tensor, batch: Batch, rng: torch.Generator) -> View:
        index, weight = view.mixture.index, view.mixture.weight
        if index.shape[1] == 1 or self.predicted == self.drawn == 0:
            return view
        listed = (weight > 0).to(weight.dtype)  # no weight for what the image does not show
        by_network = (evidence(logits, batch, index) + FAR * (listed - 1)).softmax(1)
        (draw,) = to_device(index.device, torch.empty(index.shape).exponential_(generator=rng))
        draw = draw * listed  # exponential draws over their sum are uniform over all weights
        by_chance = draw / draw.sum(1, keepdim=True).clamp_min(torch.finfo(draw.dtype).tiny)
        shares = self.predicted * by_network + self.drawn * by_chance
        mixed = (1 - self.predicted - self.drawn) * weight + weight.sum(1, keepdim=True) * shares
        return replace(view, mixture=Mixture(index, mixed))


def evidence(logits: Tensor, batch: Batch, index: Tensor) -> Tensor:
    """(N, K) log of the predicted probability of the labels of each source, up to a constant per sample.

    Args:
        logits: (N, C), float32.
        batch: whose source labels are classes, soft or multi-hot. Of the latter the mean probability of the labels that
            an image has is taken, each by its own sigmoid.
        index: (N, K) sources.
    """
    labels = batch.source_labels
    if batch.target == 'class':
        return logits.gather(1, labels.long()[index])
    labels = labels.float()
    if batch.target == 'multilabel':
        labels = labels / labels.sum(1, keepdim=True).clamp_min(1)
    probabilities = logits.sigmoid() if batch.target == 'multilabel' else logits.softmax(1)
    found = (probabilities @ labels.T).gather(1, index)
    return found.clamp_min(torch.finfo(found.dtype).tiny).log()
