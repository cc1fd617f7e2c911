"""Masks on a grid of cells."""

import pytest
import torch

from openmixup.errors import InputError
from openmixup.policies import Batch
from openmixup.policies.tokens import best_cells, block_cells, cell_view, enlarged, patch_grid, random_cells


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def count_of(*counts):
    return torch.tensor(counts)


@pytest.mark.parametrize('grid', [(14, 14), (7, 9), (4, 4), (2, 3), (1, 5), (1, 1)])
def test_blocks_cover_at_most_the_count_and_mostly_all_of_it(grid):
    cells = grid[0] * grid[1]
    for count in {0, 1, cells // 2, cells * 4 // 7}:
        masks = block_cells(torch.full((40,), count), rng(), grid)
        assert masks.shape == (40, *grid)
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
        covered = masks.sum((1, 2))
        assert int(covered.max()) <= count
        if grid == (14, 14):
            assert float((covered == count).float().mean()) > 0.9


def test_one_mask_is_made_by_the_same_rules_as_many(monkeypatch):
    """The same draws, in plain numbers and in tensors."""
    draw = torch.rand
    monkeypatch.setattr(torch, 'rand', lambda rows, count, **options: draw(rows, 1, **options).expand(rows, count))
    for seed in range(30):
        one = block_cells(count_of(112), rng(seed), (14, 14))
        both = block_cells(count_of(112, 112), rng(seed), (14, 14))
        assert torch.equal(one.expand(2, -1, -1), both)


def by_sets(budget, seed, grid):
    """The rules, with sets of cells and one draw after the other."""
    height, width = grid
    generator, covered, misses = rng(seed), set(), 0
    while len(covered) < budget and misses < 10:
        area, ratio, top, start = (float(x) for x in torch.rand(4, 1, generator=generator, dtype=torch.float64))
        area = 1 + area * (budget - len(covered) - 1)
        ratio = 0.3 * (1 / 0.3 / 0.3) ** ratio
        rows, columns = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        top, start = int(top * (height - rows + 1)), int(start * (width - columns + 1))
        block = {(i, j) for i in range(top, top + rows) for j in range(start, start + columns)} - covered
        misses += 1
        if rows < height and columns < width and 1 <= len(block) <= budget - len(covered):
            covered, misses = covered | block, 0
    return covered


def test_blocks_are_laid_by_the_rules():
    for seed in range(40):
        mask = block_cells(count_of(112), rng(seed), (14, 14))[0]
        assert {tuple(cell) for cell in mask.nonzero().tolist()} == by_sets(112, seed, (14, 14))


def test_places_of_blocks_are_even():
    masks = block_cells(torch.full((1500,), 50), rng(), (10, 10))
    rate = masks.mean(0)
    for mirrored in (rate.flip(0), rate.flip(1), rate.T):
        assert float((rate - mirrored).abs().max()) < 0.08
    assert float(rate.min()) > 0.1


def test_random_cells_have_their_number_and_even_places():
    masks = random_cells(count_of(5), 2000, rng(), (4, 4))
    assert torch.equal(masks.sum((1, 2)), torch.full((2000,), 5.0))
    assert float((masks.mean(0) - 5 / 16).abs().max()) < 0.06
    assert len(masks[:50].flatten(1).unique(dim=0)) > 40
    each = random_cells(torch.tensor([0, 3, 16]), 3, rng(), (4, 4))
    assert each.sum((1, 2)).tolist() == [0, 3, 16]


def test_best_cells_are_those_of_the_highest_scores_and_of_equal_ones_the_first():
    scores = torch.tensor([[[3.0, 1.0, 2.0], [9.0, 0.0, -1.0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]])
    count = (torch.arange(6) < 3).float()[None]
    assert best_cells(scores, count).tolist() == [[[1, 0, 1], [1, 0, 0]], [[1, 1, 1], [0, 0, 0]]]
    each = (torch.arange(6) < torch.tensor([[1], [5]])).float()
    assert best_cells(scores, each).sum((1, 2)).tolist() == [1, 5]


@pytest.mark.parametrize(('grid', 'size'), [((2, 3), (8, 12)), ((2, 3), (7, 11)), ((5, 5), (2, 3)), ((4, 4), (4, 4))])
def test_each_pixel_has_the_value_of_its_cell(grid, size):
    cells = torch.rand(2, *grid, generator=rng())
    got = enlarged(cells, torch.zeros(2, 1, *size, dtype=torch.float64))
    assert got.dtype == torch.float64
    for row in range(size[0]):
        for column in range(size[1]):
            at = int((row + 0.5) * grid[0] / size[0]), int((column + 0.5) * grid[1] / size[1])
            torch.testing.assert_close(got[:, row, column], cells[:, at[0], at[1]].double())


@pytest.mark.parametrize('learns', [False, True])
def test_a_view_of_cells_has_the_weights_of_its_pixels(learns):
    images = torch.randn(3, 2, 5, 7, generator=rng()).requires_grad_(learns)
    cells = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    index = torch.tensor([[0, 2], [1, 0], [2, 1]])
    view = cell_view(Batch(images, None), index, cells)
    own = enlarged(cells, images)
    for i in range(3):
        expected = images[i] * own[i] + images[index[i, 1]] * (1 - own[i])
        torch.testing.assert_close(view.inputs[i], expected)
        torch.testing.assert_close(view.mixture.weight[i, 0], own[i].mean())
        torch.testing.assert_close(view.masks[i], torch.stack([own[i], 1 - own[i]]))
    torch.testing.assert_close(view.mixture.weight.sum(1), torch.ones(3))
    assert view.inputs.requires_grad == learns


@pytest.mark.parametrize('grid', [(14, 14), (2, 6), (7, 4), (1, 1), (16, 24)])
@pytest.mark.parametrize('patch', [1, 4, 16])
def test_patches_are_found_behind_a_prefix_and_without_one(grid, patch):
    """A class token that joins in the last blocks (CaiT) is not there before."""
    cells, size = grid[0] * grid[1], (grid[0] * patch, grid[1] * patch)
    for prefix in (0, 1, 2, 5):
        assert patch_grid(cells + prefix, prefix, size) == (prefix, grid)
    if cells > 1:
        assert patch_grid(cells, 1, size) == (0, grid)


def test_tokens_that_form_no_grid_are_refused():
    with pytest.raises(InputError, match='19 tokens form no grid for an image of 64x64'):
        patch_grid(19, 1, (64, 64))
