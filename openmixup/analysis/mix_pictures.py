"""Pictures of what a policy does to two photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from openmixup.analysis.gallery import mix_gallery
from openmixup.policies import Batch, Context, MixPolicy, Plan
from openmixup.registry import MODELS
from openmixup.testing.stage import keeps_history

if TYPE_CHECKING:
    from openmixup.models import MixClassifier

__all__ = ['LOOKS', 'changes', 'mix_rows', 'mixed_plan', 'small_learner', 'square_images', 'stacked', 'title']

LOOKS = {'features', 'attention', 'cam', 'input_grad', 'teacher', 'tap'}  # needs for which the network matters
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRIES = 50
LEAST = 0.05  # share of a source that can be seen
WARM_UP = 3  # steps, of a policy that mixes with what it saw before


def small_learner(policy: MixPolicy, size: int, backbone: dict[str, Any] | None = None) -> MixClassifier:
    """An untrained network around ``policy``.

    Args:
        policy: the policy.
        size: side of the images in pixels.
        backbone: config of the network; None: a small ResNet if the policy does not look at it, a ViT if it wants
            attention, else a ResNet-18.
    """
    needs = set(policy.needs)
    if backbone is None and 'attention' in needs:
        options = {'img_size': size // 16 * 16 or 16}
        backbone = {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': options}
    elif backbone is None:
        backbone = {'type': 'TimmBackbone', 'model': 'resnet18'} if needs & LOOKS else {'type': 'CifarResNet'}
    torch.manual_seed(0)
    model = {
        'type': 'MixClassifier',
        'backbone': backbone,
        'head': {'type': 'LinearHead', 'num_classes': 2},
        'policy': policy,
        'teacher': {'decay': 0.999} if 'teacher' in needs else None,
        'data_preprocessor': {'type': 'BatchPreprocessor', 'mean': MEAN, 'std': STD},
    }
    return MODELS.build(model)


def square_images(paths: Sequence[str] | None, size: int) -> tuple[Tensor, list[str]]:
    """Square images (N, 3, size, size) in [0, 1], cut from the centre, and their names.

    Args:
        paths: image files; None: the two photographs of scikit-learn.
        size: side in pixels.
    """
    if paths is None:
        from sklearn.datasets import load_sample_images

        samples = load_sample_images()
        raw = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in samples.images]
        names = [Path(name).stem for name in samples.filenames]
    else:
        from openmixup.datasets.decode import read_image

        raw, names = [read_image(path) for path in paths], [Path(path).stem for path in paths]
    squares = []
    for image in raw:
        side = min(image.shape[1:])
        top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
        square = image[None, :, top : top + side, left : left + side].float() / 255
        squares.append(torch.nn.functional.interpolate(square, (size, size), mode='bilinear', antialias=True)[0])
    return torch.stack(squares), names


def changes(plan: Plan) -> bool:
    """Whether the network sees in the shown view anything but the first image itself."""
    seen, image = plan.views[plan.mixed].inputs[0], plan.batch.images[0]
    return seen.shape != image.shape or not torch.equal(seen, image)


def mix_rows(
    learner: MixClassifier,
    images: Tensor,
    names: Sequence[str],
    lams: Sequence[float],
    seed: int = 0,
    telling: bool = False,
) -> np.ndarray:
    """(height, width, 3) uint8: one row for each lam, or for each draw of a policy that draws none.

    A policy of more than two sources gets the images flipped as further ones.

    Args:
        learner: the learner of the policy.
        images: (2, 3, H, W) in [0, 1].
        names: of the images.
        lams: shares of the first image.
        seed: of the draws.
        telling: take the next draw where one shows too little: no change, hardly anything of a source, an image
            twice, or the member of a composition that an earlier row shows; show no further row where all do.
    """
    policy, preprocessor = learner.policy.train(), learner.data_preprocessor
    learner.student.eval()
    mean, std = preprocessor.mean, preprocessor.std
    scale = [torch.tensor(values)[:, None, None] for values in (mean, std)]
    images = (_fitted(learner, images) - scale[0]) / scale[1]
    four = torch.cat([images, images.flip(-1)])
    if _sources(mixed_plan(learner, four, seed)) > len(images):
        images = four
    rows: list[np.ndarray] = []
    seen: set[type] = set()
    for number, lam in enumerate(lams):
        # With a fixed lam the same place in all rows is easier to compare; without, the rows are several draws.
        first = seed if _fix(policy, lam) else seed + number
        plan = mixed_plan(learner, images, first)
        known = set(seen) if hasattr(policy, 'policies') else set()
        for more in range(1, TRIES if telling else 0):
            if _tells(plan, known):
                break
            plan = mixed_plan(learner, images, first + more * len(lams))
        seen.add(type(plan.chosen))
        view = plan.views[plan.mixed]
        row = mix_gallery(plan.batch.source_images, view, _class_of(plan), mean, std, names, rows=1)
        if not (telling and rows and (np.array_equal(row, rows[-1]) or not _tells(plan, known))):
            rows.append(row)
        if policy.rate == 0 and not changes(plan):
            break  # and never will
    return stacked(rows)


def _tells(plan: Plan, seen: set[type]) -> bool:
    view = plan.views[plan.mixed]
    sources = view.mixture.index[0].tolist()
    visible = view.masks is None or bool((view.masks[0].mean((1, 2)) >= LEAST).all())
    return changes(plan) and visible and len(set(sources)) == len(sources) and type(plan.chosen) not in seen


def _sources(plan: Plan) -> int:
    return plan.views[plan.mixed].mixture.index.shape[1]


def _fitted(learner: MixClassifier, images: Tensor) -> Tensor:
    """``images`` with the channels, and if it is fixed the size, of the learner's network."""
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    if len(learner.data_preprocessor.mean) == 1:
        images = rgb_to_grayscale(images)
    size = learner.student.backbone.image_size
    if size is None or tuple(images.shape[-2:]) == tuple(size):
        return images
    return torch.nn.functional.interpolate(images, size, mode='bilinear', antialias=True)


def mixed_plan(learner: MixClassifier, images: Tensor, seed: int) -> Plan:
    """The finished plan of a batch (N, 3, H, W) whose classes take turns.

    Of a policy that mixes with what it saw before, it is that of a later step; the first one sees the reverse order.
    """
    policy, labels = learner.policy, torch.arange(len(images)) % 2
    past = Batch(images.flip(0), labels.flip(0))
    bank = past if 'bank' in policy.needs else None
    remembers = keeps_history(policy)
    if remembers:
        policy.load_rank_state({})
    for step in range(WARM_UP):
        first = remembers and step == 0
        learner.context = Context(step=step, generator=torch.Generator().manual_seed(seed))
        batch = past if first else Batch(images, labels)
        assert batch.labels is not None
        plan, context = learner.plan(batch.images, batch.labels, bank)
        plan = policy.finish(plan, learner.run_views(plan), context)
        if not first and _sources(plan) > 1:
            break
    return plan


def _class_of(plan: Plan) -> Tensor:
    """(S,) class of each source, also where a policy made soft targets of them."""
    labels = plan.batch.source_labels
    return labels if labels.ndim == 1 else labels.argmax(1)


def _fix(policy: MixPolicy, lam: float) -> bool:
    """Let a policy and its members draw ``lam``, and no image meet itself; False if none of them draws a lam."""
    fixed = False
    for member in policy.modules():
        inner: Any = member
        if hasattr(member, 'draw_lam'):
            inner.draw_lam = lambda count, rng: torch.full((count,), lam, dtype=torch.float64)  # noqa: ARG005
            fixed = True
        if hasattr(member, 'pairing'):
            inner.pairing = 'flip'
    return fixed


def title(text: str, width: int) -> np.ndarray:
    """Black bars with as many lines of text as are needed."""
    import cv2

    per_line = max(width // 7, 10)
    lines = [text[start : start + per_line] for start in range(0, len(text), per_line)]
    bar: Any = np.zeros((6 + 14 * len(lines), width, 3), np.uint8)
    for number, line in enumerate(lines):
        at = (4, 14 + 14 * number)
        cv2.putText(bar, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return bar


def stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, the narrow ones filled up with white."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    )
