"""What is predicted of whom, and labels that are shuffled or taken away."""

from dataclasses import replace

import pandas as pd
import pytest

from graphssl.data.events import Events
from graphssl.errors import DataError, LeakageError
from graphssl.evaluation.task import make_mask_task, make_task, shuffle_labels, without_labels


def test_shuffling_keeps_the_counts_of_every_site_and_nothing_else(cohort):
    labels = ["patient" if k % 3 == 0 or k > 20 else "control" for k in range(24)]
    labelled = cohort.with_column(cohort.schema["diagnosis"], pd.Series(labels, index=cohort.subjects.index, dtype="str"))
    task = make_task(labelled, None, None, "leave_one_site_out")
    shuffled = shuffle_labels(cohort, task, seed=0)
    assert shuffled.labels != task.labels
    assert (shuffled.target, shuffled.classes, set(shuffled.labels)) == (task.target, task.classes, set(task.labels))
    for site in ("site-0", "site-1", "site-2"):
        members = cohort.sites.index[cohort.sites == site]
        assert sorted(shuffled.labels[s] for s in members) == sorted(task.labels[s] for s in members)
    assert shuffle_labels(cohort, task, seed=0).labels == shuffled.labels
    assert shuffle_labels(cohort, task, seed=1).labels != shuffled.labels


def test_events_that_may_be_later_than_the_outcome_are_refused(cohort):
    rows = [(subject, "2130-01-01 08:00", "DISCHARGE//died", 1.0) for subject in cohort.ids]
    events = Events.of(pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"]))
    late = replace(cohort, events=events)
    with pytest.raises(LeakageError, match="Expected prediction times in 'toy', whose events may be later than its outcome 'diagnosis'; found none"):
        make_task(late, None, None, "k_fold")
    times = pd.Series(pd.Timestamp("2130-01-01 07:00"), index=cohort.ids)
    assert len(make_task(late.predict_at(times), None, None, "k_fold").labels) == 24


def test_a_method_gets_no_label_in_a_table(cohort):
    task = make_task(cohort, None, None, "k_fold")
    bare = without_labels(cohort, task)
    assert bare.subjects["diagnosis"].isna().all()
    assert bare.subjects["age"].equals(cohort.subjects["age"])
    assert without_labels(cohort, replace(task, target="masks of lesions")) is cohort


def test_masks_of_one_kind_of_images(cohort):
    with pytest.raises(DataError, match="Expected one kind of images with segmentation masks in 'toy', found none"):
        make_mask_task(cohort, "k_fold")
