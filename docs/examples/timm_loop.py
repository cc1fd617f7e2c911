"""openmixup in a training loop of timm: ``TimmMixup`` stands where ``timm.data.Mixup`` stood.

It takes the same arguments and returns images and soft targets for timm's ``SoftTargetCrossEntropy``. Everything else
here is timm's: network, optimizer, schedule, meters.
"""

import argparse

import timm
import torch
from sklearn.datasets import load_digits
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import AverageMeter, accuracy
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, TensorDataset

from openmixup.policies.adapters import TimmMixup


def digits(split):
    """Real handwritten digits, (1, 32, 32) each: 1,000 to train with and 797 of mostly other writers."""
    source, part = load_digits(), slice(1000) if split == 'train' else slice(1000, None)
    images = torch.tensor(source.images[part], dtype=torch.float32)[:, None] / 16
    images = interpolate(images, size=(32, 32), mode='bilinear')
    return TensorDataset((images - 0.307) / 0.376, torch.tensor(source.target[part]))


def train_one_epoch(model, loader, optimizer, loss_fn, mixup_fn):
    """As in timm's train.py."""
    model.train()
    for inputs, target in loader:
        inputs, target = mixup_fn(inputs, target)
        loss = loss_fn(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def validate(model, loader):
    """Top-1 accuracy in percent."""
    model.eval()
    top1 = AverageMeter()
    for inputs, target in loader:
        top1.update(accuracy(model(inputs), target)[0].item(), len(target))
    return top1.avg


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--epochs', type=int, default=10)
    args = parser.parse_args()
    torch.manual_seed(0)
    train_loader = DataLoader(digits('train'), batch_size=50, shuffle=True, drop_last=True)
    net = timm.create_model('resnet10t', in_chans=1, num_classes=10, stem_type='', channels=(16, 32, 64, 128))
    optimizer = create_optimizer_v2(net, opt='sgd', lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = CosineLRScheduler(optimizer, t_initial=args.epochs, warmup_t=1, warmup_lr_init=0.01)
    mixup_fn = TimmMixup(
        mixup_alpha=0.8, cutmix_alpha=1.0, cutmix_minmax=(0.25, 0.75), switch_prob=0.5, label_smoothing=0.1,
        num_classes=10,
    )  # fmt: skip
    for epoch in range(args.epochs):
        scheduler.step(epoch)
        train_one_epoch(net, train_loader, optimizer, SoftTargetCrossEntropy(), mixup_fn)
    print(f'accuracy {validate(net, DataLoader(digits("test"), batch_size=100)) / 100:.4f}')
