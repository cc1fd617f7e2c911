"""From a loaded batch to the network's input: move, augment, normalise, on the training device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from openmixup.errors import InputError
from openmixup.policies import Context
from openmixup.randomness import keyed_generator
from openmixup.registry import MODELS, TRANSFORMS

__all__ = ['BatchPreprocessor']


def _single(transforms: Iterable[Callable]) -> Iterator[Callable]:
    """The transforms, with those inside a ``Compose`` in its place."""
    for transform in transforms:
        if hasattr(transform, 'transforms'):
            yield from _single(transform.transforms)
        else:
            yield transform


@MODELS.register_module()
class BatchPreprocessor(BaseDataPreprocessor):
    """Moves a uint8 batch to the device, applies batch transforms and normalises.

    Args:
        mean: per channel, in units of the [0, 1] pixel range.
        std: per channel, in the same units, above 0.
        train: configs of the batch transforms in training, see ``openmixup.datasets.transforms``. Those with
            ``after_normalize`` (``RandomErasing``) follow the normalising, the others precede it, each in order.
        test: the same for evaluation.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], train: Sequence[dict] = (), test: Sequence[dict] = ()
    ) -> None:
        super().__init__(non_blocking=True)
        self.mean, self.std = tuple(mean), tuple(std)
        self.context = Context()
        self._counted, self._calls = self.context, 0
        self.normalize = TRANSFORMS.build({'type': 'Normalize', 'mean': self.mean, 'std': self.std})
        self.train_transforms = tuple(_single(TRANSFORMS.build(transform) for transform in train))
        self.test_transforms = tuple(_single(TRANSFORMS.build(transform) for transform in test))

    def forward(self, data: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """The batch with ``inputs`` as normalised float32 (N, C, H, W) on the device, and ``bank_inputs`` alike.

        Args:
            data: ``inputs`` uint8 (N, C, h, w) and ``labels``; from a second loader also ``bank_inputs`` (M, C, h, w)
                and ``bank_labels``.
            training: which transforms; random ones draw from the stream of the context's seed, step and rank, and
                of the number of the call where one context serves several. The bank has a stream of its own.
        """
        batch = {key: value.to(self.device, non_blocking=True) for key, value in data.items()}
        transforms = self.train_transforms if training else self.test_transforms
        key = self._key() if transforms else ()
        batch['inputs'] = self._images(batch['inputs'], transforms, key)
        if 'bank_inputs' in batch:
            batch['bank_inputs'] = self._images(batch['bank_inputs'], transforms, (*key, 'bank'))
        return batch

    def _images(self, images: Tensor, transforms: Sequence[Callable], key: tuple[int | str, ...]) -> Tensor:
        """Images (N, C, h, w) uint8, transformed with draws of the stream ``key`` and normalised."""
        if images.shape[1] != len(self.mean):
            raise InputError(
                f'images have {images.shape[1]} channels, but the data_preprocessor has mean for {len(self.mean)}: '
                'give one mean and std per channel.'
            )
        rng = keyed_generator(*key) if transforms else None
        before = [transform for transform in transforms if not getattr(transform, 'after_normalize', False)]
        after = [transform for transform in transforms if getattr(transform, 'after_normalize', False)]
        for transform in (*before, self.normalize, *after):
            images = transform(images, rng)
        return images

    def _key(self) -> tuple[int | str, ...]:
        if self._counted is not self.context:
            self._counted, self._calls = self.context, 0
        again = (self._calls,) if self._calls else ()
        self._calls += 1
        return (self.context.seed, 'augment', self.context.step, self.context.rank, *again)
