"""Attention, computed from the queries and keys of an ordinary pass beside its own, fused attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from openmixup.errors import InputError
from openmixup.models.backbones import Backbone
from openmixup.policies.precision import arithmetic

__all__ = [
    'attended', 'attention_module', 'attention_modules', 'check_attention', 'differentiable_attention',
    'record_attention', 'record_queries', 'record_received', 'record_rollout',
]  # fmt: skip

Store = Callable[[Tensor], None]
QueryStore = Callable[[Tensor, Tensor, float], None]


def attention_module(backbone: Backbone) -> nn.Module | None:
    """The last block's only self-attention if it can be read, and the network has a class token."""
    if backbone.prefix_tokens < 1 or not backbone.class_token or not backbone.stages:
        return None
    block = backbone.get_submodule(backbone.stages[-1])
    found = [child for child in block.modules() if _is_plain(child)]
    return found[0] if len(found) == 1 else None  # where several run side by side, none is that of the block


def attention_modules(backbone: Backbone) -> list[nn.Module]:
    """The self-attention of each block, in the order in which they run, if that of the last one can be read."""
    if attention_module(backbone) is None:
        return []
    return [module for module in backbone.modules() if _is_plain(module)]


def _is_plain(module: nn.Module) -> bool:
    """Whether it is a self-attention without a bias on the scores, a turn of the queries and the like."""
    if isinstance(module, nn.MultiheadAttention):
        return module.batch_first and module.in_proj_weight is not None
    return type(module).__name__ == 'Attention' and type(module).__module__ in (
        'timm.layers.attention',
        'timm.models.vision_transformer',
    )


def check_attention(backbone: Backbone, policy: str) -> None:
    """Refuse a network whose class-token attention cannot be read.

    A network that has a class token but averages the patches in its place (``global_pool='avg'``) is accepted, since
    its weights may come from a training of the class token.

    Raises:
        InputError: it has no class token, or another kind of attention, or several side by side in a block.
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
    return record_queries(
        module, lambda query, key, scale: store(attended(query, key, scale)[:, :, 0]), only_first=True
    )


def record_received(module: Any, prefix: int, store: Store) -> Any:
    """The same with the attention that each token gets from the patches in the mean, (N, heads, tokens).

    Args:
        module: a self-attention.
        prefix: tokens before those of the patches, which do not count as givers.
        store: gets the result.
    """
    return record_queries(module, lambda query, key, scale: store(attended(query[:, prefix:], key, scale).mean(2)))


def record_rollout(modules: Sequence[Any], store: Store) -> list[Any]:
    """The same with the attention rollout over all blocks, (N, tokens, tokens), handed out anew behind each block.

    Each block's attention A (mean of the heads) is averaged with the identity, for the residual path, and multiplied to
    what the blocks before it gave: R <- (A R + R) / 2. Row i says of which input tokens token i is made; rows sum to 1.

    After Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020.

    Args:
        modules: the self-attention of each block, in the order in which they run.
        store: gets the result.
    """
    found: dict[str, Tensor] = {}

    def first(query: Tensor, key: Tensor, scale: float) -> None:
        half = attended(query, key, scale).mean(1).mul_(0.5)
        half.diagonal(dim1=1, dim2=2).add_(0.5)
        found['rollout'] = half
        store(half)

    def further(query: Tensor, key: Tensor, scale: float) -> None:
        before = found['rollout']
        with arithmetic(query.device):
            found['rollout'] = torch.baddbmm(before, attended(query, key, scale).mean(1), before, beta=0.5, alpha=0.5)
        store(found['rollout'])

    return [record_queries(module, further if place else first) for place, module in enumerate(modules)]


def record_queries(module: Any, store: QueryStore, only_first: bool = False) -> Any:
    """Let each pass of ``module`` hand its queries, keys, both (N, tokens, heads, d), and their scale to ``store``.

    They carry no gradient.

    Args:
        module: a self-attention that :func:`attention_module` knows.
        store: gets them.
        only_first: the query of the first token only, (N, 1, heads, d).

    Returns:
        A handle with ``remove()``.
    """
    queried = slice(1 if only_first else None)
    if isinstance(module, nn.MultiheadAttention):

        def before(layer: Any, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            with torch.no_grad():
                tokens = args[0] if args else kwargs['query']
                width = layer.embed_dim
                weight, bias = layer.in_proj_weight.detach(), layer.in_proj_bias
                query_bias, key_bias = (None, None) if bias is None else bias.detach()[: 2 * width].chunk(2)
                query = torch.nn.functional.linear(tokens[:, queried], weight[:width], query_bias)
                key = torch.nn.functional.linear(tokens, weight[width : 2 * width], key_bias)
                heads = layer.num_heads
                scale = (width // heads) ** -0.5
                store(query.unflatten(2, (heads, -1)), key.unflatten(2, (heads, -1)), scale)

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        with torch.no_grad():
            query, key, _ = out.detach().unflatten(2, (3, module.num_heads, -1)).unbind(2)
            store(module.q_norm(query[:, queried]), module.k_norm(key), module.scale)

    return module.qkv.register_forward_hook(after)


def attended(query: Tensor, key: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """(N, heads, queries, tokens) float32 softmax over the tokens of the scaled products.

    Args:
        query: (N, queries, heads, d).
        key: (N, tokens, heads, d).
        scale: of the products.
        bias: (N, tokens) to add to them; None: nothing.
    """
    with arithmetic(query.device):
        score = torch.einsum('nqhd,nthd->nhqt', query.float(), key.float()).mul_(scale)
        return (score if bias is None else score + bias[:, None, None]).softmax(-1)
