"""What is left to do with a cohort, a sentence each, in words that can be typed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Cohort, Column, Schema
from graphssl.datasets import load_tables, simulate_images
from graphssl.datasets.stand_ins import stand_in
from graphssl.experiment.source_advice import advice, as_options, atlas_advice, shortened


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(n_subjects=8)


def test_a_cohort_that_is_complete(cohort):
    assert advice(cohort) == []


def test_roles_that_are_missing(cohort):
    [target, site] = advice(Cohort("bare", cohort.subjects[["age"]], Schema([Column("age", "continuous")]), cohort.regions))
    assert target == "name the column to predict with --target, such as age; without one the data serve for pre-training only"
    assert site.startswith("name the column of the site with --site")


def test_no_table_at_all(cohort):
    [line] = advice(Cohort("bare", cohort.subjects[[]], Schema([]), cohort.regions))
    assert line.startswith("give a table of participants (--participants FILE)")


def test_a_site_with_one_subject(cohort):
    few = cohort.select([subject for subject, site in cohort.sites.items() if site == "site-0"] + ["sub-001"])
    assert advice(few) == ["sites with one subject cannot be left out: site-1"]


def test_one_site_and_sites_of_one_class(cohort):
    first = cohort.subjects.index[cohort.sites == "site-0"]
    assert advice(cohort.select(first.tolist())) == [
        "there is one site only (site-0), so no site can be left out: evaluate with k_fold, and on a cohort of another place"
    ]
    labels = cohort.sites.map(lambda site: "control" if site == "site-0" else None).fillna(cohort.subjects["diagnosis"])
    assert advice(cohort.with_column(cohort.schema["diagnosis"], labels)) == [
        "sites with one class of 'diagnosis' only give no AUROC, and a model may tell classes by the scanner: site-0"
    ]


@pytest.mark.parametrize(("value", "what"), [("control", "one class only"), (None, "no labels")])
def test_a_target_that_nothing_can_be_learned_from(cohort, value, what):
    one = cohort.with_column(cohort.schema["diagnosis"], pd.Series([value] * 8, index=cohort.subjects.index, dtype="str"))
    assert advice(one) == [f"the target 'diagnosis' has {what}: nothing can be learned from it"]


@pytest.mark.parametrize("n_without", [8, 9])
def test_a_download_that_is_far_from_complete(cohort, n_without):
    rows = pd.DataFrame({"what": "subject", "id": [f"s{k}" for k in range(n_without)], "reason": "in the table, without a file"}, dtype="str")
    found = advice(Cohort("part", cohort.subjects, cohort.schema, cohort.regions, rows))
    expected = ["9 of 17 subjects of the table have no file: complete the download, or give the folder that has them"]
    assert found == (expected if n_without > 8 else [])


def test_one_word_in_several_spellings(cohort):
    labels = pd.Series(["Control", "control", "Patient", "patient"] * 2, index=cohort.subjects.index, dtype="str")
    made = cohort.with_column(Column("dx", "categorical", "target", categories=("Control", "Patient", "control", "patient")), labels)
    assert advice(made) == [
        "the target 'dx' has one word in several spellings: Control and control, Patient and patient. Write them alike",
    ]


@pytest.mark.parametrize(
    ("values", "expected"), [([-9999.0, 12.5], "-9999"), ([-9999.0, -3.5], None), ([9.0, 12.5], None), ([999.0, 90.5], "999"), ([99.0, 88.5], None)]
)
def test_numbers_that_stand_for_nothing(cohort, values, expected):
    made = cohort.with_column(Column("age", "continuous", "covariate"), pd.Series(values * 4, index=cohort.subjects.index))
    found = advice(made)
    told = f"'age' holds {expected} (4), which looks like a missing value: leave such cells empty"
    assert found == ([] if expected is None else [told])


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        ("categorical", ["1.5", "<0.5", "2", "3"], "'crp' is read as words, for 2 of 8 cells are no numbers: correct them, or say with --missing"),
        ("text", ["1.5", "pending", "2", None], "'crp' is read as words, for 2 of 6 cells are no numbers: correct them"),
        ("text", ["12,000", "1,500", "90", "2"], "'crp' holds numbers with commas or the like, which are read as words: write"),
        ("text", ["1.234,5", "1'500", "1 000", "2"], "'crp' holds numbers with commas or the like, which are read as words: write"),
        ("categorical", ["50%", "60 %", "2", "3"], "'crp' holds numbers with commas or the like"),
        ("text", ["31.12.2020", "1/2/20", "3-4-2020 10:00", None], "'crp' holds dates that are read as words: write them as year-month-day"),
        ("categorical", ["a", "b", "c", "1"], None),
        ("categorical", ["1", "2", "3", "4"], None),
        ("text", [None, None, None, None], None),
    ],
)
def test_numbers_that_are_read_as_words(cohort, kind, words, expected):
    made = cohort.with_column(Column("crp", kind), pd.Series(words * 2, index=cohort.subjects.index, dtype="str"))
    found = advice(made)
    assert len(found) == (expected is not None)
    assert all(line.startswith(expected) for line in found)


def test_a_number_far_from_all_others():
    values = [*np.linspace(1, 2, 39), 12_345_678.0]
    found = advice(load_tables(pd.DataFrame({"patient_id": range(40), "crp": values}), target="crp"))
    assert "'crp' holds 12345678 (1), far from all others: correct it, or leave such cells empty" in found
    fine = pd.DataFrame({"patient_id": range(40), "crp": np.exp(np.linspace(-3, 6, 40)), "seldom": [0.0] * 38 + [5.0, 1e3]})
    assert not any("far from" in line for line in advice(load_tables(fine)))


def test_what_a_table_does_not_say():
    found = advice(load_tables(pd.DataFrame({"note": [f"text {k}" for k in range(30)], "died": ["yes", "no"] * 15}), target="died"))
    assert found[0].startswith("no column of ids was found, so rows are numbered: name it with --id_column")
    assert found[1] == "there is nothing to learn from: no column of numbers or categories, no scans, no events, no images"
    assert not any("ids" in line or "nothing" in line for line in advice(load_tables(pd.DataFrame({"id": [1, 2], "x": [0.5, 1.5]}))))


def test_an_image_under_two_ids(tmp_path):
    cohort = simulate_images(4, size=12, folder=tmp_path)
    [name] = cohort.images
    assert not any("several ids" in line for line in advice(cohort))
    table = cohort.images[name].table
    table.loc[table.index[-1], ["path", "part", "hash"]] = table.loc[0, ["path", "part", "hash"]]
    copied = replace(cohort, images={name: replace(cohort.images[name], table=table)})
    assert advice(copied)[0].startswith("1 image is there under several ids, with the same content: leave the copies out, or give these rows")
    person = copied.with_column(Column("person", "categorical", "group"), pd.Series("p", index=cohort.subjects.index))
    assert not any("several ids" in line for line in advice(person))


def test_an_atlas_that_is_asked_for():
    line = atlas_advice(stand_in("Sim3", ("a", "b", "c"), 3))
    assert line.startswith("Files of 'Sim3' have 3 regions, called a, b, c, and say not where these are.")
    assert "--atlas 'Sim3=FILE', where FILE is a table" in line
    assert "The files have 12 regions, with the labels 1, 2, 3, 4 … 12, and" in atlas_advice(stand_in("unnamed", None, 12))


def test_long_lists_are_shortened():
    assert shortened(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert shortened(np.arange(9)) == "0, 1, 2, 3 … 8"
    assert shortened([]) == ""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('Choose with select=["ses-1"].', "Choose with --select ses-1."),
        ('Choose with select=["ses-1", "run-2"], or', "Choose with --select '[ses-1, run-2]', or"),
        ('Pass missing_regions="mask" to', "Pass --missing_regions mask to"),
        ("fisher_z=True for Fisher z, or kind=… with", "--fisher_z true for Fisher z, or --kind … with"),
        ("Pass phenotypic=…, or select what is there.", "Pass phenotypic=…, or select what is there."),
        ("pattern='*a_20.csv'.", "--pattern '*a_20.csv'."),
        ('Name it with kind="Study ID".', "Name it with --kind 'Study ID'."),
        ("unselect=[1]", "unselect=[1]"),
    ],
)
def test_messages_in_words_of_the_command_line(message, expected):
    assert as_options(message, ("select", "missing_regions", "fisher_z", "kind", "pattern")) == expected
