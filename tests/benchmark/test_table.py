"""What a table may hold, and the sentence for what it may not."""

import re

import pytest

from openmixup.benchmark import find_tables, load_table
from openmixup.cli import make_configs
from openmixup.errors import InputError

TABLE = {
    'recipe': "'toy/resnet8_1xb4-20e_digits.py'",
    'policies': "dict(vanilla=dict(type='Vanilla'), mixup=dict(type='Mixup', alpha=1.0))",
}


@pytest.fixture
def write(tmp_path):
    """Writes a table with some of its assignments replaced, and gives its path."""

    def made(name='mine', **changes):
        path = tmp_path / f'{name}.py'
        path.write_text(''.join(f'{key} = {value}\n' for key, value in (TABLE | changes).items()))
        return path

    return made


def refused(path):
    """What is said, which must be one line that begins with the file."""
    with pytest.raises(InputError) as caught:
        load_table(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert '\n' not in said
    return said


@pytest.mark.parametrize(
    'name', ['mixup', 'mixup-a02', 'mixup-a0.2', 'mixup-Beta', 'mixup-a1-deit', 'vanilla', 'vanilla-2']
)
def test_plain_names_are_taken(write, name):
    kind = {'mixup': 'Mixup', 'vanilla': 'Vanilla'}[name.split('-')[0]]
    table = load_table(write(policies=f"{{'{name}': dict(type='{kind}')}}"))
    assert list(table.policies) == [name]


@pytest.mark.parametrize(
    'name',
    [
        'mixup-a/b', 'mixup-/../../../x', 'mixup-a|b', 'mixup-', 'mixup--a', 'mixup-a b', 'mixup-a_b', 'mixup-a\\n',
        'mixup-ä', 'Mixup', '',
    ],
)  # fmt: skip
def test_other_names_are_refused(write, name):
    said = refused(write(policies=f"{{'{name}': dict(type='Mixup')}}"))
    assert f'the policy {name!r}'.replace('\\\\', '\\') in said
    assert 'letters, digits and dots' in said


@pytest.mark.parametrize(
    ('policies', 'part'),
    [
        ("'x'", "policies='x'"),
        ("[dict(type='Mixup')]", "policies=[{'type': 'Mixup'}]"),
        ('{}', 'policies={}'),
        ('None', 'policies=None'),
        ("{3: dict(type='Mixup')}", 'the policy 3 '),
        ("{None: dict(type='Mixup')}", 'the policy None '),
        ("dict(mixup='Mixup')", "the policy 'mixup' is 'Mixup'"),
        ('dict(mixup=dict(alpha=1.0))', "the policy 'mixup' is {'alpha': 1.0}"),
        ('dict(mixup=dict(type=3))', "the policy 'mixup' is {'type': 3}"),
        ("dict(cutmix=dict(type='Mixup'))", "the policy 'cutmix' is {'type': 'Mixup'}"),
        ("dict(mixup=dict(type='Mixup', alpha=float('inf')))", "the policy 'mixup' has alpha=inf"),
        ("dict(mixup=dict(type='Mixup', alpha=print))", "the policy 'mixup' has alpha=<built-in"),
        ("dict(mixup=dict(type='Mixup', more=[dict(a={1})]))", "the policy 'mixup' has more=[{'a': {1}}]"),
        ("dict(mixup=dict(type='Mixup', more={(1,): 2}))", "the policy 'mixup' has more={(1,): 2}"),
        ("dict(mixup=dict(type='Mixup', alpha=__import__('numpy').float64(0.5)))", "the policy 'mixup' has alpha="),
    ],
)
def test_policies_that_are_none(write, policies, part):
    assert part in refused(write(policies=policies))


@pytest.mark.parametrize('seeds', ['(0,)', '(2, 0, 1)', '[0, 1]', 'range(3)'])
def test_seeds_are_whole_numbers(write, seeds):
    assert list(load_table(write(seeds=seeds)).seeds) == list(eval(seeds))


@pytest.mark.parametrize(
    'seeds', ["('a',)", '(-1,)', '(0.5,)', '(True,)', '(0, 0)', '(0, 1, 0)', '()', '3', "'0'", 'None', '{0: 1}']
)
def test_other_seeds_are_refused(write, seeds):
    assert f'seeds={eval(seeds)!r}' in refused(write(seeds=seeds))


def test_published_figures_are_read(write):
    assert load_table(write(published="dict(mixup=(90.5, 'page'))")).published_for('mixup', 20) == (90.5, 'page')
    recipe, vary = "'toy/resnet8_1xb4-{epochs}e_digits.py'", 'dict(epochs=(20, 40))'
    table = load_table(write(recipe=recipe, vary=vary, published="dict(mixup={40: (90, 'page')})"))
    assert table.published_for('mixup', 40) == (90, 'page')
    assert table.published_for('mixup', 20) is None
    assert table.recipes == ('toy/resnet8_1xb4-20e_digits.py', 'toy/resnet8_1xb4-40e_digits.py')


@pytest.mark.parametrize(
    ('published', 'part'),
    [
        ('3', 'published=3'),
        ("['mixup']", "published=['mixup']"),
        ('dict(mixup=90.5)', "published has 90.5 for 'mixup'"),
        ("dict(mixup=('90.5', 'page'))", "published has ('90.5', 'page') for 'mixup'"),
        ('dict(mixup=(90.5,))', "published has (90.5,) for 'mixup'"),
        ("dict(mixup=(90.5, ''))", "published has (90.5, '') for 'mixup'"),
        ('dict(mixup=(90.5, 3))', "published has (90.5, 3) for 'mixup'"),
        ("dict(mixup=(float('nan'), 'page'))", "published has (nan, 'page') for 'mixup'"),
        ("dict(mixup=(-1.0, 'page'))", "published has (-1.0, 'page') for 'mixup'"),
        ("dict(mixup='ab')", "published has 'ab' for 'mixup'"),
        ('dict(mixup={})', "published has {} for 'mixup'"),
        ("dict(mixup={'20': (90.5, 'page')})", "published has {'20': (90.5, 'page')} for 'mixup'"),
        ('dict(mixup={20: 90.5})', "published has {20: 90.5} for 'mixup'"),
        ("dict(mixap=(90.5, 'page'))", "published names 'mixap'; did you mean 'mixup'?"),
        ("{3: (90.5, 'page')}", 'published names 3'),
    ],
)
def test_published_figures_that_are_none(write, published, part):
    assert part in refused(write(published=published))


def test_published_figures_of_a_length_that_the_table_lacks(write):
    recipe, vary = "'toy/resnet8_1xb4-{epochs}e_digits.py'", 'dict(epochs=(20, 40))'
    said = refused(write(recipe=recipe, vary=vary, published="dict(mixup={20: (90.5, 'a'), 30: (91.5, 'a')})"))
    assert "published has a figure of 30 epochs for 'mixup'" in said
    assert '20, 40' in said


@pytest.mark.parametrize(
    ('changes', 'part'),
    [
        ({'notes': '3'}, 'notes=3'),
        ({'notes': 'dict(mixup=3)'}, "notes has 3 for 'mixup'"),
        ({'notes': "dict(mixup='')"}, "notes has '' for 'mixup'"),
        ({'vary': '3'}, 'vary=3'),
        ({'vary': "'epochs'"}, "vary='epochs'"),
        ({'vary': 'dict(epochs=20)'}, "vary={'epochs': 20}"),
        ({'vary': "dict(epochs=('20',))"}, "vary={'epochs': ('20',)}"),
        ({'vary': 'dict(epochs=(20, 20))'}, "vary={'epochs': (20, 20)}"),
        ({'vary': 'dict(epochs=(0,))'}, "vary={'epochs': (0,)}"),
        ({'vary': 'dict(seeds=(0,))'}, "vary={'seeds': (0,)}"),
        ({'vary': 'dict(epochs=())'}, "vary={'epochs': ()}"),
        ({'published_score': '[]'}, 'published_score=[]'),
        ({'recipe': '3'}, 'recipe=3'),
        ({'recipe': "'toy/{epochs}.py'"}, "recipe='toy/{epochs}.py'"),
        ({'recipe': "'../resnet8_1xb4-20e_digits.py'"}, "recipe='../resnet8"),
        ({'recipe': "'toy/../../x.py'"}, "recipe='toy/../../x.py'"),
        ({'recipe': "'/toy/x.py'"}, "recipe='/toy/x.py'"),
    ],
)
def test_other_keys_of_a_wrong_kind(write, changes, part):
    if 'vary' in changes:
        changes = changes | {'recipe': "'toy/resnet8_1xb4-{epochs}e_digits.py'"}
    assert part in refused(write(**changes))


def test_braces_in_a_recipe_are_no_fields(write):
    table = load_table(write(recipe="'toy/{x}{epochs}.py'", vary='dict(epochs=(20,))'))
    assert table.recipes == ('toy/{x}20.py',)


@pytest.mark.parametrize(
    ('seeds', 'place', 'part'),
    [
        ('(0,', 'line 3', "'(' was never closed"),
        ('nosuch', 'line 3', "NameError: name 'nosuch' is not defined"),
        ('__import__("nosuchmodule")', 'line 3', "ModuleNotFoundError: No module named 'nosuchmodule'"),
        ('(0,)\nimport sys\n\nsys.exit(0)', 'line 6', 'SystemExit: 0'),
        ('(lambda: 1 / 0)()', 'line 3', 'ZeroDivisionError'),
        ('(0,)\ndef _f():\n    return 1 / 0\n\n_f()', 'line 5', 'ZeroDivisionError'),
        ('(0,)\nraise ValueError("one\\ntwo")', 'line 4', 'ValueError: one'),
    ],
)
def test_a_file_that_does_not_run(write, seeds, place, part):
    said = refused(write(seeds=seeds))
    assert place in said
    assert part in said


@pytest.mark.parametrize('content', [b'recipe = "\xff"\npolicies = {}\n', b'recipe = "\x00"\npolicies = {}\n'])
def test_a_file_that_is_no_text(tmp_path, content):
    path = tmp_path / 'mine.py'
    path.write_bytes(content)
    assert 'cannot be read' in refused(path)
    with pytest.raises(InputError, match=f'^{re.escape(str(path))} cannot be read'):
        find_tables(tmp_path)


def test_a_broken_file_is_refused_by_the_tool_that_reads_all(write, tmp_path):
    write(seeds='(0,')
    with pytest.raises(InputError, match='line 3'):
        make_configs.main([f'--benchmarks={tmp_path}', f'--configs={tmp_path}'])


def test_tables_are_found_by_what_they_assign(write, tmp_path):
    write('b')
    (tmp_path / 'a.py').write_text("recipe: str = 'x.py'\npolicies: dict = {}\n")
    (tmp_path / 'c.py').write_text("recipe, policies = 'x.py', {}\n")
    (tmp_path / 'd.py').write_text("recipe = 'x.py'\n")
    (tmp_path / 'f.py').write_text("recipe = 'x.py'\nx = {}\nx[policies] = 3\n")
    (tmp_path / 'e.py').write_text('def f():\n    recipe = policies = 3\n')
    assert [path.stem for path in find_tables(tmp_path)] == ['a', 'b', 'c']


def test_an_unknown_table_is_one_short_line(write, tmp_path):
    for number in range(60):
        write(f'cifar100_resnet{number}')
    with pytest.raises(InputError) as caught:
        load_table('cifar100_resnet7x', tmp_path)
    said = str(caught.value)
    assert said.startswith(f'there is no table {tmp_path}/cifar100_resnet7x.py; did you mean ')
    assert f'{tmp_path} holds 60' in said
    assert len(said) < 100 + 2 * len(str(tmp_path))
    with pytest.raises(InputError, match=r'holds 60 tables, such as cifar100_resnet0, ') as caught:
        load_table('zzz', tmp_path)
    assert 'did you mean' not in str(caught.value)


def test_few_tables_are_all_named(write, tmp_path):
    write('one')
    write('two')
    with pytest.raises(InputError, match='holds one, two'):
        load_table('zzz', tmp_path)
    with pytest.raises(InputError, match=r'nowhere holds none: .*--benchmarks'):
        load_table('zzz', tmp_path / 'nowhere')


def test_a_broken_neighbour_hides_no_misspelt_name(write, tmp_path):
    write('one')
    write('two', seeds='(0,')
    with pytest.raises(InputError, match="did you mean 'one'"):
        load_table('onee', tmp_path)
