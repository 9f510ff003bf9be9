"""One method on one split: what it is given, and under which names its numbers are written down."""

from dataclasses import replace

from graphssl.data.splits import label_fraction
from graphssl.estimators import WITHHELD
from graphssl.evaluation import make_baseline
from graphssl.evaluation.fit_and_score import fit_and_score, training_side
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.task import make_task


def test_a_task_under_another_name_than_its_column(cohort):
    task = replace(make_task(cohort, None, None, "k_fold"), target="autism")
    results, _ = fit_and_score(make_baseline("majority"), cohort, task, make_splits(cohort, task, "k_fold", 2)[0], 0, 1.0, "majority")
    assert {result.task for result in results} == {"autism"}


def test_the_training_side_has_the_drawn_labels_and_no_others(cohort):
    task = make_task(cohort, None, None, "k_fold")
    split = make_splits(cohort, task, "k_fold", 2)[0]
    train, y = training_side(cohort, task, split, seed=3, fraction=0.5)
    assert tuple(train.ids) == split.train
    assert train.subjects["diagnosis"].isna().all()
    kept = [subject for subject, label in zip(train.ids, y, strict=True) if label != WITHHELD]
    assert set(kept) == set(label_fraction(split.train, [task.labels[subject] for subject in split.train], 0.5, seed=3))
    assert all(label in (WITHHELD, task.labels[subject]) for subject, label in zip(train.ids, y, strict=True))


def test_predictions_are_of_the_test_subjects_with_their_site(cohort):
    task = make_task(cohort, None, None, "leave_one_site_out")
    split = make_splits(cohort, task, "leave_one_site_out")[1]
    results, table = fit_and_score(make_baseline("majority"), cohort, task, split, 0, 1.0, "majority")
    assert tuple(table["subject_id"]) == split.test
    assert set(table["site"]) == {"site-1"}
    assert table["y_true"].tolist() == [task.labels[subject] for subject in split.test]
    assert {(result.n_train, result.n_test) for result in results} == {(16, 8)}
