"""Harmonise a saved cohort, or apply what was fitted elsewhere, and say how well the site can be read before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.harmonize import UnseenPolicy
from graphssl.errors import ConfigError, DataError
from graphssl.evaluation.audits import leading_components, site_probe
from graphssl.experiment.sources import several
from graphssl.graphs.harmonize import CohortHarmonizer


@dataclass(frozen=True)
class Harmonization:
    """What to harmonise, and from whom to learn it.

    Args:
        cohort: Cohort folder, from graphssl build.
        out: Cohort folder to write; the fitted harmoniser goes to its subfolder harmonizer.
        covariates: Columns whose effects are kept, such as age and sex.
        fit_sites: Sites to fit on; all when left out.
        fit_subjects: File of the subjects to fit on, one id a line; all when left out.
        unseen: What to do with sites that were not fitted: error, pooled (leave them as they are) or estimate (from all their scans together).
            error when left out; with apply, what the harmoniser was fitted with.
        apply: Folder of a fitted harmoniser to apply instead of fitting one.
    """

    cohort: str
    out: str
    covariates: Sequence[str] | str = ()
    fit_sites: Sequence[str] | str = ()
    fit_subjects: str | None = None
    unseen: UnseenPolicy | None = None
    apply: str | None = None


def run_harmonize(settings: Harmonization) -> tuple[str, dict[str, Any]]:
    """Write a harmonised cohort and, where one was fitted, the harmoniser.

    Returns:
        What was done, as text for a person and as a record for a machine.

    Raises:
        ConfigError: If options do not go together.
        InputError: If cohort or harmoniser cannot be read, or do not fit; nothing is written.
    """
    _check(settings)
    cohort = Cohort.load(settings.cohort)
    if settings.apply is not None:
        harmonizer, fitted = CohortHarmonizer.load(settings.apply), f"as fitted in {settings.apply}"
        harmonizer.set_params(unseen=settings.unseen or harmonizer.unseen)
    else:
        training = _training_part(cohort, settings)
        harmonizer = CohortHarmonizer(several(settings.covariates), settings.unseen or "error").fit(training)
        fitted = f"on {'all ' if len(training) == len(cohort) else ''}{len(training)} of {len(cohort)} subjects"
    harmonized = harmonizer.transform(cohort)
    probe = _probe(cohort, harmonized)
    written = harmonized.save(settings.out)
    sites = sorted({str(site) for part in harmonizer.harmonizers_.values() for site in part.sites_})
    record = {
        "fitted": fitted,
        "fitted_sites": sites,
        "unseen_sites": sorted(set(_site_names(cohort)) - set(sites)),
        "unseen": harmonizer.unseen,
        "covariates": list(harmonizer.covariates),
        "site_probe": probe,
        "harmonizer": settings.apply or str(harmonizer.save(written / "harmonizer")),
        "written": str(written),
        "hash": harmonized.hash,
    }
    return _text(record), record


def _check(settings: Harmonization) -> None:
    if settings.apply is not None and (settings.covariates or settings.fit_sites or settings.fit_subjects):
        raise ConfigError("Expected either --apply or what to fit on, found both. A fitted harmoniser has its own covariates and subjects.")
    target = Path(settings.out).resolve()
    for source in (settings.cohort, settings.apply):
        if source is not None and (Path(source).resolve() == target or target in Path(source).resolve().parents):
            raise ConfigError(
                f"Expected another folder to write than the one that is read, found {settings.out} to hold {source}. Give another --out."
            )


def _training_part(cohort: Cohort, settings: Harmonization) -> Cohort:
    chosen = set(cohort.ids)
    if settings.fit_sites:
        wanted = set(several(settings.fit_sites))
        absent = sorted(wanted - set(_site_names(cohort)))
        if absent:
            raise DataError(f"Expected sites of {cohort.name!r} ({', '.join(sorted(set(_site_names(cohort))))}), found {absent[0]!r}.")
        chosen &= {subject for subject, site in zip(cohort.ids, _site_names(cohort), strict=True) if site in wanted}
    if settings.fit_subjects is not None:
        chosen &= set(_listed_subjects(cohort, Path(settings.fit_subjects)))
    if not chosen:
        raise DataError("Expected subjects to fit on, found none that are both at the chosen sites and in the list.")
    return cohort.select([subject for subject in cohort.ids if subject in chosen])


def _listed_subjects(cohort: Cohort, path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"Expected a file of subject ids at {path}, one a line; found none.")
    ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return cohort.select(ids).ids if ids else []


def _site_names(cohort: Cohort) -> list[str]:
    return [] if cohort.sites is None else cohort.sites.tolist()


def _probe(before: Cohort, after: Cohort) -> dict[str, Any] | None:
    """Balanced accuracy of the site, read from connectivity before and after; None where sites are too few or too small."""
    scanned = [subject for subject in before.ids if any(subject in data.values for data in after.regions.values())]
    parts = {"before": before.select(scanned), "after": after.select(scanned)}
    sites = pd.Series(_site_names(parts["before"]))
    if sites.nunique() < 2 or sites.value_counts().min() < 2:
        return None
    features = {name: leading_components(part, list(after.regions)) for name, part in parts.items()}
    found = site_probe(features, sites.tolist(), cohort=before.name)
    scores = {name: float(np.mean([result.value for result in found if result.method == name])) for name in features}
    return {**scores, "chance": 1 / sites.nunique(), "metric": "balanced_accuracy"}


def _text(record: dict[str, Any]) -> str:
    kept = ", ".join(record["covariates"]) or "none: what differs between sites goes, differences of age and sex included"
    lines = [f"Harmonised {record['fitted']}, sites {', '.join(record['fitted_sites'])}", f"Effects kept   {kept}"]
    if record["unseen_sites"]:
        lines.append(f"Unseen sites   {', '.join(record['unseen_sites'])}: {_POLICIES[record['unseen']]}")
    probe = record["site_probe"]
    if probe is None:
        lines.append("Site readable  not measured: fewer than two sites, or a site with one subject")
    else:
        lines.append(f"Site readable  {probe['before']:.3f} before, {probe['after']:.3f} after, {probe['chance']:.3f} by chance (balanced accuracy)")
        if probe["after"] < probe["chance"]:
            lines.append("               below chance: means made equal on the subjects of the fit, which says nothing of others")
    return "\n".join([*lines, f"Harmoniser     {record['harmonizer']}", f"Written to     {record['written']}"])


_POLICIES = {
    "pooled": "left as they are",
    "estimate": "estimated from all their scans in this cohort together",
}
