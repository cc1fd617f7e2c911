"""MixPro (Zhao et al., ICLR 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError
from openmixup.policies.base import PairPolicy
from openmixup.policies.context import Context, Network
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.pairing import pair_index
from openmixup.policies.token.transmix import attention_shares
from openmixup.policies.tokens import cell_view, random_cells
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['MixPro']

ROUNDINGS = ('ceil', 'random')


@POLICIES.register_module()
class MixPro(PairPolicy):
    r"""Mix by a coarse random chessboard; trust the attention for the labels as far as the prediction fits.

    The image is cut into ``cells`` by ``cells`` coarse cells, of which the own image keeps
    :math:`\lceil \lambda\,cells^2 \rceil`, at other places in each sample. The weight of the own image becomes
    :math:`q\,\lambda_{attn} + (1 - q)\,\lambda_{area}` for each sample: :math:`\lambda_{area}` is the share of its
    pixels, :math:`\lambda_{attn}` that of the attention of the class token to the patches of the **mixed** image, in
    the last block, and :math:`q` the cosine of the prediction and the smoothed target by area. All is read from the
    pass that is trained, so it takes no other.

    A patch on the border of two cells counts for both, by area. The authors let the gradient of the loss flow through
    q; here it stays outside unless ``detach=False``. Their released configs for networks such as DeiT have cells of
    56 px (4 x 4 at 224 px), mix by this in half of the batches and by Mixup 0.8 or CutMix 1.0 else, for which there is
    ``RandomChoice``, and leave the attention off: ``progressive=False``, which gives labels by area and needs no class
    token. Their loss with attention is a cross-entropy without smoothing, so set none in the learner to have it.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0.
        per: 'batch' for one number of cells a batch, as the authors have it, or 'sample' for one each. The cells differ
            from sample to sample in both cases.
        pairing: 'permutation', 'derangement' or 'flip'.
        cells: number of cells along each side, from 2 on; at best each holds a whole number of patches.
        rounding: 'ceil' (the authors' code), by which the own image keeps 17/32 in the mean for 4 x 4 cells, or
            'random', which rounds up or down so that the mean is lam.
        smoothing: of the target that q compares with, in [0, 1).
        detach: no gradient flows through q.
        progressive: weigh by attention; False: by area only.
    """

    paper = 'https://arxiv.org/abs/2304.12043'

    def __init__(
        self,
        alpha: float = 1.0,
        per: str = 'batch',
        pairing: str = 'permutation',
        cells: int = 4,
        rounding: str = 'ceil',
        smoothing: float = 0.1,
        detach: bool = True,
        progressive: bool = True,
    ) -> None:
        super().__init__(alpha, per, pairing)
        if not is_whole(cells, 2):
            raise InputError(f'MixPro(cells={cells!r}): expected a whole number of cells along a side, from 2 on.')
        if rounding not in ROUNDINGS:
            raise InputError(f'MixPro(rounding={rounding!r}): expected one of {", ".join(ROUNDINGS)}.')
        if not is_number(smoothing) or not 0 <= smoothing < 1:
            raise InputError(f'MixPro(smoothing={smoothing!r}): expected a number in [0, 1); the authors use 0.1.')
        for name, value in (('detach', detach), ('progressive', progressive)):
            if not isinstance(value, bool):
                raise InputError(f'MixPro({name}={value!r}): expected True or False.')
        self.cells, self.rounding, self.smoothing = cells, rounding, smoothing
        self.detach, self.progressive = detach, progressive

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Attention and logits, to weigh by them."""
        return ('attention', 'logits') if self.progressive else ()

    @property
    def label(self) -> str:  # type: ignore[override]
        """A rule of the paper, or the measured share."""
        return 'semantic' if self.progressive else 'pixels'

    def bind(self, network: Network) -> None:
        """Refuse a network without attention to each patch, or without classes, if they are to be weighed by."""
        if not self.progressive:
            return
        network.check_patches('MixPro')
        if network.target == 'regression':
            raise InputError(
                'MixPro trusts the attention as far as the predicted classes fit, but the target is regression: give '
                'progressive=False.'
            )

    def view(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> View:
        """The chessboard of both images."""
        grid = (self.cells, self.cells)
        kept = lam * self.cells**2
        if self.rounding == 'ceil':
            kept = kept.ceil()
        else:
            kept = (kept + torch.rand(len(kept), generator=ctx.rng, dtype=torch.float64)).floor()
        own = random_cells(kept, len(batch), ctx.rng, grid)
        view = cell_view(batch, *to_device(batch.images.device, pair_index(partner), own))
        return replace(view, read=('attention',)) if self.progressive else view

    def finish(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:  # noqa: ARG002
        """Weights by attention as far as the prediction fits the target by area."""
        (view,), (output,) = plan.views, outputs
        if 'attention' not in view.read:
            return plan
        assert view.masks is not None
        by_area = view.mixture.weight
        by_attention = attention_shares(output.attention, view.masks, by_area=True)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach):
            trust = self.trust(output.logits, view.mixture, plan.batch)
            weight = torch.lerp(by_area, by_attention, trust[:, None])
        return replace(plan, views=(replace(view, mixture=Mixture(view.mixture.index, weight)),))

    def trust(self, logits: Tensor, mixture: Mixture, batch: Batch) -> Tensor:
        """(N,) q, the cosine of the prediction and the smoothed target by area.

        Args:
            logits: (N, C).
            mixture: with weights by area.
            batch: the sources. For multi-hot labels the prediction is a sigmoid for each class.
        """
        logits = logits.float()
        classes = logits.shape[1]
        target = mixture.soft(batch.source_labels, classes).float() * (1 - self.smoothing) + self.smoothing / classes
        predicted = logits.sigmoid() if batch.target == 'multilabel' else logits.softmax(1)
        return torch.nn.functional.cosine_similarity(predicted, target, dim=1)
