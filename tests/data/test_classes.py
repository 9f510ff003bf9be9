"""Classes and their numbers: in the order of their words, or as they are named."""

import pytest

from graphssl.data.classes import class_numbers, classes_of
from graphssl.errors import DataError, SchemaError


def test_numbers_follow_the_order_of_the_words():
    assert class_numbers({"s2": "b", "s1": "a", "s3": "b"}, "to learn", "Give more.") == {"s2": 1, "s1": 0, "s3": 1}


def test_one_class_is_refused_with_what_it_was_for():
    with pytest.raises(DataError, match=r"two classes or more to learn, found \['a'\]. Give more."):
        class_numbers({"s1": "a"}, "to learn", "Give more.")


def test_classes_of_a_cohort_are_sorted_or_as_named(make_cohort):
    cohort = make_cohort(n_subjects=6)
    labels = cohort.labels()
    assert labels == dict(cohort.target().astype(str).items())
    names, numbers = classes_of(cohort)
    assert names == ("control", "patient")
    assert {subject: names[number] for subject, number in numbers.items()} == labels
    assert classes_of(cohort, "diagnosis", ["patient", "control", "other"])[0] == ("patient", "control", "other")
    with pytest.raises(DataError, match=r"'diagnosis' of .* to hold the classes \['patient'\], found \['control'\] too"):
        classes_of(cohort, classes=["patient"])
    with pytest.raises(SchemaError, match="Expected one of the columns"):
        classes_of(cohort, "colour")


def test_subjects_without_a_label_have_no_number(make_cohort):
    cohort = make_cohort(n_subjects=6)
    column = cohort.subjects["diagnosis"].where(cohort.subjects.index != cohort.ids[0])
    told = cohort.with_column(cohort.schema["diagnosis"], column)
    assert set(told.labels()) == set(classes_of(told)[1]) == set(cohort.ids[1:])
