"""Images per second on one core: whole-batch crop, flip and normalise against two per-sample pipelines.

Random uint8 data of the shape of CIFAR. The three pipelines take turns in every round, so that a busy machine hurts all
of them; the table shows the median of the rounds. Run it as ``python benchmarks/speed/loading.py``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader, Dataset

from openmixup.datasets import Compose, InMemoryDataset, Normalize, RandomCrop, RandomFlip, build_dataloader
from openmixup.randomness import keyed_generator

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class PerSample(Dataset):
    """One image at a time through a torchvision pipeline."""

    def __init__(self, images: list, transform: Callable) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), index % 10


def pil_loader(images: torch.Tensor, batch_size: int) -> DataLoader:
    from PIL import Image
    from torchvision import transforms

    pipeline = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    return DataLoader(PerSample(pictures, pipeline), batch_size, shuffle=True)


def tensor_loader(images: torch.Tensor, batch_size: int) -> DataLoader:
    from torchvision.transforms import v2

    pipeline = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(PerSample(list(images), pipeline), batch_size, shuffle=True)


class WholeBatch:
    """Ours: a uint8 tensor in memory, transformed batch by batch."""

    def __init__(self, images: torch.Tensor, batch_size: int) -> None:
        self.loader = build_dataloader(
            InMemoryDataset(images, torch.arange(len(images)) % 10), batch_size, shuffle=True
        )
        self.transform = Compose([RandomCrop(32, padding=4), RandomFlip(), Normalize(MEAN, STD)])

    def __iter__(self):
        for step, batch in enumerate(self.loader):
            yield self.transform(batch['inputs'], keyed_generator(0, 'augment', step, 0)), batch['labels']


def rate(loader, images: int) -> float:
    start = time.perf_counter()
    for _ in loader:
        pass
    return images / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--rounds', type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (200 * arguments.batch_size, 3, 32, 32), dtype=torch.uint8)
    few = images[: 16 * arguments.batch_size]  # enough for the slow ones
    loaders = {
        'PIL per sample, torchvision transforms': (pil_loader(few, arguments.batch_size), len(few)),
        'tensors per sample, torchvision transforms.v2': (tensor_loader(few, arguments.batch_size), len(few)),
        'whole batch, openmixup': (WholeBatch(images, arguments.batch_size), len(images)),
    }
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(arguments.rounds + 1):
        for name, (loader, count) in loaders.items():
            value = rate(loader, count)
            if turn:  # the first round warms up
                rates[name].append(value)
    base = next(iter(rates.values()))
    print('| pipeline | images/s, one core | of PIL |')
    print('|---|---|---|')
    for name, values in rates.items():
        ratio = statistics.median(v / b for v, b in zip(values, base, strict=True))
        print(f'| {name} | {statistics.median(values):,.0f} | {ratio:.1f}x |')


if __name__ == '__main__':
    main()
