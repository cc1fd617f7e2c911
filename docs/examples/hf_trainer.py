"""openmixup in the ``Trainer`` of Hugging Face: the policy mixes in ``compute_loss``, after the batch is on its device.

A collator could mix too (``openmixup.policies.adapters.MixCollate``), but ``Trainer`` uses one for training and
evaluation alike, and what is evaluated must stay plain.
"""

import argparse
import tempfile

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.data import Dataset
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

from openmixup.policies import CutMix


class Digits(Dataset):
    """Real handwritten digits, (1, 32, 32) each: 1,000 to train with and 797 of mostly other writers."""

    def __init__(self, split):
        source, part = load_digits(), slice(1000) if split == 'train' else slice(1000, None)
        images = torch.tensor(source.images[part], dtype=torch.float32)[:, None] / 16
        images = interpolate(images, size=(32, 32), mode='bilinear')
        self.images, self.labels = (images - 0.307) / 0.376, torch.tensor(source.target[part])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {'pixel_values': self.images[index], 'labels': self.labels[index]}


class MixTrainer(Trainer):
    """A ``Trainer`` whose training batches are mixed by ``policy``."""

    def __init__(self, policy, **arguments):
        super().__init__(**arguments)
        self.policy = policy

    def compute_loss(self, model, inputs, return_outputs=False, **options):
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, **options)
        view = self.policy.mix(inputs['pixel_values'], inputs['labels'])
        outputs = model(pixel_values=view.inputs)
        target = view.mixture.soft(inputs['labels'], self.model.config.num_labels)
        loss = cross_entropy(outputs.logits, target)
        return (loss, outputs) if return_outputs else loss


def metrics(prediction):
    """Accuracy of a whole evaluation."""
    return {'accuracy': float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--epochs', type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            folder, num_train_epochs=args.epochs, per_device_train_batch_size=50, per_device_eval_batch_size=100,
            learning_rate=3e-3, weight_decay=0.05, warmup_steps=20, lr_scheduler_type='cosine', save_strategy='no',
            report_to='none', disable_tqdm=True, use_cpu=True, seed=0,
        )  # fmt: skip
        torch.manual_seed(0)
        config = ResNetConfig(
            num_channels=1, num_labels=10, embedding_size=32, hidden_sizes=[32, 64], depths=[1, 1], layer_type='basic'
        )
        trainer = MixTrainer(
            CutMix(alpha=1.0), model=ResNetForImageClassification(config), args=options, train_dataset=Digits('train'),
            eval_dataset=Digits('test'), compute_metrics=metrics,
        )  # fmt: skip
        trainer.train()
        print(f'accuracy {trainer.evaluate()["eval_accuracy"]:.4f}')
