"""AttentiveMix, "AttentiveMix+" (Walawalkar et al., ICASSP 2020)."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MaskPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch
from openmixup.policies.precision import arithmetic
from openmixup.policies.transfer import to_device
from openmixup.registry import MODELS, POLICIES

__all__ = ['AttentiveMix']

LAWS = ('beta', 'beta8', 'fixed')
PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16}
OWN_TEACHER_SIZE = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@POLICIES.register_module()
class AttentiveMix(MaskPolicy):
    """Keep the cells of the own image that a teacher attends to most; the partner shows at the others.

    The teacher's last feature map, averaged over its channels, scores the cells of the own image, and the ``top_k``
    best ones are kept. Each image keeps cells of its own. The labels follow the kept share of the pixels, which is that
    of the cells where the image has a multiple of them.

    A teacher of its own is a frozen network that the learner builds, always in eval mode and never saved. Pictures of
    three channels, and grey ones, which it sees as three equal channels, are brought from the normalisation of the data
    to that of ImageNet, with which such weights come; with ``in_channels=1`` in its config it sees grey as it is.

    Args:
        alpha: of lam, above 0; published tables use 2.
        per: 'batch' for one number of cells a batch, the habit of the papers, 'sample' for one each.
        pairing: 'permutation' (the habit of the papers), 'derangement' or 'flip'.
        lam_law: 'beta' (the "+" variant): lam ~ Beta(alpha, alpha) and ``int(cells * lam)`` cells are kept, at least
            one; 'beta8': the same with lam ~ Beta(alpha, 8), as documentation of the variant has it; 'fixed' (the
            paper): ``top_k`` cells, without a lam.
        top_k: cells kept by 'fixed'; the paper keeps 6 of 7 x 7.
        teacher: config of a pretrained backbone, ``dict(type='TimmBackbone', model='resnet18', pretrained=True)``;
            None: the learner's momentum teacher.
        feat_size: height in pixels to which images are resized for the teacher, bilinearly and in proportion; None: as
            they are; 'auto': 224 for a teacher of its own, as they are for the momentum teacher.
        precision: 'float32' or 'bfloat16' (autocast) for the teacher's pass, whatever the training step has.
    """

    paper = 'https://arxiv.org/abs/2003.13048'

    def __init__(
        self,
        alpha: float = 2.0,
        per: str = 'batch',
        pairing: str = 'permutation',
        lam_law: str = 'beta',
        top_k: int = 6,
        teacher: dict[str, Any] | None = None,
        feat_size: int | str | None = 'auto',
        precision: str = 'float32',
    ) -> None:
        super().__init__(alpha, per, pairing)
        for name, value, known in (('lam_law', lam_law, LAWS), ('precision', precision, tuple(PRECISIONS))):
            if value not in known:
                hint = did_you_mean(value, known)
                raise InputError(f'AttentiveMix({name}={value!r}){hint}: expected one of {", ".join(known)}.')
        if not is_whole(top_k, 1):
            raise InputError(f'AttentiveMix(top_k={top_k!r}): expected a whole number of cells, at least 1.')
        if not (feat_size in (None, 'auto') or is_whole(feat_size, 1)):
            raise InputError(
                f"AttentiveMix(feat_size={feat_size!r}): expected a height in pixels, 'auto' or None (as it is)."
            )
        if teacher is not None and (not isinstance(teacher, Mapping) or 'type' not in teacher):
            raise InputError(
                f"AttentiveMix(teacher={teacher!r}): expected a backbone, as dict(type='TimmBackbone', "
                "model='resnet18', pretrained=True), or None for the momentum teacher."
            )
        self.lam_law, self.top_k, self.teacher = lam_law, top_k, teacher
        self.feat_size, self.precision = feat_size, precision

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Features of its own teacher, or the momentum teacher."""
        return ('teacher',) if self.teacher is None else ('features',)

    @property
    def operators(self) -> int:  # type: ignore[override]
        """9, and two more to normalise and resize images for its own teacher; the teacher's pass is not counted."""
        return 9 if self.teacher is None and self.feat_size in (None, 'auto') else 11

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Its own teacher, if it has one."""
        return {} if self.teacher is None else {'attentive': dict(self.teacher)}

    @property
    def lam_beta(self) -> tuple[float, float] | None:
        """Both alpha, or alpha and 8; None for the law 'fixed'."""
        return {'beta': super().lam_beta, 'beta8': (self.alpha, 8.0), 'fixed': None}[self.lam_law]

    def draw_lam(self, count: int, rng: torch.Generator) -> Tensor:
        """(count,) float64 on the CPU, share of the cells to keep; not used by the law 'fixed'."""
        if self.lam_law != 'beta8':
            return super().draw_lam(count, rng)
        both = torch.tensor([float(self.alpha), 8.0], dtype=torch.float64).expand(count, 2)
        return torch._sample_dirichlet(both, generator=rng)[:, 0]

    def mask(self, batch: Batch, partner: Tensor, lam: Tensor, ctx: Context) -> Tensor:  # noqa: ARG002
        """(N, H, W) 1 in the kept cells of each image, else 0."""
        scores = self.scores(batch.images, ctx)
        count, height, width = scores.shape
        (kept,) = to_device(batch.images.device, self._kept(height * width, lam))
        ranked = scores.flatten(1).argsort(stable=True, dim=1, descending=True)  # of equal cells the first is kept
        cells = torch.empty_like(ranked, dtype=torch.float32).scatter_(1, ranked, kept.expand(count, -1))
        size = batch.images.shape[-2:]
        return F.interpolate(cells.view(count, 1, height, width), size=size, mode='nearest-exact')[:, 0]

    def scores(self, images: Tensor, ctx: Context) -> Tensor:
        """(N, h, w) float32 mean over the channels of the teacher's last map."""
        of = 'teacher' if self.teacher is None else 'attentive'
        with arithmetic(images.device, PRECISIONS[self.precision]):
            features = ctx.probe.features(self.prepared(images, ctx), of=of)
        return features.mean(1, dtype=torch.float32)

    @torch.no_grad()
    def prepared(self, images: Tensor, ctx: Context) -> Tensor:
        """(N, C, h, w) what the teacher sees of ``images`` (N, C, H, W)."""
        if self.teacher is not None:
            images = self._in_its_colours(images, ctx)
        wanted: Any = self.feat_size
        if wanted == 'auto':
            wanted = None if self.teacher is None else OWN_TEACHER_SIZE
        height, width = images.shape[-2:]
        if wanted in (None, height):
            return images
        size = (wanted, max(1, round(width * wanted / height)))
        wide = images.to(torch.promote_types(images.dtype, torch.float32))  # CPUs shrink no half precision
        return F.interpolate(wide, size=size, mode='bilinear', antialias=wanted < height).to(images.dtype)

    def _kept(self, cells: int, lam: Tensor) -> Tensor:
        """(b, cells) float32 on the CPU: 1 for the ranks that are kept, best first, then 0."""
        if self.lam_law == 'fixed':
            if self.top_k > cells:
                raise InputError(
                    f'AttentiveMix(top_k={self.top_k}) keeps more cells than the {cells} of the teacher: lower top_k, '
                    'or raise feat_size.'
                )
            count = torch.tensor([self.top_k])
        else:
            count = (lam * cells).long().clamp_(1, cells)
        return (torch.arange(cells) < count[:, None]).float()

    def _in_its_colours(self, images: Tensor, ctx: Context) -> Tensor:
        """Images with the channels and the normalisation that its own teacher was trained with."""
        channels, wanted = images.shape[1], self._in_channels()
        if channels not in (1, wanted):
            raise InputError(
                f'the images have {channels} channels, but the teacher of AttentiveMix takes {wanted}: give it '
                f'in_channels={channels} and weights of that form, or choose another one.'
            )
        change = _change(ctx.mean, ctx.std, channels) if wanted == 3 else None
        if change is not None:
            scale, shift = to_device(images.device, *(part.to(images.dtype) for part in change))
            return torch.addcmul(shift, images, scale)  # grey becomes three channels here
        return images if channels == wanted else images.expand(-1, wanted, -1, -1)

    def _in_channels(self) -> int:
        """Channels that its own teacher takes."""
        assert self.teacher is not None
        if 'in_channels' in self.teacher:
            return self.teacher['in_channels']
        cls: Any = MODELS.get(self.teacher['type'])
        default = inspect.signature(cls).parameters.get('in_channels')
        return 3 if default is None else default.default


@functools.lru_cache(maxsize=8)
def _change(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> tuple[Tensor, Tensor] | None:
    """Scale and shift (3, 1, 1) from the normalisation of the data to that of ImageNet; None if there is none to do."""
    if not len(mean) == len(std) == channels:
        return None
    times = 3 // channels
    pairs = list(zip(mean * times, std * times, IMAGENET_MEAN, IMAGENET_STD, strict=True))
    scale, shift = [std / to_std for _, std, _, to_std in pairs], [(mean - to) / by for mean, _, to, by in pairs]
    if all(math.isclose(value, 1) for value in scale) and not any(abs(value) > 1e-6 for value in shift):
        return None
    return torch.tensor(scale).view(3, 1, 1), torch.tensor(shift).view(3, 1, 1)
