"""A backbone with its heads, and what one forward pass of it returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.models.attention import (
    attention_module,
    attention_modules,
    record_attention,
    record_received,
    record_rollout,
)
from openmixup.models.backbones import Backbone
from openmixup.models.backbones.base import channel_dim
from openmixup.models.merging import merged_attention
from openmixup.policies import Tap
from openmixup.policies.tokens import token_grid

__all__ = ['READABLE', 'Output', 'Student']

READABLE = ('attention', 'features', 'received', 'rollout')
OF_ATTENTION = ('attention', 'received', 'rollout')


@dataclass(frozen=True, eq=False)
class Output:
    """What one forward pass gives.

    Args:
        logits: (N, num_classes).
        attention: (N, heads, h, w) attention of the class token to the patches in the last block, a softmax over all
            tokens, without gradient; None unless asked for.
        features: (N, C, h, w) last feature map, with gradient; None unless asked for.
        received: (N, heads, h, w) attention that each patch gets from all patches in the mean, in the last block, a
            softmax over all tokens, without gradient; None unless asked for.
        rollout: (N, h, w) share of each patch in what the class token is made of, by the attention of all blocks; the
            rest up to 1 is that of the tokens before the patches. Without gradient; None unless asked for.
    """

    logits: Tensor
    attention: Tensor | None = None
    features: Tensor | None = None
    received: Tensor | None = None
    rollout: Tensor | None = None


class Student(nn.Module):
    """The network that learns: a backbone and one or more heads by name.

    Args:
        backbone: maps (N, C, H, W) to (N, num_features).
        heads: heads by name, each (N, num_features) to (N, num_classes); 'main' is the one that classifies.
        channels_last: run convolutions in the NHWC memory format, which many CPUs and GPUs do faster.
    """

    def __init__(self, backbone: Backbone, heads: dict[str, nn.Module], channels_last: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.channels_last = channels_last
        self._compiled: Any = None
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def compile_backbone(self) -> None:
        """Compile plain passes; those with a tap, or that return more than logits, stay as they are."""
        # on some CPUs torch 2.14's channels-last convolutions write past their memory in the backward pass
        options: dict[str, Any] | None = None if torch.cuda.is_available() else {'layout_optimization': False}
        self._compiled = torch.compile(self.backbone, options=options)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == '_compiled':  # the compiled backbone is a module; as a child it would be in the state twice
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def vectors(self, images: Tensor) -> Tensor:
        """(N, num_features) of ``images`` (N, C, H, W), in the memory format that was chosen."""
        network = self.backbone if self._compiled is None else self._compiled
        return network(self.laid_out(images))

    def laid_out(self, images: Tensor) -> Tensor:
        """``images`` in the memory format that was chosen."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def logits(self, images: Tensor) -> dict[str, Tensor]:
        """(N, num_classes) of each head, from one pass."""
        vectors = self.vectors(images)
        return {name: head(vectors) for name, head in self.heads.items()}

    def forward(self, images: Tensor, tap: Tap | None = None, head: str = 'main', read: Sequence[str] = ()) -> Output:
        """One pass.

        Args:
            images: (N, C, H, W).
            tap: replaces the output of one of ``backbone.stages`` on the way, in this pass only.
            head: the head that makes the logits.
            read: what to return besides: 'attention', 'features', 'received', 'rollout'.
        """
        if tap is None and not read:
            return Output(self.heads[head](self.vectors(images)))
        found: dict[str, Tensor] = {}
        with self._hooks(tap, read, found):
            features = self.backbone.features(self.laid_out(images))
            logits = self.heads[head](self.backbone.pool(features))
        size = images.shape[-2:]
        last = self.last_map(features, size) if 'features' in read else None
        return Output(logits, features=last, **{name: self._on_grid(row, size) for name, row in found.items()})

    def attention(self, images: Tensor) -> Tensor:
        """(N, heads, h, w) attention of the class token to the patches in the last block; no head is needed."""
        found: dict[str, Tensor] = {}
        with self._hooks(None, ('attention',), found):
            self.backbone.features(self.laid_out(images))
        return self._on_grid(found['attention'], images.shape[-2:])

    def merged_attention(self, images: Tensor, merge: float, block: int = -1) -> Tensor:
        """(N, h, w) of :func:`openmixup.models.merging.merged_attention` on the patches; no head is needed."""
        row = merged_attention(self.backbone, self.laid_out(images), merge, block)
        return self._on_grid(row, images.shape[-2:])

    def _on_grid(self, row: Tensor, size: Sequence[int]) -> Tensor:
        """(..., h, w) of the patches in (..., tokens), for images of ``size`` (H, W)."""
        patches = row[..., self.backbone.prefix_tokens :]
        return patches.unflatten(-1, token_grid(patches.shape[-1], size))

    def last_map(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """(N, C, h, w) of what ``backbone.features`` gave for images of ``size`` (H, W)."""
        width = (self.backbone.expected_channels or (0,))[-1]
        return self.backbone.to_map(features, channel_dim(features.shape, width, self.backbone.channels_behind), size)

    @contextmanager
    def _hooks(self, tap: Tap | None, read: Sequence[str], found: dict[str, Tensor]) -> Iterator[None]:
        handles = []
        if tap is not None:
            stage = self.backbone.get_submodule(self.backbone.stages[tap.stage])
            handles.append(stage.register_forward_hook(lambda module, args, output: tap.function(output)))
        asked = [name for name in OF_ATTENTION if name in read]
        module = attention_module(self.backbone) if asked else None
        if asked and module is None:
            raise InputError(f'{type(self.backbone).__name__} has no class-token attention that can be read.')
        if 'attention' in asked:
            handles.append(record_attention(module, lambda row: found.__setitem__('attention', row)))
        if 'received' in asked:
            prefix = self.backbone.prefix_tokens
            handles.append(record_received(module, prefix, lambda row: found.__setitem__('received', row)))
        if 'rollout' in asked:
            blocks = attention_modules(self.backbone)
            handles += record_rollout(blocks, lambda whole: found.__setitem__('rollout', whole[:, 0]))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
