"""What the framework adds to a training step: our loop against a bare PyTorch loop, epoch by epoch in one run.

The network is a toy, so that everything beside it shows. Both loops draw batches from memory, normalise, run forward,
loss, backward and SGD on the same data; ours also keeps the log, the schedule, the random streams and the hooks.

    python benchmarks/speed/overhead.py [--epochs 20] [--policy Vanilla]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook

from openmixup.datasets import Digits
from openmixup.engine.config import load_config
from openmixup.engine.launch import build_runner
from openmixup.models import Backbone, LinearHead
from openmixup.registry import HOOKS, MODELS

CONFIG = """
data_preprocessor = dict(type='BatchPreprocessor', mean=(0.3,), std=(0.4,))
train_dataloader = dict(dataset=dict(type='Digits', split='train'), batch_size=10)
model = dict(type='MixClassifier', backbone=dict(type='ToyBackbone'),
             head=dict(type='LinearHead', num_classes=None))
train_cfg = dict(type='EpochLoop', max_epochs={epochs})
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = [dict(type='CosineAnnealingLR', T_max={epochs}, by_epoch=True)]
default_hooks = dict(log=dict(type='LogHook', interval=50))
custom_hooks = [dict(type='BareEpochs')]
visualizer = dict(type='Visualizer', vis_backends=[dict(type='TensorboardVisBackend')])
"""


@MODELS.register_module()
class ToyBackbone(Backbone):
    """One hidden layer on 8x8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 64
        self.stages = ('layer',)
        self.layer = torch.nn.Linear(64, 64)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1)).relu()

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        return features


class BareLoop:
    """The same training in twenty lines of PyTorch."""

    def __init__(self) -> None:
        data = Digits(split='train')
        self.images, self.labels = data.images, data.labels
        self.network = torch.nn.Sequential(ToyBackbone(), LinearHead(64, 10))
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9)

    def epoch(self) -> None:
        order = torch.randperm(len(self.images))
        for index in order.split(10):
            images = (self.images[index].float() / 255 - 0.3) / 0.4
            loss = F.cross_entropy(self.network(images), self.labels[index])
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()


@HOOKS.register_module()
class BareEpochs(Hook):
    """Times each epoch of the run, and one of the bare loop behind it."""

    def __init__(self) -> None:
        self.bare = BareLoop()
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def before_train_epoch(self, runner) -> None:
        self._start = time.process_time()

    def after_train_epoch(self, runner, metrics=None) -> None:
        steps = len(runner.train_loop.dataloader)
        self.ours.append((time.process_time() - self._start) / steps)
        start = time.process_time()
        self.bare.epoch()
        self.theirs.append((time.process_time() - start) / steps)


def main() -> None:
    """Run and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--policy', default='Vanilla')
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'steps.py')
        path.write_text(CONFIG.format(epochs=args.epochs))
        config = load_config(path, policy=args.policy)
        config['work_dir'] = folder
        runner = build_runner(config)
        runner.train()
    timed = next(hook for hook in runner.hooks if isinstance(hook, BareEpochs))
    ours, theirs = timed.ours[1:], timed.theirs[1:]  # the first epoch warms up
    more = [a - b for a, b in zip(ours, theirs, strict=True)]
    print(f'| {args.policy}, batch 10, {torch.__version__} | CPU ms a step, median | least | greatest |')
    print('|---|---|---|---|')
    for name, values in (('bare loop', theirs), ('tools/train.py', ours), ('difference, epoch by epoch', more)):
        print(f'| {name} | {1e3 * statistics.median(values):.3f} | {1e3 * min(values):.3f} | {1e3 * max(values):.3f} |')


if __name__ == '__main__':
    main()
