"""Who of a pool is in another cohort too: under the same id, of the same family, or by identical data under another name."""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.image_files import read_picture
from graphssl.data.images import ImageData

_TELLING = 4  # fewest numbers that are equal in two patients only if they are one
_CONTENTS = ["subject_id", "content"]


def overlap(pool: Cohort, others: Cohort, *, families: bool = True, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """Subjects of a pool that are in another cohort too.

    Args:
        pool: The pool.
        others: The cohort that it is compared with.
        families: Whether a subject counts whose family (columns with the role `group`) is in the other cohort.
        known: `contents` of the pool for the numbers that both have, where they are at hand.

    Returns:
        A row a subject of the pool, in its order: `other`, the subject of the other cohort, and `reason`.
    """
    columns = telling_columns(pool, others)
    mine = contents(pool, columns) if known is None else known
    found = {subject: (subject, "the same id") for subject in pool.ids if subject in others.subjects.index}
    found |= {subject: pair for subject, pair in _same_data(mine, contents(others, columns)).items() if subject not in found}
    if families:
        found |= {subject: pair for subject, pair in _relatives(pool, others, found).items() if subject not in found}
    return _as_table(found, pool)


def certain_overlap(pool: Cohort, others: Cohort) -> pd.DataFrame:
    """Subjects of a pool who are in another cohort beyond doubt: whoever is to be tested on the one must not learn from the other.

    Ids and names of families count in cohorts of one name, since those of other cohorts name other people. Images, region data and events count
    always, rows of a table never: two patients may have the same.

    Args:
        pool: The pool.
        others: The cohort that it is compared with.

    Returns:
        A row a subject of the pool, as of `overlap`.
    """
    is_one = pool.name == others.name
    found = {subject: (subject, "the same id") for subject in pool.ids if is_one and subject in others.subjects.index}
    if (pool.images and others.images) or (pool.regions and others.regions) or (pool.events is not None and others.events is not None):
        found |= {subject: pair for subject, pair in _same_data(contents(pool), contents(others)).items() if subject not in found}
    if is_one:
        found |= {subject: pair for subject, pair in _relatives(pool, others, found).items() if subject not in found}
    return _as_table(found, pool)


def repeated(cohort: Cohort, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """Subjects all of whose data are those of subjects before them.

    Args:
        cohort: The cohort.
        known: Its `contents`, where they are at hand.

    Returns:
        A row a subject: `other`, who has the same, and `reason`.
    """
    found = contents(cohort, telling_columns(cohort)) if known is None else known
    place = {subject: k for k, subject in enumerate(cohort.ids)}
    own = found["subject_id"].map(place)
    first = own.groupby(found["content"]).transform("min")
    is_repeated = (first < own).groupby(found["subject_id"]).all()
    subjects = [subject for subject in cohort.ids if is_repeated.get(subject, False)]
    other = first.groupby(found["subject_id"]).min()
    rows = [(cohort.ids[int(other[subject])], "identical data") for subject in subjects]
    return pd.DataFrame(rows, index=pd.Index(subjects, dtype="str"), columns=["other", "reason"])


def contents(cohort: Cohort, columns: Sequence[str] = ()) -> pd.DataFrame:
    """By what the data of each subject are known again: a row an image, an atlas, a stream of events, or a row of a table.

    Images are known by their decoded values, whatever files hold them, and so are region data; one value everywhere tells nobody. Rows of a table and
    events count where they hold four numbers at least, since fewer may be equal in two patients by chance; rows count only of subjects without any
    other data.

    Args:
        cohort: The cohort.
        columns: Columns of numbers of the table to compare.

    Returns:
        The columns `subject_id` and `content`.
    """
    parts = [pd.DataFrame({"subject_id": data.table["subject_id"], "content": _of_images(data)}) for data in cohort.images.values()]
    parts += [pd.DataFrame(_of_regions(cohort), columns=_CONTENTS)]
    parts += [] if cohort.events is None else [_of_events(cohort)]
    if not cohort.images and not cohort.regions and cohort.events is None:
        parts.append(_of_rows(cohort.subjects, columns))
    return pd.concat([part for part in parts if len(part)] or [pd.DataFrame(columns=_CONTENTS)], ignore_index=True).astype("str")


def telling_columns(*cohorts: Cohort) -> list[str]:
    """Features that are numbers in all of the cohorts, sorted."""
    named = [{column.name for column in cohort.schema if column.kind == "continuous" and column.role == "feature"} for cohort in cohorts]
    return sorted(set.intersection(*named))


def _same_data(mine: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, tuple[str, str]]:
    same = mine.merge(theirs, on="content", suffixes=("", "_other")).drop_duplicates("subject_id").set_index("subject_id")
    return {str(subject): (str(other), "identical data") for subject, other in same["subject_id_other"].items()}


def _as_table(found: dict[str, tuple[str, str]], pool: Cohort) -> pd.DataFrame:
    rows = [subject for subject in pool.ids if subject in found]
    return pd.DataFrame([found[subject] for subject in rows], index=pd.Index(rows, dtype="str"), columns=["other", "reason"])


def _of_images(data: ImageData) -> list[str]:
    def content(path: str, part: str) -> str:
        pixels = np.ascontiguousarray(read_picture(data.place(path), part, data.n_axes).pixels, dtype=np.float32)
        if pixels.min() == pixels.max():
            return f"one value in {path} {part}"  # which tells nobody from anybody
        return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()

    with ThreadPoolExecutor() as threads:
        return list(threads.map(content, data.table["path"], data.table["part"]))


def _of_regions(cohort: Cohort) -> Iterator[tuple[str, str]]:
    for data in cohort.regions.values():
        for subject, array in data.values.items():
            values = np.ascontiguousarray(array, dtype=np.float32)
            finite = values[np.isfinite(values)]
            if finite.size < _TELLING or finite.min() == finite.max():
                continue  # which tells nobody from anybody
            digest = hashlib.sha256(f"{data.atlas.hash} {data.provenance.kind} {array.shape}".encode() + values.tobytes())
            yield subject, digest.hexdigest()


def _of_events(cohort: Cohort) -> pd.DataFrame:
    assert cohort.events is not None
    table = cohort.events.table
    # The order of equal times is that of the source; a sum does not see it.
    rows = pd.util.hash_pandas_object(table.drop(columns="subject_id"), index=False)
    by_subject = table["subject_id"].astype("str")
    total, counts = rows.groupby(by_subject).sum(), table["numeric_value"].notna().groupby(by_subject).sum()
    telling = counts.index[counts >= _TELLING]
    return pd.DataFrame({"subject_id": telling, "content": [f"events {total[subject]}" for subject in telling]})


def _of_rows(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    if not columns:
        return pd.DataFrame(columns=_CONTENTS)
    numbers = table[[*columns]].astype("float64")
    numbers = numbers[numbers.notna().sum(axis=1) >= _TELLING]
    hashes = pd.util.hash_pandas_object(numbers, index=False)
    return pd.DataFrame({"subject_id": numbers.index, "content": [f"row {value}" for value in hashes]})


def _relatives(pool: Cohort, others: Cohort, found: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Subjects of the pool in a group with one of the others, by the group's name or by somebody of it who was found."""
    linked = dict(found)
    for name in pool.schema.named("group"):
        if name not in others.schema or others.schema[name].role != "group":
            continue
        theirs = others.subjects[name].dropna().astype(str)
        first = dict(zip(theirs[::-1], theirs.index[::-1], strict=True))
        mine = pool.subjects[name].dropna().astype(str)
        linked = {str(subject): (str(first[group]), "the same family") for subject, group in mine.items() if group in first} | linked
    families = pool.groups
    of_family = {families[subject]: other for subject, (other, _) in linked.items()}
    return {str(subject): (of_family[family], "the same family") for subject, family in families.items() if family in of_family}
