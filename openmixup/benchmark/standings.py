"""Where the policies of a table stand: scores, gains over shared seeds, costs, and the figures that others claim."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from openmixup.benchmark.leaves import recipe_numbers
from openmixup.benchmark.results import SETTINGS_VERSION, key_of
from openmixup.benchmark.scores import REFERENCE, Rows, current_rows, gain, mean_of, numbers, scores_by_seed
from openmixup.benchmark.significance import LEVEL, Comparison, groups, holm
from openmixup.benchmark.table import Table
from openmixup.errors import InputError
from openmixup.evaluation.headline import TOP1, Headline

__all__ = ['Board', 'Cost', 'Standing', 'board_of', 'boards']


class Cost(NamedTuple):
    """What the runs on one kind of hardware took, on average.

    Attributes:
        hardware: as the rows say.
        n: number of runs.
        seconds: of training; None if no row tells.
        ratio: of the seconds to those of vanilla on the same hardware; None without such runs.
        memory: peak in MB; None if no row tells.
        energy: watt hours of its GPUs; None if no row tells.
        energy_ratio: of the energy to that of vanilla on the same hardware; None where one of them is not known.
    """

    hardware: str
    n: int
    seconds: float | None
    ratio: float | None
    memory: float | None
    energy: float | None = None
    energy_ratio: float | None = None


@dataclass(frozen=True)
class Standing:
    """One policy of a table.

    Attributes:
        policy: its name there.
        rows: its results, one for each seed.
        gain: paired difference to vanilla in the last epoch, above 0 if better; None for vanilla itself and where no
            seed is shared.
        gain_p: p of the gain, corrected for all policies of the table; None where a test says nothing.
        published: score that others claim, and where; None if there is none.
        to_published: how much better our mean is, of the kind of score that is published.
        flops: operations of a step with the policy's defaults as a multiple of those of vanilla; None if not counted.
        costs: by hardware, that with most runs first.
        headline: the figure that it is judged by.
    """

    policy: str
    rows: tuple[Mapping[str, str], ...]
    gain: Comparison | None = None
    gain_p: float | None = None
    published: tuple[float, str] | None = None
    to_published: float | None = None
    flops: float | None = None
    costs: tuple[Cost, ...] = ()
    headline: Headline = TOP1

    @property
    def mean(self) -> float | None:
        """Mean headline figure of the last epoch; None if it was not run."""
        return mean_of(self.rows, self.headline.column('last'))

    @property
    def merit(self) -> float:
        """The mean, turned so that more is better."""
        return self.headline.sign * (self.mean or 0.0)

    @property
    def verdict(self) -> str:
        """What may be said of it against vanilla, in some words."""
        if self.policy == REFERENCE:
            return 'reference'
        if self.gain is None:
            return 'no shared seed' if self.rows else 'not run'
        if self.gain_p is None:
            return 'one seed' if self.gain.n < 2 else 'no spread'
        if self.gain_p >= LEVEL:
            return 'not told apart'
        return 'better' if self.gain.mean > 0 else 'worse'


@dataclass(frozen=True)
class Board:
    """A table at one length of training, its policies in the order of their gain.

    Attributes:
        table: the table.
        epochs: length of training.
        recipe: path below configs/.
        standings: best first, vanilla among them, what was not run last.
        others: rows of another config, which are left out.
        warnings: what makes seeds hard to compare.
        trial: the length is not that of the recipe.
        headline: the figure that the policies are judged by.
    """

    table: Table
    epochs: int
    recipe: str
    standings: tuple[Standing, ...]
    others: int = 0
    warnings: tuple[str, ...] = field(default=())
    trial: bool = False
    headline: Headline = TOP1

    @property
    def name(self) -> str:
        """Name of the table, with the length where it has several."""
        return f'{self.table.name}, {self.epochs} epochs' if self.table.vary or self.trial else self.table.name

    @property
    def reference(self) -> Standing | None:
        """Vanilla, if the table has it and it was run."""
        return next((standing for standing in self.standings if standing.policy == REFERENCE and standing.rows), None)

    @property
    def tells_energy(self) -> bool:
        """Whether any row has the energy of its run."""
        return any(row['energy_wh'] for standing in self.standings for row in standing.rows)

    @cached_property
    def tested(self) -> tuple[Standing, ...]:
        """The policies of two seeds or more by their mean, which are compared with each other."""
        enough = [standing for standing in self.standings if len(scores_by_seed(standing.rows, self.headline)) > 1]
        return tuple(sorted(enough, key=lambda standing: -standing.merit))

    @cached_property
    def pairs_apart(self) -> frozenset[tuple[str, str]]:
        """Pairs in the order of ``tested`` that t-tests part after Holm's correction for all pairs."""
        pairs = [
            (one.policy, other.policy, p)
            for one, other in itertools.combinations(self.tested, 2)
            if (p := _pair_p(one.rows, other.rows, self.headline)) is not None
        ]
        corrected = holm([p for *_, p in pairs])
        return frozenset((one, other) for (one, other, _), p in zip(pairs, corrected, strict=True) if p < LEVEL)

    @cached_property
    def groups(self) -> list[tuple[int, int]]:
        """First and last place in ``tested`` of neighbours of which no two are told apart."""
        names = [standing.policy for standing in self.tested]
        return groups(len(names), lambda one, other: (names[one], names[other]) in self.pairs_apart)


def _pair_p(rows: Rows, others: Rows, headline: Headline) -> float | None:
    found = gain(rows, others, headline)
    return found.t_p if found else None


def boards(
    table: Table,
    rows: Rows,
    configs: str | Path = 'configs',
    epochs: int | None = None,
    flops: Mapping[str, float] | None = None,
) -> list[Board]:
    """The standings of a table, one board for each length of training.

    Args:
        table: the table.
        rows: its results; those of another config than today's are only counted.
        configs: folder of the recipes.
        epochs: for the rows of a trial: their length.
        flops: FLOP ratio by the type of a policy.

    Raises:
        InputError: a leaf has not been written.
    """
    root = Path(configs)
    recipes = table.recipes if epochs is None else table.recipes[:1]
    current, others = current_rows(table, rows, configs, epochs)
    found = []
    for recipe in recipes:
        told = recipe_numbers(root / recipe)
        length = told['epochs'] if epochs is None else epochs
        found.append(board_of(table, current, recipe, length, flops, epochs is not None, told['headline']))
    return [replace(found[0], others=others), *found[1:]]  # said once


def board_of(
    table: Table,
    rows: Rows,
    recipe: str,
    epochs: int,
    flops: Mapping[str, float] | None = None,
    trial: bool = False,
    headline: Headline = TOP1,
) -> Board:
    """The standings of a table at one length of training.

    Args:
        table: the table.
        rows: its results with the configs of today.
        recipe: path below configs/.
        epochs: length of training.
        flops: FLOP ratio by the type of a policy.
        trial: the length is not that of the recipe: then no figure of others is compared.
        headline: the figure that the recipe evaluates.

    Raises:
        InputError: the claims are of a figure that the recipe does not have.
    """
    if headline.sign > 0 and table.published_score in ('rmse', 'mape'):
        raise InputError(
            f'{table.path}: published_score={table.published_score!r}, but {recipe} is no regression: choose last, '
            'median10 or best.'
        )
    own = {policy: _of(rows, policy, epochs) for policy in table.policies}
    claims = {} if trial else {policy: table.published_for(policy, epochs) for policy in own}
    standings = [_standing(table, policy, own, claims.get(policy), flops or {}, headline) for policy in own]
    warnings = tuple(text for policy, mine in own.items() if (text := _mixed_configs(policy, epochs, mine)))
    ordered = tuple(sorted(_corrected(standings), key=_order))
    return Board(table, epochs, recipe, ordered, 0, warnings, trial, headline)


def _of(rows: Rows, policy: str, epochs: int) -> tuple[Mapping[str, str], ...]:
    return tuple({key_of(row): row for row in rows if key_of(row)[:2] == (policy, epochs)}.values())


def _standing(
    table: Table,
    policy: str,
    own: Mapping[str, tuple[Mapping[str, str], ...]],
    published: tuple[float, str] | None,
    flops: Mapping[str, float],
    headline: Headline,
) -> Standing:
    rows, reference = own[policy], own.get(REFERENCE, ())
    measured = numbers(rows, headline.column(table.published_score))
    return Standing(
        policy,
        rows,
        gain=None if policy == REFERENCE else gain(rows, reference, headline),
        published=published,
        to_published=headline.sign * (statistics.fmean(measured) - published[0]) if published and measured else None,
        flops=flops.get(table.policies[policy]['type']),
        costs=_costs(rows, reference),
        headline=headline,
    )


def _costs(rows: Rows, reference: Rows) -> tuple[Cost, ...]:
    """Means by hardware: seconds of different machines say nothing about the policies."""
    found = []
    for hardware in dict.fromkeys(row['hardware'] for row in rows):
        mine, base = ([row for row in some if row['hardware'] == hardware] for some in (rows, reference))
        seconds, energy = mean_of(mine, 'seconds'), mean_of(mine, 'energy_wh')
        ratios = [
            own / vanilla if hardware and own is not None and vanilla else None
            for own, vanilla in ((seconds, mean_of(base, 'seconds')), (energy, mean_of(base, 'energy_wh')))
        ]
        found.append(Cost(hardware, len(mine), seconds, ratios[0], mean_of(mine, 'peak_memory_mb'), energy, ratios[1]))
    return tuple(sorted(found, key=lambda cost: -cost.n))


def _corrected(standings: Sequence[Standing]) -> list[Standing]:
    """With the p of the gains, corrected for their number."""
    tested = [s for s in standings if s.gain is not None and s.gain.t_p is not None]
    corrected = holm([s.gain.t_p for s in tested if s.gain is not None and s.gain.t_p is not None])
    p_values = {s.policy: p for s, p in zip(tested, corrected, strict=True)}
    return [replace(standing, gain_p=p_values.get(standing.policy)) for standing in standings]


def _order(standing: Standing) -> tuple[int, float]:
    """By the gain, vanilla at 0; then what has none by its mean; then what was not run."""
    if standing.gain is not None or (standing.policy == REFERENCE and standing.rows):
        return 0, -(standing.gain.mean if standing.gain else 0.0)
    return (1, -standing.merit) if standing.mean is not None else (2, 0.0)


def _mixed_configs(policy: str, epochs: int, rows: Rows) -> str:
    older = [row for row in rows if row['settings_version'] != str(SETTINGS_VERSION)]
    hashes = list(dict.fromkeys(row['config_hash'] for row in older if row['config_hash']))
    if len(hashes) < 2:
        return ''
    return f'Not comparable: the seeds of {policy}, {epochs} epochs, had different configs ({", ".join(hashes)}).'
