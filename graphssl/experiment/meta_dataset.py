"""Datasets of a meta-training in a configuration: a cohort of which sources, or a target, are made."""

from dataclasses import dataclass, replace

from graphssl.experiment.cohort_source import CohortSource, of_sites
from graphssl.training.meta import Source, sources_by_site


@dataclass(frozen=True)
class Dataset:
    """A cohort of which sources, or the target, are made.

    Args:
        cohort: Where it comes from: a path, or an adapter, and the arguments.
        target: Column to predict; no labels are read when left out.
        classes: Names of the classes in order, the positive one last.
        sites: Sites to take; all when left out.
        without_sites: Sites to leave out.
        by_site: Whether each site is a source; the whole cohort is one when false.
        name: Name of the source where the cohort is one; the cohort's when left out. Before the site where a name is given and there are several.
        min_subjects: Sites with fewer subjects of a class are left out.
    """

    cohort: CohortSource
    target: str | None = None
    classes: tuple[str, ...] | None = None
    sites: tuple[str, ...] | None = None
    without_sites: tuple[str, ...] = ()
    by_site: bool = True
    name: str | None = None
    min_subjects: int = 1

    def load(self) -> list[Source]:
        """The sources.

        Raises:
            ConfigError: If a site is named that the cohort does not have.
            InputError: If the cohort cannot be read, or has no such target.
        """
        cohort = of_sites(self.cohort.load()[0], self.sites, self.without_sites)
        if not self.by_site or cohort.sites is None:
            return [Source(self.name or cohort.name, cohort, self.target, self.classes)]
        found = sources_by_site(cohort, target=self.target, classes=self.classes, min_subjects=self.min_subjects)
        return found if self.name is None else [replace(source, name=f"{self.name} {source.name}") for source in found]
