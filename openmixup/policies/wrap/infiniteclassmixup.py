"""Infinite Class Mixup (Mensink and Mettes, 2023)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Plan
from openmixup.policies.precision import arithmetic
from openmixup.policies.wrap.base import WrapPolicy, add_loss
from openmixup.policies.wrap.sumix import is_mixed
from openmixup.registry import POLICIES

__all__ = ['InfiniteClassMixup', 'contrasts', 'mixed_logits']


@POLICIES.register_module()
class InfiniteClassMixup(WrapPolicy):
    r"""Mix the classifiers as the images are mixed, and tell the pairs of a batch apart by them.

    Each mixed image :math:`\tilde x_n` gets a class of its own, whose classifier mixes those of its sources,
    :math:`\tilde w_n = \sum_k \lambda_{nk} w_{y_k}`, the bias likewise. With the scores :math:`s_{mn} = \tilde w_n^\top
    f(\tilde x_m)` of all mixed images by all mixed classifiers of the batch, the loss is

    .. math:: -\frac1N \sum_n \Big( a \log \frac{e^{s_{nn}}}{\sum_m e^{s_{nm}}}
        + b \log \frac{e^{s_{nn}}}{\sum_m e^{s_{mn}}} \Big) + c \, L.

    The first term, the class axis, contrasts the classifiers for each image, the second one, the pair axis, the images
    for each classifier. L is the learner's loss by the mixed labels. As the head is linear, :math:`s_{mn}` is the sum
    of the plain logits of image m by the weights of image n, and no classifier is made.

    By the abstract of the paper, in which classifiers are mixed, contrasted with the classifiers and with the outputs
    of the other pairs of the batch, and the labels are not. Unsure are the weights of the terms, equal ones here, that
    the scores are plain logits without a temperature, and that nothing but the pairs of the batch is contrasted. Views
    of one source, such as the clean batch of ``RegMixup``, keep the learner's loss. With several processes each one
    contrasts its own batch. Two pairs with the same classifier are told apart nonetheless, which asks for equal scores.

    Put rules for labels (LUMix) inside, not around it. The loss of the learner counts by ``label_weight`` only, and so
    does its label smoothing.

    Args:
        policy: what makes the images and the weights: the paper has several variants of Mixup.
        class_weight: a, at least 0.
        pair_weight: b, at least 0; one of the two above 0.
        label_weight: c, at least 0.
    """

    paper = 'https://arxiv.org/abs/2305.10293'
    losses_train = 'network'
    own_needs = ('logits',)

    def __init__(
        self,
        policy: MixPolicy | dict[str, Any] = {'type': 'Mixup', 'alpha': 1.0},  # noqa: B006  (never changed)
        class_weight: float = 1.0,
        pair_weight: float = 1.0,
        label_weight: float = 0.0,
    ) -> None:
        super().__init__(policy)
        given = {'class_weight': class_weight, 'pair_weight': pair_weight, 'label_weight': label_weight}
        for name, value in given.items():
            if not is_number(value, 0):
                raise InputError(f'InfiniteClassMixup({name}={value!r}): expected a number of at least 0.')
        if class_weight == pair_weight == 0:
            raise InputError(
                'InfiniteClassMixup(class_weight=0, pair_weight=0) contrasts nothing: expected one of them above 0, or '
                'use the inner policy alone.'
            )
        self.class_weight, self.pair_weight, self.label_weight = class_weight, pair_weight, label_weight

    def kept(self, inner: Plan) -> Plan:
        """The inner views; those of several sources count by ``label_weight`` for the learner's loss."""
        views = tuple(
            replace(view, share=view.share * self.label_weight) if is_mixed(view) else view for view in inner.views
        )
        return replace(self.around(inner), views=views)

    def complete(self, plan: Plan, outputs: tuple[Any, ...], ctx: Context) -> Plan:  # noqa: ARG002
        """The contrasts of every mixed view that the inner policy trains."""
        done, inner = plan, plan.inner
        assert inner is not None
        for view, output in zip(inner.views, outputs, strict=False):
            if not is_mixed(view) or view.share == 0:
                continue
            if plan.batch.target not in ('class', 'soft'):
                raise InputError(
                    f'InfiniteClassMixup mixes the classifiers of classes, but the target is {plan.batch.target}: '
                    'expected class indices or soft labels.'
                )
            logits = output.logits.to(torch.promote_types(output.logits.dtype, torch.float32))
            targets = view.mixture.soft(plan.batch.source_labels, logits.shape[1]).to(logits.dtype)
            by_class, by_pair = contrasts(mixed_logits(logits, targets))
            term = self.class_weight * by_class + self.pair_weight * by_pair
            done = add_loss(done, 'infiniteclass', view.share * term)
        return done


def mixed_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, N) scores of each image in the rows by the mixed classifier of each one in the columns.

    Args:
        logits: (N, C) by the plain classifiers, float32.
        targets: (N, C) weight of each class in a mixed one.
    """
    with arithmetic(logits.device):
        return logits @ targets.T


def contrasts(scores: Tensor) -> tuple[Tensor, Tensor]:
    """() mean cross-entropies of the diagonal of (N, N) scores, in the rows and in the columns."""
    diagonal = scores.diagonal()
    return (scores.logsumexp(1) - diagonal).mean(), (scores.logsumexp(0) - diagonal).mean()
