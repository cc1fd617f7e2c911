"""Seconds of a training epoch: ours beside the loops of timm's training script and of torchvision's reference.

Ours is the runner of ``tools/train.py``, built from the shipped recipe files with its log, gallery, checkpoints and
checks; theirs are in peers.py, which says what they stand for. All start from the same weights and share optimizer,
batch size, augmentation, policy, precision and number of workers (images in memory take none in ours), and take turns
in each round in random order. An epoch is timed without evaluation and checkpoint. The clock is the CPU time of this
process where there are neither workers nor a GPU, else the time on the wall. Ratios are taken within a round; above 1
ours is faster.

CIFAR size is 32x32 in memory (padded crop, flip, normalise), ImageNet size is JPEG files of 500x375 in class folders
(random resized crop to 224, flip, normalise). The images are smooth noise, made anew with a fixed seed; a file has
about 32 kB, less than a photograph, so that decoding weighs less. The tiny network (timm's test_resnet) is no network
to use: with it loader and loop show that hide behind ResNet-18. loading.py measures the loaders alone.

    python benchmarks/speed/epochs.py [--sizes cifar] [--networks tiny] [--policies CutMix] [--workers 2] [--rounds 9]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from mmengine.hooks import Hook
from peers import POLICIES, Settings, TimmLoop, TorchvisionLoop
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from openmixup import __version__
from openmixup.cli import whole
from openmixup.datasets import InMemoryDataset
from openmixup.engine.config import configs_root, load_config
from openmixup.engine.distributed import learner_of
from openmixup.engine.launch import build_runner
from openmixup.errors import InputError
from openmixup.models.backbones.cifar_stem import apply_stem
from openmixup.registry import DATASETS

CLASSES = 10
OURS = 'openmixup'
CONFIG = """
_base_ = {bases}
train_dataloader = dict(dataset={dataset}, batch_size={batch_size}, num_workers={workers}, drop_last=True)
model = dict(backbone={backbone}, channels_last={channels_last})
train_cfg = dict(max_epochs={epochs})
param_scheduler = [dict(type='CosineAnnealingLR', T_max={epochs}, by_epoch=True)]
optim_wrapper = dict({wrapper})
default_hooks = dict(checkpoint=dict(interval={epochs}))
val_dataloader = val_cfg = val_evaluator = test_dataloader = test_cfg = test_evaluator = None
"""


class Size(NamedTuple):
    """A size of images: its recipe files, the batch and the usual length of an epoch with each network."""

    side: int
    bases: tuple[str, ...]
    batch_size: int
    images: Mapping[str, int]


SIZES = {
    'cifar': Size(32, ('datasets/cifar10.py', 'models/resnet18_cifar.py'), 100, {'tiny': 2000, 'resnet18': 200}),
    'imagenet': Size(224, ('datasets/folder_224.py', 'models/resnet18.py'), 32, {'tiny': 256, 'resnet18': 64}),
}
BACKBONES = {'tiny': 'test_resnet', 'resnet18': 'resnet18'}


def smooth_noise(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """uint8 (count, 3, height, width): noise whose power falls with its frequency, as that of photographs does."""
    rng = torch.Generator().manual_seed(seed)
    total, cells = torch.zeros(count, 3, height, width), 4
    while cells <= min(height, width):
        noise = torch.randn(count, 3, cells, cells * width // height, generator=rng) / cells**0.65
        total += interpolate(noise, (height, width), mode='bilinear')
        cells *= 2
    return (128 + 90 * total).clamp(0, 255).to(torch.uint8)


@DATASETS.register_module()
class SmoothNoise(InMemoryDataset):
    """``count`` images of 32x32 in memory; the labels take turns."""

    def __init__(self, count: int) -> None:
        super().__init__(smooth_noise(count, 32, 32), torch.arange(count) % CLASSES, [str(i) for i in range(CLASSES)])


def write_folder(root: Path, count: int) -> None:
    """JPEG files of 500x375 in class folders."""
    for i in range(count):
        place = root / str(i % CLASSES)
        place.mkdir(parents=True, exist_ok=True)
        pixels = smooth_noise(1, 375, 500, seed=i)[0].permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(place / f'{i}.jpg', quality=90)


class Turns(Hook):
    """Times each epoch of the run, and behind or before it one of each other loop, in random order."""

    priority = 'LOWEST'

    def __init__(self, peers: Mapping[str, Callable[[], None]], clock: Callable[[], float]) -> None:
        self.peers, self.clock = peers, clock
        self.rounds: list[dict[str, float]] = []

    def _run(self, names: list[str]) -> None:
        for name in names:
            start = self.clock()
            self.peers[name]()
            self.rounds[-1][name] = self.clock() - start

    def before_train_epoch(self, runner: Any) -> None:  # noqa: ARG002
        order = random.sample([OURS, *self.peers], 1 + len(self.peers))
        self.rounds.append({})
        self._run(order[: order.index(OURS)])
        self._behind, self._start = order[order.index(OURS) + 1 :], self.clock()

    def after_train_epoch(self, runner: Any, metrics: Any = None) -> None:  # noqa: ARG002
        self.rounds[-1][OURS] = self.clock() - self._start
        self._run(self._behind)


def ours(case: argparse.Namespace, folder: Path) -> Any:
    """The runner of a case, and what it shares with the other loops."""
    size = SIZES[case.size]
    bases = [configs_root() / '_base_' / name for name in (*size.bases, 'schedules/sgd_lr01_wd1e4_200e.py')]
    bases.append(configs_root() / '_base_' / 'default_runtime.py')
    data: dict[str, Any] = {'_delete_': True, 'type': 'SmoothNoise', 'count': case.images}
    if case.size == 'imagenet':
        data = {'root': str(folder / 'images'), 'val_fraction': 0}
    stem = 'cifar' if (case.size, case.network) == ('cifar', 'resnet18') else 'default'
    path = folder / 'case.py'
    path.write_text(
        CONFIG.format(
            bases=[str(base) for base in bases],
            dataset=data,
            batch_size=case.batch_size,
            workers=case.workers,
            backbone={'model': BACKBONES[case.network], 'stem': stem},
            channels_last=case.channels_last,
            epochs=case.rounds + 1,
            wrapper="type='AutocastOptimWrapper', dtype='bfloat16'" if case.amp else '',
        )  # fmt: skip
    )
    config = load_config(path, policy=case.policy)
    config['work_dir'] = str(folder / 'run')
    return build_runner(config)


def plain_network(runner: Any) -> nn.Module:
    """The network as timm builds it, with the weights of the runner's."""
    student, backbone = learner_of(runner).student, runner.cfg['model']['backbone']
    network = timm.create_model(backbone['model'], num_classes=len(runner.classes))
    apply_stem(network, backbone['stem'], backbone['model'])
    network.load_state_dict({**student.backbone.net.state_dict(), **student.heads['main'].state_dict()})
    return network


def peers(runner: Any, case: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The other loops, each with a network of its own."""
    data, optimizer = runner.dataset('train'), runner.cfg['optim_wrapper']['optimizer']
    preprocessor = learner_of(runner).data_preprocessor
    settings = Settings(
        images=folder / 'images' if case.size == 'imagenet' else (data.images, data.labels),
        side=SIZES[case.size].side, classes=len(runner.classes), policy=case.policy, batch_size=case.batch_size,
        workers=case.workers, mean=preprocessor.mean, std=preprocessor.std, epochs=case.rounds + 1,
        optimizer={key: optimizer[key] for key in ('lr', 'momentum', 'weight_decay')},
        device=case.device, amp=case.amp, channels_last=case.channels_last,
    )  # fmt: skip
    network = plain_network(runner)
    return {
        'timm, training script': TimmLoop(settings, copy.deepcopy(network)),
        'torchvision, reference, PIL': TorchvisionLoop(settings, copy.deepcopy(network)),
        'torchvision, reference, tensors': TorchvisionLoop(settings, network, tensors=True),
    }


def clock(on_wall: bool, device: str) -> float:
    """Seconds; those of a GPU when it has caught up."""
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() if on_wall else time.process_time()


def measure(case: argparse.Namespace) -> list[dict[str, float]]:
    """Seconds of an epoch of each loop, round by round, without the first, which warms up."""
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(sys.stderr):
        folder = Path(place)
        if case.size == 'imagenet':
            write_folder(folder / 'images', case.images)
        runner = ours(case, folder)
        loops = peers(runner, case, folder)
        on_wall = bool(case.workers) or case.device == 'cuda'
        turns = Turns(
            {name: loop.epoch for name, loop in loops.items()}, functools.partial(clock, on_wall, case.device)
        )
        runner.register_hook(turns)
        runner.train()
    return turns.rounds[1:]


def quartiles(values: list[float], form: str) -> str:
    """The median, with the quartiles in parentheses."""
    low, middle, high = statistics.quantiles(values, n=4, method='inclusive') if values[1:] else values * 3
    return f'{middle:{form}} ({low:{form}}-{high:{form}})'


def rows(case: argparse.Namespace, rounds: list[dict[str, float]]) -> list[str]:
    """The lines of a case in the table."""
    title = f'{case.size}, {case.network}, {case.policy}, {case.images} images by {case.batch_size}'
    lines = []
    for name in (OURS, *(name for name in sorted(rounds[0]) if name != OURS)):
        seconds = [each[name] for each in rounds]
        ratios = [each[name] / each[OURS] for each in rounds]
        missed = '' if name == OURS or statistics.median(ratios) >= 1 else ', missed'
        speed = case.images / statistics.median(seconds)
        lines.append(f'| {title} | {name} | {speed:.1f} | {quartiles(seconds, ".3f")} | ')
        lines[-1] += f'{quartiles(ratios, ".2f")}{missed} |'
    return lines


def cases(args: argparse.Namespace) -> list[argparse.Namespace]:
    """All combinations, with whole batches."""
    made = []
    for size in args.sizes:
        for network in args.networks:
            batch_size = args.batch_size or SIZES[size].batch_size
            images = (args.images or SIZES[size].images[network]) // batch_size * batch_size
            if not images or batch_size % 2:
                raise InputError(
                    f'--images {args.images} --batch-size {batch_size}: expected an even batch size (timm mixes pairs) '
                    'and at least one batch.'
                )
            for policy in args.policies:
                own = {'size': size, 'network': network, 'policy': policy, 'images': images, 'batch_size': batch_size}
                made.append(argparse.Namespace(**{**vars(args), **own}))
    return made


def header(args: argparse.Namespace) -> str:
    """Versions and settings."""
    on_wall = args.workers or args.device == 'cuda'
    where = torch.cuda.get_device_name() if args.device == 'cuda' else platform.processor() or platform.machine()
    return (
        f'openmixup {__version__}, timm {timm.__version__}, torchvision {torchvision.__version__}, '
        f'torch {torch.__version__}, {where}, {torch.get_num_threads()} threads, {args.workers} workers, '
        f'{"bfloat16 autocast" if args.amp else "float32"}, channels {"last" if args.channels_last else "first"}, '
        f'{args.rounds} rounds, {"wall" if on_wall else "CPU"} seconds'
    )


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', nargs='+', choices=SIZES, default=list(SIZES))
    parser.add_argument('--networks', nargs='+', choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument('--policies', nargs='+', choices=POLICIES, default=['Vanilla', 'CutMix'])
    parser.add_argument('--images', type=whole(1), help='images of an epoch (default: few, for a CPU)')
    parser.add_argument('--batch-size', type=whole(2))
    parser.add_argument('--rounds', type=whole(2), default=5)
    parser.add_argument('--workers', type=whole(0), default=0, help='worker processes of each loader')
    parser.add_argument('--threads', type=whole(1), default=1, help='of torch, in the main process')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: the GPU if there is one')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast')
    parser.add_argument('--channels-last', action='store_true')
    args = parser.parse_args()
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''  # the runner takes a GPU that it sees
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: there is no GPU; leave it out to time on the CPU.')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True  # as both scripts do
    try:
        chosen = cases(args)
    except InputError as error:
        parser.error(str(error))
    print(header(args) + '\n')
    print(
        '| case | loop | images/s | seconds an epoch (quartiles) | x ours (quartiles, goal 1) |\n|---|---|---|---|---|'
    )
    for case in chosen:
        print('\n'.join(rows(case, measure(case))), flush=True)


if __name__ == '__main__':
    main()
