"""The cohort: subjects, typed columns, region data by atlas, events and images. Every adapter returns one, everything else takes one."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from graphssl.data import splits
from graphssl.data.atlas import Atlas
from graphssl.data.events import Events
from graphssl.data.fingerprint import fingerprint
from graphssl.data.images import ImageData
from graphssl.data.regions import Provenance, RegionData, ValueKind
from graphssl.data.schema import Column, Schema
from graphssl.errors import DataError, InputError, LeakageError, SchemaError
from graphssl.folders import ordinary, written_whole

EXCLUDED_COLUMNS = ("what", "id", "reason")
_FORMAT = 2


def _no_exclusions() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype="str") for name in EXCLUDED_COLUMNS})


@dataclass(frozen=True, eq=False)
class Cohort:
    """Subjects with what is known of them. It checks itself when made.

    Args:
        name: Name for reports and results.
        subjects: One row a subject, indexed by subject id; ids are strings.
        schema: Kind and role of every column.
        regions: Region data by atlas name.
        excluded: What was left out, with the columns `what` (subject, region, column or event), `id` and `reason`.
        events: What was measured, given or noted when. Where a column has the role `prediction_time`, nothing may lie at that time or after it, so
            that nothing of the future can enter a feature; `predict_at` makes such a cohort.
        images: References to images by name; they are decoded by who needs them.

    Raises:
        SchemaError: If ids repeat or are not strings, or a column does not fit its kind.
        DataError: If there is no subject, or region data, events or images belong to nobody in the table.
        LeakageError: If an event lies at the prediction time of its subject or after it.
    """

    name: str
    subjects: pd.DataFrame
    schema: Schema
    regions: Mapping[str, RegionData] = field(default_factory=dict)
    excluded: pd.DataFrame = field(default_factory=_no_exclusions)
    events: Events | None = None
    images: Mapping[str, ImageData] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ids(self.subjects.index.tolist())
        self.schema.check(self.subjects)
        known = set(self.subjects.index)
        owners: dict[str, Iterable[str]] = {f"{atlas} data": data.values for atlas, data in self.regions.items()}
        owners |= {} if self.events is None else {"events": self.events.ids}
        owners |= {f"images ({name})": data.values for name, data in self.images.items()}
        for what, of_whom in owners.items():
            strangers = sorted(set(of_whom) - known)
            if strangers:
                raise DataError(
                    f"Expected every subject with {what} in the table of {self.name!r}, found {len(strangers)} that are not: "
                    f"{strangers[:5]}. Add their rows, or leave their data out."
                )
        _check_no_future(self)

    def __len__(self) -> int:
        return len(self.subjects)

    def __repr__(self) -> str:
        lines = [f"Cohort {self.name!r}: {len(self)} subjects"]
        site = self.schema.named("site")
        if site:
            counts = self.subjects[site[0]].value_counts()
            lines.append(f"  sites     {len(counts)} ({', '.join(f'{s} {n}' for s, n in counts.head(6).items())}{' …' if len(counts) > 6 else ''})")
        for target in self.schema.named("target"):
            counts = self.subjects[target].value_counts(dropna=False)
            lines.append(f"  target    {target}: {', '.join(f'{value} {n}' for value, n in counts.head(6).items())}")
        lines += [f"  {atlas:<9} {data!r}" for atlas, data in self.regions.items()]
        lines += [] if self.events is None else [f"  events    {self.events!r}"]
        lines += [f"  {name:<9} {data!r}" for name, data in self.images.items()]
        if len(self.excluded):
            counts = self.excluded["what"].value_counts()
            lines.append(f"  left out  {', '.join(f'{n} {what} entries' for what, n in counts.items())}; see .excluded")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows: columns with small plots, classes by site, and what else there is; counts and summaries, no single subject."""
        from graphssl.reports.notebook import card, columns_table, counts_table, lines

        said = {atlas: repr(data) for atlas, data in self.regions.items()}
        said |= {} if self.events is None else {"events": repr(self.events)}
        said |= {name: repr(data) for name, data in self.images.items()}
        if len(self.excluded):
            said["left out"] = ", ".join(f"{n} {what} entries" for what, n in self.excluded["what"].value_counts().items()) + "; see .excluded"
        sites, targets = self.schema.named("site"), self.schema.named("target")
        crossed = [pd.crosstab(self.subjects[sites[0]], self.subjects[target].fillna("no label")) for target in targets] if sites else []
        columns = [(column.name, column.kind, column.role, column.unit or "", self.subjects[column.name]) for column in self.schema]
        tables = [
            *(counts_table(counts, f"{sites[0]} by {counts.columns.name}") for counts in crossed),
            *([columns_table(columns)] if columns else []),
        ]
        return card(f"Cohort {self.name!r}: {len(self)} subjects", lines(said), *tables)

    @classmethod
    def from_arrays(
        cls,
        values: Sequence[npt.ArrayLike] | npt.NDArray[Any],
        atlas: Atlas,
        *,
        kind: ValueKind = "timeseries",
        fisher_z: bool = False,
        ids: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> "Cohort":
        """A cohort of arrays in memory, with an empty table; `with_column` adds what is known of the subjects.

        Args:
            values: Time series `[n, T, R]`, matrices `[n, R, R]`, or a list of `n` of them that may differ in length.
            atlas: The regions, in the order of the arrays' columns.
            kind: `"timeseries"`, or the kind of the matrices in nilearn's words.
            fisher_z: Whether correlations were transformed by arctanh.
            ids: Subject ids `[n]`; `sub-0000`, `sub-0001`, … when left out.
            name: Name for reports and results.

        Raises:
            DataError: If there are no arrays, one holds no numbers or does not fit its kind, none has a signal, or ids and arrays differ in number.
            AtlasError: If an array has another number of regions than the atlas.
            SchemaError: If ids repeat or are not strings.
        """
        known = [f"sub-{k:04d}" for k in range(len(values))] if ids is None else list(ids)
        if len(known) != len(values):
            raise DataError(f"Expected an id for each of {len(values)} arrays, found {len(known)}.")
        check_ids(known)
        arrays = {subject: _numbers(array, subject) for subject, array in zip(known, values, strict=True)}
        data = RegionData(atlas, arrays, Provenance(kind, fisher_z, source="arrays"))
        if arrays and not any(seen.any() for seen in data.observed.values()):
            raise DataError(f"Expected a signal in some region of some subject, found none in {len(arrays)} arrays. A connection takes two regions.")
        return cls(name, pd.DataFrame(index=pd.Index(known, dtype="str")), Schema([]), {atlas.name: data})

    @property
    def shape(self) -> tuple[int]:
        """Number of subjects, as scikit-learn asks for it."""
        return (len(self),)

    def __getitem__(self, rows: Any) -> "Cohort":
        """The subjects at the given places, by a slice, whole numbers or a mask of booleans; scikit-learn indexes a cohort with it.

        Raises:
            IndexError: If there is no subject at a place (Python's convention, on which iteration rests).
            SchemaError: If a place is given twice.
        """
        # scikit-learn indexes whatever has a shape as an array: cohort[rows, ...].
        rows = rows[0] if isinstance(rows, tuple) and len(rows) == 2 and rows[1] is Ellipsis else rows
        return self.select(np.atleast_1d(np.asarray(self.ids, dtype=object)[rows]))

    @property
    def ids(self) -> list[str]:
        """Subject ids, in order."""
        return [str(subject) for subject in self.subjects.index.tolist()]

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over ids, columns and values."""
        digest = hashlib.sha256(fingerprint(self.subjects))
        for name, data in sorted(self.regions.items()):
            digest.update(f"{name} {data.atlas.hash} {data.provenance}".encode())
            for subject in sorted(data.values):
                digest.update(subject.encode())
                digest.update(np.ascontiguousarray(data.values[subject]).tobytes())
        if self.events is not None:
            digest.update(self.events.hash.encode())
        for name, images in sorted(self.images.items()):
            digest.update(f"{name} {images.hash}".encode())
        return digest.hexdigest()[:12]

    def atlas(self, name: str) -> Atlas:
        """The atlas of that name.

        Raises:
            DataError: If the cohort has no data in it.
        """
        if name not in self.regions:
            raise DataError(f"Expected {self.name!r} to have data in atlas {name!r}, found {sorted(self.regions) or 'no region data'}.")
        return self.regions[name].atlas

    def target(self, name: str | None = None) -> "pd.Series[Any]":
        """The target column; subjects without a label keep a missing value.

        Raises:
            SchemaError: If the column is not in the table, or no name is given and there is not exactly one target.
            DataError: If fewer than two classes are present.
        """
        if name is None:
            targets = self.schema.named("target")
            if len(targets) != 1:
                raise SchemaError(f"Expected one column with the role 'target' in {self.name!r}, found {targets}. Name the one to predict.")
            name = targets[0]
        self.schema[name]
        values = self.subjects[name]
        classes = sorted(values.dropna().astype(str).unique())
        if len(classes) < 2:
            raise DataError(
                f"Expected at least two classes in {name!r} of {self.name!r}, found {classes or 'no labels'}. Nothing can be learned from one."
            )
        return values

    def labels(self, name: str | None = None) -> dict[str, str]:
        """Label of every subject that has one, by id; of the target column when no name is given.

        Raises:
            SchemaError: If the column is not in the table, or no name is given and there is not exactly one target.
            DataError: If fewer than two classes are present.
        """
        return {str(subject): label for subject, label in self.target(name).dropna().astype(str).items()}

    @property
    def sites(self) -> "pd.Series[str] | None":
        """Site of each subject, or None where no column has that role.

        Raises:
            DataError: If a subject has no site.
        """
        named = self.schema.named("site")
        if not named:
            return None
        values = self.subjects[named[0]]
        if values.isna().any():
            absent = values.index[values.isna()].tolist()
            raise DataError(f"Expected a site for every subject, found none for {absent[:5]}. Fill it in, or leave these subjects out.")
        return values.astype(str)

    @property
    def groups(self) -> "pd.Series[str]":
        """What must stay together in a split: subjects linked by any column with the role `group`, else each for itself."""
        n = len(self)
        links = [_links(self.subjects[column]) for column in self.schema.named("group")]
        subjects = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in links)])
        starts = np.cumsum([n, *(values.max(initial=-1) + 1 for _, values in links)])  # where the groups of each column stand behind the subjects
        groups = np.concatenate([np.zeros(0, np.int64), *(start + values for start, (_, values) in zip(starts, links, strict=False))])
        graph = coo_array((np.ones(len(subjects)), (subjects, groups)), shape=(starts[-1], starts[-1]))
        component = connected_components(graph, directed=False)[1][:n]
        return pd.Series(self.ids, index=self.subjects.index, dtype="str").groupby(component).transform("min").astype("str")

    def select(self, subjects: Iterable[str] | npt.NDArray[Any]) -> "Cohort":
        """The given subjects, by id or by a mask of booleans `[n]`, in the given order.

        Raises:
            DataError: If an id is not in the cohort, or a mask has another length.
        """
        chosen = _chosen_ids(self, subjects)
        regions = {name: data.select(chosen) for name, data in self.regions.items()}
        events = None if self.events is None else self.events.select(chosen)
        images = {name: data.select(chosen) for name, data in self.images.items()}
        return Cohort(self.name, self.subjects.loc[chosen], self.schema, regions, self.excluded, events, images)

    def with_column(self, column: Column, values: "pd.Series[Any]") -> "Cohort":
        """The cohort with a column added or replaced; `values` are indexed by subject id."""
        columns = [known for known in self.schema if known.name != column.name]
        subjects = self.subjects.assign(**{column.name: values})
        return replace(self, subjects=subjects, schema=Schema([*columns, column]))

    @property
    def prediction_times(self) -> "pd.Series[Any] | None":
        """Time of each subject at which is predicted, or None where no column has that role."""
        named = self.schema.named("prediction_time")
        return self.subjects[named[0]] if named else None

    def predict_at(self, times: "pd.Series[Any]", window: timedelta | None = None) -> "Cohort":
        """The cohort with a prediction time a subject and the events strictly before it; what is left out is counted in `excluded`.

        Args:
            times: Time by subject id.
            window: Leave out what is older than this before the time.

        Raises:
            DataError: If a subject has no time.
        """
        lacking = [subject for subject in self.ids if pd.isna(times.get(subject))]
        if lacking:
            raise DataError(f"Expected a prediction time for every subject, found none for {lacking[:5]}. Select the others first.")
        column = Column("prediction_time", "timestamp", "prediction_time")
        excluded, events = self.excluded, self.events
        if events is not None:
            n_late, n_subjects = events.n_from(times)
            late = [("event", f"{n_late} of {n_subjects} subjects", "at the prediction time or after it")] if n_late else []
            events = events.before(times, window)
            older = len(self.events or ()) - n_late - len(events)
            late += [("event", f"{older}", f"more than {window} before the prediction time")] if older else []
            excluded = pd.concat([excluded, pd.DataFrame(late, columns=list(EXCLUDED_COLUMNS), dtype="str")], ignore_index=True)
        return replace(self, events=events, excluded=excluded).with_column(column, times.loc[self.ids].astype("datetime64[us]"))

    def split(self, test_fraction: float = 0.2, *, target: str | None = None, seed: int = 0) -> tuple["Cohort", "Cohort"]:
        """A training and a test cohort, stratified by target (and site), with families and repeated scans kept together.

        Args:
            test_fraction: Share of the subjects that are put away, in (0, 1).
            target: Column whose classes are to be as common on both sides; the cohort's one target when left out.
            seed: Seed of the draw.
        """
        labels = None if target is None and not self.schema.named("target") else self.target(target)
        sites = self.sites
        strata = None if labels is None else labels.tolist()
        if labels is not None and sites is not None:
            both = splits.stratum(labels.tolist(), sites.tolist())
            strata = both if min(pd.Series(both).value_counts()) >= round(1 / test_fraction) else strata
        split = splits.hold_out(self.ids, strata, groups=self.groups.tolist(), test_fraction=test_fraction, seed=seed)
        return self.select(split.train), self.select(split.test)

    def __or__(self, other: "Cohort") -> "Cohort":
        """Both cohorts as one.

        Raises:
            SchemaError: If a subject is in both, or a column is missing or of another kind, role or unit on one side.
            AtlasError: If atlases of one name have other labels.
            DataError: If region data or images do not fit.
        """
        both = sorted(set(self.ids) & set(other.ids))
        if both:
            raise SchemaError(f"Expected different subjects in {self.name!r} and {other.name!r}, found {len(both)} in both: {both[:5]}.")
        schema = _union_schema(self, other)
        regions = dict(self.regions)
        for name, data in other.regions.items():
            regions[name] = regions[name].union(data) if name in regions else data
        images = dict(self.images)
        for name, pictures in other.images.items():
            images[name] = images[name].union(pictures) if name in images else pictures
        subjects = pd.concat([self.subjects, other.subjects])
        excluded = pd.concat([self.excluded, other.excluded], ignore_index=True)
        events = other.events if self.events is None else self.events if other.events is None else self.events.union(other.events)
        return Cohort(f"{self.name}+{other.name}", subjects, schema, regions, excluded, events, images)

    def save(self, folder: str | os.PathLike[str], *, copy_images: bool = False) -> Path:
        """Write the cohort to a folder (parquet, npz and JSON, no pickle), whole or not at all.

        Args:
            folder: The folder.
            copy_images: Whether to copy the files of images too; else the folder says where they lie, and by what hash their content is known. Files
                that lie in this very folder go on lying there.

        Raises:
            RunFolderError: If the folder exists and is not an earlier cohort.
        """
        record: dict[str, Any] = {"format": _FORMAT, "name": self.name, "hash": self.hash, "schema": self.schema.to_dict(), "regions": {}}
        with written_whole(folder, marker="cohort.json", what="a saved cohort") as aside:
            self.subjects.rename_axis(None).to_parquet(aside / "subjects.parquet", index=True)
            self.excluded.to_csv(aside / "excluded.csv", index=False)
            for name, data in self.regions.items():
                record["regions"][name] = {"atlas": data.atlas.to_dict(), "provenance": data.provenance.to_dict()}
                _save_values(aside / f"{name}.npz", data)
            if self.events is not None:
                record["n_reordered"] = self.events.n_reordered
                self.events.save(aside / "events.parquet")
                if self.events.codes is not None:
                    self.events.codes.to_parquet(aside / "codes.parquet")
            if self.images:
                record["images"] = {name: data.save(aside, name, copy=copy_images or data.lies_in(folder)) for name, data in self.images.items()}
            (aside / "cohort.json").write_text(json.dumps(record), encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Cohort":
        """Read a cohort written by `save`.

        Raises:
            DataError: If the folder is not a saved cohort or a file of it is damaged.
        """
        source = Path(folder)
        if not (source / "cohort.json").is_file():
            raise DataError(f"Expected a saved cohort at {source} (with cohort.json), found none. Make one with `graphssl build`.")
        try:
            record = json.loads((source / "cohort.json").read_text(encoding="utf-8"))
            if record["format"] != _FORMAT:
                raise DataError(
                    f"Expected a cohort of format {_FORMAT} at {source}, found format {record['format']}, of another version. Build it again."
                )
            subjects = pd.read_parquet(ordinary(source / "subjects.parquet"))
            excluded = pd.read_csv(ordinary(source / "excluded.csv"), dtype="str", keep_default_na=False)
            regions = {}
            for name, entry in record["regions"].items():
                values = _load_values(source / f"{name}.npz")
                regions[name] = RegionData(Atlas.from_dict(entry["atlas"]), values, Provenance(**entry["provenance"]))
            events = _load_events(source, record["n_reordered"]) if "n_reordered" in record else None
            images = {name: ImageData.load(source, name, entry) for name, entry in record.get("images", {}).items()}
            cohort = cls(record["name"], subjects, Schema.from_dict(record["schema"]), regions, excluded, events, images)
        except InputError:
            raise
        except Exception as error:  # damaged bytes make the readers of others fail in any way
            raise DataError(f"Expected a whole saved cohort at {source}, found a damaged one ({error}). Build it again.") from error
        if cohort.hash != record["hash"]:
            raise DataError(
                f"Expected the cohort at {source} to have hash {record['hash']}, found {cohort.hash}: a file was changed. Build it again."
            )
        return cohort


def check_ids(ids: Sequence[Any]) -> None:
    """Check subject ids: strings, not empty, each once.

    Raises:
        SchemaError: If they are not; names some.
        DataError: If there are none.
    """
    if not ids:
        raise DataError("Expected at least one subject, found an empty cohort. See what was left out, and why, in the message or list above.")
    numbers = [subject for subject in ids if not isinstance(subject, str)]
    if numbers:
        raise SchemaError(
            f"Expected subject ids as strings, found {type(numbers[0]).__name__} {numbers[0]!r}: numbers lose their leading zeros. "
            'Read the id column as text, such as pandas.read_csv(..., dtype={"participant_id": str}).'
        )
    if any(not subject.strip() for subject in ids):
        raise SchemaError("Expected an id for every subject, found an empty one.")
    repeated = pd.Index(ids)[pd.Index(ids).duplicated()].unique().tolist()
    if repeated:
        raise SchemaError(
            f"Expected each subject id once, found {len(repeated)} repeated: {repeated[:5]}. "
            "Give repeated scans ids of their own and a 'group' column."
        )


def check_before_outcome(cohort: Cohort) -> None:
    """Check that a cohort with an outcome and events with a time says when is predicted.

    Raises:
        LeakageError: If it does not: events at discharge and later would tell the outcome.
    """
    targets = cohort.schema.named("target")
    if cohort.events is None or cohort.prediction_times is not None or not targets:
        return
    if cohort.events.table["time"].notna().any():
        raise LeakageError(
            f"Expected prediction times in {cohort.name!r}, whose events may be later than its outcome {targets[0]!r}; found none. "
            "Set them with cohort.predict_at(times), or by an argument of the reader such as hours=…."
        )


def _numbers(array: npt.ArrayLike, subject: str) -> npt.NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused as such
            return np.asarray(array, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"Expected numbers for subject {subject!r}, found something else ({error}). Give an array of numbers.") from error


def _check_no_future(cohort: Cohort) -> None:
    times = cohort.prediction_times
    if times is None or cohort.events is None:
        return
    n_late, n_subjects = cohort.events.n_from(times)
    if n_late:
        raise LeakageError(
            f"Expected all events of {cohort.name!r} before the prediction time, found {n_late} of {n_subjects} subjects at it or after it. "
            "Leave them out with cohort.predict_at(times)."
        )


def _links(groups: "pd.Series[Any]") -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Who is in a group, by place, and the number of the group."""
    present = groups.notna().to_numpy()
    return np.flatnonzero(present), pd.factorize(groups[present].astype(str))[0]


def _chosen_ids(cohort: Cohort, subjects: Iterable[str] | npt.NDArray[Any]) -> list[str]:
    if isinstance(subjects, pd.Series):
        # A mask made of a sorted table has the ids in another order.
        same_ids = pd.api.types.is_bool_dtype(subjects) and set(subjects.index) == set(cohort.ids)
        subjects = (subjects.loc[cohort.ids] if same_ids else subjects).to_numpy()
    chosen = list(subjects)
    if chosen and isinstance(chosen[0], (bool, np.bool_)):
        if len(chosen) != len(cohort):
            raise DataError(f"Expected a mask of {len(cohort)} entries, found {len(chosen)}.")
        return [subject for subject, keep in zip(cohort.ids, chosen, strict=True) if keep]
    unknown = [subject for subject in chosen if subject not in cohort.subjects.index]
    if unknown:
        raise DataError(f"Expected subjects of {cohort.name!r}, found {len(unknown)} that are not: {unknown[:5]}.")
    return [str(subject) for subject in chosen]


def _union_schema(mine: Cohort, theirs: Cohort) -> Schema:
    names = [column.name for column in mine.schema]
    differing = sorted(set(names) ^ {column.name for column in theirs.schema})
    if differing:
        raise SchemaError(f"Expected the same columns in {mine.name!r} and {theirs.name!r}, found only in one: {differing}. Rename or drop them.")
    columns = []
    for a in mine.schema:
        b = theirs.schema[a.name]
        for what in ("kind", "role", "unit"):
            if getattr(a, what) != getattr(b, what):
                raise SchemaError(
                    f"Expected the same {what} of column {a.name!r} in both cohorts, found {getattr(a, what)!r} and {getattr(b, what)!r}."
                )
        # The order of categories means something: which class counts as positive, which step of a scale is higher.
        categories = None if a.categories is None else tuple(dict.fromkeys((*a.categories, *(b.categories or ()))))
        columns.append(type(a)(a.name, a.kind, a.role, a.unit, a.valid_range, categories, a.description or b.description))
    return Schema(columns)


def _save_values(path: Path, data: RegionData) -> None:
    ids = list(data.values)
    lengths = [len(data.values[subject]) for subject in ids]
    stacked = np.concatenate([data.values[s] for s in ids]) if ids else np.zeros((0, len(data.atlas)), np.float32)
    np.savez(path, subject_id=np.asarray(ids, dtype=np.str_), offsets=np.cumsum([0, *lengths]), values=stacked)


def _load_events(source: Path, n_reordered: int) -> Events:
    codes = source / "codes.parquet"
    return Events(Events.load(source / "events.parquet").table, n_reordered, pd.read_parquet(codes) if codes.is_file() else None)


def _load_values(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    try:
        with ordinary(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            ids, offsets, values = stored["subject_id"], stored["offsets"], stored["values"]
    except Exception as error:
        raise DataError(f"Expected region data in {path}, found a damaged file ({error}). Build the cohort again.") from error
    return {str(subject): values[offsets[k] : offsets[k + 1]] for k, subject in enumerate(ids)}
