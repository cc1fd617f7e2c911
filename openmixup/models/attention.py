"""The attention of the class token, computed beside the fused attention of an ordinary pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from openmixup.errors import InputError
from openmixup.models.backbones import Backbone
from openmixup.policies.precision import arithmetic

__all__ = ['attention_module', 'check_attention', 'differentiable_attention', 'record_attention']

Store = Callable[[Tensor], None]


def attention_module(backbone: Backbone) -> nn.Module | None:
    """The last block's self-attention if it is one that can be read, and the network has a class token."""
    if backbone.prefix_tokens < 1 or not backbone.class_token or not backbone.stages:
        return None
    block = backbone.get_submodule(backbone.stages[-1])
    for child in block.modules():
        plain = type(child).__name__ == 'Attention' and type(child).__module__ in (
            'timm.layers.attention',
            'timm.models.vision_transformer',
        )
        if plain or (
            isinstance(child, nn.MultiheadAttention) and child.batch_first and child.in_proj_weight is not None
        ):
            return child
    return None


def check_attention(backbone: Backbone, policy: str) -> None:
    """Refuse a network whose class-token attention cannot be read.

    A network that has a class token but averages the patches in its place (``global_pool='avg'``) is accepted, since
    its weights may come from a training of the class token.

    Raises:
        InputError: it has no class token, or another kind of attention.
    """
    if attention_module(backbone) is None:
        raise InputError(
            f'{policy} needs the attention of a class token, which {describe(backbone)} does not have in a form that '
            'can be read: use a ViT or DeiT with a class token, such as TimmBackbone(model="deit_small_patch16_224"), '
            'or another policy.'
        )


def describe(backbone: Backbone) -> str:
    """Class and model of a backbone, for messages."""
    net = getattr(backbone, 'net', None)
    return type(backbone).__name__ if net is None else f'{type(backbone).__name__} with {type(net).__name__}'


def differentiable_attention(*images: Tensor) -> AbstractContextManager[object]:
    """A context for a pass of ``images`` in which attention can be differentiated twice, if they ask for it.

    They do so by being leaves that require a gradient: what is computed from their gradient is trained too. Fused
    attention has no second derivative, so it is computed step by step then.
    """
    asked = any(each.is_leaf and each.requires_grad for each in images)
    return sdpa_kernel(SDPBackend.MATH) if asked else nullcontext()


def record_attention(module: Any, store: Store) -> Any:
    """Let each pass of ``module`` hand the class token's attention over all tokens, (N, heads, tokens), to ``store``.

    Only the row of the class token is computed, from the queries and keys of the pass itself; the network's own, fused
    attention stays as it is. The result carries no gradient.

    Returns:
        A handle with ``remove()``.
    """
    if isinstance(module, nn.MultiheadAttention):

        def before(layer: Any, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            with torch.no_grad():
                tokens = args[0] if args else kwargs['query']
                width = layer.embed_dim
                weight, bias = layer.in_proj_weight.detach(), layer.in_proj_bias
                query_bias, key_bias = (None, None) if bias is None else bias.detach()[: 2 * width].chunk(2)
                query = torch.nn.functional.linear(tokens[:, :1], weight[:width], query_bias)
                key = torch.nn.functional.linear(tokens, weight[width : 2 * width], key_bias)
                heads = layer.num_heads
                scale = (width // heads) ** -0.5
                store(_row(query.unflatten(2, (heads, -1)), key.unflatten(2, (heads, -1)), scale))

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        with torch.no_grad():
            query, key, _ = out.detach().unflatten(2, (3, module.num_heads, -1)).unbind(2)
            store(_row(module.q_norm(query[:, :1]), module.k_norm(key), module.scale))

    return module.qkv.register_forward_hook(after)


def _row(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """(N, heads, tokens) softmax in float32 of the scaled products of (N, 1, heads, d) and (N, tokens, heads, d)."""
    with arithmetic(query.device):
        score = torch.einsum('nqhd,nthd->nht', query.float(), key.float()) * scale
        return score.softmax(-1)
