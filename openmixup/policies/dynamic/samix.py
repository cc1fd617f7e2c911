"""SAMix (Li et al., 2021)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from openmixup.checks import is_number
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.context import Context, Network
from openmixup.policies.dynamic.automix import AutoMix
from openmixup.policies.mixture import Batch, Mixture
from openmixup.registry import POLICIES

__all__ = ['SAMix', 'exclusive_loss', 'local_loss']

LOSSES = ('balanced', 'plain')
GLOBAL_TERMS = ('full', 'exclusive')


@POLICIES.register_module()
class SAMix(AutoMix):
    """AutoMix with a block that knows lam and sees both images at once, and a loss that tells the two classes apart.

    The loss of the block is local + eta * global. The local term looks at the two mixed classes a and b only:
    -[lam log sigmoid(z_a - z_b) + (1 - lam) log sigmoid(z_b - z_a)] with the teacher's logits z; it is 0 where both
    images are of one class. The global term is the learner's loss against all classes, or, 'exclusive', that of each
    mixed class against all but the other one: -log p_a + log(1 - p_b), and the same for b.

    The loss is written as we read the paper; eta and the choice of the global term were not checked against code that
    was published with it. In the toolbox that published the figures eta had no effect, since it weighed entries of a
    cross-entropy that are 0: they were reached with the learner's loss alone, ``generator=dict(loss='plain')``.

    Published settings: CIFAR-100 as by default; Tiny-ImageNet ``block=dict(remap=-1)``; at 224 pixels
    ``block=dict(remap=-1, dropout=0.1)`` and ``mask_loss=dict(schedule='cosine')``, where the paper has eta 1 on
    ImageNet; for CIFAR-10 none were published.

    SAMix-P is ``generator=dict(pretrained=FILE)`` with the checkpoint of an earlier run: its block and teacher make the
    masks and are kept as they are, see :class:`AutoMix`. The block is in eval mode then, so that a mask depends on its
    two images only; whether that is so in the paper was not checked. The teacher normalises as ``model.teacher.bn``
    says, which should be what the earlier run had.

    Args:
        alpha: lam ~ Beta(alpha, alpha), above 0.
        per: 'batch' for one lam a batch (the authors' code), 'sample' for one each.
        pairing: 'permutation' (the authors' code), 'derangement' or 'flip'.
        stage: stage of the teacher whose features the block sees, as of :class:`AutoMix`.
        block: arguments of :class:`MixBlock`; other defaults than AutoMix has: embedding 'multiply' with remap 0.25,
            value 'two_layer', joint, upsample 'bilinear'.
        mask_loss: arguments of :class:`MaskLoss`; kind is 'l1_variance' by default.
        classifier: as of :class:`AutoMix`.
        generator: as of :class:`AutoMix`, and ``loss`` 'balanced' or 'plain', ``eta`` (0.5, at least 0) and
            ``global_term`` 'full' or 'exclusive' of the balanced loss.

    Raises:
        InputError: as :class:`AutoMix`, or a balanced loss for labels that are no class indices.
    """

    operators = 85
    paper = 'https://arxiv.org/abs/2111.15454'

    BLOCK: ClassVar[dict[str, Any]] = {
        **AutoMix.BLOCK, 'embedding': 'multiply', 'remap': 0.25, 'value': 'two_layer', 'joint': True,
        'upsample': 'bilinear',
    }  # fmt: skip
    MASK_LOSS: ClassVar[dict[str, Any]] = {**AutoMix.MASK_LOSS, 'kind': 'l1_variance'}
    GENERATOR: ClassVar[dict[str, Any]] = {**AutoMix.GENERATOR, 'loss': 'balanced', 'eta': 0.5, 'global_term': 'full'}

    def _check(self) -> None:
        super()._check()
        eta = self._generator['eta']
        if not is_number(eta, 0):
            raise InputError(f'SAMix(generator=dict(eta={eta!r})): expected a number of at least 0.')
        for key, known in (('loss', LOSSES), ('global_term', GLOBAL_TERMS)):
            value = self._generator[key]
            if value not in known:
                hint = did_you_mean(str(value), known)
                raise InputError(f'SAMix(generator=dict({key}={value!r})): expected one of {", ".join(known)}{hint}.')

    def bind(self, network: Network) -> None:
        """As AutoMix; labels must fit the loss."""
        self._check_target(network.target)
        super().bind(network)

    def _check_target(self, target: str) -> None:
        if target != 'class' and self._generator['loss'] == 'balanced':
            raise InputError(
                f'the balanced loss of SAMix needs class indices, but the labels are {target} targets: '
                "use generator=dict(loss='plain')."
            )

    def generator_loss(self, logits: Tensor, batch: Batch, mixture: Mixture, ctx: Context) -> Tensor:
        """(N,) the local and the global term, or the learner's loss."""
        if self._generator['loss'] == 'plain':
            return super().generator_loss(logits, batch, mixture, ctx)
        self._check_target(batch.target)  # a policy around this one may have changed the labels
        assert batch.labels is not None
        labels, eta = batch.labels, self._generator['eta']
        if self._generator['global_term'] == 'full':
            whole = super().generator_loss(logits, batch, mixture, ctx)
        else:
            whole = exclusive_loss(logits, labels, mixture)
        return local_loss(logits, labels, mixture) + eta * whole


def local_loss(logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
    """(N,) cross-entropy between the two mixed classes only, 0 where they are the same.

    Args:
        logits: (N, num_classes).
        labels: (N,) class indices of the sources.
        mixture: of two sources each.
    """
    classes = labels.long()[mixture.index]
    picked = _float(logits).gather(1, classes)
    gap = picked[:, 1] - picked[:, 0]
    # the weights sum to 1, so with softplus(x) = -log sigmoid(-x) both logarithms come from one
    loss = torch.addcmul(functional.softplus(gap), mixture.weight[:, 1], gap, value=-1)
    return loss * (classes[:, 0] != classes[:, 1])


def exclusive_loss(logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
    """(N,) weighted cross-entropy of each mixed class against all but the other one; the plain one where both are one.

    Arguments as of :func:`local_loss`. With p the softmax over all classes it is -log p_a + log(1 - p_b), computed
    without the difference 1 - p_b, which loses its digits as p_b nears 1.
    """
    logits, classes = _float(logits), labels.long()[mixture.index]
    picked = logits.gather(1, classes)
    others = classes.flip(1)
    same = classes[:, :1] == classes[:, 1:]
    removed = torch.where(same, picked, float('-inf'))
    totals = [logits.scatter(1, others[:, i : i + 1], removed[:, i : i + 1]).logsumexp(1) for i in range(2)]
    return ((torch.stack(totals, 1) - picked) * mixture.weight).sum(1)


def _float(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
