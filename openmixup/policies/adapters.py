"""Doors for training loops that are not ours: a stand-in for ``timm.data.Mixup`` and a collate function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.policies.base import MixPolicy
from openmixup.policies.compose import RandomChoice, Vanilla
from openmixup.policies.context import Context
from openmixup.policies.masks import Boxes, inner_boxes
from openmixup.policies.mixture import Batch
from openmixup.policies.static.cutmix import CutMix
from openmixup.policies.static.mixup import Mixup

__all__ = ['MixCollate', 'TimmMixup']


class _UncorrectedCutMix(CutMix):
    """CutMix whose label is the drawn lam although the border clips the box, as timm has it on demand."""

    label = 'drawn'


class _MinMaxCutMix(CutMix):
    """CutMix whose sides are drawn as timm draws them: the greatest one is left out."""

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Boxes:  # noqa: ARG002
        """One box a batch or a sample."""
        height, width = batch.images.shape[-2:]
        assert self.minmax is not None
        return inner_boxes(len(lam), self.minmax, (height, width), ctx.rng, greatest=False)


class TimmMixup:
    """Mixup and CutMix by the arguments of ``timm.data.Mixup``, to be called in its place.

    Differences: odd batches are mixed too, the images are not overwritten, draws come from a private stream instead
    of numpy's global one, and with ``mode='elem'`` lam and box are drawn for each sample, but whether to mix, and
    whether by Mixup or CutMix, is one choice for the batch. As in timm, ``mixup_enabled = False`` stops mixing.

    Args:
        mixup_alpha: Mixup is on if above 0.
        cutmix_alpha: CutMix is on if above 0.
        cutmix_minmax: (least, most) side of the box as a share of the image's; CutMix is on, ``cutmix_alpha`` is not
            used, the box lies in the image and labels follow its area. The greatest side is not drawn, as in timm,
            unless it is the least one too, which timm cannot draw from.
        prob: probability that a batch is mixed.
        switch_prob: probability of CutMix where both are on.
        mode: 'batch' or 'elem'; 'pair' is refused.
        correct_lam: whether labels follow the area of the box after clipping (they should).
        label_smoothing: share of the target that is spread over all classes.
        num_classes: number of classes.

    Example:
        >>> import torch
        >>> mixup_fn = TimmMixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=10)
        >>> images, target = mixup_fn(torch.randn(5, 3, 32, 32), torch.arange(5))
        >>> images.shape, target.shape
        (torch.Size([5, 3, 32, 32]), torch.Size([5, 10]))
    """

    def __init__(
        self,
        mixup_alpha: float = 1.0,
        cutmix_alpha: float = 0.0,
        cutmix_minmax: Sequence[float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: str = 'batch',
        correct_lam: bool = True,
        label_smoothing: float = 0.1,
        num_classes: int = 1000,
    ) -> None:
        if mode not in ('batch', 'elem'):
            raise InputError(f"TimmMixup(mode={mode!r}) is not offered: use 'batch' or 'elem'.")
        for name, value in (('prob', prob), ('switch_prob', switch_prob), ('label_smoothing', label_smoothing)):
            if not is_number(value, 0, 1):
                raise InputError(f'TimmMixup({name}={value!r}): expected a number from 0 to 1.')
        for name, value in (('Mixup', mixup_alpha), ('CutMix', cutmix_alpha)):
            if not is_number(value):
                raise InputError(f'TimmMixup({name.lower()}_alpha={value!r}): expected a number, 0 for no {name}.')
        if mixup_alpha <= 0 and cutmix_alpha <= 0 and cutmix_minmax is None:
            raise InputError(
                'TimmMixup has nothing to do: give a mixup_alpha or a cutmix_alpha above 0, or a cutmix_minmax.'
            )
        per = 'batch' if mode == 'batch' else 'sample'
        members: list[MixPolicy] = []
        if mixup_alpha > 0:
            members.append(Mixup(mixup_alpha, per, 'flip'))
        if cutmix_minmax is not None:
            try:
                members.append(_MinMaxCutMix(1.0, per, 'flip', cutmix_minmax))
            except InputError as error:
                raise InputError(
                    f'TimmMixup(cutmix_minmax={cutmix_minmax!r}): expected (least, most) with 0 <= least <= most <= 1, '
                    'as (0.2, 0.8), or None.'
                ) from error
        elif cutmix_alpha > 0:
            members.append((CutMix if correct_lam else _UncorrectedCutMix)(cutmix_alpha, per, 'flip'))
        shares = [1 - switch_prob, switch_prob] if len(members) == 2 else [1.0]
        self.policy = RandomChoice([*members, Vanilla()], [*(prob * share for share in shares), 1 - prob])
        self.label_smoothing, self.num_classes = label_smoothing, num_classes
        self.mixup_enabled = True

    def __call__(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed images and (N, num_classes) targets of a batch (N, C, H, W) with class indices (N,)."""
        view = self.policy.train(self.mixup_enabled).mix(x, target, target='class')
        soft = view.mixture.soft(target, self.num_classes)
        return view.inputs, soft * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes


class MixCollate:
    """A ``collate_fn`` that mixes each batch, for any ``torch.utils.data.DataLoader``.

    It mixes in the loader's worker, on the CPU. Workers, epochs and ranks (environment variable ``RANK``) draw
    differently. A program that calls ``torch.manual_seed`` once at its start draws the same when it is run again with
    as many workers. To set the seed again within a process repeats nothing there: its stream, which all policies share,
    goes on.

    Args:
        policy: what to mix by; one that needs no network.
        num_classes: number of classes; needed for class indices only.
        collate: makes (images, labels, ...) of a list of samples; None: torch's ``default_collate``.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> data = TensorDataset(torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2]))
        >>> loader = DataLoader(data, batch_size=3, collate_fn=MixCollate(CutMix(), num_classes=3))
        >>> [(images.shape, targets.shape) for images, targets in loader]
        [(torch.Size([3, 3, 8, 8]), torch.Size([3, 3])), (torch.Size([3, 3, 8, 8]), torch.Size([3, 3]))]
    """

    def __init__(
        self,
        policy: MixPolicy,
        num_classes: int | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        if not isinstance(policy, MixPolicy):
            raise InputError(f'MixCollate(policy={policy!r}): expected a mixing policy, such as Mixup().')
        self.policy, self.num_classes, self.collate = policy, num_classes, collate
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # so that running workers see it change

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies share the epoch with their own workers."""
        self.__dict__.update(state)
        self._epoch.share_memory_()

    @property
    def epoch(self) -> int:
        """Epochs completed, as told by :meth:`set_epoch`."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Tell compositions that change over time the epoch; before the loop. Persistent workers know it too."""
        self._epoch.fill_(epoch)

    def __call__(self, samples: list[Any]) -> tuple[Any, ...]:
        """(images, (N, C) targets, and what else the samples had); unmixed batches have such targets too."""
        batch = (self.collate or default_collate)(samples)
        if not isinstance(batch, list | tuple) or len(batch) < 2:
            raise InputError(f'MixCollate got a {type(batch).__name__} of its collate: expected (images, labels, ...).')
        images, labels, *rest = batch
        view = self.policy.mix(images, labels, epoch=self.epoch)
        return view.inputs, view.mixture.soft(labels, self.num_classes), *rest
