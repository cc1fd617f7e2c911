"""How far each run of a table is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from openmixup.benchmark.outcome import trained_elsewhere
from openmixup.benchmark.runs import Run

__all__ = ['states_of', 'status']

_ORDER = ('done', 'running', 'queued', 'finished', 'failed', 'begun', 'not begun')


def states_of(runs: Iterable[Run], missing: Collection[Run], queued: Collection[str] = ()) -> list[tuple[Run, str]]:
    """Each run with done, running, queued, finished (its row is still to be collected), failed, begun or not begun.

    Args:
        runs: the runs.
        missing: those without a row.
        queued: names of the work folders of those that Slurm has in its queue.
    """
    without_row = {run.key for run in missing}
    return [(run, _state(run, without_row, queued)) for run in runs]


def _state(run: Run, without_row: Collection[tuple], queued: Collection[str]) -> str:
    if run.key not in without_row:
        return 'done'
    if trained_elsewhere(run):
        return 'running'
    if run.row in queued:
        return 'queued'
    if run.summary() is not None:
        return 'finished'
    if run.failure.is_file():
        return 'failed'
    return 'begun' if run.begun else 'not begun'


def status(states: Sequence[tuple[Run, str]]) -> str:
    """Lines for a person: how many runs are in which state, and those that go on or have failed by name."""
    counts = Counter(state for _, state in states)
    lines = [f'{len(states)} runs: ' + ', '.join(f'{counts[state]} {state}' for state in _ORDER if counts[state])]
    for run, state in states:
        if state == 'running':
            share = run.share
            lines.append(f'  running: {run.name}' + (f', {share:.0%}' if share is not None else ''))
    for run, state in states:
        if state == 'failed':
            reason = run.failure.read_text(encoding='utf-8', errors='replace').partition('\n')[0]
            lines.append(f'  failed: {run.name}: {reason}; see {run.failure}')
    return '\n'.join(lines)
