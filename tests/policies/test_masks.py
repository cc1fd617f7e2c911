import pytest
import torch

from openmixup.policies import Batch, Context, CutMix
from openmixup.policies.masks import Boxes, Outer

IMAGES = torch.randn(4, 3, 6, 9, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4)
PARTNER = torch.tensor([2, 3, 1, 0])


class Given(CutMix):
    """Mixes by the region that it is given."""

    def __init__(self, region):
        super().__init__()
        self.region = region

    def mask(self, batch, partner, lam, ctx):
        return self.region


def sides(count):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.rand(count, generator=generator) / 2,
        torch.rand(count, 6, generator=generator) / 2,
        torch.rand(count, 9, generator=generator),
    )


def view(region, images=IMAGES):
    return Given(region).view(Batch(images, LABELS), PARTNER, torch.tensor([0.5], dtype=torch.float64), Context())


@pytest.mark.parametrize('count', [1, 4])
def test_a_mask_of_two_sides_is_their_product_at_each_pixel(count):
    base, rows, columns = sides(count)
    mixed = view(Outer(base, rows, columns))
    for sample in range(4):
        at, own = sample % count, torch.empty(6, 9)
        for row in range(6):
            for column in range(9):
                own[row, column] = base[at] + rows[at, row] * columns[at, column]
        expected = own * IMAGES[sample] + (1 - own) * IMAGES[PARTNER[sample]]
        torch.testing.assert_close(mixed.inputs[sample], expected)
        torch.testing.assert_close(mixed.masks[sample, 0], own)
        assert float(mixed.mixture.weight[sample, 0]) == pytest.approx(float(own.mean()), abs=1e-6)


@pytest.mark.parametrize('count', [1, 4])
def test_sides_and_masks_of_the_cpu_give_the_same(count):
    base, rows, columns = sides(count)
    product = view(Outer(base, rows, columns))
    dense = view(base[:, None, None] + rows[:, :, None] * columns[:, None])
    torch.testing.assert_close(product.inputs, dense.inputs)
    torch.testing.assert_close(product.mixture.weight, dense.mixture.weight)


@pytest.mark.parametrize(
    'region', [Outer(*sides(1)), Outer(*sides(4)), torch.rand(1, 6, 9)], ids=['one', 'each', 'cpu']
)
def test_all_goes_to_the_device_of_the_images(region):
    mixed = view(region, IMAGES.to('meta'))
    assert all(value.is_meta for value in (mixed.inputs, mixed.masks, mixed.mixture.weight, mixed.mixture.index))


def test_boxes_are_sides_too():
    boxes = Boxes(
        torch.tensor([[0, 2], [3, 3], [1, 0], [5, 8]]), torch.tensor([[4, 5], [3, 7], [6, 9], [6, 9]]), (6, 9)
    )
    assert torch.equal(torch.addcmul(*boxes.parts()), 1 - boxes.dense(IMAGES))
