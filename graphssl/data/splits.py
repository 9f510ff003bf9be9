"""Splits by subject: k-fold, leave-one-site-out, hold-out and label fractions, with a guard against leakage.

Functions take plain columns aligned with the subject ids and return `Split`s of ids; they are deterministic in their seed.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from graphssl.errors import DataError, LeakageError


@dataclass(frozen=True)
class Split:
    """Training and test subjects.

    Args:
        name: Name of the fold, such as the site left out.
        train: Ids of the training subjects.
        test: Ids of the test subjects.

    Raises:
        LeakageError: If a subject stands on both sides.
        DataError: If a side is empty.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        both = sorted(set(self.train) & set(self.test))
        if both:
            raise LeakageError(f"Expected no subject on both sides of split {self.name!r}, found {_some(both)}. Remove them from one side.")
        for side in ("train", "test"):
            if not getattr(self, side):
                raise DataError(f"Expected at least one {side} subject in split {self.name!r}, found none.")

    @property
    def hash(self) -> str:
        """Twelve hex digits over the ids of both sides."""
        text = "\n".join(sorted(self.train)) + "\n--\n" + "\n".join(sorted(self.test))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def check(self, groups: Mapping[str, str], what: str = "family or repeated scans") -> "Split":
        """Check that no group has members on both sides; returns the split.

        Args:
            groups: Group by subject id.
            what: Name of the groups for the message.

        Raises:
            LeakageError: If a group has; names its subjects.
        """
        shared = {groups[s] for s in self.train} & {groups[s] for s in self.test}
        if shared:
            ids = [s for s in (*self.train, *self.test) if groups[s] in shared]
            raise LeakageError(
                f"Expected each {what} on one side of split {self.name!r}, found {len(shared)} on both: {_some(sorted(shared))} "
                f"(subjects {_some(ids)}). Keep their members together, or leave them out."
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.name, "hash": self.hash, "train": list(self.train), "test": list(self.test)}


def published(ids: Sequence[str], column: Sequence[Any], *, name: str, groups: Sequence[Any] | None = None) -> Split:
    """A split that somebody published, from a column that says `train`, `val` or `test` of each subject.

    Validation subjects join the training side: what is fitted chooses on subjects of its own. A subject of neither part is left out.

    Args:
        ids: Subject ids.
        column: Part of each subject.
        name: Name of the split.
        groups: Family of each subject.

    Raises:
        LeakageError: If a family spans both sides.
        DataError: If a part has another name, or a side is empty.
    """
    parts = [None if value is None or value != value else str(value) for value in column]
    odd = sorted({part for part in parts if part is not None} - {*_TRAINING_PARTS, "test"})
    if odd:
        raise DataError(f"Expected the parts {', '.join(_TRAINING_PARTS)} and test in the split {name!r}, found {_some(odd)}. Rename them.")
    train = tuple(s for s, part in zip(ids, parts, strict=True) if part in _TRAINING_PARTS)
    split = Split(name, train, tuple(s for s, part in zip(ids, parts, strict=True) if part == "test"))
    return split if groups is None else split.check(dict(zip(ids, map(str, groups), strict=True)))


_TRAINING_PARTS = ("train", "val", "validation")


def k_fold(ids: Sequence[str], labels: Sequence[Any], *, groups: Sequence[Any] | None = None, n_splits: int = 5, seed: int = 0) -> list[Split]:
    """Stratified folds in which no group is cut.

    Args:
        ids: Subject ids `[n]`.
        labels: What to stratify by `[n]`.
        groups: Group of each subject `[n]`; every subject for itself when left out.
        n_splits: Number of folds.
        seed: Seed of the shuffle.

    Raises:
        DataError: If there are fewer groups, or fewer subjects of a class, than folds.
    """
    members = list(ids) if groups is None else [str(group) for group in groups]
    classes = Counter(map(str, labels))
    rare = {label: n for label, n in classes.items() if n < n_splits}
    if rare or len(set(members)) < n_splits:
        raise DataError(
            f"Expected at least {n_splits} subjects of each class and {n_splits} groups for {n_splits} folds, "
            f"found classes {dict(classes)} and {len(set(members))} groups. Use fewer folds."
        )
    folds = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    array = np.asarray(ids, dtype=object)
    strata = np.asarray([str(label) for label in labels])
    by_id = dict(zip(ids, members, strict=True))
    return [
        Split(f"fold-{k}", tuple(array[train]), tuple(array[test])).check(by_id)
        for k, (train, test) in enumerate(folds.split(array, strata, members))
    ]


def leave_one_site_out(
    ids: Sequence[str],
    sites: Sequence[Any],
    *,
    groups: Sequence[Any] | None = None,
    min_test: int = 2,
) -> list[Split]:
    """One split a site: that site is the test set, all others train.

    Args:
        ids: Subject ids `[n]`.
        sites: Site of each subject `[n]`.
        groups: Family or repeated scans of each subject `[n]`.
        min_test: Smallest site that can be a test set.

    Raises:
        DataError: If there is one site only, or a site has fewer than `min_test` subjects.
        LeakageError: If a group spans two sites.
    """
    counts = Counter(map(str, sites))
    if len(counts) < 2:
        raise DataError(f"Expected at least two sites to leave one out, found {sorted(counts)}. Use k-fold cross-validation instead.")
    small = {site: n for site, n in counts.items() if n < min_test}
    if small:
        raise DataError(
            f"Expected at least {min_test} subjects in every site, found {small}. A score on so few says nothing: "
            "merge the site with its neighbour or leave it out."
        )
    by_id = {i: str(group) for i, group in zip(ids, groups, strict=True)} if groups is not None else {i: i for i in ids}
    names = np.asarray([str(site) for site in sites])
    array = np.asarray(ids, dtype=object)
    return [Split(site, tuple(array[names != site]), tuple(array[names == site])).check(by_id) for site in sorted(counts)]


def time_ordered(ids: Sequence[str], times: Sequence[Any], *, groups: Sequence[Any] | None = None, n_splits: int = 5) -> list[Split]:
    """Splits that train on the past and test on what came next.

    Subjects are cut into `n_splits + 1` parts in order of time; each part but the first is tested, by what lies before it. Subjects of one time stand
    on one side. Who belongs to a family that is tested does not train there, though it was seen before.

    Args:
        ids: Subject ids `[n]`.
        times: Time of each subject `[n]`, such as its prediction time.
        groups: Family or repeated scans of each subject `[n]`.
        n_splits: Number of splits.

    Raises:
        DataError: If a time is missing, or the subjects have too few times for so many splits.
    """
    order = pd.Series(list(times), index=pd.Index(list(ids), dtype="str"))
    if order.isna().any():
        raise DataError(f"Expected a time for every subject, found none for {_some(order.index[order.isna()].tolist())}. Leave them out.")
    family = order.index.to_series() if groups is None else pd.Series([str(group) for group in groups], index=order.index)
    ranked = np.sort(order.to_numpy())
    cuts = [ranked[len(ranked) * part // (n_splits + 1)] for part in range(1, n_splits + 1)]
    if len(set(cuts)) < n_splits or ranked[0] == cuts[0]:
        raise DataError(
            f"Expected at least {n_splits + 1} different times, spread over the subjects, for {n_splits} splits, found {order.nunique()}. "
            "Use fewer splits."
        )
    splits = []
    for k, cut in enumerate(cuts):
        tested = (order >= cut) & ((order < cuts[k + 1]) if k + 1 < n_splits else True)
        trained = (order < cut) & ~family.isin(set(family[tested]))
        splits.append(Split(f"period-{k + 1}", tuple(order.index[trained]), tuple(order.index[tested])))
    return splits


def hold_out(
    ids: Sequence[str],
    labels: Sequence[Any] | None = None,
    *,
    groups: Sequence[Any] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Split:
    """One random split, stratified where labels are given, with groups kept together.

    Args:
        ids: Subject ids `[n]`.
        labels: What to stratify by `[n]`.
        groups: Group of each subject `[n]`.
        test_fraction: Share of the subjects held out, in (0, 0.5]; one group where that would be less than one.
        seed: Seed of the draw.

    Raises:
        DataError: If the fraction is out of range or the subjects are too few.
    """
    if not 0 < test_fraction <= 0.5:
        raise DataError(f"Expected a test fraction in (0, 0.5], found {test_fraction}.")
    n_groups = len(set(ids if groups is None else map(str, groups)))
    n_splits = max(2, min(round(1 / test_fraction), n_groups))
    strata = ["all"] * len(ids) if labels is None else [str(label) for label in labels]
    fold = k_fold(ids, strata, groups=groups, n_splits=n_splits, seed=seed)[0]
    return Split("hold-out", fold.train, fold.test)


def label_fraction(ids: Sequence[str], labels: Sequence[Any], fraction: float, *, seed: int = 0) -> tuple[str, ...]:
    """The subjects whose labels are used, the same share of every class and at least two of each.

    For one seed the sets are nested: those of 5 % are among those of 10 %.

    Args:
        ids: Subject ids `[n]`.
        labels: Class of each subject `[n]`.
        fraction: Share of the labels, in (0, 1].
        seed: Seed of the draw.

    Raises:
        DataError: If the fraction is out of range or a class has fewer than two subjects.
    """
    if not 0 < fraction <= 1:
        raise DataError(f"Expected a label fraction in (0, 1], found {fraction}.")
    if fraction == 1:
        return tuple(ids)
    orders = _orders(labels, seed)
    few = {label: len(order) for label, order in orders.items() if len(order) < 2}
    if few:
        label, n = next(iter(few.items()))
        raise DataError(f"Expected at least two subjects of class {label!r} to draw a label fraction, found {n}.")
    return _first(ids, orders, {label: max(2, round(fraction * len(order))) for label, order in orders.items()})


def label_shots(ids: Sequence[str], labels: Sequence[Any], n_shots: int, *, seed: int = 0) -> tuple[str, ...]:
    """The subjects whose labels are used, the same number of every class.

    For one seed the sets are nested: those of one shot are among those of five.

    Args:
        ids: Subject ids `[n]`.
        labels: Class of each subject `[n]`.
        n_shots: Labelled subjects of each class.
        seed: Seed of the draw.

    Raises:
        DataError: If there is to be none, or a class has fewer subjects.
    """
    orders = _orders(labels, seed)
    rarest = min(map(len, orders.values()))
    if not 1 <= n_shots <= rarest:
        raise DataError(f"Expected between one labelled subject of each class and the {rarest} that the rarest has, found n_shots={n_shots}.")
    return _first(ids, orders, dict.fromkeys(orders, n_shots))


def label_imbalance(ids: Sequence[str], labels: Sequence[Any], ratio: float, *, rare: Any = None, seed: int = 0) -> tuple[str, ...]:
    """The subjects whose labels are used, such that the rare class has one for every `ratio` of each other class.

    As many of the others are kept as there can be, so that only the rare class shrinks where it is rarer than it was. For one seed the sets of the
    rare class are nested. It keeps two at least, and no class gets more than it has.

    Args:
        ids: Subject ids `[n]`.
        labels: Class of each subject `[n]`.
        ratio: How many times as many subjects each other class has, from 1.
        rare: The class that becomes rare; the rarest of those present when left out, which may differ from split to split.
        seed: Seed of the draw.

    Raises:
        DataError: If the ratio is below 1, there is one class, a class has fewer than two subjects, or the rare one is none of them.
    """
    orders = _orders(labels, seed)
    counts = {label: len(order) for label, order in orders.items()}
    if ratio < 1 or len(counts) < 2 or min(counts.values()) < 2:
        raise DataError(f"Expected a ratio of classes from 1 and two subjects or more of two classes or more, found {ratio:g} and {counts}.")
    scarce = min(counts, key=lambda label: (counts[label], label)) if rare is None else str(rare)
    if scarce not in counts:
        raise DataError(f"Expected the rare class to be one of {list(counts)}, found {scarce!r}. Name one of them.")
    common = min(count for label, count in counts.items() if label != scarce)
    n_rare = max(2, min(counts[scarce], round(common / ratio)))
    kept = {label: n_rare if label == scarce else min(count, max(2, round(n_rare * ratio))) for label, count in counts.items()}
    return _first(ids, orders, kept)


def _orders(labels: Sequence[Any], seed: int) -> dict[str, npt.NDArray[np.int64]]:
    """Members of each class in an order drawn for the class, so that larger draws hold smaller ones and classes do not move one another."""
    classes = np.asarray([str(label) for label in labels])
    orders = {}
    for label in sorted(set(classes.tolist())):
        digest = hashlib.sha256(label.encode()).digest()
        generator = np.random.default_rng([seed, int.from_bytes(digest[:4], "big")])
        orders[label] = generator.permutation(np.flatnonzero(classes == label))
    return orders


def _first(ids: Sequence[str], orders: Mapping[str, npt.NDArray[np.int64]], counts: Mapping[str, int]) -> tuple[str, ...]:
    """The first so many members of each class, in the order of the ids."""
    kept = {int(index) for label, order in orders.items() for index in order[: counts[label]]}
    return tuple(subject for index, subject in enumerate(ids) if index in kept)


def stratum(*columns: Sequence[Any] | npt.NDArray[Any]) -> list[str]:
    """One label a subject from several columns, to stratify by all of them at once."""
    return ["|".join(map(str, values)) for values in zip(*columns, strict=True)]


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
