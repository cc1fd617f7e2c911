"""Standings, ranks and Markdown of rows made by hand."""

import json
from pathlib import Path

import pytest

from openmixup.benchmark import Table, row_of
from openmixup.benchmark.page_data import band, board_data, pareto_front, ranking_data
from openmixup.benchmark.page_table import leaderboard
from openmixup.benchmark.ranking import rank_over
from openmixup.benchmark.report import board_report, ranking_markdown
from openmixup.benchmark.scores import read_flops
from openmixup.benchmark.standings import board_of
from openmixup.errors import InputError

POLICIES = {name.lower(): {'type': name} for name in ('Vanilla', 'Mixup', 'CutMix', 'FMix', 'GridMix')}


def rows(policy, scores, seconds=None, hardware='CPU', memory=None, energy=None):
    """Rows of 20 epochs by seed."""
    return [
        row_of(
            {
                'last': {'top1': top1}, 'best': {'top1': top1 + 1}, 'median_last10': {'top1': top1 - 0.5},
                'hardware': hardware, 'seconds': seconds, 'peak_memory_mb': memory, 'commit': 'abcdef0123',
                'energy_wh': energy,
            },
            'toy', policy, seed, 20,
        )
        for seed, top1 in scores.items()
    ]  # fmt: skip


def board(*parts, name='toy', **table):
    found = Table(Path(f'{name}.py'), 'toy.py', POLICIES, **({'seeds': (0, 1, 2)} | table))
    return board_of(found, [row for part in parts for row in part], 'toy.py', 20, {'Mixup': 1.5})


def of(board, policy):
    return next(standing for standing in board.standings if standing.policy == policy)


def cells(text, policy):
    """The cells of a policy in Markdown by their heads."""
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line[:1] == '|']
    return dict(zip(lines[0], next(line for line in lines if line[0] == policy), strict=True))


VANILLA = rows('vanilla', {0: 80.0, 1: 90.0, 2: 85.0}, seconds=10)
TWO = {'vanilla': 50.0, 'mixup': 60.0, 'cutmix': 55.0, 'fmix': 1.0}
THREE = {'vanilla': 50.0, 'mixup': 60.0, 'cutmix': 65.0}


def test_gains_are_paired_over_the_shared_seeds():
    """Mixup shares seed 1 alone: 91 - 90, though its mean is 6 above that of vanilla."""
    found = board(
        VANILLA, rows('mixup', {1: 91.0}), rows('cutmix', {0: 80.4, 1: 90.6, 2: 85.8}), rows('fmix', {7: 99.0})
    )
    assert [standing.policy for standing in found.standings] == ['mixup', 'cutmix', 'vanilla', 'fmix', 'gridmix']
    mixup, cutmix = of(found, 'mixup'), of(found, 'cutmix')
    assert (mixup.gain.mean, mixup.gain.n, mixup.gain_p, mixup.verdict) == (1.0, 1, None, 'one seed')
    assert (cutmix.gain.mean, cutmix.gain.n) == (pytest.approx(0.6), 3)
    # mean 0.6, standard deviation 0.2: t = 0.6 / (0.2 / sqrt 3) = 5.196, whose two-sided tail of 2 degrees is 0.0351
    assert cutmix.gain_p == pytest.approx(0.0351, abs=1e-4)
    assert cutmix.verdict == 'better'
    assert [of(found, name).verdict for name in ('vanilla', 'fmix', 'gridmix')] == [
        'reference',
        'no shared seed',
        'not run',
    ]
    text = board_report([found])
    assert cells(text, 'mixup')['to vanilla'] == '+1.00'
    assert cells(text, 'cutmix')['to vanilla'] == '+0.60 ± 0.20'
    assert cells(text, 'cutmix')['p'] == '0.035'
    assert cells(text, 'vanilla')['to vanilla'] == 'reference'
    assert cells(text, 'fmix')['to vanilla'] == '–'
    assert cells(text, 'gridmix')['last epoch'] == 'not run'
    assert 'cannot go below 0.25 and so supports no statement. Policies of one seed have no p.' in text


def test_the_number_of_shared_seeds_is_said_where_it_is_another():
    found = board(VANILLA, rows('mixup', {0: 81.0, 1: 92.0, 5: 10.0}))
    assert cells(board_report([found]), 'mixup')['to vanilla'] == '+1.50 ± 0.71 (n 2)'


def test_p_values_are_corrected_for_all_policies():
    cutmix = {0: 80.4, 1: 90.6, 2: 85.8}
    alone = board(VANILLA, rows('cutmix', cutmix))
    found = board(VANILLA, rows('cutmix', cutmix), rows('mixup', {0: 83.0, 1: 89.0, 2: 85.0}))
    assert of(found, 'cutmix').gain_p == pytest.approx(2 * of(alone, 'cutmix').gain_p)
    assert of(found, 'cutmix').verdict == 'not told apart'


def test_a_table_without_vanilla_has_no_gains_and_goes_by_the_mean():
    found = board(rows('mixup', {0: 70.0}), rows('cutmix', {0: 75.0, 1: 76.0}))
    assert [standing.policy for standing in found.standings][:2] == ['cutmix', 'mixup']
    assert found.reference is None
    assert 'reference' not in board_report([found])


def test_seconds_are_compared_on_the_same_hardware_only():
    found = board(
        VANILLA,
        rows('mixup', {0: 80.0, 1: 81.0}, seconds=15, memory=100) + rows('mixup', {2: 82.0}, seconds=4, hardware='GPU'),
        rows('cutmix', {0: 80.0}, seconds=2, hardware='GPU'),
    )
    first, second = of(found, 'mixup').costs
    assert tuple(first) == ('CPU', 2, 15.0, 1.5, 100.0, None, None)
    assert tuple(second) == ('GPU', 1, 4.0, None, None, None, None)
    text = board_report([found])
    assert cells(text, 'mixup')['time'] == '15 s, 1.50× (n 2)'
    assert cells(text, 'mixup')['FLOPs'] == '1.50×'
    assert cells(text, 'mixup')['memory'] == '100 MB'
    assert cells(text, 'mixup')['hardware'] == 'CPU, GPU'
    assert cells(text, 'cutmix')['time'] == '2 s'
    assert cells(text, 'cutmix')['FLOPs'] == '–'


def test_energy_is_compared_on_the_same_hardware_and_shown_where_a_row_has_it():
    found = board(
        rows('vanilla', {0: 80.0, 1: 81.0}, energy=20),
        rows('mixup', {0: 80.0}, energy=25) + rows('mixup', {1: 80.0}, energy=35),
        rows('cutmix', {0: 80.0}, energy=7, hardware='GPU'),
        rows('fmix', {0: 80.0}),
    )
    text = board_report([found])
    assert [cells(text, name)['energy'] for name in ('vanilla', 'mixup', 'cutmix', 'fmix', 'gridmix')] == [
        '20 Wh, 1.00×', '30 Wh, 1.50×', '7 Wh', '–', '–'
    ]  # fmt: skip
    assert 'energy' not in cells(board_report([board(VANILLA)]), 'vanilla')
    html = leaderboard(found, ['CPU', 'GPU'])
    assert 'data-value="30.0">30</td>' in html
    assert 'data-value="1.5">1.50</td>' in html
    assert 'Wh' not in leaderboard(board(VANILLA), ['CPU'])


def test_unknown_hardware_is_not_the_same_hardware():
    unknown = rows('vanilla', {0: 80.0}, seconds=10, hardware=''), rows('mixup', {0: 81.0}, seconds=40, hardware='')
    (cost,) = of(board(*unknown), 'mixup').costs
    assert cost.seconds == 40.0
    assert cost.ratio is None


@pytest.mark.parametrize(('kind', 'difference'), [('last', '+1.00'), ('median10', '+0.50'), ('best', '+2.00')])
def test_claims_are_compared_with_a_score_of_their_kind(kind, difference):
    found = board(VANILLA, published={'vanilla': (84.0, 'a page'), 'fmix': (70.0, 'a page')}, published_score=kind)
    text = board_report([found])
    assert (cells(text, 'vanilla')['claimed by others'], cells(text, 'vanilla')['to claim']) == (
        '84.00 [1]',
        difference,
    )
    assert (cells(text, 'fmix')['claimed by others'], cells(text, 'fmix')['to claim']) == ('70.00 [1]', '–')
    assert '[1] Claimed by others, not measured here: a page.' in text
    named = {'last': 'the last epoch', 'median10': 'the median of the last ten', 'best': 'the best epoch'}[kind]
    assert f'"To claim" compares {named} here with figures that others claim.' in text


def test_a_trial_is_compared_with_no_claim():
    table = Table(Path('toy.py'), 'toy.py', POLICIES, published={'vanilla': (84.0, 'a page')})
    assert '84.00' not in board_report([board_of(table, VANILLA, 'toy.py', 20, trial=True)])


def test_groups_join_policies_that_no_test_parts():
    """Mixup and CutMix are 5 points above vanilla within 0.02; 0.001 between them is spread."""
    seeds = {0: 80.0, 1: 84.0, 2: 88.0, 3: 82.0}
    shifted = {0: (5.01, 5.02), 1: (5.0, 5.01), 2: (5.02, 4.98), 3: (5.0, 5.01)}
    found = board(
        rows('vanilla', seeds),
        rows('mixup', {seed: seeds[seed] + both[0] for seed, both in shifted.items()}),
        rows('cutmix', {seed: seeds[seed] + both[1] for seed, both in shifted.items()}),
        rows('fmix', {0: 99.0}),
        seeds=(0, 1, 2, 3),
    )
    assert [standing.policy for standing in found.tested] == ['mixup', 'cutmix', 'vanilla']
    assert found.pairs_apart == {('mixup', 'vanilla'), ('cutmix', 'vanilla')}
    assert found.groups == [(0, 1)]
    assert board_data(found, [], ['CPU'])['groups'] == [(0, 1)]


def test_ranks_over_tables():
    """Mixup is first, first and second; FMix lacks the third table; seeds that not all share do not count."""
    tables = [
        board(VANILLA, rows('mixup', {0: 85.0, 1: 91.0}), rows('cutmix', {0: 85.0, 1: 90.0, 2: 0.0}), name='one'),
        board(*(rows(p, {0: top1}) for p, top1 in TWO.items()), name='two'),
        board(*(rows(p, {0: top1}) for p, top1 in THREE.items()), name='three'),
    ]
    ranking = rank_over(tables)
    assert ranking.boards == ('one', 'two', 'three')
    assert ranking.seeds == (2, 1, 1)
    assert [(one.policy, one.ranks) for one in ranking.ranked] == [
        ('mixup', (1.0, 1.0, 2.0)), ('cutmix', (2.0, 2.0, 1.0)), ('vanilla', (3.0, 3.0, 3.0)),
    ]  # fmt: skip
    assert ranking.missing == {'fmix': 1}
    assert ranking.groups == ((0, 2),)
    text = ranking_markdown(ranking)
    assert '| mixup | 1.33 | 1 | 1 | 2 |' in text
    assert 'one (2), two (1), three (1). With 3 tables the exact sign-flip test cannot go below 0.25' in text
    assert 'fmix (1)' in text
    data = ranking_data(ranking, tables)
    assert data['means']['vanilla'] == [85.0, 50.0, 50.0]
    assert 'fmix' not in data['means'], 'one table is no shape'
    assert data['ranges'][2] == [50.0, 65.0]


def test_ten_tables_can_tell_policies_apart():
    tables = [
        board(
            rows('vanilla', {0: 50.0 + k}),
            rows('mixup', {0: 60.0 + k * k}),
            rows('cutmix', {0: 60.0 + k * k + (-1) ** k}),
            name=f'table{k}',
        )
        for k in range(10)
    ]
    ranking = rank_over(tables)
    assert ranking.ranked[-1].policy == 'vanilla'
    assert ranking.groups == ((0, 1),)  # 2 / 2**10 for the pairs with vanilla, times 3
    assert 'Not told apart (exact sign-flip test over the tables, corrected by Holm): ' in ranking_markdown(ranking)


def test_lengths_of_one_table_are_no_independent_evidence():
    lengths = [board(rows('vanilla', {0: 50.0 + k}), rows('mixup', {0: 60.0 + k})) for k in range(10)]
    ranking = rank_over(lengths)
    assert (ranking.tables, ranking.least_p, ranking.groups) == (1, None, ((0, 1),))
    assert 'Over 10 lengths of training in 1 table, with' in ranking_markdown(ranking)


def test_tables_that_share_no_policies_are_not_ranked():
    ranking = rank_over([board(VANILLA), board(rows('mixup', {0: 1.0}))])
    assert ranking.ranked == ()
    assert 'two policies or more must have results of the same seeds' in ranking_markdown(ranking)


def test_the_front_is_what_nothing_beats():
    points = [(1.0, 80.0), (2.0, 85.0), (2.0, 84.0), (3.0, 85.0), (4.0, 90.0), (4.0, 90.0)]
    assert pareto_front(points) == {0, 1, 4, 5}
    assert pareto_front([]) == set()


def test_a_band_spans_the_seeds_at_the_epochs_that_all_have():
    found = band([[[1, 2, 3], [1.0, 2.0, 3.0]], [[2, 3], [4.0, 3.0]]])
    assert found == {'n': 2, 'epoch': [2, 3], 'mean': [3.0, 3.0], 'low': [2.0, 3.0], 'high': [4.0, 3.0]}
    assert band([]) is None
    assert band([[[1], [1.0]], [[2], [1.0]]]) is None


def test_costs_that_are_none_are_refused(tmp_path):
    path = tmp_path / 'costs.json'
    assert read_flops(path) == {}
    path.write_text(json.dumps({'Mixup': {'flops': 1.25}, 'CMixup': None}))
    assert read_flops(path) == {'Mixup': 1.25}
    for text in ('[1]', '{"Mixup": 3}', 'no json'):
        path.write_text(text)
        with pytest.raises(InputError, match='make docs writes it'):
            read_flops(path)
