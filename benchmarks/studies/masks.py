"""Do learned masks follow what is in the images? The loss of the trained teacher, and a picture of the masks.

Test images are mixed in pairs at lam 0.5: with the masks of the pair, with even masks of the same mean, with the
constant 0.5, and with the masks of another pair. The loss is the mean cross-entropy of the teacher's plain head for
both classes, in eval mode. Masks that follow the images do better than even ones, and than those of others. The
picture shows, from top to bottom, images A, images B, the masks of an untrained generator, those of the trained one
(bright is A), and the mixtures, of the first pairs.

    python benchmarks/studies/masks.py CONFIG CHECKPOINT [--data DIR] [--pairs 2000] [--out masks.png]
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openmixup.analysis.gallery import write_png
from openmixup.engine.config import load_config
from openmixup.engine.inference import trained_learner
from openmixup.models import MixClassifier
from openmixup.policies import Context
from openmixup.registry import DATASETS, MODELS

BATCH, SHOWN, ENLARGED = 200, 12, 2


def mixed(learner: MixClassifier, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 1, H, W) share of each image at lam 0.5, and (N,) its partner, the batch in reverse order."""
    policy: Any = learner.policy.train()
    policy.pairing, policy.draw_lam = 'flip', lambda count, rng: torch.full((count,), 0.5, dtype=torch.float64)
    learner.context = Context(generator=torch.Generator().manual_seed(0))
    plan, _ = learner.plan(images, labels)
    view = plan.views[plan.mixed]
    return view.masks[:, :1], view.mixture.index[:, 1]


def losses(learner: MixClassifier, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Of each kind of mask for one batch."""
    masks, partner = mixed(learner, images, labels)
    kinds = {
        'own masks': masks,
        'even masks of the same mean': masks.mean((2, 3), keepdim=True),
        'constant 0.5': torch.full_like(masks, 0.5),
        'masks of another pair': masks.roll(1, 0),
    }
    found = {}
    for name, own in kinds.items():
        logits = learner.teacher.network.eval()(torch.lerp(images[partner], images, own)).logits
        both = F.cross_entropy(logits, labels) + F.cross_entropy(logits, labels[partner])
        found[name] = both.item() / 2
    return found


def picture(learner: MixClassifier, fresh: MixClassifier, images: Tensor, labels: Tensor) -> Tensor:
    """(H, W, 3) uint8."""
    (before, _), (after, partner) = mixed(fresh, images, labels), mixed(learner, images, labels)
    preprocessor = learner.data_preprocessor
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessor.mean, preprocessor.std))
    partners = images[partner]
    rows = [images * std + mean, partners * std + mean, before, after, torch.lerp(partners, images, after) * std + mean]
    lines = [torch.cat(list(row[:SHOWN].expand(-1, 3, -1, -1)), 2) for row in rows]
    grid = torch.cat(lines, 1).clamp(0, 1).mul(255).byte()
    return grid.repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2).permute(1, 2, 0)


@torch.no_grad()
def main() -> None:
    """Print one line for each kind of mask, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--data', help='folder of the data set (default: as in the config)')
    parser.add_argument('--pairs', type=int, default=2000)
    parser.add_argument('--out', default='masks.png')
    args = parser.parse_args()
    config = load_config(args.config)
    dataset = dict(config['test_dataloader']['dataset'])
    data = DATASETS.build({**dataset, 'root': args.data} if args.data else dataset)
    learner = trained_learner(config, args.checkpoint)[0]
    totals: dict[str, float] = {}
    batches = args.pairs // BATCH
    for number in range(batches):
        batch = data.__getitems__(range(number * BATCH, (number + 1) * BATCH))
        images = learner.data_preprocessor(batch, training=False)['inputs']
        for name, loss in losses(learner, images, batch['labels']).items():
            totals[name] = totals.get(name, 0.0) + loss / batches
    for name, loss in totals.items():
        print(f'{name:28s} {loss:.3f}')
    torch.manual_seed(0)
    head = {**config['model']['head'], 'num_classes': data.num_classes}
    preprocessor = config['data_preprocessor']
    fresh = MODELS.build({**config['model'], 'head': head, 'data_preprocessor': preprocessor})
    batch = data.__getitems__(range(BATCH))
    images = learner.data_preprocessor(batch, training=False)['inputs']
    print(f'written: {write_png(args.out, picture(learner, fresh, images, batch["labels"]).numpy())}')


if __name__ == '__main__':
    main()
