"""Learning rates that fall from the head of a network to its stem."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from openmixup.checks import is_number
from openmixup.errors import InputError
from openmixup.models.attention import describe

__all__ = ['layer_scales']


def layer_scales(model: nn.Module, decay: float) -> dict[int, float]:
    """By what the learning rate of each parameter of the network is multiplied: ``decay ** (layers above it)``.

    The head has 1. What a layer is, timm says for each of its networks (``group_matcher``): of a ViT the embedding,
    each block and the head; of a ConvNeXt the stem, each block and the head. These are the numbers of timm's own
    ``param_groups_layer_decay``.

    Source: Clark et al., "ELECTRA", ICLR 2020; for images Bao et al., "BEiT", ICLR 2022.

    Args:
        model: the learner, with ``student.backbone``.
        decay: above 0 and at most 1.

    Returns:
        The factor by the ``id`` of each parameter of the backbone.

    Raises:
        InputError: ``decay`` is out of its range, or the network does not say what its layers are.
    """
    if not is_number(decay) or not 0 < decay <= 1:
        raise InputError(f'paramwise_cfg.layer_decay={decay!r}: expected a number above 0 and at most 1, such as 0.75.')
    backbone: Any = getattr(getattr(model, 'student', None), 'backbone', None)
    net: Any = getattr(backbone, 'net', None)
    if not hasattr(net, 'group_matcher'):
        found = type(backbone).__name__ if net is None else describe(backbone)
        raise InputError(
            f'paramwise_cfg.layer_decay={decay} needs a network that says what its layers are, which {found} does not: '
            'choose a TimmBackbone of a family that does, such as ViT, Swin, ConvNeXt or ResNet, or leave it out.'
        )
    from timm.models import group_parameters

    layers = group_parameters(_WithHead(net), net.group_matcher(coarse=False), reverse=True)
    last = max(layers.values())
    return {id(parameter): decay ** (last - layers[name]) for name, parameter in net.named_parameters()}


class _WithHead:
    """Names of the parameters as timm has them: with the classifier, which stands apart from the backbone here."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        names = self.net.pretrained_cfg.get('classifier') or 'head'
        yield from self.net.named_parameters()
        yield f'{names if isinstance(names, str) else names[0]}.weight', None
