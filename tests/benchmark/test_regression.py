"""Tables of regressions: an error is better the lower it is, everywhere."""

import csv
import dataclasses
from pathlib import Path

import pytest

from openmixup.benchmark import Table, append_row, read_rows, row_of
from openmixup.benchmark.leaves import recipe_numbers
from openmixup.benchmark.page_data import board_data, ranking_data
from openmixup.benchmark.page_table import leaderboard
from openmixup.benchmark.ranking import rank_over
from openmixup.benchmark.report import board_report, tables_allow
from openmixup.benchmark.reproduce import compare
from openmixup.benchmark.standings import board_of
from openmixup.errors import InputError
from openmixup.evaluation.headline import MAE, TOP1, headline_of
from tests.benchmark.conftest import result_row
from tests.benchmark.test_standings import cells, of

POLICIES = {name.lower(): {'type': name} for name in ('Vanilla', 'Mixup', 'CMixup')}
# errors by seed: mixup is worse by 0.1, 0.12 and 0.11, cmixup better by 0.1, 0.12 and 0.11
ERRORS = {'vanilla': (0.5, 0.52, 0.6), 'mixup': (0.6, 0.64, 0.71), 'cmixup': (0.4, 0.4, 0.49)}


def row(policy, seed, error, **more):
    summary = {
        'last': {'mae': error, 'rmse': 2 * error, 'mape': 50.0, 'loss': error**2}, 'best': {'mae': error - 0.01},
        'median_last10': {'mae': error + 0.01}, 'hardware': 'CPU', 'seconds': 10, **more,
    }  # fmt: skip
    return row_of(summary, 'toy', policy, seed, 20)


def board(name='toy', headline=MAE, rows=None, **table):
    found = Table(Path(f'{name}.py'), 'toy.py', POLICIES, seeds=(0, 1, 2), **table)
    made = [row(policy, seed, error) for policy, errors in ERRORS.items() for seed, error in enumerate(errors)]
    return board_of(found, made if rows is None else rows, 'toy.py', 20, headline=headline)


def test_the_lowest_error_is_the_best():
    found = board()
    assert [standing.policy for standing in found.standings] == ['cmixup', 'vanilla', 'mixup']
    assert [of(found, name).verdict for name in ('cmixup', 'vanilla', 'mixup')] == ['better', 'reference', 'worse']
    assert of(found, 'cmixup').gain.mean == pytest.approx(0.11)
    assert of(found, 'mixup').gain.mean == pytest.approx(-0.11)
    assert [standing.policy for standing in found.tested] == ['cmixup', 'vanilla', 'mixup']
    assert found.groups == []


def test_a_claim_is_compared_with_the_metric_that_it_is_of():
    """Our RMSE is 0.86 on average, 0.04 below 0.9; our MAE 0.43."""
    claim = {'cmixup': (0.9, 'a paper')}
    for score, said in {'rmse': '+0.0400', 'last': '+0.4700', 'best': '+0.4800', 'median10': '+0.4600'}.items():
        text = board_report([board(published=claim, published_score=score)])
        assert cells(text, 'cmixup')['to claim'] == said
    assert cells(text, 'cmixup')['claimed by others'] == '0.9000 [1]'


def test_the_report_tells_the_metric_and_its_direction():
    text = board_report([board()])
    assert 'Mean absolute error (MAE), lower is better, mean ± standard' in text
    found = cells(text, 'cmixup')
    assert found['last epoch'].startswith('0.4300 ± 0.05')
    assert found['to vanilla'] == '+0.1100 ± 0.0100'
    assert (found['RMSE'][:6], found['MAPE']) == ('0.8600', '50.00 ± 0.00')
    classes = board(headline=TOP1, rows=[result_row()])
    assert not {'RMSE', 'MAPE'} & set(cells(board_report([classes]), 'vanilla'))
    html = leaderboard(board(), ['CPU'])
    head = html[html.index('class="last') :][:300]
    assert 'data-first="ascending"' in head.partition('</th>')[0]
    assert 'Mean absolute error (MAE), lower is better' in html
    assert 'RMSE' in html
    assert 'ECE' not in html
    assert 'class="bar better"' in html.partition('<tbody>')[2].partition('</tr>')[0], 'cmixup is first'


def test_plots_put_less_error_in_front():
    data = board_data(board(), [], ['CPU'])
    assert data['headline'] == {'label': 'MAE', 'unit': '', 'step': 'MAE', 'digits': 4}
    assert {point['policy']: point['front'] for point in data['costs']['seconds']} == {
        'cmixup': True, 'vanilla': False, 'mixup': False,
    }  # fmt: skip
    gains = {standing['policy']: standing['gains'] for standing in data['standings']}
    assert gains['cmixup'] == pytest.approx([0.1, 0.12, 0.11])


def test_ranks_hold_over_both_kinds_and_no_test_adds_points_to_errors():
    points = [result_row(policy, seed, 90.0 - 10 * k) for k, policy in enumerate(ERRORS) for seed in range(3)]
    both = [board(), board('other', TOP1, points)]
    ranking = rank_over(both)
    assert {one.policy: one.ranks for one in ranking.ranked} == {
        'cmixup': (1.0, 3.0), 'vanilla': (2.0, 1.0), 'mixup': (3.0, 2.0),
    }  # fmt: skip
    assert 'cannot be added up' in tables_allow(ranking)
    assert ranking.groups == ()
    ranges = ranking_data(ranking, both)['ranges']
    assert ranges[0] == pytest.approx([0.65, 0.43])  # worst first
    assert ranges[1] == [70.0, 90.0]
    assert not rank_over([board(), board('third')]).alike, 'errors of two targets have two units'
    accuracies = [board(name, TOP1, points) for name in ('one', 'other')]
    assert rank_over(accuracies).alike


def test_claims_of_an_error_need_a_regression():
    table = dataclasses.replace(board().table, published_score='rmse')
    with pytest.raises(InputError, match="published_score='rmse', but r.py is no regression"):
        board_of(table, [], 'r.py', 3)


def test_the_page_says_which_way_round_a_difference_of_errors_is():
    accuracies = board('other', TOP1, [result_row('vanilla', 0, 90.0)])
    errors = leaderboard(board(), ['CPU'])
    points = leaderboard(accuracies, [row['hardware'] for row in accuracies.standings[0].rows])
    assert 'How much smaller the error is' in errors
    assert 'Difference in the last epoch' in points


def test_rows_of_both_kinds_and_of_earlier_files(tmp_path):
    path = tmp_path / 'r.csv'
    old = {name: value for name, value in result_row().items() if 'ma' not in name and name != 'rmse_last'}
    with open(path, 'w', newline='') as stream:
        writer = csv.DictWriter(stream, old)
        writer.writeheader()
        writer.writerow(old)
    assert append_row(path, row('cmixup', 1, 0.25))
    first, second = read_rows(path)
    assert (first['top1_last'], first['mae_last']) == ('88.0', '')
    names = ('top1_last', 'mae_last', 'mae_median10', 'mae_best', 'rmse_last', 'mape_last')
    assert [second[name] for name in names] == ['', '0.25', '0.26', '0.24', '0.5', '50.0']
    with pytest.raises(KeyError, match='top1'):
        row_of({'last': {'loss': 1.0}}, 'toy', 'mixup', 0, 20)
    text, difference = compare(second, row('cmixup', 1, 0.125), [second])
    assert difference == -0.125
    assert 'MAE in the last epoch: 0.25 in the table, 0.125 now (-0.125)' in text
    assert 'median of the last ten: 0.26 in the table' in text
    text, _ = compare(second, row('cmixup', 1, 0.125), [second, row('cmixup', 2, 0.252)])
    assert 'the standard deviation over 2 seeds is 0.0014 MAE' in text
    with pytest.raises(InputError, match='no headline figure in common'):
        compare(second, result_row('cmixup', 1, 90.0), [second])


def test_the_metric_comes_from_the_evaluator():
    assert headline_of([{'type': 'ClassificationMetric'}]) is TOP1
    assert headline_of({'type': 'RegressionMetric'}) is MAE


def test_a_regression_is_trained_and_collected(toy, capsys):
    recipe = toy.path / 'configs/toy/resnet8_1xb4-20e_digits.py'
    recipe.write_text(recipe.read_text() + "val_evaluator = [dict(type='RegressionMetric')]\n")
    trainer = toy.path / 'trainer.py'
    trainer.write_text(trainer.read_text().replace("'top1':", "'mae':"))
    recipe_numbers.cache_clear()
    try:
        toy.write_leaves()
        assert toy.main('run', 'toy', '--seeds', '0') == 0
        assert 'MAE 88 in the last epoch' in capsys.readouterr().out
        assert [read['mae_last'] for read in read_rows(toy.results)] == ['88.0', '90.0']
        assert toy.main('report', 'toy') == 0
        assert cells(capsys.readouterr().out, 'mixup')['to vanilla'] == '-2.0000'
    finally:
        recipe_numbers.cache_clear()
