"""A backbone with its heads, and what one forward pass of it returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openmixup.models.backbones import Backbone
from openmixup.policies import Tap

__all__ = ['Output', 'Student']


@dataclass(frozen=True, eq=False)
class Output:
    """What one forward pass gives.

    Args:
        logits: (N, num_classes).
    """

    logits: Tensor


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
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, tap: Tap | None = None, head: str = 'main') -> Output:
        """One pass.

        Args:
            images: (N, C, H, W).
            tap: replaces the output of one of ``backbone.stages`` on the way, in this pass only.
            head: the head that makes the logits.
        """
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if tap is None:
            return Output(self.heads[head](self.backbone(images)))
        stage = self.backbone.get_submodule(self.backbone.stages[tap.stage])
        handle = stage.register_forward_hook(lambda module, args, output: tap.function(output))
        try:
            return Output(self.heads[head](self.backbone(images)))
        finally:
            handle.remove()
