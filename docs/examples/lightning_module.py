"""openmixup in a ``LightningModule``: the policy mixes in ``training_step``, on whatever device the batch is.

The policy here chooses between SaliencyMix, which is guided by what stands out in the images, and Mixup.
"""

import argparse

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from openmixup.policies import RandomChoice


def digits(split):
    """Real handwritten digits, (1, 8, 8) each: 1,000 to train with and 797 of mostly other writers."""
    source, part = load_digits(), slice(1000) if split == 'train' else slice(1000, None)
    images = torch.tensor(source.images[part], dtype=torch.float32)[:, None] / 16
    return TensorDataset((images - 0.307) / 0.376, torch.tensor(source.target[part]))


class MixedClassifier(lightning.LightningModule):
    """A network trained on mixed batches and evaluated on plain ones."""

    def __init__(self, network, policy, num_classes=10, lr=0.1):
        super().__init__()
        # a policy is a module: Lightning's train() and eval() switch its mixing on and off
        self.network, self.policy, self.num_classes, self.lr = network, policy, num_classes, lr

    def training_step(self, batch, batch_idx):
        images, labels = batch
        view = self.policy.mix(images, labels, epoch=self.current_epoch)
        loss = cross_entropy(self.network(view.inputs), view.mixture.soft(labels, self.num_classes))
        self.log('train_loss', loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log('accuracy', (self.network(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.estimated_stepping_batches)
        return [optimizer], [{'scheduler': schedule, 'interval': 'step'}]


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--epochs', type=int, default=10)
    args = parser.parse_args()
    lightning.seed_everything(0, verbose=False)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10),
    )  # fmt: skip
    policy = RandomChoice([{'type': 'SaliencyMix', 'alpha': 1.0}, {'type': 'Mixup', 'alpha': 0.8}], probs=[0.5, 0.5])
    trainer = lightning.Trainer(
        max_epochs=args.epochs, accelerator='cpu', logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = MixedClassifier(network, policy)
    trainer.fit(
        model, DataLoader(digits('train'), batch_size=50, shuffle=True), DataLoader(digits('test'), batch_size=797)
    )
    print(f'accuracy {trainer.callback_metrics["accuracy"]:.4f}')
