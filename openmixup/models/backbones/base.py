"""The contract of every backbone."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ['Backbone']


class Backbone(nn.Module):
    """A network without its classifier: pictures in, one vector per picture out.

    A subclass sets :attr:`num_features` and :attr:`stages` and defines :meth:`features` and :meth:`pool`.
    ``backbone(x)`` is always ``backbone.pool(backbone.features(x))``.

    Attributes:
        num_features: length of the vectors that :meth:`pool` gives, which is the input width of a head.
        stages: dotted names of the sub-modules (for ``get_submodule``) whose outputs are the hidden stages, in the
            order in which they run.
    """

    num_features: int
    stages: tuple[str, ...]

    def features(self, images: Tensor) -> Tensor:
        """The last feature map, (N, C, H', W') for most networks, of ``images`` (N, C, H, W)."""
        raise NotImplementedError

    def pool(self, features: Tensor) -> Tensor:
        """Vectors (N, num_features) from the ``features`` of :meth:`features`."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Vectors (N, num_features) of ``images`` (N, C, H, W)."""
        return self.pool(self.features(images))
