"""The training loops that epochs.py runs beside ours, written from the public interfaces of timm and torchvision.

``TimmLoop`` stands for timm's training script with its defaults: ``create_dataset``, ``create_loader`` with the
prefetch loader that normalises on the device, ``FastCollateMixup`` in the workers, ``create_optimizer_v2``, a scheduler
that is told of each update, and a meter of the loss that reads the device in every step. Changed, so that all train
alike: no colour jitter, no label smoothing, bicubic crops, momentum without Nesterov's step, weight decay everywhere,
and autocast, where it is asked for, to bfloat16 without a scaler.

``TorchvisionLoop`` stands for torchvision's classification reference: ``DataLoader``, transforms on PIL images or
(``tensors``) v2 transforms on tensors, ``MixUp`` or ``CutMix`` behind ``default_collate``, and smoothed loss, top-1 and
top-5 that are read in every step. Changed alike: bicubic crops, a cosine schedule. The reference starts its workers
anew in each epoch; here they live on, in its favour.

Both print to the standard error where the originals log. At 32 pixels both crop with a border of 4 (timm's script has
no such crop: it takes the place of the first transform), at 224 they draw a box and resize it.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm.data
import timm.optim
import timm.scheduler
import timm.utils
import torch
import torchvision
from PIL import Image
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2

__all__ = ['Settings', 'TimmLoop', 'TorchvisionLoop']

POLICIES = ('Vanilla', 'Mixup', 'CutMix')


@dataclass(frozen=True)
class Settings:
    """What all loops share.

    Args:
        images: uint8 (N, 3, H, W) with ``labels`` (N,), or the folder of class folders.
        side: of the network's input, in pixels.
        classes: number of classes.
        policy: one of :data:`POLICIES`, with alpha 1.
        batch_size: images a step; the rest of an epoch is left out.
        workers: worker processes of a loader.
        mean: of each channel, in units of [0, 1].
        std: alike.
        optimizer: lr, momentum, weight_decay of SGD.
        epochs: length of the cosine schedule.
        device: 'cpu' or 'cuda'.
        amp: forward passes under bfloat16 autocast.
        channels_last: NHWC memory format.
    """

    images: tuple[Tensor, Tensor] | Path
    side: int
    classes: int
    policy: str
    batch_size: int
    workers: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    optimizer: dict[str, float]
    epochs: int
    device: str = 'cpu'
    amp: bool = False
    channels_last: bool = False

    def autocast(self) -> Any:
        return torch.autocast(self.device, torch.bfloat16) if self.amp else contextlib.nullcontext()

    def placed(self, network: nn.Module) -> nn.Module:
        network = network.to(self.device).train()
        return network.to(memory_format=torch.channels_last) if self.channels_last else network


class Pictures(Dataset):
    """Arrays in memory as torchvision's CIFAR classes hand them out: each becomes a PIL image when it is asked for."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.data, self.targets = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


class TimmLoop:
    """timm's training script; ``epoch`` trains one epoch."""

    def __init__(self, settings: Settings, network: nn.Module, log_interval: int = 50) -> None:
        self.settings, self.network, self.log_interval = settings, settings.placed(network), log_interval
        self.loader = self._loader()
        soft = settings.policy != 'Vanilla'
        self.criterion = (SoftTargetCrossEntropy() if soft else nn.CrossEntropyLoss()).to(settings.device)
        self.optimizer = timm.optim.create_optimizer_v2(
            self.network, 'momentum', filter_bias_and_bn=False, **settings.optimizer
        )
        self.scheduler, _ = timm.scheduler.create_scheduler_v2(
            self.optimizer, 'cosine', num_epochs=settings.epochs, updates_per_epoch=len(self.loader)
        )
        self.done = self.updates = 0

    def _loader(self) -> Any:
        s = self.settings
        if isinstance(s.images, Path):
            data = timm.data.create_dataset('', root=str(s.images), split='train', is_training=True)
        else:
            data = Pictures(*s.images)
        collate = None
        if s.policy != 'Vanilla':
            collate = timm.data.FastCollateMixup(
                mixup_alpha=float(s.policy == 'Mixup'), cutmix_alpha=float(s.policy == 'CutMix'),
                label_smoothing=0.0, num_classes=s.classes,
            )  # fmt: skip
        loader = timm.data.create_loader(
            data, (3, s.side, s.side), s.batch_size, is_training=True, color_jitter=None, interpolation='bicubic',
            mean=s.mean, std=s.std, num_workers=s.workers, collate_fn=collate, pin_memory=s.device == 'cuda',
            device=torch.device(s.device),
        )  # fmt: skip
        if not isinstance(s.images, Path):
            data.transform.transforms[0] = transforms.RandomCrop(s.side, padding=4)
        return loader

    def epoch(self) -> None:
        s, losses, times = self.settings, timm.utils.AverageMeter(), timm.utils.AverageMeter()
        self.network.train()
        self.optimizer.zero_grad()
        start = time.time()
        for index, (images, target) in enumerate(self.loader):
            if s.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with s.autocast():
                loss = self.criterion(self.network(images), target)
            loss.backward()
            self.optimizer.step()
            losses.update(loss.item(), len(images))
            self.updates += 1
            self.optimizer.zero_grad()
            times.update(time.time() - start)
            if index % self.log_interval == 0:
                rates = [group['lr'] for group in self.optimizer.param_groups]
                line = f'{index}/{len(self.loader)} loss {losses.val:.3g} ({losses.avg:.3g}) {times.val:.3f}s'
                print(f'{line} {len(images) / times.val:.0f}/s lr {sum(rates) / len(rates):.3e}', file=sys.stderr)
            self.scheduler.step_update(num_updates=self.updates, metric=losses.avg)
            start = time.time()
        self.done += 1
        self.scheduler.step(self.done, None)


class Smoothed:
    """Median of the last values and mean of all, of one logged number."""

    def __init__(self, window: int = 20) -> None:
        self.recent: collections.deque[float] = collections.deque(maxlen=window)
        self.total, self.count = 0.0, 0

    def update(self, value: float, n: int = 1) -> None:
        self.recent.append(value)
        self.total, self.count = self.total + value * n, self.count + n

    def __str__(self) -> str:
        return f'{torch.tensor(list(self.recent)).median().item():.4f} ({self.total / self.count:.4f})'


class TorchvisionLoop:
    """torchvision's classification reference; ``epoch`` trains one epoch."""

    def __init__(self, settings: Settings, network: nn.Module, tensors: bool = False, log_interval: int = 10) -> None:
        self.settings, self.network, self.log_interval = settings, settings.placed(network), log_interval
        self.loader = self._loader(tensors)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.network.parameters(), **settings.optimizer)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, settings.epochs)

    def _transform(self, tensors: bool) -> Any:
        s, kind = self.settings, v2 if tensors else transforms
        if isinstance(s.images, Path):
            crop = kind.RandomResizedCrop(s.side, interpolation=InterpolationMode.BICUBIC, antialias=True)
        else:
            crop = kind.RandomCrop(s.side, padding=4)
        as_float = v2.ToDtype(torch.float32, scale=True) if tensors else transforms.ConvertImageDtype(torch.float32)
        augment, last = [crop, kind.RandomHorizontalFlip()], [as_float, kind.Normalize(s.mean, s.std)]
        if tensors:
            return v2.Compose([v2.PILToTensor(), *augment, *last, v2.ToPureTensor()])
        return transforms.Compose([*augment, transforms.PILToTensor(), *last])

    def _loader(self, tensors: bool) -> DataLoader:
        s = self.settings
        data: Any
        if isinstance(s.images, Path):
            data = torchvision.datasets.ImageFolder(str(s.images))
        else:
            data = Pictures(*s.images)
        data.transform = self._transform(tensors)
        collate = default_collate
        if s.policy != 'Vanilla':
            mix = (v2.MixUp if s.policy == 'Mixup' else v2.CutMix)(alpha=1.0, num_classes=s.classes)

            def collate(batch: list) -> Any:
                return mix(*default_collate(batch))

        return DataLoader(
            data, s.batch_size, shuffle=True, drop_last=True, num_workers=s.workers, collate_fn=collate,
            pin_memory=s.device == 'cuda', persistent_workers=s.workers > 0,
        )  # fmt: skip

    def epoch(self) -> None:
        s = self.settings
        meters: dict[str, Smoothed] = collections.defaultdict(Smoothed)
        self.network.train()
        for index, (images, target) in enumerate(self.loader):
            start = time.time()
            images, target = images.to(s.device), target.to(s.device)
            if s.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with s.autocast():
                output = self.network(images)
                loss = self.criterion(output, target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            hard = target.argmax(1) if target.ndim == 2 else target
            top1, top5 = timm.utils.accuracy(output.detach(), hard, topk=(1, 5))
            meters['loss'].update(loss.item())
            meters['lr'].update(self.optimizer.param_groups[0]['lr'])
            meters['top1'].update(top1.item(), len(images))
            meters['top5'].update(top5.item(), len(images))
            meters['img/s'].update(len(images) / (time.time() - start))
            if index % self.log_interval == 0:
                text = '  '.join(f'{name} {meter}' for name, meter in meters.items())
                print(f'[{index}/{len(self.loader)}]  {text}', file=sys.stderr)
        self.scheduler.step()
