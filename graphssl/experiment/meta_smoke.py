"""The smallest meta-training: few subjects of each class, and simulated cohorts in place of absent ones."""

from jsonargparse import Namespace

from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.smoke import simulated_in_place, told_of_absent
from graphssl.training.meta import Source

N_SMALL = 8  # subjects of a class in a smoke run
_N_SITES, _N_SUBJECTS = 3, 50  # of a simulated cohort in the place of an absent one; subjects a site
_SIMULATED = {
    "simulate": ("n_subjects", "sites", "site", "diagnosis"),
    "simulate_table": ("n_subjects", "sites", "site", "died"),
    "simulate_stays": ("n_patients", "n_sites", "unit", "died"),
    "simulate_images": ("n_subjects", "n_sites", "site", "diagnosis"),
}


def first_subjects(source: Source, n_each: int) -> Source:
    """The first so many subjects of each class of a source."""
    taken: dict[int, list[str]] = {}
    for subject, label in source.labels.items():
        taken.setdefault(label, []).append(subject)
    few = [subject for members in taken.values() for subject in members[:n_each]]
    return Source(source.name, source.cohort.select(few), source.target, source.classes)


def stand_in_for_absent(parsed: Namespace) -> str:
    """Put simulated cohorts in place of those that are absent: of connectomes each another one, of records all of one, of other sites.

    Returns:
        What is said of it in the configuration, and on stderr.
    """
    datasets = [*parsed.sources, *([parsed.target] if parsed.target is not None else [])]
    nowhere = {place: _source(dataset.cohort).absent() for place, dataset in enumerate(datasets)}
    absent = [place for place, paths in nowhere.items() if paths]
    if not absent:
        return ""
    made = simulated_in_place(parsed, has_summary=any(dataset.cohort.get("summary") is not None for dataset in datasets))
    n_sites = _N_SITES * len(datasets)
    for place in absent:
        dataset, of_target = datasets[place], place == len(parsed.sources)
        sites = range(_N_SITES * place, _N_SITES * place + (1 if of_target else _N_SITES))
        # Name of the number of subjects and of sites, how a site is called, and the target.
        subjects, n_called, site, label = _SIMULATED[made["adapter"]]
        arguments = {**made["arguments"], subjects: _N_SUBJECTS * n_sites, n_called: n_sites}
        dataset.sites = [f"{site}-{k}" for k in sites]
        if made["adapter"] == "simulate":
            arguments |= {subjects: 48, n_called: len(sites), "seed": place, "name": f"simulated {place}"}
            dataset.sites = None
        dataset.cohort = Namespace({"adapter": made["adapter"], "arguments": arguments, "path": None, "summary": dataset.cohort.get("summary")})
        dataset.without_sites, dataset.classes, dataset.min_subjects = (), None, 1
        dataset.name = "target" if of_target else f"cohort {place}"
        dataset.target = None if dataset.target is None else label
    return f"# {told_of_absent(path for paths in nowhere.values() for path in paths)}\n"


def _source(told: Namespace) -> CohortSource:
    return CohortSource(told.get("adapter"), dict(told.get("arguments") or {}), told.get("path"))
