"""Tasks: balanced, never sharing a family, a function of seed, step and source."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.data import Cohort, Column, Schema
from graphssl.errors import DataError, LeakageError, SchemaError
from graphssl.training.meta import Source, Task, TaskSampler, sources_by_site


def cohort_of(labels, families=None, name="toy"):
    ids = [f"{name}-{k:03d}" for k in range(len(labels))]
    table = pd.DataFrame({"diagnosis": pd.array(labels, dtype="str")}, index=pd.Index(ids, dtype="str"))
    columns = [Column("diagnosis", "categorical", "target")]
    if families is not None:
        table["family"] = pd.array([str(family) for family in families], dtype="str")
        columns.append(Column("family", "categorical", "group"))
    return Cohort(name, table, Schema(columns))


def test_classes_are_balanced_on_both_sides():
    source = Source("a", cohort_of(["x"] * 30 + ["y"] * 9), "diagnosis")
    for task in (TaskSampler([source], 4, 5).draw(step)[0] for step in range(20)):
        assert Counter(task.support_labels) == {0: 4, 1: 4}
        assert Counter(task.query_labels) == {0: 5, 1: 5}
        assert [source.labels[s] for s in task.support + task.query] == [*task.support_labels, *task.query_labels]
        assert len({*task.support, *task.query}) == 18


def test_every_subject_is_drawn_about_as_often():
    source = Source("a", cohort_of(["x"] * 12 + ["y"] * 6), "diagnosis")
    sampler = TaskSampler([source], 2, 1)
    counts = Counter(subject for step in range(600) for subject in sampler.draw(step)[0].support)
    expected = {subject: 600 * 2 / (12 if source.labels[subject] == 0 else 6) for subject in source.labels}
    assert all(abs(counts[subject] - n) < 5 * np.sqrt(n) for subject, n in expected.items())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**20), st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 11)), min_size=30, max_size=60))
def test_no_family_is_on_both_sides(seed, drawn):
    labels, families = zip(*drawn, strict=True)
    cohort = cohort_of(labels, families)
    try:
        source = Source("a", cohort, "diagnosis")
        task = TaskSampler([source], 2, 2, seed).draw(seed)[0]
    except DataError:
        assert min(len({f for label, f in drawn if label == kind}) for kind in "xy") < 4 or len(set(families)) < 8
        return
    of = cohort.groups
    assert len({of[subject] for subject in task.support + task.query}) == 8


def test_families_of_a_patient_and_a_healthy_sibling_serve_both_classes():
    source = Source("a", cohort_of(["x", "y"] * 8, np.repeat(range(8), 2)), "diagnosis")
    for step in range(20):
        task = TaskSampler([source], 2, 2).draw(step)[0]
        assert Counter(task.support_labels) == Counter(task.query_labels) == {0: 2, 1: 2}


def test_a_draw_depends_on_seed_step_and_source_only():
    first, second = (Source(name, cohort_of(["x", "y"] * 20, name=name), "diagnosis") for name in "ab")
    both, alone = TaskSampler([first, second], 3, 3, seed=1), TaskSampler([second], 3, 3, seed=1)
    assert both.draw(7)[1] == alone.draw(7)[0]
    assert both.draw(7) == TaskSampler([first, second], 3, 3, seed=1).draw(7)
    assert both.draw(7) != both.draw(8)
    assert both.draw(7) != TaskSampler([first, second], 3, 3, seed=2).draw(7)
    places = [[int(subject[-3:]) for subject in task.support] for task in both.draw(7)]
    assert places[0] != places[1]  # sources of one size are not drawn alike


def test_without_labels_all_subjects_are_of_one_class():
    source = Source("a", cohort_of(["x"] * 20))
    task = TaskSampler([source], 6, 5).draw(0)[0]
    assert (len(task.support), len(task.query)) == (6, 5)
    assert set(task.support_labels) == {0}
    assert repr(source) == "Source('a', 20 subjects)"


def test_subjects_without_a_label_are_in_no_task():
    cohort = cohort_of(["x", "y"] * 10)
    withheld = cohort.with_column(cohort.schema["diagnosis"], cohort.subjects["diagnosis"].where(np.arange(20) >= 8))
    source = Source("a", withheld, "diagnosis")
    assert repr(source) == "Source('a', 12 subjects, x 6, y 6)"
    assert all(int(subject[-3:]) >= 8 for subject in TaskSampler([source], 3, 3).draw(0)[0].support)


def test_sites_become_sources(make_cohort):
    cohort = make_cohort(n_subjects=24, n_sites=3)
    sources = sources_by_site(cohort, target="diagnosis", classes=["patient", "control"])
    assert [source.name for source in sources] == ["site-0", "site-1", "site-2"]
    assert all(source.classes == ("patient", "control") and source.counts == [4, 4] for source in sources)
    assert sum(len(source.cohort) for source in sources_by_site(cohort)) == 24


def test_a_small_site_is_left_out(make_cohort):
    cohort = make_cohort(n_subjects=24, n_sites=3)
    kept = cohort.select(
        [s for s, site in cohort.sites.items() if site != "site-1"] + [s for s, site in cohort.sites.items() if site == "site-1"][:3]
    )
    assert [source.name for source in sources_by_site(kept, target="diagnosis", min_subjects=3)] == ["site-0", "site-2"]
    with pytest.raises(DataError, match=r"site of 'toy' with at least 9 subjects of each class, found none\. Ask for fewer"):
        sources_by_site(kept, target="diagnosis", min_subjects=9)


def test_bad_sources_are_refused():
    small = Source("a", cohort_of(["x"] * 9 + ["y"] * 4), "diagnosis")
    with pytest.raises(DataError, match=r"at least 6 subjects of the class 'y' in source 'a' \(3 support, 3 query\), found 4\. Take smaller tasks"):
        TaskSampler([small], 3, 3)
    with pytest.raises(DataError, match=r"at least 30 subjects in source 'b' \(20 support, 10 query\), found 13"):
        TaskSampler([Source("b", small.cohort)], 20, 10)
    twins = Source("c", cohort_of(["x"] * 8 + ["y"] * 8, np.repeat(range(8), 2)), "diagnosis")
    with pytest.raises(DataError, match=r"\(3 support, 2 query, one of each family\), found 4"):
        TaskSampler([twins], 3, 2)
    with pytest.raises(DataError, match=r"at least two classes in 'diagnosis'"):
        Source("a", cohort_of(["x"] * 9), "diagnosis")
    with pytest.raises(DataError, match=r"to hold the classes \['x'\], found \['y'\] too"):
        Source("a", small.cohort, "diagnosis", ("x",))
    with pytest.raises(SchemaError, match="sex"):
        Source("a", small.cohort, "sex")
    with pytest.raises(DataError, match=r"at least one subject of each class in support and query, found 0 and 3"):
        TaskSampler([small], 0, 3)


def test_sources_without_a_common_target_are_refused():
    two = Source("a", cohort_of(["x", "y"] * 6), "diagnosis")
    three = Source("b", cohort_of(["x", "y", "z"] * 6, name="b"), "diagnosis")
    with pytest.raises(DataError, match=r"a common target of all sources.*'a' 'diagnosis' with 2 classes; 'b' 'diagnosis' with 3 classes"):
        TaskSampler([two, three], 2, 2)
    with pytest.raises(DataError, match=r"'c' none\. Name a target of the same meaning"):
        TaskSampler([two, Source("c", two.cohort)], 2, 2)
    with pytest.raises(DataError, match=r"sources of different names, found \['a'\]"):
        TaskSampler([two, two], 2, 2)
    with pytest.raises(DataError, match=r"at least one source of tasks, found none"):
        TaskSampler([])


def test_a_cohort_without_sites_has_no_sources(make_cohort):
    cohort = make_cohort()
    bare = Cohort("bare", cohort.subjects[["diagnosis"]], Schema([cohort.schema["diagnosis"]]), cohort.regions)
    with pytest.raises(DataError, match=r"'bare' to have a column with the role 'site', found none\. Make a Source of the whole cohort"):
        sources_by_site(bare)


def test_a_subject_on_both_sides_is_refused():
    with pytest.raises(LeakageError, match=r"both support and query of a task of 'a', found \['s1'\]"):
        Task("a", ("s0", "s1"), ("s1",), (0, 0), (0,))
