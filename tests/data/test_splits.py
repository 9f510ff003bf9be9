"""Splits: nobody stands on both sides, groups are never cut, and one seed gives one answer."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphssl.data import Split
from graphssl.data.splits import (
    hold_out,
    k_fold,
    label_fraction,
    label_imbalance,
    label_shots,
    leave_one_site_out,
    published,
    stratum,
    time_ordered,
)
from graphssl.errors import DataError, LeakageError

IDS = [f"s{k}" for k in range(20)]
LABELS = ["ill", "well"] * 10


@st.composite
def grouped_subjects(draw):
    """Ids with a class and a family each; every class has at least four families."""
    n_families = draw(st.integers(8, 14))
    families, labels = [], []
    for family in range(n_families):
        for _ in range(draw(st.integers(1, 3))):
            families.append(f"f{family}")
            labels.append(["ill", "well"][family % 2])
    order = draw(st.permutations(range(len(families))))
    return [f"s{k}" for k in range(len(families))], [labels[k] for k in order], [families[k] for k in order]


# A split


def test_split():
    split = Split("NYU", ("a", "b"), ("c",))
    assert split.to_dict() == {"name": "NYU", "hash": split.hash, "train": ["a", "b"], "test": ["c"]}
    assert Split("other", ("b", "a"), ("c",)).hash == split.hash, "the hash is of the sets"
    assert Split("NYU", ("a",), ("b", "c")).hash != split.hash


def test_a_subject_on_both_sides():
    with pytest.raises(LeakageError, match="Expected no subject on both sides of split 'x', found 'b'. Remove them from one side"):
        Split("x", ("a", "b"), ("b", "c"))
    many = tuple(IDS)
    with pytest.raises(LeakageError, match="found 's0', 's1', 's10', 's11', 's12' and 15 more"):
        Split("x", many, many)


@pytest.mark.parametrize(("train", "test", "side"), [((), ("a",), "train"), (("a",), (), "test")])
def test_an_empty_side(train, test, side):
    with pytest.raises(DataError, match=f"Expected at least one {side} subject in split 'x', found none"):
        Split("x", train, test)


def test_a_group_on_both_sides():
    split = Split("x", ("a", "b"), ("c", "d"))
    assert split.check({"a": "1", "b": "1", "c": "2", "d": "3"}) is split
    with pytest.raises(LeakageError, match=r"Expected each family on one side of split 'x', found 1 on both: '1' \(subjects 'b', 'c'\)\. Keep"):
        split.check({"a": "0", "b": "1", "c": "1", "d": "3"}, what="family")


# k-fold


@settings(max_examples=40, deadline=None)
@given(subjects=grouped_subjects(), n_splits=st.integers(2, 3), seed=st.integers(0, 99))
def test_folds_never_cut_a_family_and_test_everybody_once(subjects, n_splits, seed):
    ids, labels, families = subjects
    folds = k_fold(ids, labels, groups=families, n_splits=n_splits, seed=seed)
    family = dict(zip(ids, families, strict=True))
    assert sorted(subject for fold in folds for subject in fold.test) == sorted(ids)
    for fold in folds:
        assert not set(fold.train) & set(fold.test)
        assert set(fold.train) | set(fold.test) == set(ids)
        assert not {family[s] for s in fold.train} & {family[s] for s in fold.test}
    assert folds == k_fold(ids, labels, groups=families, n_splits=n_splits, seed=seed)


def test_folds_are_stratified_and_differ_by_seed():
    folds = k_fold(IDS, LABELS, n_splits=5, seed=0)
    label = dict(zip(IDS, LABELS, strict=True))
    assert [fold.name for fold in folds] == [f"fold-{k}" for k in range(5)]
    assert all(sorted(label[s] for s in fold.test) == ["ill", "ill", "well", "well"] for fold in folds)
    assert folds != k_fold(IDS, LABELS, n_splits=5, seed=1)


def test_too_few_for_the_folds():
    with pytest.raises(
        DataError, match=r"Expected at least 5 subjects of each class and 5 groups for 5 folds, found classes \{'ill': 18, 'well': 2\}"
    ):
        k_fold(IDS, ["ill"] * 18 + ["well"] * 2)
    with pytest.raises(DataError, match="and 2 groups. Use fewer folds"):
        k_fold(IDS, LABELS, groups=["a", "b"] * 10)


# Leave one site out


@settings(max_examples=40, deadline=None)
@given(sites=st.lists(st.sampled_from("ABCD"), min_size=4, max_size=20))
def test_each_site_is_left_out_whole_and_once(sites):
    counts = {site: sites.count(site) for site in sites}
    assume(len(counts) > 1 and min(counts.values()) > 1)
    ids = [f"s{k}" for k in range(len(sites))]
    folds = leave_one_site_out(ids, sites)
    site = dict(zip(ids, sites, strict=True))
    assert [fold.name for fold in folds] == sorted(counts)
    for fold in folds:
        assert {site[s] for s in fold.test} == {fold.name}
        assert fold.name not in {site[s] for s in fold.train}
        assert len(fold.train) + len(fold.test) == len(ids)


def test_sites_that_cannot_be_left_out():
    with pytest.raises(DataError, match=r"Expected at least two sites to leave one out, found \['A'\]\. Use k-fold"):
        leave_one_site_out(["a", "b"], ["A", "A"])
    with pytest.raises(DataError, match=r"Expected at least 2 subjects in every site, found \{'B': 1\}\. A score on so few says nothing"):
        leave_one_site_out(["a", "b", "c"], ["A", "A", "B"])
    assert len(leave_one_site_out(["a", "b", "c"], ["A", "A", "B"], min_test=1)) == 2


def test_a_family_that_spans_two_sites():
    with pytest.raises(
        LeakageError, match=r"Expected each family or repeated scans on one side of split 'A', found 1 on both: 'f1' \(subjects 'c', 'b'\)"
    ):
        leave_one_site_out(["a", "b", "c", "d"], ["A", "A", "B", "B"], groups=["f0", "f1", "f1", "f2"])


# Hold-out


@settings(max_examples=30, deadline=None)
@given(subjects=grouped_subjects(), fraction=st.sampled_from([0.3, 0.4, 0.5]), seed=st.integers(0, 99))
def test_hold_out_never_cuts_a_family(subjects, fraction, seed):
    ids, labels, families = subjects
    split = hold_out(ids, labels, groups=families, test_fraction=fraction, seed=seed)
    family = dict(zip(ids, families, strict=True))
    assert split.name == "hold-out"
    assert sorted(split.train + split.test) == sorted(ids)
    assert not {family[s] for s in split.train} & {family[s] for s in split.test}


def test_hold_out_holds_out_the_share_asked_for():
    for fraction, n in ((0.1, 2), (0.2, 4), (0.25, 5), (0.5, 10)):
        assert len(hold_out(IDS, test_fraction=fraction).test) == n
    assert hold_out(IDS, seed=1) == hold_out(IDS, seed=1) != hold_out(IDS, seed=2)


def test_hold_out_takes_one_group_where_a_share_would_be_less():
    assert len(hold_out(IDS[:7], test_fraction=0.1).test) == 1
    families = ["a", "a", "a", "b", "b", "b"]
    assert {frozenset(hold_out(IDS[:6], groups=families, test_fraction=0.1, seed=seed).test) for seed in range(9)} == {
        frozenset(IDS[:3]),
        frozenset(IDS[3:6]),
    }
    with pytest.raises(DataError, match="at least 2 subjects of each class and 2 groups for 2 folds, found .* 1 groups"):
        hold_out(IDS[:3], groups=["a"] * 3, test_fraction=0.1)


@pytest.mark.parametrize("fraction", [0.0, 0.6, -0.1, float("nan")])
def test_a_share_that_cannot_be_held_out(fraction):
    with pytest.raises(DataError, match=r"Expected a test fraction in \(0, 0\.5\], found"):
        hold_out(IDS, test_fraction=fraction)


# Label fractions


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.sampled_from(["a", "b", "c"]), min_size=6, max_size=60),
    fractions=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=4),
    seed=st.integers(0, 99),
)
def test_label_fractions_are_nested_and_have_two_of_each_class(labels, fractions, seed):
    counts = {label: labels.count(label) for label in labels}
    assume(min(counts.values()) >= 2)
    ids = [f"s{k}" for k in range(len(labels))]
    label = dict(zip(ids, labels, strict=True))
    smaller: set[str] = set()
    for fraction in sorted(fractions):
        chosen = label_fraction(ids, labels, fraction, seed=seed)
        assert smaller <= set(chosen)
        assert list(chosen) == [subject for subject in ids if subject in set(chosen)]
        for name, n in counts.items():
            assert sum(label[s] == name for s in chosen) == max(2, round(fraction * n))
        smaller = set(chosen)


def test_label_fraction_of_a_class_does_not_depend_on_the_others():
    """A subject more of one class changes nothing in the other: subsets of a cohort stay comparable."""
    chosen = label_fraction(IDS, LABELS, 0.3, seed=0)
    more = label_fraction([*IDS, "x", "y"], [*LABELS, "third", "third"], 0.3, seed=0)
    assert set(more) - {"x", "y"} == set(chosen)


def test_label_fraction_limits():
    assert label_fraction(IDS, LABELS, 1.0) == tuple(IDS)
    assert label_fraction(IDS, LABELS, 0.3, seed=0) != label_fraction(IDS, LABELS, 0.3, seed=1)
    for fraction in (0.0, 1.1):
        with pytest.raises(DataError, match=r"Expected a label fraction in \(0, 1\], found"):
            label_fraction(IDS, LABELS, fraction)
    with pytest.raises(DataError, match="Expected at least two subjects of class 'rare' to draw a label fraction, found 1"):
        label_fraction(["a", "b", "c"], ["x", "x", "rare"], 0.5)


def test_stratum():
    assert stratum(["ill", "well"], np.array([1, 2]), ["A", "B"]) == ["ill|1|A", "well|2|B"]
    with pytest.raises(ValueError, match="shorter|longer"):
        stratum(["ill"], ["A", "B"])


def test_a_published_split_joins_validation_to_training():
    ids, parts = ["a", "b", "c", "d", "e"], ["train", "val", "test", None, float("nan")]
    split = published(ids, parts, name="split1")
    assert split == Split("split1", ("a", "b"), ("c",))


def test_a_published_split_that_cuts_a_family_or_has_other_parts_is_refused():
    with pytest.raises(LeakageError, match="split 'split1'"):
        published(["a", "b"], ["train", "test"], name="split1", groups=["x", "x"])
    with pytest.raises(DataError, match="Expected the parts train, val, validation and test in the split 'split1', found 'held'"):
        published(["a", "b"], ["train", "held"], name="split1")
    with pytest.raises(DataError, match="at least one test subject"):
        published(["a", "b"], ["train", "train"], name="split1")


def test_time_ordered_splits_test_every_period_but_the_first_by_its_past():
    ids, times = list("abcdefgh"), [3, 1, 2, 4, 6, 5, 8, 7]
    splits = time_ordered(ids, times, n_splits=3)
    when = dict(zip(ids, times, strict=True))
    assert [sorted(when[s] for s in split.test) for split in splits] == [[3, 4], [5, 6], [7, 8]]
    assert [sorted(when[s] for s in split.train) for split in splits] == [[1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]


def test_subjects_of_one_time_stand_on_one_side_and_tested_families_do_not_train():
    (split,) = time_ordered(list("abcde"), [1, 1, 2, 2, 2], n_splits=1, groups=["x", "y", "x", "z", "w"])
    assert (split.train, split.test) == (("b",), ("c", "d", "e"))


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([1, 1, 1, 1], "at least 3 different times, spread over the subjects, for 2 splits, found 1"),
        ([1, 2, None, 4], "a time for every subject, found none"),
    ],
)
def test_times_that_do_not_order_are_refused(times, words):
    with pytest.raises(DataError, match=words):
        time_ordered(list("abcd"), times, n_splits=2)


BALANCED = ([f"s{k}" for k in range(60)], ["a"] * 40 + ["b"] * 20)


def test_shots_are_balanced_and_nested():
    ids, labels = BALANCED
    of = dict(zip(ids, labels, strict=True))
    before = set()
    for n in (1, 5, 10, 20):
        drawn = label_shots(ids, labels, n, seed=3)
        assert Counter(of[s] for s in drawn) == {"a": n, "b": n}
        assert before < set(drawn)
        before = set(drawn)
    assert label_shots(ids, labels, 5, seed=4) != label_shots(ids, labels, 5, seed=3)
    for n in (0, 21):
        with pytest.raises(DataError, match="the 20 that the rarest has"):
            label_shots(ids, labels, n)


@pytest.mark.parametrize(("ratio", "expected"), [(1, (20, 20)), (2, (40, 20)), (4, (40, 10)), (10, (40, 4)), (100, (40, 2))])
def test_imbalance_keeps_as_many_of_the_common_class_as_there_can_be(ratio, expected):
    ids, labels = BALANCED
    of = dict(zip(ids, labels, strict=True))
    counts = Counter(of[s] for s in label_imbalance(ids, labels, ratio, seed=1))
    assert (counts["a"], counts["b"]) == expected


def test_the_rare_class_is_nested_and_always_the_same():
    ids, labels = BALANCED
    rare = [{s for s in label_imbalance(ids, labels, ratio, seed=1) if s in ids[40:]} for ratio in (100, 10, 4, 1)]
    assert all(small < large for small, large in itertools.pairwise(rare))
    named = Counter("a" if s in ids[:40] else "b" for s in label_imbalance(ids, labels, 10, rare="a", seed=1))
    assert named == {"a": 2, "b": 20}
    with pytest.raises(DataError, match="found 'c'. Name one of them"):
        label_imbalance(ids, labels, 10, rare="c")
    even = label_imbalance(["p", "q", "r", "t"], ["b", "a", "b", "a"], 1)
    assert len(even) == 4
    for ratio, wrong in ((0.5, labels), (2, ["a"] * 60), (2, ["a"] * 59 + ["b"])):
        with pytest.raises(DataError, match="Expected a ratio of classes from 1"):
            label_imbalance(ids, wrong, ratio)
