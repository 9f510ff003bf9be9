"""What is left to do before a cohort of somebody's own can be learned from."""

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from graphssl.atlases import guess_atlases, list_atlases
from graphssl.data.atlas import Atlas
from graphssl.data.cohort import Cohort
from graphssl.datasets.stand_ins import UNNAMED
from graphssl.datasets.tables import FIRST_ROW


def advice(cohort: Cohort) -> list[str]:
    """What to name, complete or mend in a cohort, a sentence each; nothing where it can be used as it is."""
    said = (_labels_advice, _ids_advice, _copies_advice, _values_advice, _files_advice, _sites_advice)
    return [line for advise in said for line in advise(cohort)]


def atlas_advice(regions: Atlas) -> str:
    """What to say where an atlas is needed and files give but a stand-in for it."""
    named = [name for name in regions.names if name]
    carried = f"called {shortened(named)}" if named else f"with the labels {shortened(regions.labels.tolist())}"
    guesses = guess_atlases(regions)
    perhaps = f" Perhaps {' or '.join(guesses)}." if guesses else ""
    whose, name = ("The files", "NAME") if regions.name == UNNAMED else (f"Files of {regions.name!r}", regions.name)
    return (
        f"{whose} have {len(regions)} regions, {carried}, and say not where these are.{perhaps} Give the atlas the data were made with: "
        f"--atlas '{name}=FILE', where FILE is a table (label, name, x, y, z) or a label volume, or one of the names {', '.join(list_atlases())}."
    )


def shortened(values: Sequence[Any]) -> str:
    """A list in a few words: the first ones and the last."""
    words = [str(value) for value in values]
    return ", ".join(words) if len(words) <= SHOWN else f"{', '.join(words[:4])} … {words[-1]}"


def as_options(message: str, names: Sequence[str]) -> str:
    """A message in the words of the command line: `select=["ses-1"]` is `--select ses-1` there.

    Args:
        message: The message, in the words of Python.
        names: Arguments that are options of the command.
    """

    def option(found: "re.Match[str]") -> str:
        value = found["value"]
        if value.startswith("["):
            words = re.findall(r"[\"']([^\"']+)[\"']", value)
            value = words[0] if len(words) == 1 else f"[{', '.join(words)}]"
        value = value.strip("\"'")
        quoted = f"'{value}'" if re.search(r"[\s*\[]", value) else value
        return f"--{found['name']} {value.lower() if value in ('True', 'False') else quoted}"

    return re.sub(rf"\b(?P<name>{'|'.join(names)})=(?P<value>\[[^\]]*\]|\"[^\"]*\"|'[^']*'|True|False|…|[\w-]+)", option, message)


def _labels_advice(cohort: Cohort) -> list[str]:
    columns = [column.name for column in cohort.schema if column.role == "feature"]
    if any(images.has_masks for images in cohort.images.values()) and not cohort.schema.named("target"):
        return []  # the masks are what is to be predicted
    if not len(cohort.schema):
        return ["give a table of participants (--participants FILE) and name its columns to predict (--target) and of the site (--site)"]
    if not cohort.schema.named("target"):
        there = f", such as {shortened(columns)}" if columns else ""
        return [f"name the column to predict with --target{there}; without one the data serve for pre-training only"]
    found = []
    for name in cohort.schema.named("target"):
        classes = cohort.subjects[name].dropna().unique()
        if len(classes) < 2:
            found.append(f"the target {name!r} has {'one class only' if len(classes) else 'no labels'}: nothing can be learned from it")
    return found


def _ids_advice(cohort: Cohort) -> list[str]:
    """What a table does not say: who its rows are, and anything to learn from."""
    found = []
    if cohort.ids[0] == FIRST_ROW:
        found.append("no column of ids was found, so rows are numbered: name it with --id_column, or the same patient has another id in another file")
    read = [c for c in cohort.schema if c.role in ("feature", "covariate") and c.kind not in ("text", "timestamp")]
    if len(cohort.schema) and not (read or cohort.regions or cohort.images or cohort.events):
        found.append("there is nothing to learn from: no column of numbers or categories, no scans, no events, no images")
    return found


def _copies_advice(cohort: Cohort) -> list[str]:
    """One image under several ids would stand on both sides of a split."""
    groups, found = cohort.groups, []
    for data in cohort.images.values():
        people = data.table.assign(person=data.table["subject_id"].astype(str).map(groups))
        owners = people.drop_duplicates(["hash", "part", "person"]).groupby(["hash", "part"]).size()
        n_copied = int((owners > 1).sum())
        if n_copied:
            found.append(
                f"{n_copied} {data.noun}{'s are' if n_copied > 1 else ' is'} there under several ids, with the same content: leave the copies "
                "out, or give these rows one person, for a split would put them on both sides"
            )
    return found


def _values_advice(cohort: Cohort) -> list[str]:
    """What tables of many hands hold: one word in several spellings, numbers that stand for nothing, and numbers that are none."""
    found = []
    for column in cohort.schema:
        values = cohort.subjects[column.name].dropna()
        if column.kind in ("binary", "categorical") and column.role in ("target", "site"):
            words = pd.Series(values.astype(str).unique())
            alike = words.groupby(words.str.casefold()).agg(list)
            several = [" and ".join(spellings) for spellings in alike if len(spellings) > 1]
            if several:
                found.append(f"the {column.role} {column.name!r} has one word in several spellings: {shortened(several)}. Write them alike")
        elif column.kind == "continuous":
            odd = values[_stands_for_nothing(values)]
            if len(odd):
                found.append(f"{column.name!r} holds {odd.iloc[0]:g} ({len(odd)}), which looks like a missing value: leave such cells empty")
            far = values.drop(odd.index)[_is_far(values.drop(odd.index))]
            if len(far):
                found.append(f"{column.name!r} holds {far.iloc[0]:.10g} ({len(far)}), far from all others: correct it, or leave such cells empty")
    return [*found, *_words_advice(cohort)]


def _stands_for_nothing(values: "pd.Series[Any]") -> "pd.Series[bool]":
    """Nines: negative ones among numbers that are not, or positive ones thrice as large as all others."""
    nines = values.abs().isin(_NINES)
    rest = values[~nines]
    if rest.empty or rest.min() < 0:
        return nines & False
    return nines & ((values < 0) | (values > 3 * rest.max()))


def _is_far(values: "pd.Series[Any]") -> "pd.Series[bool]":
    """Few numbers, thousands of times further from the median than the middle half of them reaches."""
    numbers = values.astype("float64")
    low, median, high = numbers.quantile([0.25, 0.5, 0.75])
    far = (numbers - median).abs() > _FAR * (high - low)
    return far & (low < high) & (20 * far.sum() <= len(far))


def _words_advice(cohort: Cohort) -> list[str]:
    """Columns of numbers that are read as words, for some cells are none (`<0.5`, `pending`, 12,000)."""
    found = []
    for column in cohort.schema:
        if column.kind not in ("text", "categorical") or column.role not in ("feature", "covariate"):
            continue
        text = cohort.subjects[column.name].dropna().astype(str).str.strip()
        words = text[pd.to_numeric(text, errors="coerce").isna()]
        if len(words) and text.str.fullmatch(_DATE).all():
            found.append(f"{column.name!r} holds dates that are read as words: write them as year-month-day")
        elif len(words) and pd.to_numeric(text.str.replace(r"(?<=\d)[,.'’\s](?=\d)|\s*%$", "", regex=True), errors="coerce").notna().all():
            found.append(
                f"{column.name!r} holds numbers with commas or the like, which are read as words: write them with a decimal point and no other mark"
            )
        elif 0 < 2 * len(words) <= len(text) and words.nunique() <= SHOWN:
            found.append(
                f"{column.name!r} is read as words, for {len(words)} of {len(text)} cells are no numbers: correct them, or say with --missing which "
                "words stand for nothing"
            )
    return found


def _files_advice(cohort: Cohort) -> list[str]:
    without = int(cohort.excluded["reason"].str.contains(_NO_FILE).sum())
    if without <= len(cohort):
        return []
    n_all = without + len(cohort)
    return [f"{without} of {n_all} subjects of the table have no file: complete the download, or give the folder that has them"]


def _sites_advice(cohort: Cohort) -> list[str]:
    sites = cohort.sites
    if sites is None:
        return ["name the column of the site with --site, or scores cannot be checked on unseen sites"] if len(cohort.schema) else []
    counts = pd.Series(sites.value_counts())
    if len(counts) == 1:
        return [f"there is one site only ({counts.index[0]}), so no site can be left out: evaluate with k_fold, and on a cohort of another place"]
    alone = counts[counts < 2].index.tolist()
    found = [f"sites with one subject cannot be left out: {shortened(alone)}"] if alone else []
    for name in cohort.schema.named("target"):
        labels = cohort.subjects[name].dropna()
        if labels.nunique() < 2 or cohort.schema[name].kind == "continuous":
            continue
        n_classes = labels.groupby(sites[labels.index]).nunique()
        single = [site for site in n_classes.index[n_classes < 2] if site not in alone]
        if single:
            found.append(f"sites with one class of {name!r} only give no AUROC, and a model may tell classes by the scanner: {shortened(single)}")
    return found


SHOWN = 8
_FAR = 1e4
_DATE = r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}(?:[ T].*)?"
# Numbers that stand for "not known" in tables of non-negative ones, also with a minus.
_NINES = (9, 99, 999, 9999, 99999, 999999, 9999999, 99999999)
# How the adapters say that a subject of the table has no scan at hand.
_NO_FILE = "in the table, without a file|^no file, or no region with a signal"
