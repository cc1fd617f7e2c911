"""A table as data: one recipe, the policies that are compared on it, and the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ['Table']


@dataclass(frozen=True)
class Table:
    """What ``benchmarks/<name>.py`` says.

    Attributes:
        path: the file.
        recipe: path of the recipe below configs/, with ``{epochs}`` in it if the epochs vary.
        policies: arguments of each policy by the name that leaves and results give it.
        seeds: seeds of the runs of each policy.
        published: policy -> (top-1 in percent or error, where it is published), or policy -> {epochs: (score, where)}.
        vary: ``dict(epochs=(200, 400))``, or empty.
        published_score: which score of ours the published figures are compared with: ``'last'`` epoch, ``'median10'``
            of the last ten, or ``'best'``, chosen on the test set as they were; of a regression also ``'rmse'`` or
            ``'mape'`` in the last epoch.
        notes: policy -> one sentence about its row, such as why it is behind vanilla.
    """

    path: Path
    recipe: str
    policies: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0,)
    published: Mapping[str, Any] = field(default_factory=dict)
    vary: Mapping[str, tuple] = field(default_factory=dict)
    published_score: str = 'last'
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem

    @property
    def recipes(self) -> tuple[str, ...]:
        """The recipes below configs/, one for each number of epochs."""
        if not self.vary:
            return (self.recipe,)
        return tuple(self.recipe.replace('{epochs}', str(epochs)) for epochs in self.vary['epochs'])

    def published_for(self, policy: str, epochs: int) -> tuple[float, str] | None:
        """The published score and its place, or None."""
        known = self.published.get(policy)
        return known.get(epochs) if isinstance(known, Mapping) else known
