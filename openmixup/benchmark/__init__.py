"""Benchmark tables: policies x seeds on one recipe, their runs and their results."""

from openmixup.benchmark.leaf_files import check_leaves, refuse_clashes, write_leaves
from openmixup.benchmark.leaves import Leaf, leaves_of, recipe_name
from openmixup.benchmark.report import report
from openmixup.benchmark.results import COLUMNS, SETTINGS_VERSION, append_row, read_rows, row_of, same_config
from openmixup.benchmark.runs import Run, missing_runs, planned_runs
from openmixup.benchmark.sweep import Sweep
from openmixup.benchmark.table import Table
from openmixup.benchmark.table_files import find_tables, load_table

__all__ = [
    'COLUMNS', 'SETTINGS_VERSION', 'Leaf', 'Run', 'Sweep', 'Table', 'append_row', 'check_leaves', 'find_tables',
    'leaves_of', 'load_table', 'missing_runs', 'planned_runs', 'read_rows', 'recipe_name', 'refuse_clashes', 'report',
    'row_of', 'same_config', 'write_leaves',
]  # fmt: skip
