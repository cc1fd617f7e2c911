"""Policies of openmixup in a plain PyTorch loop.

``python bare_loop.py`` mixes with FMix, which looks at no network, and trains a network of yours.
``python bare_loop.py --guided`` mixes where the network itself finds the partner salient. Such a policy looks through a
probe, which ``MixClassifier`` provides: a plain ``nn.Module`` around a backbone of timm, torchvision or this package.
"""

import argparse
from dataclasses import replace

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from openmixup.models import MixClassifier
from openmixup.policies import FMix, SaliencyMix


def digits(split):
    """Real handwritten digits, (1, 8, 8) each: 1,000 to train with and 797 of mostly other writers."""
    source, part = load_digits(), slice(1000) if split == 'train' else slice(1000, None)
    images = torch.tensor(source.images[part], dtype=torch.float32)[:, None] / 16
    return TensorDataset((images - 0.307) / 0.376, torch.tensor(source.target[part]))


def train(network, loss_of, epochs):
    """The loop that you have already; only the loss is new."""
    loader = DataLoader(digits('train'), batch_size=50, shuffle=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    network.train()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss_of(images, labels).backward()
            optimizer.step()
            schedule.step()


def alone(epochs):
    """A policy that needs no network: ``mix`` gives the images, and the mixture gives the targets."""
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10),
    )  # fmt: skip
    policy = FMix(alpha=1.0)

    def loss_of(images, labels):
        view = policy.mix(images, labels)
        return cross_entropy(network(view.inputs), view.mixture.soft(labels, num_classes=10))

    train(network, loss_of, epochs)
    return network


def guided(epochs):
    """A policy that looks at the network: the learner calls it, and returns its loss terms by name."""
    learner = MixClassifier(
        backbone={'type': 'CifarResNet', 'depth': 8, 'in_channels': 1},
        head={'type': 'LinearHead', 'num_classes': 10},
        policy=SaliencyMix(saliency='gradient'),
    )

    def loss_of(images, labels):
        # the step is the key of all random draws: without this line each step would draw the same
        learner.context = replace(learner.context, step=learner.context.step + 1)
        total, _ = learner.parse_losses(learner(images, labels, mode='loss'))
        return total

    train(learner, loss_of, epochs)
    return learner


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--epochs', type=int, default=10)
    parser.add_argument('--guided', action='store_true', help='a policy that looks at the network')
    args = parser.parse_args()
    torch.manual_seed(0)
    trained = (guided if args.guided else alone)(args.epochs).eval()
    with torch.no_grad():
        inputs, targets = digits('test').tensors
        print(f'accuracy {(trained(inputs).argmax(1) == targets).float().mean():.4f}')
