"""Patients with several kinds of data side by side, of which some may be missing."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from sklearn.base import clone
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.batch import Batch, row_numbers
from graphssl.data.builder import AbstractBuilder, AbstractTokenizer
from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.data.records import AbstractRecords
from graphssl.errors import CheckpointError, ConfigError, DataError


@dataclass(frozen=True, eq=False)
class MultimodalBatch:
    """Patients with a connectome, columns, bins of time, events, images or volumes, whatever there is of each; a row is a patient.

    Every modality is a batch of its own, whose rows are found by `rows`: several scans or clips of a patient are allowed, and none. Whole modalities
    can be hidden, by an objective or to see what they are worth; not there and hidden are two states, and neither can be read.

    Args:
        subject_ids: Patient of each row `[B]`.
        parts: Batch of each modality that anybody has, by name.
        rows: Rows of each modality that are the patient's `[B, K]`, -1 where there are fewer than `K`; its names are the modalities, in their order.
        hidden: Which modalities must not be read `[B, M]`; none when left out.

    Raises:
        DataError: If the shapes do not fit one another, or a row is of another patient.
    """

    subject_ids: tuple[str, ...]
    parts: Mapping[str, Any]
    rows: Mapping[str, Int[Tensor, "B K"]]
    hidden: Bool[Tensor, "B M"] = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))

    def __post_init__(self) -> None:
        n, m = len(self.subject_ids), len(self.rows)
        if self.hidden.numel() == 0:  # none was given
            device = next(iter(self.rows.values())).device if self.rows else None
            object.__setattr__(self, "hidden", torch.zeros(n, m, dtype=torch.bool, device=device))
        wrong = {name: tuple(rows.shape) for name, rows in self.rows.items() if rows.ndim != 2 or len(rows) != n}
        wrong |= {} if self.hidden.shape == (n, m) else {"hidden": tuple(self.hidden.shape)}
        strange = sorted(set(self.parts) - set(self.rows))
        if wrong or strange:
            raise DataError(f"Expected rows [{n}, K] of each of {m} modalities and hidden [{n}, {m}], found {wrong or f'no rows of {strange}'}.")
        for name in self.rows:
            self._check_patients(name)

    @classmethod
    def of(cls, parts: Mapping[str, Batch], subject_ids: Sequence[str] | None = None) -> "MultimodalBatch":
        """Batches that are at hand, side by side by the ids of their patients.

        Args:
            parts: The batch of each modality, by name.
            subject_ids: The patients, in their order; all that have anything when left out.

        Raises:
            DataError: If there is no part, none of the patients of one is among those of the others, or one is not among `subject_ids`.
        """
        if not parts:
            raise DataError("Expected at least one modality, found none.")
        if subject_ids is None:
            _check_same_patients(parts)
            subject_ids = tuple(dict.fromkeys(subject for part in parts.values() for subject in part.subject_ids))
        rows = {name: _rows_of(name, part, subject_ids).to(part.device) for name, part in parts.items()}
        return cls(tuple(subject_ids), dict(parts), rows)

    def __len__(self) -> int:
        return len(self.subject_ids)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} of {n}" for name, n in zip(self.modalities, self.presence.sum(dim=0).tolist(), strict=True))
        return f"MultimodalBatch({len(self)} patients; {counts}; {self.device})"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities `[M]`, those that nobody has among them."""
        return tuple(self.rows)

    @property
    def there(self) -> Bool[Tensor, "B M"]:
        """Which modalities there are of each patient, hidden ones too."""
        return torch.stack([(rows >= 0).any(dim=1) for rows in self.rows.values()], dim=1)

    @property
    def presence(self) -> Bool[Tensor, "B M"]:
        """Which modalities of each patient can be read: there, and not hidden."""
        return self.there & ~self.hidden

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.hidden.device

    def __getitem__(self, rows: Sequence[int] | Int[Tensor, "b"] | Bool[Tensor, "B"]) -> "MultimodalBatch":
        """The given patients, by number or by a mask of booleans, with those rows of each modality that are theirs."""
        index = row_numbers(rows, self.device)
        parts: dict[str, Any] = {}
        places: dict[str, Tensor] = {}
        for name, owned in self.rows.items():
            chosen = owned[index]
            used, place = chosen.clamp(min=0).unique(return_inverse=True)
            found = chosen >= 0
            needed = used[torch.isin(used, chosen[found])]
            width = int(found.any(dim=0).nonzero().max()) + 1 if bool(found.any()) else 0
            places[name] = torch.where(found, place - (len(used) - len(needed)), -1)[:, :width]
            if width:
                parts[name] = self.parts[name][needed.tolist()]
        return MultimodalBatch(tuple(self.subject_ids[i] for i in index.tolist()), parts, places, self.hidden[index])

    def to(self, device: torch.device | str) -> "MultimodalBatch":
        """The batch on another device, its images decoded."""
        parts = {name: part.to(device) for name, part in self.parts.items()}
        rows = {name: rows.to(device) for name, rows in self.rows.items()}
        return replace(self, parts=parts, rows=rows, hidden=self.hidden.to(device))

    def signature(self) -> bytes:
        """What tells these patients from others: ids, the rows of every modality and which are whose."""
        said = ["\n".join(self.subject_ids).encode(), self.hidden.cpu().numpy().tobytes()]
        for name, rows in self.rows.items():
            said += [name.encode(), rows.cpu().numpy().tobytes(), self.parts[name].signature() if name in self.parts else b""]
        return b"\0".join(said)

    def hide(self, hidden: Bool[Tensor, "B M"]) -> "MultimodalBatch":
        """The batch with some modalities made unreadable too; what is not there stays as it is."""
        return replace(self, hidden=self.hidden | (hidden & self.there))

    def hide_in(self, rows: Int[Tensor, "b"], hidden: Bool[Tensor, "b M"]) -> "MultimodalBatch":
        """The batch with more of some patients made unreadable.

        Args:
            rows: The patients, each at most once.
            hidden: Which modalities of them are hidden.
        """
        everything = self.hidden.clone()
        everything[rows] |= hidden
        return replace(self, hidden=everything)

    def without(self, *names: str) -> "MultimodalBatch":
        """The batch as if nobody had the given modalities.

        Raises:
            DataError: If there is no such modality.
        """
        strange = sorted(set(names) - set(self.rows))
        if strange:
            raise DataError(f"Expected modalities among {', '.join(self.modalities)}, found {strange[0]!r}.")
        rows = {name: rows[:, :0] if name in names else rows for name, rows in self.rows.items()}
        return replace(self, parts={name: part for name, part in self.parts.items() if name not in names}, rows=rows)

    def with_parts(self, **parts: Any) -> "MultimodalBatch":
        """The batch with other rows in place of those of some modalities, such as a view of them, one for one."""
        return replace(self, parts={**self.parts, **parts})

    @classmethod
    def cat(cls, batches: Sequence["MultimodalBatch"]) -> "MultimodalBatch":
        """Batches of the same modalities below one another.

        Raises:
            DataError: If there is none, or their modalities differ.
        """
        if not batches:
            raise DataError("Expected at least one batch of patients, found none.")
        named = {batch.modalities for batch in batches}
        if len(named) > 1:
            raise DataError(f"Expected batches of the same modalities, found {sorted(named)[:2]}. Use one builder.")
        parts: dict[str, Any] = {}
        rows: dict[str, Tensor] = {}
        for name in batches[0].modalities:
            having = [batch.parts[name] for batch in batches if name in batch.parts]
            if having:
                parts[name] = having[0] if len(having) == 1 else type(having[0]).cat(having)
            starts = np.cumsum([0, *(len(batch.parts[name]) if name in batch.parts else 0 for batch in batches)]).tolist()
            width = max(batch.rows[name].shape[1] for batch in batches)
            moved = [torch.where(b.rows[name] >= 0, b.rows[name] + start, -1) for b, start in zip(batches, starts, strict=False)]
            rows[name] = torch.cat([F.pad(each, (0, width - each.shape[1]), value=-1) for each in moved])
        return cls(tuple(subject for b in batches for subject in b.subject_ids), parts, rows, torch.cat([b.hidden for b in batches]))

    def same_rows(self, other: "MultimodalBatch") -> Bool[Tensor, "B"]:
        """Which patients have the same as those of another batch of the same modalities, row by row."""
        same = torch.ones(len(self), dtype=torch.bool, device=self.device)
        for name, mine in self.rows.items():
            width = max(mine.shape[1], other.rows[name].shape[1])
            mine, theirs = (F.pad(rows, (0, width - rows.shape[1]), value=-1) for rows in (mine, other.rows[name]))
            both = (mine >= 0) & (theirs >= 0)
            alike = (mine < 0) & (theirs < 0)
            if bool(both.any()):
                alike[both] = _same(self.parts[name][mine[both].tolist()], other.parts[name][theirs[both].tolist()]).to(self.device)
            same &= alike.all(dim=1)
        return same

    def _check_patients(self, name: str) -> None:
        """Check that the rows of a modality are there, and are of the patients whom they are said to be of."""
        rows = self.rows[name].tolist()
        owners = self.parts[name].subject_ids if name in self.parts else ()
        if max((row for each in rows for row in each), default=-1) >= len(owners):
            raise DataError(f"Expected rows among the {len(owners)} of {name}, found others.")
        pairs = ((subject, owners[row]) for subject, each in zip(self.subject_ids, rows, strict=True) for row in each if row >= 0)
        wrong = [f"{owner} in the row of {subject}" for subject, owner in pairs if owner != subject]
        if wrong:
            raise DataError(f"Expected every row of {name} to be of its patient, found {len(wrong)} that are not: {wrong[:5]}.")


class MultimodalBuilder(AbstractTokenizer):
    """A cohort in, a `MultimodalBatch` out; every modality is made by a builder of its own, fitted on the training subjects that have it.

    A modality of the training subjects that nobody of a new cohort has is no error: a model answers from what there is, and says so.

    Args:
        builders: The builder of each modality, by a name of your choice, such as `{"image": ImageBuilder(), "table": ColumnTokenizer()}`.
        require: Modalities that no subject may lack.

    Attributes:
        builders_: The builders, fitted.
        counts_: How many training subjects have each modality, and how many there are in all, under `""`.
    """

    def __init__(self, builders: dict[str, AbstractBuilder], require: tuple[str, ...] = ()) -> None:
        self.builders = builders
        self.require = require

    def fit(self, cohort: Cohort, y: object = None) -> Self:
        """Fit the builder of every modality on the training subjects that have it.

        Raises:
            ConfigError: If no modality is told, a required one is none, or a builder makes rows of several kinds itself.
            DataError: If no training subject has a modality, or one lacks all, or one that is required.
        """
        self._check_builders()
        having = {name: builder.readable(cohort) for name, builder in self.builders.items()}
        empty = [name for name, subjects in having.items() if not subjects]
        if empty:
            raise DataError(
                f"Expected training subjects of {cohort.name!r} with {empty[0]}, found none among {len(cohort)}. "
                "A model reads only what it was trained on: leave it out of the modalities, or train on subjects that have it."
            )
        self._check_subjects(cohort, having)
        self.builders_ = {name: clone(builder).fit(cohort.select(having[name])) for name, builder in self.builders.items()}
        self.counts_ = {"": len(cohort), **{name: len(subjects) for name, subjects in having.items()}}
        return self

    def transform(self, cohort: Cohort, *, series: bool = False) -> MultimodalBatch:
        """All patients of a cohort, in its order, with what there is of each.

        Args:
            cohort: The cohort.
            series: Whether connectomes keep their time series, for views of a part of the time.

        Raises:
            DataError: If the builder is not fitted, or a subject lacks all modalities, or one that is required.
        """
        if not hasattr(self, "builders_"):
            raise DataError("Expected a fitted builder, found one without training subjects. Call fit first.")
        having = {name: builder.readable(cohort) for name, builder in self.builders_.items()}
        self._check_subjects(cohort, having)
        parts = {name: _made(self.builders_[name], cohort.select(subjects), series) for name, subjects in having.items() if subjects}
        nobody = torch.full((len(cohort), 0), -1)
        rows = {name: _rows_of(name, parts[name], cohort.ids) if name in parts else nobody for name in self.builders_}
        return MultimodalBatch(tuple(cohort.ids), parts, rows)

    def readable(self, cohort: Cohort) -> list[str]:
        """Subjects who have any of the modalities."""
        builders = getattr(self, "builders_", self.builders)
        there = {subject for builder in builders.values() for subject in builder.readable(cohort)}
        return [subject for subject in cohort.ids if subject in there]

    def absent(self, cohort: Cohort) -> list[str]:
        """Modalities that training subjects had and nobody of a cohort has."""
        return [name for name, builder in self.builders_.items() if not builder.readable(cohort)]

    def unknown(self, cohort: Cohort) -> pd.DataFrame:
        """Who has a category that no training subject had, by column of categories, over all modalities."""
        found = [builder.unknown(cohort) for builder in self.builders_.values()]
        joined = pd.concat(found, axis=1) if found else pd.DataFrame(index=cohort.subjects.index)
        return joined.loc[:, ~joined.columns.duplicated()]

    def layout(self) -> dict[str, Any]:
        """What the batches of each modality hold, where its encoder is made for that."""
        return {"modalities": {name: builder.layout() for name, builder in self.builders_.items() if isinstance(builder, AbstractTokenizer)}}

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Class and state of every builder as plain values, and what they fitted as tensors, by name of the modality."""
        records: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for name, builder in self.builders_.items():
            record, fitted = builder.state()
            records[name] = {"class": type(builder).__name__, **record}
            tensors |= {f"{name}.{key}": value for key, value in fitted.items()}
        return {"modalities": records, "require": list(self.require), "counts": self.counts_}, tensors

    @classmethod
    def from_state(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing, or a builder is none of this version.
        """
        try:
            fitted = {
                name: _kinds()[state["class"]].from_state(
                    {key: value for key, value in state.items() if key != "class"},
                    {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")},
                )
                for name, state in record["modalities"].items()
            }
            builder = cls({name: clone(each) for name, each in fitted.items()}, tuple(record["require"]))
            builder.counts_ = {str(name): int(n) for name, n in record["counts"].items()}
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"Expected the fitted state of a MultimodalBuilder, found none of {error}. The folder is damaged.") from error
        builder.builders_ = fitted
        return builder

    def describe(self) -> dict[str, str]:
        """What each modality is made of and how many training subjects had it, for the model card."""
        n = self.counts_[""]
        made = {name: "; ".join(f"{what}: {value}" for what, value in builder.describe().items()) for name, builder in self.builders_.items()}
        return {name: f"of {self.counts_[name]} of {n} training subjects; {said}" for name, said in made.items()}

    def _check_builders(self) -> None:
        strange = sorted(set(self.require) - set(self.builders))
        if not self.builders or strange:
            raise ConfigError(
                f"Expected modalities by name and those required among them, found {', '.join(self.builders) or 'none'} and {strange or 'none'}."
            )
        odd = [name for name in self.builders if not name.isidentifier()]
        if odd:
            raise ConfigError(f"Expected names of modalities of letters, digits and underscores, such as 'image'; found {odd[0]!r}.")
        nested = [name for name, builder in self.builders.items() if type(builder).__name__ in _OF_SEVERAL]
        if nested:
            kind = type(self.builders[nested[0]]).__name__
            raise ConfigError(f"Expected a builder of one kind of rows for {nested[0]}, found a {kind}. Make each of its kinds a modality.")

    def _check_subjects(self, cohort: Cohort, having: Mapping[str, Sequence[str]]) -> None:
        anything = {subject for subjects in having.values() for subject in subjects}
        lacking = [subject for subject in cohort.ids if subject not in anything]
        if lacking:
            raise DataError(
                f"Expected {' or '.join(having)} of every subject of {cohort.name!r}, found nothing of {len(lacking)}: {lacking[:5]}. Leave them out."
            )
        for name in self.require:
            there = set(having[name])
            lacking = [subject for subject in cohort.ids if subject not in there]
            if lacking:
                raise DataError(
                    f"Expected {name} of every subject of {cohort.name!r}, as it is required, found none of {len(lacking)}: {lacking[:5]}. "
                    "Leave them out, or do not require it."
                )


# Their batches are of several kinds of rows, or of others than their own.
_OF_SEVERAL = ("MixedImageBuilder", "MultimodalBuilder", "PopulationBuilder")


def _made(builder: AbstractBuilder, cohort: Cohort, series: bool) -> Batch:
    """The batch of a modality, with its time series where they are asked for and it has any."""
    wanted: dict[str, Any] = {"series": True} if series and "series" in inspect.signature(builder.transform).parameters else {}
    return builder.transform(cohort, **wanted)


def _rows_of(name: str, part: Batch, subject_ids: Sequence[str]) -> Int[Tensor, "B K"]:
    """Which rows of a batch are of each patient, -1 behind those of patients with fewer than others."""
    patients = pd.Index(subject_ids).get_indexer(pd.Index(part.subject_ids))
    strangers = [subject for subject, patient in zip(part.subject_ids, patients, strict=True) if patient < 0]
    if strangers:
        raise DataError(
            f"Expected {name} of the {len(subject_ids)} patients that are given, found {len(strangers)} rows of others: {strangers[:5]}. "
            "Give one patient the same id in every source, or leave the others out."
        )
    turn = pd.Series(patients).groupby(patients).cumcount().to_numpy()
    rows = np.full((len(subject_ids), int(turn.max(initial=-1)) + 1), -1)
    rows[patients, turn] = np.arange(len(patients))
    return torch.from_numpy(rows)


def _check_same_patients(parts: Mapping[str, Batch]) -> None:
    """Check that each modality shares a patient with another: else they were not taken from the same patients."""
    patients = {name: set(part.subject_ids) for name, part in parts.items()}
    for name, own in patients.items():
        others = set().union(*(ids for other, ids in patients.items() if other != name))
        if others and own and not own & others:
            raise DataError(
                f"Expected modalities of the same patients, found none of those with {name} ({sorted(own)[:3]}) among those with "
                f"{', '.join(other for other in patients if other != name)} ({sorted(others)[:3]}). Give one patient the same id in every source."
            )


def _same(mine: Any, theirs: Any) -> Bool[Tensor, "n"]:
    """Which rows of a modality hold the same."""
    if isinstance(mine, AbstractRecords):
        return mine.same_rows(theirs)
    if isinstance(mine, ImageBatch):
        if mine.shape[1:] != theirs.shape[1:]:
            return torch.zeros(len(mine), dtype=torch.bool)
        if mine.pending is None or theirs.pending is None:  # else contents of files tell, without decoding them
            return (mine.images == theirs.images).flatten(start_dim=1).all(dim=1)
    return torch.tensor([mine[[row]].signature() == theirs[[row]].signature() for row in range(len(mine))], dtype=torch.bool)


def _kinds() -> dict[str, type[AbstractBuilder]]:
    """Builders that are known, by name; those of connectomes live above this module."""

    def below(kind: type[Any]) -> list[type[Any]]:
        return [each for child in kind.__subclasses__() for each in (child, *below(child))]

    return {kind.__name__: kind for kind in below(AbstractBuilder)}
