"""Columns that are compared together when patients are compared, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from graphssl.errors import ConfigError

Similarity = Literal["agreement", "euclidean", "sigmoid", "statistics", "cosine", "rbf"]
Scaling = Literal["none", "range", "standard"]


@dataclass(frozen=True)
class FeatureGroup:
    """Columns that are compared together, and how.

    | similarity | of two patients at the distance d (Euclidean, over what both have) |
    |---|---|
    | `agreement` | share of the columns whose values are equal, or within the column's tolerance |
    | `euclidean` | 1 − d / length |
    | `sigmoid` | 1 − sigmoid(d), at most ½ |
    | `statistics` | 1 − sigmoid(mean over features of the distance over the statistics of a feature) |
    | `cosine` | cosine of the angle between the values |
    | `rbf` | exp(−d² / (2 · length²)) |

    Args:
        name: Name of the group.
        columns: Names of the columns; for `statistics` a tuple of names for every feature, such as `("hr_mean", "hr_std", "hr_min", "hr_max")`.
        similarity: Form of the similarity.
        weight: Weight of the group in the mean over groups.
        tolerance: Largest difference that counts as agreement, by name of a column of numbers; other columns agree where they are equal.
        scaling: Units of the columns, learned from training patients: `"standard"` (standard deviations), `"range"` (from the smallest value to the
            largest) or `"none"`. Agreement has none.
        length: Distance at which `euclidean` reaches 0, or the length of `rbf`; when left out, the length of the ranges of all columns, or the root
            mean squared distance between training patients.

    Raises:
        ConfigError: If an argument is none of those that exist, or does not fit the similarity.
    """

    name: str
    columns: Sequence[str] | Sequence[Sequence[str]]
    similarity: Similarity
    weight: float = 1.0
    tolerance: Mapping[str, float] = field(default_factory=dict)
    scaling: Scaling = "standard"
    length: float | None = None

    def __post_init__(self) -> None:
        for value, allowed, what in ((self.similarity, get_args(Similarity), "similarity"), (self.scaling, get_args(Scaling), "scaling")):
            if value not in allowed:
                raise ConfigError(f"Expected {what} of the group {self.name!r} to be one of {', '.join(allowed)}; found {value!r}.")
        names = self.column_names
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"Expected at least one column, each named once, in the group {self.name!r}; found {names}.")
        # A name alone counts as no feature, so that all widths are 0 but for statistics, whose features are equally wide.
        widths = {0 if isinstance(column, str) else len(column) for column in self.columns}
        if len(widths) > 1 or (widths == {0}) == (self.similarity == "statistics"):
            raise ConfigError(
                f"Expected names of columns, or for 'statistics' a tuple of names for every feature, all of one length, in the group {self.name!r}; "
                f"found {list(self.columns)} with {self.similarity!r}."
            )
        self._check_numbers()

    @property
    def column_names(self) -> list[str]:
        """Names of all columns, those of a feature behind one another."""
        return [name for column in self.columns for name in ([column] if isinstance(column, str) else column)]

    def _check_numbers(self) -> None:
        if not self.weight > 0 or not (self.length is None or self.length > 0) or any(not value >= 0 for value in self.tolerance.values()):
            raise ConfigError(
                f"Expected a weight and a length above 0 and tolerances of at least 0 in the group {self.name!r}, "
                f"found weight={self.weight}, length={self.length}, tolerance={dict(self.tolerance)}."
            )
        stray = sorted(set(self.tolerance) - set(self.column_names)) if self.similarity == "agreement" else sorted(self.tolerance)
        if stray:
            raise ConfigError(f"Expected a tolerance for columns of an agreement only, found {stray} in the group {self.name!r} ({self.similarity}).")
