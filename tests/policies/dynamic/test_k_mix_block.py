"""The block of AdAutoMix: K images share each pixel."""

import math

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies.dynamic.k_mix_block import KMixBlock


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def opaque(block):
    """Let masks differ from place to place and from sample to sample, as after training."""
    for i, parameter in enumerate(block.parameters()):
        parameter.data.copy_(noise(*parameter.shape, seed=i))
    return block


@pytest.mark.parametrize('count', [2, 3, 4])
@pytest.mark.parametrize('embedding', ['none', 'concat'])
def test_the_masks_by_hand(count, embedding):
    """Loops over samples, images and places."""
    block = opaque(KMixBlock(4, embedding, upsample='nearest')).double()
    features, index = noise(3, 4, 2, 3).double(), torch.randint(3, (3, count), generator=torch.Generator())
    weight = torch.rand(3, count, generator=torch.Generator().manual_seed(1)).double()
    found = block(features, index, weight, (4, 6), 'nearest')

    def projected(conv, image, told):
        rows = image.flatten(1).T  # (places, C)
        if embedding == 'concat':
            rows = torch.cat([rows, told.expand(len(rows), 1)], 1)
        return rows @ conv[0].weight[:, :, 0, 0].T + conv[0].bias

    for n in range(3):
        parts = [
            [projected(conv, features[index[n, i]], weight[n, i]) for conv in (block.query, block.key, block.value)]
            for i in range(count)
        ]
        logits = []
        for i, (query, _, value) in enumerate(parts):
            others = sum(parts[j][1] for j in range(count) if j != i)
            logits.append((query @ others.T / math.sqrt(2)).softmax(1) @ value)
        expected = torch.cat(logits, 1).softmax(1).T.view(count, 2, 3)
        torch.testing.assert_close(found[n, :, ::2, ::2], expected)
        torch.testing.assert_close(found[n, :, 1::2, 1::2], expected)


def test_masks_sum_to_one_and_start_near_equal_shares():
    torch.manual_seed(0)
    block = KMixBlock(32)
    features, index = noise(4, 32, 4, 4).relu(), torch.stack([torch.arange(4).roll(i) for i in range(3)], 1)
    masks = block(features, index, torch.full((4, 3), 1 / 3), (16, 16))
    torch.testing.assert_close(masks.sum(1), torch.ones(4, 16, 16))
    assert float((masks.detach() - 1 / 3).abs().max()) < 0.05
    shared = block(features, index, torch.full((4, 3), 1 / 3), (16, 16), 'bilinear', block.project(features))
    torch.testing.assert_close(shared, masks)


def test_a_block_with_weights_embedded_follows_them():
    block, features, index = opaque(KMixBlock(4, 'concat')), noise(3, 4, 2, 2), torch.tensor([[0, 1], [1, 2], [2, 0]])
    one, two = (block(features, index, torch.tensor([[w, 1 - w]]).expand(3, 2), (4, 4)) for w in (0.2, 0.8))
    assert not torch.allclose(one, two)
    with pytest.raises(InputError, match=r"KMixBlock\(embedding='multiply'\)"):
        KMixBlock(4, 'multiply')
