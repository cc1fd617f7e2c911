"""``tools/show_mix.py``: what policies do to two real images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openmixup.errors import InputError

if TYPE_CHECKING:
    from openmixup.models import MixClassifier

__all__ = ['main']


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

    import numpy as np

    from openmixup.analysis.gallery import write_png
    from openmixup.analysis.mix_pictures import LOOKS, mix_rows, square_images, stacked, title

    if args.checkpoint and len(args.policies) != 1:
        raise InputError(f'--checkpoint {args.checkpoint}: expected one CONFIG with it, not {len(args.policies)}.')
    images, names = square_images(args.image, args.size)
    parts = []
    for name in args.policies:
        learner = _learner(name, args.size, args.checkpoint)
        rows = mix_rows(learner, images, names, args.lam, args.seed)
        parts.append(np.concatenate([title(repr(learner.policy), rows.shape[1]), rows]))
        if not args.checkpoint and set(learner.policy.needs) & LOOKS:
            print(f'{name}: its network is not trained; give a CONFIG with --checkpoint FILE to see a trained one')
    print(f'written: {write_png(args.out, stacked(parts))}')
    return 0


def _learner(name: str, size: int, checkpoint: str | None) -> MixClassifier:
    """The learner of a config, or a small one around a registered policy with its defaults."""
    from openmixup.analysis.mix_pictures import LOOKS, small_learner
    from openmixup.registry import MODELS, POLICIES

    if not name.endswith(('.py', '.json', '.yaml', '.yml')):
        if checkpoint:
            raise InputError(f'--checkpoint {checkpoint} needs the CONFIG that it was trained with, not {name!r}.')
        return small_learner(POLICIES.build({'type': name}), size)
    from openmixup.engine.config import load_config
    from openmixup.engine.inference import trained_learner

    config = load_config(name)
    model = config['model']
    if checkpoint:
        return trained_learner(config, checkpoint)[0]
    if model.get('policy') is None:
        raise InputError(f'{name} has no model.policy to show: give a config of a MixClassifier.')
    if model.get('backbone') is None or not set(POLICIES.build(model['policy']).needs) & LOOKS:
        return small_learner(POLICIES.build(model['policy']), size)
    for part, place in (('head', model), ('data_preprocessor', config)):
        if place.get(part) is None:
            raise InputError(
                f'{name} has a backbone but no {part}: add it, or leave the backbone out to see the policy with a '
                'small network.'
            )
    head = {**model['head'], 'num_classes': model['head'].get('num_classes') or 2}
    return MODELS.build({**model, 'head': head, 'data_preprocessor': config['data_preprocessor']})
