"""Tasks of meta-learning: from each source of subjects some to adapt on and others to be good at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from graphssl.data.classes import classes_of
from graphssl.data.cohort import Cohort
from graphssl.errors import DataError, LeakageError

ALL = 0  # the one class of all subjects, where tasks have no labels


@dataclass(frozen=True, eq=False)
class Source:
    """A dataset from which tasks are drawn: the subjects of a site, a cohort, or a disease.

    Args:
        name: Name for reports, weights and errors.
        cohort: The subjects; those of other sources may be in other atlases, and have other columns.
        target: Column to predict; None where tasks have no labels, for objectives that need none.
        classes: Names of the classes in order, the positive one last; sorted when left out.

    Raises:
        SchemaError: If the target is not in the table.
        DataError: If fewer than two classes are present, or one was not named.
    """

    name: str
    cohort: Cohort
    target: str | None = None
    classes: tuple[str, ...] | None = None
    labels: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        if self.target is None:
            object.__setattr__(self, "labels", dict.fromkeys(self.cohort.ids, ALL))
            return
        names, numbers = classes_of(self.cohort, self.target, self.classes)
        object.__setattr__(self, "classes", names)
        object.__setattr__(self, "labels", numbers)

    def __repr__(self) -> str:
        counts = "" if self.classes is None else ", " + ", ".join(f"{name} {n}" for name, n in zip(self.classes, self.counts, strict=True))
        return f"Source({self.name!r}, {len(self.labels)} subjects{counts})"

    @property
    def n_classes(self) -> int:
        """Number of classes; one without labels."""
        return 1 if self.classes is None else len(self.classes)

    @property
    def counts(self) -> list[int]:
        """Subjects of each class."""
        return np.bincount(list(self.labels.values()), minlength=self.n_classes).tolist()

    @cached_property
    def families(self) -> dict[str, list[str]]:
        """Subjects that tasks may take, by family: those who are linked by repeated scans or kinship."""
        families: dict[str, list[str]] = {}
        for subject, family in self.cohort.groups.items():
            if subject in self.labels:
                families.setdefault(family, []).append(str(subject))
        return families


@dataclass(frozen=True)
class Task:
    """Some subjects of a source to adapt on, others to be good at.

    Args:
        source: Name of the source.
        support: Subjects to adapt on, class by class.
        query: Subjects on which the adapted parameters are judged, class by class.
        support_labels: Class of each; `0` for all without labels.
        query_labels: Likewise.

    Raises:
        LeakageError: If a subject stands on both sides.
    """

    source: str
    support: tuple[str, ...]
    query: tuple[str, ...]
    support_labels: tuple[int, ...]
    query_labels: tuple[int, ...]

    def __post_init__(self) -> None:
        both = sorted(set(self.support) & set(self.query))
        if both:
            raise LeakageError(f"Expected no subject in both support and query of a task of {self.source!r}, found {both[:5]}.")


class TaskSampler:
    """Draws tasks: as many subjects of each class in support and in query, no two of one family.

    What is drawn depends on the seed, the step and the source's name only, so that a resumed run sees what an unbroken one would have seen, and a
    source that is added or left out changes nothing in the others.

    Args:
        sources: Where tasks come from.
        n_support: Subjects of each class to adapt on; of all subjects, where there are no labels.
        n_query: Subjects of each class to be good at.
        seed: Seed of the draws.

    Raises:
        DataError: If there is no source, two have one name, a number is below one, sources have no common target, or one has too few subjects (or
            families) of a class.
    """

    def __init__(self, sources: Sequence[Source], n_support: int = 10, n_query: int = 10, seed: int = 0) -> None:
        self.sources, self.n_support, self.n_query, self.seed = tuple(sources), n_support, n_query, seed
        if n_support < 1 or n_query < 1:
            raise DataError(f"Expected at least one subject of each class in support and query, found {n_support} and {n_query}.")
        check_sources(self.sources)
        for source in self.sources:
            self._draw(source, 0)

    def draw(self, step: int) -> list[Task]:
        """A task of each source.

        Args:
            step: Number of the draw.
        """
        return [self._draw(source, step) for source in self.sources]

    def _draw(self, source: Source, step: int) -> Task:
        # A name of letters is part of the seed, so that sources are independent of one another.
        generator = np.random.default_rng([self.seed, step, *source.name.encode()])
        n_each = self.n_support + self.n_query
        members = _one_a_family(source, n_each, generator)
        sides: list[list[str]] = [[], []]
        for label in range(source.n_classes):
            of_class = [subject for subject in members if source.labels[subject] == label]
            self._check_enough(source, label, len(of_class))
            sides[0] += of_class[: self.n_support]
            sides[1] += of_class[self.n_support : n_each]
        support, query = (tuple(side) for side in sides)
        return Task(source.name, support, query, *(tuple(source.labels[s] for s in side) for side in (support, query)))

    def _check_enough(self, source: Source, label: int, found: int) -> None:
        needed = self.n_support + self.n_query
        if found >= needed:
            return
        what = "subjects" if source.classes is None else f"subjects of the class {source.classes[label]!r}"
        families = "" if len(source.families) == len(source.labels) else ", one of each family"
        raise DataError(
            f"Expected at least {needed} {what} in source {source.name!r} ({self.n_support} support, {self.n_query} query{families}), found {found}. "
            "Take smaller tasks, or leave the source out."
        )


def check_sources(sources: Sequence[Source]) -> None:
    """Check that tasks of all sources can be learned together: names differ, and all have labels of as many classes, or none has.

    Raises:
        DataError: If not.
    """
    if not sources:
        raise DataError("Expected at least one source of tasks, found none.")
    names = [source.name for source in sources]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"Expected sources of different names, found {repeated[:5]} more than once.")
    kinds = {source.n_classes: source for source in sources}
    if len(kinds) > 1:
        told = "; ".join(f"{source.name!r} {source.target!r} with {n} classes" if n > 1 else f"{source.name!r} none" for n, source in kinds.items())
        raise DataError(
            f"Expected a common target of all sources, with as many classes in each, found {told}. "
            "Name a target of the same meaning in each, or learn without labels: target=None."
        )


def sources_by_site(
    cohort: Cohort,
    *,
    target: str | None = None,
    classes: Sequence[str] | None = None,
    min_subjects: int = 1,
) -> list[Source]:
    """The sites of a cohort as sources, by name; subjects without a label are left out where there is a target.

    Args:
        cohort: The cohort.
        target: Column to predict; None for tasks without labels.
        classes: Names of the classes in order; sorted over the whole cohort when left out.
        min_subjects: Sites with fewer subjects of a class are left out.

    Raises:
        DataError: If the cohort has no sites, or none is left.
        SchemaError: If the target is not in the table.
    """
    if cohort.sites is None:
        raise DataError(f"Expected {cohort.name!r} to have a column with the role 'site', found none. Make a Source of the whole cohort.")
    labels = None if target is None else cohort.target(target).dropna().astype(str)
    names = None if labels is None else tuple(classes) if classes is not None else tuple(sorted(labels.unique()))
    known = cohort.sites if labels is None else cohort.sites[labels.index]
    found = []
    for site in sorted(known.unique()):
        members = known.index[known == site]
        counts = [len(members)] if labels is None else [int((labels[members] == name).sum()) for name in names or ()]
        if min(counts) >= max(1, min_subjects):
            found.append(Source(site, cohort.select(members.tolist()), target, names))
    if not found:
        raise DataError(f"Expected a site of {cohort.name!r} with at least {min_subjects} subjects of each class, found none. Ask for fewer.")
    return found


def _one_a_family(source: Source, n_each: int, generator: np.random.Generator) -> list[str]:
    """One member of each family in random order; members of a class that would fall short are preferred."""
    order = generator.permutation(len(source.families))
    families = [list(source.families.values())[k] for k in order]
    chosen = [family[int(generator.integers(len(family)))] for family in families]
    counts = np.bincount([source.labels[subject] for subject in chosen], minlength=source.n_classes)
    for label in range(source.n_classes):
        for place, family in enumerate(families):
            now = source.labels[chosen[place]]
            others = [subject for subject in family if source.labels[subject] == label]
            if counts[label] >= n_each or now == label or not others or counts[now] <= n_each:
                continue
            chosen[place] = others[int(generator.integers(len(others)))]
            counts[now] -= 1
            counts[label] += 1
    return chosen
