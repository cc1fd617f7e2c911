"""Patches move as in the plain auction of the authors, and images are cut and joined without loss."""

import pytest
import torch

from openmixup.policies.guided.puzzle_transport import MOST_TURNS, Board, Tiles, sources, turns

SIDES = [2, 3, 4, 8, 16]


def maps(count, side, seed=0, peaked=4.0):
    """Saliency (N, side, side) that sums to 1, and binary maps of what is shown, half of the cells."""
    generator = torch.Generator().manual_seed(seed)
    saliency = (peaked * torch.rand(count, side, side, generator=generator)).exp()
    shown = torch.rand(count, side, side, generator=generator) < 0.5
    return saliency / saliency.sum((1, 2), keepdim=True), shown


def auction(saliency, shown, t_eps):
    """(N, h * w) sources and (N, h * w) number of them, by matrices of all patches and cells.

    Each patch takes its best cell, each cell the best of these patches, and the others pay 1 more for this cell.
    """
    count, height, width = saliency.shape
    cells = torch.arange(height * width)
    row, column = cells // width, cells % width
    squared = (row[:, None] - row).square() + (column[:, None] - column).square()
    cost = t_eps * squared.double() / (max(height, width) - 1) ** 2
    cost = cost - saliency.double().flatten(1)[:, :, None] * shown.flatten(1)[:, None]
    for _ in range(max(height, width)):  # the authors take as many turns as there are cells a side
        wanted = torch.zeros_like(cost).scatter_(2, cost.argmin(2, keepdim=True), 1)
        best = torch.zeros_like(cost).scatter_(1, (cost * wanted).argmin(1, keepdim=True), 1)
        won = best * wanted
        cost += wanted - won
    return won.argmax(1), won.sum(1)


@pytest.mark.parametrize('side', SIDES)
@pytest.mark.parametrize('t_eps', [0.8, 0.2])
def test_every_shown_cell_has_exactly_one_source(side, t_eps):
    saliency, shown = maps(60, side, seed=side)
    found = sources(saliency, shown, t_eps)
    assert found.shape == (60, side, side)
    assert found.dtype == torch.int64
    assert 0 <= int(found.min()) <= int(found.max()) < side**2
    for one, mask in zip(found, shown, strict=True):
        taken = one[mask].tolist()
        assert len(set(taken)) == len(taken)  # no patch is shown twice
    own = torch.arange(side**2).view(side, side)
    assert bool((found == own)[~shown].all())


@pytest.mark.parametrize(('height', 'width'), [(2, 2), (3, 3), (4, 4), (8, 8), (16, 16), (3, 5)])
def test_equals_the_plain_auction(height, width):
    saliency, shown = maps(40, max(height, width), seed=height)
    saliency, shown = saliency[:, :height, :width], shown[:, :height, :width]
    expected, winners = auction(saliency, shown, 0.8)
    seen = shown.flatten(1)
    assert bool((winners[seen] == 1).all())
    assert torch.equal(sources(saliency, shown, 0.8).flatten(1)[seen], expected[seen])


def test_a_few_patches_move():
    for side, low, high in ((2, 0.01, 0.2), (4, 0.02, 0.3), (8, 0.03, 0.4), (16, 0.05, 0.4)):
        saliency, shown = maps(100, side, seed=1, peaked=8.0)
        moved = (sources(saliency, shown, 0.8) != torch.arange(side**2).view(side, side))[shown]
        assert low < float(moved.double().mean()) < high


def test_the_more_salient_patch_takes_the_nearest_shown_cell():
    saliency = torch.tensor([[[0.1, 0.5, 0.0], [0.3, 0.02, 0.03], [0.02, 0.02, 0.01]]])
    shown = torch.zeros(1, 3, 3)
    shown[0, 1, 1] = 0.5  # any share above 0 is shown
    assert sources(saliency, shown, 0.8)[0, 1, 1] == 1  # 0.5 - 0.2 is more than 0.3 - 0.2 and 0.02
    assert sources(saliency, shown, 2.0)[0, 1, 1] == 4  # a step costs 0.5: more than the 0.48 that 0.5 is worth more


def test_a_loser_goes_on_to_its_next_cell():
    saliency = torch.tensor([[[0.3, 0.25, 0.2, 0.01, 0.01]]])
    shown = torch.tensor([[[0, 0, 0, 1, 1]]])
    # both steps in front of the two shown cells: patch 2 is nearer to cell 3, but patch 1 and 0 are worth more
    cost = 0.02 / 16
    assert cost * 9 - 0.3 < cost * 4 - 0.25 < cost - 0.2
    assert sources(saliency, shown, 0.02).flatten().tolist()[3:] == [0, 1]


def test_nothing_moves_where_all_is_shown_or_equally_salient_or_moves_are_dear():
    saliency, shown = maps(20, 8)
    own = torch.arange(64).view(8, 8).expand(20, -1, -1)
    assert torch.equal(sources(saliency, torch.ones(20, 8, 8), 0.8), own)
    assert torch.equal(sources(torch.full((20, 8, 8), 1 / 64), shown, 0.8), own)
    assert torch.equal(sources(torch.zeros(20, 8, 8), shown, 0.8), own)
    assert torch.equal(sources(saliency, shown, 100.0), own)


def test_patches_travel_four_cells_at_most():
    saliency = torch.zeros(1, 16, 16)
    saliency[0, 0, 0] = 1.0
    for column in (4, 5):
        shown = torch.zeros(1, 16, 16)
        shown[0, 0, column] = 1
        assert bool((sources(saliency, shown, 0.01) == 0)[0, 0, column]) == (column == 4)


def test_turns_are_those_of_the_side_up_to_eight():
    assert [turns((side, 2)) for side in (2, 5, 8, 16)] == [2, 5, 8, MOST_TURNS]


@pytest.mark.parametrize(
    ('size', 'grid'), [((32, 32), (8, 8)), ((28, 28), (8, 16)), ((7, 11), (7, 8)), ((9, 5), (2, 3))]
)
def test_images_are_cut_and_joined_without_loss(size, grid):
    tiles = Tiles(grid, size)
    images = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0))
    rows = tiles.cut(tiles.widened(images))
    assert rows.shape == (3 * grid[0] * grid[1], 2 * tiles.patch[0] * tiles.patch[1])
    assert torch.equal(tiles.joined(rows, 2), images)


@pytest.mark.parametrize(('size', 'grid'), [((32, 32), (8, 8)), ((28, 28), (8, 16)), ((7, 11), (7, 8))])
def test_cells_cover_the_pixels(size, grid):
    tiles = Tiles(grid, size)
    cells = torch.rand(4, *grid, generator=torch.Generator().manual_seed(0))
    pixels = tiles.pixels(cells)
    assert pixels.shape == (4, *size)
    for row in range(size[0]):
        for column in range(size[1]):
            cell = cells[:, row * grid[0] // size[0], column * grid[1] // size[1]]
            assert torch.equal(pixels[:, row, column], cell)
    torch.testing.assert_close(tiles.mean(cells), pixels.mean((1, 2)))
    assert float(tiles.mean(torch.ones(1, *grid))) == 1
    # the patches that are cut lie where the cells are
    marked = tiles.cut(tiles.widened(pixels[:, None])).view(4, *grid, -1)
    assert torch.equal(marked[..., 0], cells)


def test_a_patch_that_moves_is_the_picture_there():
    tiles = Tiles((2, 3), (4, 9))
    images = torch.arange(36.0).view(1, 1, 4, 9)
    rows = tiles.cut(tiles.widened(images))
    moved = tiles.joined(rows[[5, 1, 2, 3, 4, 0]], 1)
    expected = images.clone()
    expected[..., :2, :3], expected[..., 2:, 6:] = images[..., 2:, 6:], images[..., :2, :3]
    assert torch.equal(moved, expected)


@pytest.mark.parametrize(('size', 'side', 't_size', 'grid', 'tiles', 'points'), [
    ((32, 32), 2, 4, (2, 2), (8, 8), 4), ((32, 32), 4, 4, (4, 4), (8, 8), 4), ((32, 32), 8, 4, (8, 8), (8, 8), 4),
    ((32, 32), 16, 4, (16, 16), (16, 16), 2), ((32, 32), 4, -1, (4, 4), (4, 4), 4),
    ((32, 32), 4, None, (4, 4), (4, 4), 4), ((64, 64), 4, 4, (4, 4), (16, 16), 4),
    ((224, 224), 2, 4, (2, 2), (16, 16), 4), ((28, 28), 2, 4, (2, 2), (4, 4), 4),
    ((28, 28), 8, 4, (8, 8), (8, 8), 4), ((7, 11), 16, 4, (7, 11), (7, 11), 1), ((16, 32), 2, 4, (2, 2), (4, 8), 4),
])  # fmt: skip
def test_boards(size, side, t_size, grid, tiles, points):
    board = Board.of(size, side, t_size, 4)
    assert (board.grid, board.tiles.grid, board.points) == (grid, tiles, points)
    assert tuple(cells * parts for cells, parts in zip(board.grid, board.split, strict=True)) == tiles
