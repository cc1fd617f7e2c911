"""SuperMix (Dabouei et al., CVPR 2021)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError, did_you_mean
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.mixture import Batch, Mixture, Plan, View
from openmixup.policies.precision import arithmetic
from openmixup.policies.saliency import gaussian_matrix
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['SuperMix', 'recognised', 'soft_classes']

TEACHERS = ('momentum', 'student')
UNFINISHED = ('plain', 'keep')
LEAST_STEP, MOST_STEP = 1e-4, 2000.0  # of the authors' code


@POLICIES.register_module()
class SuperMix(MixPolicy):
    r"""Search for each mixture the masks in which a teacher recognises all of its images, in the drawn shares.

    K images have weights w ~ Dirichlet(alpha). The aim t has the weight :math:`w_k` at the class that the teacher finds
    in image k. The masks of a sample are K maps of few cells, from 0 on, brought to the image size bilinearly, under a
    sigmoid, and divided by their sum. With p the teacher's softmax output for the mixture, each step lowers

    .. math:: L = KL(t \,\|\, p) + \lambda \, \mathrm{mean}\, m (1 - m)

    by a Newton-like step: with g the gradient by the maps and G the same under a Gaussian window, :math:`c\,G` is taken
    from the maps, :math:`c = L / \langle g, G \rangle` between 0.0001 and 2000. The first step is a large one: of even
    masks of two images the second term is 0.25 lambda, without a gradient. A sample keeps its masks from where the
    classes of t are the teacher's first ones, in the order of their weights; whether the authors look at the order is
    not checked.

    Labels are mixed by w. The paper trains on the teacher's soft output for mixtures that were made beforehand by a
    frozen, trained teacher; here they are made in each step, and the labels are those of the data. For a teacher that
    stays as it is, load a trained model and set ``model.teacher=dict(decay=1.0)``.

    Deviations: all samples may take the same number of steps, so that nothing is read back from the device. The authors
    allow 50, but stop a batch as soon as 30 % of it is done, and discard the rest, which ``unfinished='plain'``
    replaces by the sample's own image with its label. A teacher that knows nothing yet recognises few mixtures, so with
    a momentum teacher many images of the first epochs may stay plain.

    Take care: a batch costs ``steps`` + 2 passes of the teacher, ``steps`` of which also go back to the images.

    Args:
        alpha: of the Dirichlet law, above 0.
        k: K, images of a sample, itself included, at least 2; in a smaller batch all of it.
        steps: most steps, at least 1; the authors allow 50.
        grid: cells along a side of a map, at least 2; the authors have 8 for CIFAR and 16 for ImageNet.
        sigma: of the window in cells, above 0; 1 for CIFAR and 2 for ImageNet.
        sparsity: lambda, at least 0, for masks near 0 and 1.
        unfinished: 'plain' leaves a sample unmixed that the teacher does not recognise after the last step; 'keep'
            shows it as it is.
        teacher: 'momentum' for the learner's momentum teacher, 'student' for the network itself in eval mode.
    """

    paper = 'https://arxiv.org/abs/2003.05034'
    exempt = {'label_equals_pixels': 'an image has as many pixels as a teacher needs to see its share in the mixture'}

    def __init__(
        self,
        alpha: float = 3.0,
        k: int = 2,
        steps: int = 10,
        grid: int = 8,
        sigma: float = 1.0,
        sparsity: float = 25.0,
        unfinished: str = 'plain',
        teacher: str = 'momentum',
    ) -> None:
        super().__init__()
        if not is_number(alpha, 0.01, 1e4):
            raise InputError(f'SuperMix(alpha={alpha!r}): expected a number from 0.01 to 10000, as of a Dirichlet.')
        for name, value, least in (('k', k, 2), ('steps', steps, 1), ('grid', grid, 2)):
            if not is_whole(value, least):
                raise InputError(f'SuperMix({name}={value!r}): expected a whole number of at least {least}.')
        if not is_number(sigma, 0.01, 100):
            raise InputError(f'SuperMix(sigma={sigma!r}): expected a number of cells from 0.01 to 100.')
        if not is_number(sparsity, 0, 1e6):
            raise InputError(f'SuperMix(sparsity={sparsity!r}): expected a weight from 0 to 1000000.')
        for name, choice, known in (('unfinished', unfinished, UNFINISHED), ('teacher', teacher, TEACHERS)):
            if choice not in known:
                hint = did_you_mean(str(choice), known)
                raise InputError(f'SuperMix({name}={choice!r}){hint}: expected one of {", ".join(known)}.')
        self.alpha, self.k, self.steps, self.grid = alpha, k, steps, grid
        self.sigma, self.sparsity, self.unfinished, self.teacher = sigma, sparsity, unfinished, teacher

    @property
    def operators(self) -> int:  # type: ignore[override]
        """90 for each step, with the way back through a small teacher, and 60 besides."""
        return 60 + 90 * self.steps

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The momentum teacher, or passes forward and back of the network itself."""
        return ('teacher',) if self.teacher == 'momentum' else ('input_grad',)

    @property
    def label(self) -> str:  # type: ignore[override]
        """'drawn', or with samples that stay plain 'semantic'."""
        return 'drawn' if self.unfinished == 'keep' else 'semantic'

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """Draw sources and weights, then search masks."""
        images, size = batch.images, len(batch)
        index, weight = self._drawn(size, ctx.rng)
        index, weight, *matrices = to_device(images.device, index, weight, *self._matrices(images.shape[-2:]))
        of = 'teacher' if self.teacher == 'momentum' else 'student'
        donors = [images.index_select(0, column) for column in index[:, 1:].unbind(1)]

        def logits(pictures: Tensor) -> Tensor:
            return ctx.probe.logits(pictures, of=of).float()

        fixed = [each.detach() for each in (images, *donors)]
        with torch.no_grad():
            aim = soft_classes(logits(fixed[0]), index, weight)
        masks, done = self.search(fixed, aim, logits, matrices)
        if self.unfinished == 'plain':
            own = F.one_hot(torch.zeros_like(index[:, 0]), weight.shape[1]).float()
            weight = torch.lerp(own, weight, done)
            masks = torch.lerp(own[..., None, None], masks, done[..., None, None])
        mixed = _mixed(images, donors, masks)
        return Plan(batch, (View(mixed, Mixture(index, weight), lambda: masks),), self)

    def search(
        self, images: Sequence[Tensor], aim: Tensor, logits: Callable[[Tensor], Tensor], matrices: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(N, K, H, W) float32 masks, and (N, 1) 1 where the teacher recognises the mixture, else 0.

        Args:
            images: K times (N, C, H, W), without gradient.
            aim: (N, num_classes) t.
            logits: the teacher, from mixtures to (N, num_classes).
            matrices: what brings maps to the image size and blurs them, along rows and columns.
        """
        larger_rows, larger_columns, blur_rows, blur_columns = matrices
        size = len(aim), len(images), larger_rows.shape[1], larger_columns.shape[1]
        maps, done = aim.new_zeros(size), aim.new_zeros(len(aim), 1)
        for _ in range(self.steps):
            with torch.enable_grad():
                maps.requires_grad_(True)
                masks = _masks(maps, larger_rows, larger_columns)
                found = logits(_mixed(images[0], images[1:], masks))
                loss = self.loss(found, aim, masks)
                (gradient,) = torch.autograd.grad(loss.sum(), maps)
            with torch.no_grad(), arithmetic(maps.device):
                done = torch.maximum(done, recognised(found, aim, len(images)))
                smooth = blur_rows @ gradient @ blur_columns.mT
                along = (gradient * smooth).sum((1, 2, 3)) + 1e-10
                step = (loss / along).clamp_(LEAST_STEP, MOST_STEP) * (1 - done[:, 0])
                maps = torch.addcmul(maps, step[:, None, None, None], smooth, value=-1)
        with torch.no_grad():
            masks = _masks(maps, larger_rows, larger_columns)
            if self.unfinished == 'plain':  # a mixture may be done by its last step
                done = torch.maximum(done, recognised(logits(_mixed(images[0], images[1:], masks)), aim, len(images)))
        return masks, done

    def loss(self, logits: Tensor, aim: Tensor, masks: Tensor) -> Tensor:
        """(N,) L of the teacher's logits (N, num_classes) for mixtures by ``masks`` (N, K, H, W)."""
        divergence = (torch.xlogy(aim, aim) - aim * logits.log_softmax(1)).sum(1)
        return divergence + self.sparsity * (masks * (1 - masks)).mean((1, 2, 3))

    def _drawn(self, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(N, K) sources, the sample itself and those behind it in a random order, and float32 weights, on the CPU."""
        count = min(self.k, size)
        order = torch.randperm(size, generator=rng)
        place = torch.empty_like(order).index_copy_(0, order, torch.arange(size))
        index = order[(place[:, None] + torch.arange(count)) % size]
        law = torch.full((size, count), float(self.alpha), dtype=torch.float64)
        return index, torch._sample_dirichlet(law, generator=rng).float()

    def _matrices(self, size: Sequence[int]) -> list[Tensor]:
        """For an image (H, W): (H, h) and (W, w) that enlarge maps, (h, h) and (w, w) that blur them, on the CPU."""
        cells = [min(self.grid, side) for side in size]
        window = 2 * math.ceil(3 * self.sigma) + 1
        larger = [_enlarging(side, count) for side, count in zip(size, cells, strict=True)]
        return larger + [gaussian_matrix(count, window, float(self.sigma)) for count in cells]


@torch.no_grad()
def soft_classes(logits: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """(N, num_classes) the weights (N, K) at the classes that a teacher finds in the sources ``index`` (N, K).

    Args:
        logits: (S, num_classes) of the sources.
        index: (N, K) into them.
        weight: (N, K).
    """
    classes = logits.argmax(1)[index]
    return logits.new_zeros(len(index), logits.shape[1]).scatter_add_(1, classes, weight)


@torch.no_grad()
def recognised(logits: Tensor, aim: Tensor, k: int) -> Tensor:
    """(N, 1) 1 where the classes with a weight in ``aim`` have the greatest logits, in the order of weights, else 0.

    Args:
        logits: (N, num_classes).
        aim: (N, num_classes), of which at most ``k`` of a row are above 0.
        k: number of images.
    """
    weight, wanted = aim.topk(min(k, aim.shape[1]))
    found = logits.topk(wanted.shape[1]).indices
    return ((found == wanted) | (weight == 0)).all(1, keepdim=True).to(logits.dtype)


def _masks(maps: Tensor, larger_rows: Tensor, larger_columns: Tensor) -> Tensor:
    """(N, K, H, W) from maps (N, K, h, w); they sum to one at each pixel."""
    with arithmetic(maps.device):
        raised = (larger_rows @ maps @ larger_columns.mT).sigmoid()
        return raised / raised.sum(1, keepdim=True)


def _mixed(images: Tensor, donors: Sequence[Tensor], masks: Tensor) -> Tensor:
    """(N, C, H, W) the images and each of the donors (N, C, H, W) by their masks (N, K, H, W)."""
    own, *others = masks.to(images.dtype).split(1, 1)
    if len(donors) == 1:
        return torch.lerp(donors[0], images, own)
    mixed = own * images
    for donor, mask in zip(donors, others, strict=True):
        mixed = torch.addcmul(mixed, mask, donor)
    return mixed


@functools.lru_cache(maxsize=64)
def _enlarging(length: int, cells: int) -> Tensor:
    """(length, cells) on the CPU: the weights of the cells at each pixel, bilinear along one side."""
    return F.interpolate(torch.eye(cells)[None], size=length, mode='linear')[0].mT.contiguous()
