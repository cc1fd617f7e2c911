"""Partners by the distance between classes (Fujii et al., 2022), a reconstruction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from openmixup.checks import is_number
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MixPolicy, PairPolicy
from openmixup.policies.context import Context, Network, unbound
from openmixup.policies.mixture import Batch, Mixture, Plan
from openmixup.policies.precision import arithmetic
from openmixup.policies.transfer import to_device
from openmixup.policies.wrap.base import WrapPolicy
from openmixup.registry import POLICIES

__all__ = ['ClassDistancePartner', 'class_distances']

DISTANCES = ('l2', 'cosine')
LEAST_TAU = 0.001
FAR = 1e4  # more than any distance over tau; an infinite one would leave no choice in a batch of one class


@POLICIES.register_module()
class ClassDistancePartner(WrapPolicy):
    r"""After Fujii et al.: mix each image with one of a class that is far while its own is hard, and near once easy.

    :math:`P_a` is the mean of the predicted probabilities of the images of class a over the last epoch, :math:`D_{ab}`
    the distance of :math:`P_a` and :math:`P_b`, and :math:`s_a = 2 \cdot \mathrm{accuracy}_a - 1` tells how well class
    a was recognised. An image of class a gets a partner of another class b of the batch, and of its bank if it has one,
    with

    .. math:: \Pr(b \mid a) \propto \exp(-s_a D_{ab} / \tau),

    each image of class b alike: a class that is always recognised has near partners, one that never is has far ones.
    In the first epoch, and for a class that the last one did not show, all other classes are as probable. If the batch
    has one class only, all its images are. lam and the picture are those of the inner policy.

    The paper has no code, and no formula of it was at hand: that classes are chosen by a distance of class
    probabilities and by the trend of each class is reported, all the rest is a reconstruction, tau as well. Figures of
    the paper need not hold.

    The probabilities are those of the clean batch in eval mode, a further forward pass without gradient. Mixed images
    would cost none, but classes that are often mixed would look alike. The sums of this epoch and of the last one are
    buffers: checkpoints keep them, and processes share those of the first one, as they do the statistics of BatchNorm.
    Partners are drawn on the device, where the labels are, without a read.

    Args:
        policy: what mixes the pairs: a policy of pixels that leaves the plan to ``PairPolicy``, as Mixup, CutMix and
            their like do.
        tau: how little distances count, at least 0.001: for large ones the choice is even, for small ones it is the
            nearest or the farthest class.
        distance: 'l2', at most the square root of 2, or 'cosine', one minus the cosine.
    """

    paper = 'https://arxiv.org/abs/2209.05122'
    own_needs = ('logits',)
    own_operators = 40

    epoch: Tensor
    sums: Tensor
    last: Tensor

    def __init__(
        self,
        policy: MixPolicy | dict[str, Any] = {'type': 'Mixup', 'alpha': 1.0},  # noqa: B006  (never changed)
        tau: float = 0.2,
        distance: str = 'l2',
    ) -> None:
        super().__init__(policy)
        inner = self.policy
        if not isinstance(inner, PairPolicy) or type(inner).plan is not PairPolicy.plan:
            raise InputError(
                f'ClassDistancePartner(policy={type(inner).__name__}) cannot give it partners, since it draws its own: '
                'expected a policy such as Mixup or CutMix.'
            )
        refused = {'tap': 'mixes hidden maps of the batch alone', 'bank': 'takes partners from a second loader'}
        for need, reason in refused.items():
            if need in inner.needs:
                raise InputError(
                    f'ClassDistancePartner(policy={type(inner).__name__}) cannot give it partners, since it {reason}: '
                    'expected a policy such as Mixup or CutMix.'
                )
        if not is_number(tau, LEAST_TAU):
            raise InputError(
                f'ClassDistancePartner(tau={tau!r}): expected a number of at least {LEAST_TAU}, such as 0.2.'
            )
        if distance not in DISTANCES:
            hint = did_you_mean(distance, DISTANCES)
            raise InputError(
                f'ClassDistancePartner(distance={distance!r}): expected one of {", ".join(DISTANCES)}{hint}.'
            )
        self.tau, self.distance = tau, distance
        self.register_buffer('epoch', torch.tensor(-1))
        self._build(0)

    def bind(self, network: Network) -> None:
        """Make room for the sums of all classes; those of as many classes are kept.

        Raises:
            InputError: the target is neither classes nor soft labels.
        """
        super().bind(network)
        if network.target not in ('class', 'soft'):
            raise InputError(
                f'ClassDistancePartner looks at the class of each image, but the target is {network.target}: expected '
                'class indices or soft labels.'
            )
        if len(self.sums) != network.num_classes:
            self._build(network.num_classes)

    def _build(self, classes: int) -> None:
        """Empty sums: for each class those of its probabilities, the number of its images, and of those recognised."""
        for name in ('sums', 'last'):
            self.register_buffer(name, torch.zeros(classes, classes + 2 if classes else 0, device=self.epoch.device))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Make room for as many classes as the state was saved of, if there is none yet."""
        saved = state_dict.get(f'{prefix}sums')
        if not len(self.sums) and saved is not None:
            self._build(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Count, choose, and let the inner policy mix: it is shown the partners as a bank, one behind the other."""
        sources = len(batch) + (0 if batch.bank is None else len(batch.bank.source_images))
        if sources < 2:
            return super().plan(batch, ctx)
        if not len(self.sums):
            raise unbound('ClassDistancePartner')
        labels, size = batch.source_labels, len(batch)
        classes = labels.argmax(1) if batch.target == 'soft' else labels.long()
        noise = torch.empty(size, sources).exponential_(generator=ctx.rng).log_().neg_()
        own, noise = to_device(batch.images.device, torch.arange(size), noise)
        with torch.no_grad():
            self._count(ctx.probe.logits(batch.images), classes[:size], ctx.epoch)
            chosen = (noise + self._scores(classes, size)).argmax(1)
            partners = Batch(batch.source_images[chosen], labels[chosen], target=batch.target)
        inner = self.policy
        assert isinstance(inner, PairPolicy)
        lam = inner.draw_lam(size if inner.per == 'sample' else 1, ctx.rng)
        pairs = Batch(batch.images, batch.labels, partners, batch.target)
        view = inner.view(pairs, torch.arange(size, 2 * size), lam, ctx)
        mixture = Mixture(torch.cat([own, chosen])[view.mixture.index], view.mixture.weight)
        return self.around(Plan(batch, (replace(view, mixture=mixture),), inner))

    def _count(self, logits: Tensor, classes: Tensor, epoch: int) -> None:
        """Add what the network says of images of these classes, behind a change of the epoch to new sums."""
        begun = self.epoch != epoch  # on the device; the state of a resumed run knows its epoch
        before = self.sums * (self.epoch == epoch - 1)  # what weights of another run bring is no last epoch
        self.last.copy_(torch.where(begun, before, self.last))
        self.sums.masked_fill_(begun, 0)
        self.epoch.fill_(epoch)
        right = (logits.argmax(1) == classes)[:, None]
        found = torch.cat([logits.float().softmax(1), torch.ones_like(right), right], 1)
        self.sums.index_add_(0, classes, found.to(self.sums.dtype))

    def _scores(self, classes: Tensor, size: int) -> Tensor:
        """(N, S) log of the probability of each source as partner, up to a constant for each sample.

        Args:
            classes: (S,) of all sources.
            size: N, of which the first ones are the batch.
        """
        means, trends = self._means(), self._trends()[classes[:size]]
        apart = class_distances(means[classes[:size]], means[classes], self.distance)
        alike = (classes[:, None] == classes).to(apart.dtype)
        # each class counts once, whatever the number of its images
        scores = torch.addcmul(-alike.sum(1).log(), apart, trends[:, None], value=-1 / self.tau)
        return scores.sub_(alike[:size], alpha=FAR)

    def _means(self) -> Tensor:
        """(C, C) float32 mean probabilities of each class in the last epoch; even ones of a class that it lacked."""
        probabilities, count, _ = self.last.float().split([len(self.last), 1, 1], 1)
        return torch.where(count > 0, probabilities / count.clamp_min(1), 1 / len(self.last))

    def _trends(self) -> Tensor:
        """(C,) float32 s from -1 to 1, 0 of a class that the last epoch lacked."""
        count, right = self.last[:, -2:].float().unbind(1)
        return (2 * right - count) / count.clamp_min(1)


def class_distances(first: Tensor, second: Tensor, kind: str) -> Tensor:
    """(N, M) float32 distances of rows (N, C) and (M, C) of probabilities.

    Args:
        first: float32.
        second: float32.
        kind: 'l2' or 'cosine', one minus the cosine.
    """
    with arithmetic(first.device):
        if kind == 'cosine':
            return 1 - functional.normalize(first) @ functional.normalize(second).T
        # not by inner products, by which near rows would lose their distance
        return torch.cdist(first, second, compute_mode='donot_use_mm_for_euclid_dist')
