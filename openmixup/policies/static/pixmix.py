"""PixMix (Hendrycks et al., CVPR 2022)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from openmixup.checks import is_number, is_whole
from openmixup.errors import InputError
from openmixup.policies.augment_ops import LEAST_LEVEL, TOP_LEVEL, Layer, drawn_operations
from openmixup.policies.base import MixPolicy
from openmixup.policies.context import Context
from openmixup.policies.fractals import fractals
from openmixup.policies.levels import check_normalisation, level_range
from openmixup.policies.mixture import Batch, Plan
from openmixup.policies.transfer import to_device
from openmixup.registry import POLICIES

__all__ = ['PixMix', 'Round', 'Rounds']

MOST_SIZES = 3  # held at once
DARK = 1e-37  # for 0 in a power below 0
EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.ppm', '.pgm', '.tif', '.tiff')
MODES = {1: 'L', 3: 'RGB'}
_fractals = functools.lru_cache(maxsize=2)(fractals)  # which copies of a policy share


@dataclass(frozen=True, eq=False)
class Round:
    """What one round does to some images of a batch, either adding or multiplying; on the CPU.

    Args:
        places: (A,) int64 of the images.
        other: (A,) int64 what each is mixed with: a copy, or behind all copies a picture.
        a: (A,) float64 factor or power of the image.
        b: (A,) the same of the other.
    """

    places: Tensor
    other: Tensor
    a: Tensor
    b: Tensor

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What :meth:`PixMix.mixed` needs on the device of the images."""
        a, b = (values.float()[:, None, None, None] for values in (self.a, self.b))
        return self.places, self.other, a, b


@dataclass(frozen=True, eq=False)
class Rounds:
    """Everything that is drawn for a batch, on the CPU.

    Args:
        owner: (M,) int64 the image of which each augmented copy is made.
        start: (S,) int64 the images that begin as a copy of theirs: the first S copies.
        picture: (P,) int64 the pictures in use.
        changed: (N,) bool whether anything happens to an image.
        rounds: of each round the images that add and those that multiply.
    """

    owner: Tensor
    start: Tensor
    picture: Tensor
    changed: Tensor
    rounds: tuple[tuple[Round, Round], ...]


@POLICIES.register_module()
class PixMix(MixPolicy):
    r"""Mix each image with fractals and with augmented copies of itself, in some rounds; labels stay.

    An image begins as it is, or in half of the cases augmented by one operation. In each of 0 to ``rounds`` rounds it
    is mixed with an augmented copy of the clean image or with the picture that was drawn for it, and cut to the range
    of pixels. With x and y in [0, 1] a round, by a fair coin, adds or multiplies:

    .. math:: \tfrac12 \big(a (2x - 1) + b (2y - 1) + 1\big) \quad\text{or}\quad \tfrac12 (2x)^a (2y)^b,

    where by another coin :math:`a \sim Beta(\beta, 1), b \sim Beta(1, \beta)`, or :math:`a = 1 + u, b = -v` with u and
    v from :math:`Beta(1, \beta)`. The operations are those of :class:`AugMix`. By the authors' code, from memory.

    The authors' pictures are fractals and visualised features; give the folder of a set as ``pictures``. Without one
    they are fractals made here, the same ones in every run, which takes some seconds at 224 pixels. Loader workers
    (``MixCollate``) each have their own: ``persistent_workers=True`` keeps them from epoch to epoch.

    Where the normalisation is not known (a loop of others, without ``mean`` and ``std``), the lowest and the highest
    value of each image take the places of black and white.

    Deviations: all runs on the batch. ``count`` pictures are in use, the authors have thousands, and they have the size
    of the images at once, not a random crop each time. No gradient passes to the images. An image with values that are
    not finite stays as it is, so that the loss shows them. A batch of one stays as it is, but for one with a bank.

    Args:
        rounds: most rounds, at least 1.
        beta: of the laws, from 0.01 to 10000: the higher, the weaker the other picture; the authors have 4 for
            ImageNet.
        severity: highest level of an operation, from 0.1 to 10; the authors' 3 for CIFAR, for ImageNet they have 1.
        pictures: folder of images, read with its sub-folders when the first batch is mixed; None: fractals.
        count: number of pictures to hold in memory; of a folder with more these are spread evenly over the sorted
            files.
        mean: of the normalisation, per channel in units of 0..1; None: what the learner's preprocessor says.
        std: the same, above 0.
    """

    label = 'semantic'
    paper = 'https://arxiv.org/abs/2112.05135'
    exempt = {
        'label_equals_pixels': 'fractals belong to no source',
        'identical_images_stay_identical': 'each image is mixed with a picture of its own',
        'every_pixel_has_its_turn': 'fractals and sheared images are not alike at all borders',
    }

    def __init__(
        self,
        rounds: int = 4,
        beta: float = 3.0,
        severity: float = 3.0,
        pictures: str | None = None,
        count: int = 128,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not is_whole(rounds, 1):
            raise InputError(f'PixMix(rounds={rounds!r}): expected a whole number of at least 1; the authors have 4.')
        if not is_number(beta) or not 0.01 <= beta < 1e4:
            raise InputError(f'PixMix(beta={beta!r}): expected a number from 0.01 to 10000, as of Beta(beta, 1).')
        if not is_number(severity, LEAST_LEVEL, TOP_LEVEL):
            raise InputError(f'PixMix(severity={severity!r}): expected a number from 0.1 to 10; the authors have 3.')
        if pictures is not None and not isinstance(pictures, str):
            raise InputError(f'PixMix(pictures={pictures!r}): expected the folder of images as a string, or None.')
        if not is_whole(count, 1):
            raise InputError(f'PixMix(count={count!r}): expected a whole number of at least 1, pictures in memory.')
        check_normalisation('PixMix', mean, std)
        self.rounds, self.beta, self.severity, self.pictures = rounds, beta, severity, pictures
        self.count, self.mean, self.std = count, mean, std
        self._held: dict[tuple[torch.device, int, tuple[int, int]], Tensor] = {}

    @property
    def rate(self) -> float:
        """Nothing is mixed with another image of the batch."""
        return 0.0

    @property
    def operators(self) -> int:  # type: ignore[override]
        """Some for the copies, and for each round those of adding and of multiplying."""
        return 70 + 20 * self.rounds

    def __getstate__(self) -> dict[str, Any]:
        """Without the pictures, which a copy makes or reads again."""
        return {**self.__dict__, '_held': {}}

    def plan(self, batch: Batch, ctx: Context) -> Plan:
        """One view of the batch with its own labels."""
        clean = self.unmixed(batch).views[0]
        return Plan(batch, (replace(clean, inputs=self.mixed(batch.images, ctx), lazy_masks=None),), self)

    def mixed(self, images: Tensor, ctx: Context) -> Tensor:
        """(N, C, H, W) the images (N, C, H, W) after their rounds."""
        device, size = images.device, (images.shape[2], images.shape[3])
        pictures = self.held(device, images.shape[1], size)
        drawn = self.draw(len(images), len(pictures), ctx.rng)
        kind, amount = drawn_operations((len(drawn.owner),), self.severity, size, ctx.rng)
        layer = Layer.drawn(torch.arange(len(kind)), kind, amount, size)
        steps = [step for both in drawn.rounds for step in both]
        low, spread, owner, start, picture, changed, *parts = to_device(
            device, *level_range('PixMix', images, self.mean, self.std, ctx), drawn.owner, drawn.start, drawn.picture,
            drawn.changed[:, None, None, None], *layer.parts(), *(part for step in steps for part in step.parts()),
        )  # fmt: skip
        now = (images.detach().float() - low).div_(spread).clamp_(0, 1)
        # a level becomes an index, which a NaN must not
        copies = now.index_select(0, owner).mul_(255).nan_to_num_().contiguous()
        layer.apply(copies, *parts[:4])
        others = torch.cat([copies.div_(255), pictures.index_select(0, picture).float().div_(255)])
        now.index_copy_(0, start, others[: len(start)])
        for number, step in enumerate(steps):
            if len(step.places):
                places, other, a, b = parts[4 + 4 * number : 8 + 4 * number]
                x, y = now.index_select(0, places), others.index_select(0, other)
                result = _multiplied(x, y, a, b) if number % 2 else _added(x, y, a, b)
                now.index_copy_(0, places, result.clamp_(0, 1))
        fine = images.isfinite().flatten(1).all(1)[:, None, None, None]
        return torch.where(changed & fine, torch.addcmul(low, now, spread).to(images.dtype), images.detach())

    def draw(self, size: int, pictures: int, rng: torch.Generator) -> Rounds:
        """The rounds of ``size`` images with one of ``pictures`` pictures each."""
        length = torch.randint(self.rounds + 1, (size,), generator=rng)
        picture = torch.randint(pictures, (size,), generator=rng)
        starts_changed = torch.rand(size, generator=rng) < 0.5
        from_copy, multiplies = torch.rand(2, self.rounds, size, generator=rng) < 0.5
        a, b = self.draw_powers((self.rounds, size), rng)
        start = starts_changed.nonzero()[:, 0]
        active = torch.arange(self.rounds)[:, None] < length
        by_copy = active & from_copy
        copied = by_copy.nonzero()[:, 1]
        shown = (active & ~by_copy).any(0)
        # behind the copies lie the pictures in use, one for each image that is mixed with one
        other = torch.where(by_copy, 0, len(start) + len(copied) + shown.cumsum(0) - 1)
        other[by_copy] = len(start) + torch.arange(len(copied))
        rounds = []
        for step in range(self.rounds):
            chosen = [(active[step] & side).nonzero()[:, 0] for side in (~multiplies[step], multiplies[step])]
            add, multiply = (Round(at, other[step, at], a[step, at], b[step, at]) for at in chosen)
            rounds.append((add, multiply))
        changed = starts_changed | (length > 0)
        return Rounds(torch.cat([start, copied]), start, picture[shown], changed, tuple(rounds))

    def draw_powers(self, shape: tuple[int, ...], rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Factors or powers a and b, float64 of ``shape``."""
        # Beta(1, beta) by the inverse of its distribution; 1 less of it is of Beta(beta, 1)
        u, v = 1 - torch.rand(2, *shape, generator=rng, dtype=torch.float64) ** (1 / self.beta)
        over = torch.rand(shape, generator=rng) < 0.5
        return torch.where(over, 1 + u, 1 - u), torch.where(over, -v, v)

    def held(self, device: torch.device, channels: int, size: tuple[int, int]) -> Tensor:
        """uint8 (pictures, channels, H, W) on ``device``, made or read once for each of the last few sizes.

        Raises:
            InputError: the folder has no images, or one that cannot be read.
        """
        key = (device, channels, size)
        if key not in self._held:
            for old in list(self._held)[: 1 - MOST_SIZES]:
                del self._held[old]
            made = _fractals(self.count, channels, size) if self.pictures is None else self._read(channels, size)
            (self._held[key],) = to_device(device, made)
        return self._held[key]

    def _read(self, channels: int, size: tuple[int, int]) -> Tensor:
        """The pictures of the folder, cut to ``size`` in the middle after they were resized to cover it."""
        if channels not in MODES:
            raise InputError(
                f'PixMix reads its pictures in one or three channels, but the images have {channels}: leave pictures '
                'out for fractals of any number.'
            )
        folder = Path(str(self.pictures)).expanduser()
        files = sorted(path for path in folder.rglob('*') if path.suffix.lower() in EXTENSIONS and path.is_file())
        if not files:
            raise InputError(
                f'PixMix(pictures={self.pictures!r}): expected a folder with images ({", ".join(EXTENSIONS)}), but '
                f'{"it has none" if folder.is_dir() else "there is no such folder"}.'
            )
        count = min(self.count, len(files))
        chosen = [files[place * len(files) // count] for place in range(count)]
        return torch.stack([_picture(path, channels, size) for path in chosen])


def _picture(path: Path, channels: int, size: tuple[int, int]) -> Tensor:
    """uint8 (channels, H, W)."""
    try:
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert(MODES[channels]), (size[1], size[0]), Image.Resampling.BICUBIC)
    except MemoryError:
        raise
    except Exception as error:  # PIL's plug-ins raise nearly anything on a damaged file
        raise InputError(
            f'PixMix cannot read {path} ({type(error).__name__}: {error}): expected an image; mend or remove the file.'
        ) from error
    return torch.frombuffer(bytearray(fitted.tobytes()), dtype=torch.uint8).view(*size, channels).permute(2, 0, 1)


def _added(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.addcmul((1 - a - b) / 2, x, a).addcmul_(y, b)


def _multiplied(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (2 * x).pow_(a).mul_((2 * y).clamp_min_(DARK).pow_(b)).div_(2)
