"""A pass in which a transformer merges tokens that are alike, to see where its class token looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openmixup.errors import InputError
from openmixup.models.attention import attended, attention_modules, record_queries
from openmixup.models.backbones import Backbone
from openmixup.policies.precision import arithmetic

__all__ = ['Tokens', 'merge_tokens', 'merged_attention', 'merges_per_block']

FIRST_TO_MEAN = 1.5  # merges in the first block over the mean of all blocks; in the last one it is 0.5


class Tokens(NamedTuple):
    """Where tokens have gone.

    Args:
        source: (N, T) int64 present token that each of the first T tokens is in.
        size: (N, t) float32 number of first tokens in each present one.
    """

    source: Tensor
    size: Tensor


class _Seen(Exception):
    """Ends a pass at the block that was asked for."""


def merges_per_block(total: int, blocks: int) -> list[int]:
    """Tokens to merge away in each block: they fall evenly from 1.5 to 0.5 times the mean and sum to ``total``."""
    step = (2 * FIRST_TO_MEAN - 2) / max(blocks - 1, 1)
    weights = [FIRST_TO_MEAN - step * place for place in range(blocks)] if blocks > 1 else [1.0]
    sums = [round(total * sum(weights[: place + 1]) / sum(weights)) for place in range(blocks)]
    return [after - before for before, after in zip([0, *sums], sums, strict=False)]


def merge_tokens(hidden: Tensor, keys: Tensor, tokens: Tokens, count: int, prefix: int) -> tuple[Tensor, Tokens]:
    """Merge the ``count`` tokens that are most like one of another set into it, by means weighted with their sizes.

    The sets are the tokens at even and those at odd places. Each even one is compared with the odd one that it is most
    like, by the cosine of their keys. Tokens before those of the patches stay apart, and the order is kept. At most as
    many are merged as there are even patches.

    After Bolya et al., Token Merging: Your ViT But Faster, ICLR 2023, by the description in the paper.

    Args:
        hidden: (N, t, C).
        keys: (N, t, d).
        tokens: where the first tokens are.
        count: number of tokens to merge away.
        prefix: tokens before those of the patches.
    """
    even, odd = hidden[:, ::2].shape[1], hidden[:, 1::2].shape[1]
    first_even, first_odd = (prefix + 1) // 2, prefix // 2
    count = min(count, even - first_even) if odd > first_odd else 0
    if count < 1:
        return hidden, tokens
    length = hidden.shape[1]
    with arithmetic(hidden.device):
        unit = F.normalize(keys.float(), dim=2)
        likeness, twin = (unit[:, ::2][:, first_even:] @ unit[:, 1::2][:, first_odd:].mT).max(2)
        gone = likeness.argsort(dim=1, descending=True, stable=True)[:, :count]
        into = 2 * (twin.gather(1, gone) + first_odd) + 1
        gone = 2 * (gone + first_even)
        there = torch.ones_like(tokens.size, dtype=torch.int64).scatter_(1, gone, 0)
        rank = there.cumsum(1) - 1
        place = rank.scatter(1, gone, rank.gather(1, into))  # of each present token among those to come
        # a product of matrices and no scattered sum, whose order a device does not keep
        member = place[:, None] == torch.arange(length - count, device=hidden.device)[:, None]
        share = member * tokens.size[:, None]
        size = share.sum(2)
        merged = (share @ hidden.float() / size[..., None]).to(hidden.dtype)
    return merged, Tokens(place.gather(1, tokens.source), size)


def merged_attention(backbone: Backbone, images: Tensor, merge: float, block: int = -1) -> Tensor:
    """(N, tokens) float32 attention of the class token in one block of a pass that merges tokens on its way.

    Behind each block before it tokens are merged. Merged ones count by the number of tokens in them: its logarithm is
    added to the scores of all attention. What the class token gives a merged token is parted evenly among those in it,
    so that tokens which are the same have the attention that they would have without merging. The pass ends at the
    block that is asked for.

    The paper on token merging merges between the attention and the MLP of a block, so that fewer tokens go through the
    MLP; behind the block it can be done by hooks, in any network.

    Args:
        backbone: with a class token and attention that can be read.
        images: (N, C, H, W).
        merge: share of the patches that all blocks together merge away, in [0, 1).
        block: whose attention, counted from 0; a negative one counts from the last.

    Raises:
        InputError: another network, or no such block.
    """
    blocks = attention_modules(backbone)
    if not blocks:
        raise InputError(f'{type(backbone).__name__} has no class-token attention that can be read.')
    if not -len(blocks) <= block < len(blocks):
        raise InputError(f'block {block} is asked for, but {type(backbone).__name__} has {len(blocks)} blocks.')
    found: list[Tensor] = []
    with _hooks(backbone, blocks[: block % len(blocks) + 1], len(blocks), merge, found):
        try:
            backbone.features(images)
        except _Seen:
            return found[0]
    raise InputError(f'block {block} of {type(backbone).__name__} did not run.')


@contextmanager
def _hooks(backbone: Backbone, run: list[nn.Module], blocks: int, merge: float, found: list[Tensor]) -> Iterator[None]:
    """Merging behind all blocks of ``run`` but the last, whose attention goes to ``found`` and ends the pass."""
    modules: dict[nn.Module, nn.Module] = {
        child: parent for parent in backbone.modules() for child in parent.children()
    }
    prefix, handles = backbone.prefix_tokens, []
    state: dict[str, Any] = {'tokens': None, 'keys': None, 'counts': None}

    def weigh(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
        hidden = args[0] if args else kwargs['query']
        size, length = len(hidden), hidden.shape[1]
        if state['tokens'] is None:
            own = torch.arange(length, device=hidden.device).expand(size, -1)
            state['tokens'] = Tokens(own, torch.ones_like(own, dtype=torch.float32))
            state['counts'] = merges_per_block(int(merge * (length - prefix)), blocks)
            return None
        bias = state['tokens'].size.log().to(hidden.dtype)[:, None]
        if isinstance(module, nn.MultiheadAttention):
            whole = bias.expand(-1, length, -1).repeat_interleave(module.num_heads, 0)
            return args, {**kwargs, 'attn_mask': whole}
        return args, {**kwargs, 'attn_mask': bias[:, None]}

    def keep(query: Tensor, key: Tensor, scale: float) -> None:
        state['keys'] = key.mean(2, dtype=torch.float32)

    def look(query: Tensor, key: Tensor, scale: float) -> None:
        tokens: Tokens = state['tokens']
        row = attended(query, key, scale, tokens.size.log())[:, :, 0].mean(1)
        found.append((row / tokens.size).gather(1, tokens.source))
        raise _Seen

    def merge_behind(place: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            output, state['tokens'] = merge_tokens(
                output, state['keys'], state['tokens'], state['counts'][place], prefix
            )
            return output

        return hook

    try:
        for place, module in enumerate(run):
            handles.append(module.register_forward_pre_hook(weigh, with_kwargs=True))
            last = place == len(run) - 1
            handles.append(record_queries(module, look if last else keep, only_first=last))
            if not last:
                handles.append(modules[module].register_forward_hook(merge_behind(place)))
        yield
    finally:
        for handle in handles:
            handle.remove()
