"""The pictures of the page of policies: two photographs, mixed by each policy with its defaults."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from openmixup.analysis.gallery import write_jpeg
from openmixup.analysis.mix_pictures import MEAN, STD, changes, mix_rows, small_learner, square_images
from openmixup.errors import InputError
from openmixup.policies import MixPolicy
from openmixup.registry import POLICIES
from openmixup.testing.scenes import draw, noise

__all__ = ['caption', 'draw_picture', 'family_of', 'is_pictured']

SIZE, LAMS = 96, (0.3, 0.7)
DRAWS = 20  # in which a policy shows what it does
STEPS, CROPS, CROP = 100, 16, 64  # of the lessons of the network that guides
GUIDE = {'type': 'CifarResNet'}


def is_pictured(policy: MixPolicy) -> bool:
    """Whether a picture shows what it does: images are changed, not hidden maps."""
    if 'tap' in policy.needs:
        return False
    try:
        return any(changes(draw(policy, noise(policy, 4, 16, 16), seed)) for seed in range(DRAWS))
    except InputError:  # it needs another learner
        return False


def caption(policy: MixPolicy) -> str:
    """What to know of the network behind the picture; empty if there is none, or if it does not matter."""
    if _learns(policy):
        return (
            'The network that makes the masks is untrained here, and they are even. After training they can follow the '
            'objects: [masks of AutoMix before and after](images/automix_masks.png).'
        )
    if 'attention' in policy.needs:
        return 'The network is an untrained ViT here, so where it looks means nothing.'
    if _is_guided(policy):
        return (
            f'The network is a ResNet-8 here, which learnt for {STEPS} steps to tell crops of the two photographs '
            'apart and knows no other images.'
        )
    return ''


def draw_picture(name: str, path: Path) -> Path:
    """Draw the picture of a registered policy, the same each time on one machine.

    Args:
        name: of the policy.
        path: of the file, which ends in .jpg.
    """
    images, names = square_images(None, SIZE)
    policy = POLICIES.build({'type': name})
    guided = _is_guided(policy) and not _learns(policy)
    learner = small_learner(policy, SIZE, GUIDE if guided else None)
    if guided:
        learner.student.load_state_dict(_taught())
        if learner.teacher is not None:
            learner.teacher.network.load_state_dict(_taught())
    return write_jpeg(path, mix_rows(learner, images, names, LAMS, telling=True))


def family_of(cls: type[MixPolicy]) -> str:
    """Name of the folder that a policy of the package lies in, or of its file beside them."""
    return cls.__module__.split('.')[2]


def _learns(policy: MixPolicy) -> bool:
    return family_of(type(policy)) == 'dynamic'


def _is_guided(policy: MixPolicy) -> bool:
    """Whether a convolutional network decides what is shown."""
    return bool(set(policy.needs) & {'cam', 'input_grad', 'teacher'}) and 'attention' not in policy.needs


@cache
def _taught() -> dict[str, Tensor]:
    """Weights of the small network after its lessons: of which photograph is a crop, half of them without colour."""
    photographs, _ = square_images(None, 2 * CROP)
    learner = small_learner(POLICIES.build({'type': 'Vanilla'}), CROP, GUIDE)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    photographs = (photographs - mean) / std
    optimizer = torch.optim.AdamW(learner.student.parameters(), 1e-3)
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(CROPS) % len(photographs)
    learner.student.train()
    for _ in range(STEPS):
        crops = torch.stack([_crop(photographs[label], rng) for label in labels])
        loss = functional.cross_entropy(learner.student(crops).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return learner.student.state_dict()


def _crop(image: Tensor, rng: torch.Generator) -> Tensor:
    """(3, CROP, CROP) of an image (3, H, W), which is larger."""
    width = image.shape[-1]
    side = int(torch.randint(CROP // 2, 3 * CROP // 2, (1,), generator=rng))
    top, left = torch.randint(width - side, (2,), generator=rng).tolist()
    crop = image[None, :, top : top + side, left : left + side]
    crop = functional.interpolate(crop, (CROP, CROP), mode='bilinear')[0]
    return crop.mean(0, keepdim=True).expand_as(crop) if torch.rand(1, generator=rng) < 0.5 else crop
