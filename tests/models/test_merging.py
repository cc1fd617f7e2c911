"""Passes that merge tokens which are alike."""

import numpy as np
import pytest
import torch
from torch import nn

from openmixup.errors import InputError
from openmixup.models import CifarResNet, Student, TimmBackbone, TorchvisionBackbone
from openmixup.models.merging import Tokens, merge_tokens, merged_attention, merges_per_block

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
OPTIONS = {'img_size': 32, 'patch_size': 8, 'depth': 4, 'embed_dim': 24, 'num_heads': 3}


def vit(model='vit_tiny_patch16_224', **options):
    torch.manual_seed(0)
    backbone = TimmBackbone(model, options={**OPTIONS, **options}).eval()
    for block in backbone.net.blocks:
        block.attn.qkv.weight.data.mul_(20)  # attention that is far from even
    return backbone


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(('total', 'blocks'), [(98, 12), (49, 12), (147, 12), (98, 24), (7, 3), (5, 1), (0, 4), (1, 4)])
def test_merges_fall_from_block_to_block_and_sum_to_the_total(total, blocks):
    counts = merges_per_block(total, blocks)
    assert len(counts) == blocks
    assert sum(counts) == total
    mean = total / blocks
    for place, count in enumerate(counts):
        share = 1.5 - place / (blocks - 1) if blocks > 1 else 1.0
        assert abs(count - share * mean) <= 1


def merged_by_hand(hidden, keys, groups, count, prefix):
    """Of one sample: groups of first tokens behind the merge, and their means."""
    tokens = list(range(len(hidden)))
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    even = [t for t in tokens[::2] if t >= prefix]
    odd = [t for t in tokens[1::2] if t >= prefix]
    twins = {t: max(odd, key=lambda other, t=t: unit[t] @ unit[other]) for t in even} if odd else {}
    likeness = {t: unit[t] @ unit[twins[t]] for t in twins}
    gone = sorted(likeness, key=likeness.get, reverse=True)[:count]
    found, sums = [], []
    for t in tokens:
        if t in gone:
            continue
        members = [t, *(g for g in gone if twins[g] == t)]
        sizes = np.array([len(groups[m]) for m in members], dtype=float)
        found.append(sorted(x for m in members for x in groups[m]))
        sums.append((hidden[members] * sizes[:, None]).sum(0) / sizes.sum())
    return found, np.stack(sums)


@pytest.mark.parametrize('prefix', [1, 2, 5])
@pytest.mark.parametrize('length', [6, 12, 17])
def test_tokens_are_merged_by_the_rules(prefix, length):
    hidden = noise(4, length, 5, seed=length)
    own = torch.arange(length).expand(4, -1)
    tokens = Tokens(own, torch.ones(4, length))
    groups, values = [[[t] for t in range(length)] for _ in range(4)], list(hidden.double().numpy())
    for turn, count in enumerate((3, 1, 2, 50)):
        keys = noise(4, hidden.shape[1], 4, seed=turn)
        hidden, tokens = merge_tokens(hidden, keys, tokens, count, prefix)
        for i in range(4):
            groups[i], values[i] = merged_by_hand(values[i], keys[i].double().numpy(), groups[i], count, prefix)
            np.testing.assert_allclose(hidden[i].numpy(), values[i], atol=1e-5)
            source = tokens.source[i].tolist()
            assert [[t for t in range(length) if source[t] == place] for place in range(hidden.shape[1])] == groups[i]
            assert tokens.size[i].tolist() == [len(group) for group in groups[i]]
            assert groups[i][:prefix] == [[t] for t in range(prefix)]
    assert hidden.shape[1] < length or length - prefix < 2  # of one patch nothing can be merged


def test_nothing_is_merged_if_asked_so():
    hidden, tokens = noise(2, 5, 3), Tokens(torch.arange(5).expand(2, -1), torch.ones(2, 5))
    for count, prefix in ((0, 1), (3, 5), (3, 4)):
        again, same = merge_tokens(hidden, hidden, tokens, count, prefix)
        assert again is hidden
        assert same is tokens


@pytest.mark.parametrize('model', ['vit_tiny_patch16_224', 'deit_tiny_distilled_patch16_224'])
def test_without_merging_it_is_the_attention_of_the_block(model):
    backbone = vit(model)
    student = Student(backbone, {})
    torch.testing.assert_close(student.merged_attention(IMAGES, 0.0), student.attention(IMAGES).mean(1))
    maps = []
    for block in backbone.net.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, i, out: maps.append(out.mean(1)[:, 0]))
    backbone(IMAGES)
    expected = list(maps)
    for place in (0, 2, 3, -1, -4):
        torch.testing.assert_close(merged_attention(backbone, IMAGES, 0.0, place), expected[place])


def pairs(backbone):
    """Images of patches that come in twos, for a network that knows no places."""
    if isinstance(backbone, TimmBackbone):
        nn.init.zeros_(backbone.net.pos_embed)
    else:
        nn.init.zeros_(backbone.net.encoder.pos_embedding)
    return backbone


@pytest.mark.parametrize('kind', ['timm', 'torchvision'])
def test_tokens_that_are_the_same_keep_their_attention(kind):
    """Merged tokens count by their number in all attention, so that nothing changes if twins are merged."""
    if kind == 'timm':
        backbone, side = pairs(vit()), 8
    else:
        torch.manual_seed(0)
        backbone, side = pairs(TorchvisionBackbone('vit_b_16', options={'image_size': 64})).eval(), 16
    patches = noise(3, 3, 4, side, 2, 1, side)  # rows of patches, their rows, pairs, one of them, their columns
    images = patches.expand(-1, -1, -1, -1, -1, 2, -1).reshape(3, 3, 4 * side, 4 * side)
    student = Student(backbone, {})
    plain, merged = student.attention(images).mean(1), student.merged_attention(images, 0.5)
    torch.testing.assert_close(merged, plain, rtol=1e-3, atol=1e-5)
    assert torch.equal(merged[:, :, ::2], merged[:, :, 1::2])
    torch.testing.assert_close(merged.sum((1, 2)), plain.sum((1, 2)))
    assert float(plain.std()) > 1e-3 or kind == 'torchvision'


def test_tokens_are_merged_behind_each_block_before_the_one_that_is_asked_for():
    """By hand, block by block; what comes behind that block has no part in it."""
    backbone = vit()
    net, counts = backbone.net, merges_per_block(9, 4)
    assert counts == [3, 3, 2, 1]
    hidden = net._pos_embed(net.patch_embed(IMAGES))
    tokens = Tokens(torch.arange(17).expand(3, -1), torch.ones(3, 17))
    for place, block in enumerate(net.blocks):
        normed = block.norm1(hidden)
        query, key, value = block.attn.qkv(normed).view(3, -1, 3, 3, 8).permute(2, 0, 3, 1, 4)
        scores = query @ key.mT * 8**-0.5 + tokens.size.log()[:, None, None]
        weights = scores.softmax(-1)
        row = (weights[:, :, 0].mean(1) / tokens.size).gather(1, tokens.source)
        torch.testing.assert_close(merged_attention(backbone, IMAGES, 0.57, place), row, rtol=1e-4, atol=1e-6)
        hidden = hidden + block.attn.proj((weights @ value).transpose(1, 2).flatten(2))
        hidden = hidden + block.mlp(block.norm2(hidden))
        hidden, tokens = merge_tokens(hidden, key.mean(1), tokens, counts[place], 1)
        assert hidden.shape[1] == 17 - sum(counts[: place + 1])


def test_no_hook_is_left_and_later_blocks_do_not_run():
    backbone, ran = vit(), []
    handle = backbone.net.blocks[2].register_forward_hook(lambda m, i, out: ran.append(1))
    merged_attention(backbone, IMAGES, 0.5, 1)
    handle.remove()
    assert not ran
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.modules())


def test_under_autocast_it_is_close_and_in_float32():
    backbone = vit()
    with torch.autocast('cpu', torch.bfloat16):
        got = merged_attention(backbone, IMAGES, 0.5, 0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, merged_attention(backbone, IMAGES, 0.5, 0), rtol=0.1, atol=0.02)
    with torch.autocast('cpu', torch.bfloat16):  # twins may be others then
        assert torch.equal(merged_attention(backbone, IMAGES, 0.5).isfinite(), torch.ones(3, 17, dtype=torch.bool))


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match='no class-token attention'):
        merged_attention(CifarResNet(), IMAGES, 0.5)
    for block in (4, -5):
        with pytest.raises(InputError, match='has 4 blocks'):
            merged_attention(vit(), IMAGES, 0.5, block)
