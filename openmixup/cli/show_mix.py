"""``tools/show_mix.py``: what policies do to two real images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openmixup.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from openmixup.models import MixClassifier
    from openmixup.policies import MixPolicy, Plan

__all__ = ['main']

LOOKS = {'features', 'attention', 'cam', 'input_grad', 'teacher', 'tap'}  # needs for which the network matters
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the picture and say where it is."""
    parser = argparse.ArgumentParser(
        prog='show_mix', description='Show what mixing policies do to two images, one row for each lam.'
    )
    parser.add_argument(
        'policies',
        nargs='+',
        metavar='POLICY | CONFIG',
        help='registered policies, or configs (files) with model.policy',
    )
    parser.add_argument(
        '--checkpoint', help='trained weights for the network of the one CONFIG (default: an untrained network)'
    )  # fmt: skip
    parser.add_argument('--image', nargs=2, metavar=('A', 'B'), help='two image files (default: two of scikit-learn)')
    parser.add_argument('--out', default='mix.png', help='PNG file to write (default: %(default)s)')
    parser.add_argument('--lam', nargs='+', type=float, default=[0.3, 0.5, 0.7], help='shares of A (default: .3 .5 .7)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the draws (default: %(default)s)')
    parser.add_argument('--size', type=int, default=128, help='side of the images in pixels (default: %(default)s)')
    args = parser.parse_args(argv)
    for lam in args.lam:
        if not 0 <= lam <= 1:
            raise InputError(f'--lam {lam}: expected numbers from 0 to 1.')
    if args.size < 1:
        raise InputError(f'--size {args.size}: expected at least one pixel.')

    import torch

    from openmixup.analysis.gallery import write_png

    if args.checkpoint and len(args.policies) != 1:
        raise InputError(f'--checkpoint {args.checkpoint}: expected one CONFIG with it, not {len(args.policies)}.')
    images, names = _images(args.image, args.size)
    parts = []
    for name in args.policies:
        learner = _learner(name, args.size, args.checkpoint)
        parts.append(_group(learner, torch.stack(images), names, args.lam, args.seed))
        if not args.checkpoint and set(learner.policy.needs) & LOOKS:
            print(f'{name}: its network is not trained; give a CONFIG with --checkpoint FILE to see a trained one')
    print(f'written: {write_png(args.out, _stacked(parts))}')
    return 0


def _learner(name: str, size: int, checkpoint: str | None) -> MixClassifier:
    """The learner of a config, or a small one around a registered policy with its defaults."""
    from openmixup.registry import MODELS, POLICIES

    if not name.endswith(('.py', '.json', '.yaml', '.yml')):
        if checkpoint:
            raise InputError(f'--checkpoint {checkpoint} needs the CONFIG that it was trained with, not {name!r}.')
        return _small_learner(POLICIES.build({'type': name}), size)
    from openmixup.engine.config import load_config
    from openmixup.engine.inference import trained_learner

    config = load_config(name)
    model = config['model']
    if checkpoint:
        return trained_learner(config, checkpoint)[0]
    if model.get('policy') is None:
        raise InputError(f'{name} has no model.policy to show: give a config of a MixClassifier.')
    if model.get('backbone') is None or not set(POLICIES.build(model['policy']).needs) & LOOKS:
        return _small_learner(POLICIES.build(model['policy']), size)
    for part, place in (('head', model), ('data_preprocessor', config)):
        if place.get(part) is None:
            raise InputError(
                f'{name} has a backbone but no {part}: add it, or leave the backbone out to see the policy with a '
                'small network.'
            )
    head = {**model['head'], 'num_classes': model['head'].get('num_classes') or 2}
    return MODELS.build({**model, 'head': head, 'data_preprocessor': config['data_preprocessor']})


def _small_learner(policy: MixPolicy, size: int) -> MixClassifier:
    """An untrained ResNet-18, or a ViT where a policy wants attention, around ``policy``."""
    import torch

    from openmixup.registry import MODELS

    needs = set(policy.needs)
    backbone: dict[str, Any] = {'type': 'CifarResNet'}
    if needs & LOOKS:
        backbone = {'type': 'TimmBackbone', 'model': 'resnet18'}
    if 'attention' in needs:
        options = {'img_size': size // 16 * 16 or 16}
        backbone = {'type': 'TimmBackbone', 'model': 'vit_tiny_patch16_224', 'options': options}
    teacher = {'decay': 0.999} if 'teacher' in needs else None
    torch.manual_seed(0)
    head = {'type': 'LinearHead', 'num_classes': 2}
    preprocessor = {'type': 'BatchPreprocessor', 'mean': MEAN, 'std': STD}
    return MODELS.build(
        {
            'type': 'MixClassifier',
            'backbone': backbone,
            'head': head,
            'policy': policy,
            'teacher': teacher,
            'data_preprocessor': preprocessor,
        }  # fmt: skip
    )


def _images(paths: Sequence[str] | None, size: int) -> tuple[list[Tensor], list[str]]:
    """Two square images (3, size, size) in [0, 1], cut from the centre, and their names."""
    from pathlib import Path

    import torch

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
    return squares, names


def _group(learner: MixClassifier, images: Tensor, names: list[str], lams: Sequence[float], seed: int) -> np.ndarray:
    """A title and one row for each lam."""
    import numpy as np
    import torch

    from openmixup.analysis.gallery import mix_gallery

    policy, preprocessor = learner.policy.train(), learner.data_preprocessor
    mean, std = preprocessor.mean, preprocessor.std
    images, labels = _fitted(learner, images), torch.arange(len(images))
    scale = [torch.tensor(values)[:, None, None] for values in (mean, std)]
    rows: list[np.ndarray] = []
    for number, lam in enumerate(lams if policy.rate > 0 else [1.0]):
        # With a fixed lam the same place in all rows is easier to compare; without, the rows are several draws.
        row_seed = seed if _fix(policy, lam) else seed + number
        plan = _mixed_plan(learner, (images - scale[0]) / scale[1], labels, row_seed)
        sources = plan.batch.source_images
        rows.append(mix_gallery(sources, plan.views[plan.mixed], _class_of(plan), mean, std, names, rows=1))
    grid = _stacked(rows)
    return np.concatenate([_title(repr(policy), grid.shape[1]), grid])


def _fitted(learner: MixClassifier, images: Tensor) -> Tensor:
    """``images`` with the channels, and if it is fixed the size, of the learner's network."""
    import torch
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    if len(learner.data_preprocessor.mean) == 1:
        images = rgb_to_grayscale(images)
    size = learner.student.backbone.image_size
    if size is None or tuple(images.shape[-2:]) == tuple(size):
        return images
    return torch.nn.functional.interpolate(images, size, mode='bilinear', antialias=True)


def _mixed_plan(learner: MixClassifier, images: Tensor, labels: Tensor, seed: int) -> Plan:
    """The finished plan of a batch; of a policy that mixes with what it saw before, that of a later call."""
    import torch

    from openmixup.policies import Batch, Context

    bank = Batch(images.flip(0), labels.flip(0)) if 'bank' in learner.policy.needs else None
    for step in range(3):
        learner.context = Context(step=step, generator=torch.Generator().manual_seed(seed))
        plan, context = learner.plan(images, labels, bank)
        plan = learner.policy.finish(plan, learner.run_views(plan), context)
        if plan.views[plan.mixed].mixture.index.shape[1] > 1:
            break
    return plan


def _class_of(plan: Plan) -> Tensor:
    """(S,) class of each source, also where a policy made soft targets of them."""
    labels = plan.batch.source_labels
    return labels if labels.ndim == 1 else labels.argmax(1)


def _fix(policy: MixPolicy, lam: float) -> bool:
    """Let a policy and its members draw ``lam``, and no image meet itself; False if none of them draws a lam."""
    import torch

    fixed = False
    for member in policy.modules():
        inner: Any = member
        if hasattr(member, 'draw_lam'):
            inner.draw_lam = lambda count, rng: torch.full((count,), lam, dtype=torch.float64)  # noqa: ARG005
            fixed = True
        if hasattr(member, 'pairing'):
            inner.pairing = 'flip'
    return fixed


def _title(text: str, width: int) -> np.ndarray:
    """Black bars with as many lines of text as are needed."""
    import cv2
    import numpy as np

    per_line = max(width // 7, 10)
    lines = [text[start : start + per_line] for start in range(0, len(text), per_line)]
    bar: Any = np.zeros((6 + 14 * len(lines), width, 3), np.uint8)
    for number, line in enumerate(lines):
        at = (4, 14 + 14 * number)
        cv2.putText(bar, line, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return bar


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, the narrow ones filled up with white."""
    import numpy as np

    width = max(part.shape[1] for part in parts)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    )
