"""Groups of features: what they accept."""

import pytest

from graphssl.errors import ConfigError
from graphssl.graphs import FeatureGroup


def test_columns_of_statistics_stand_behind_one_another():
    group = FeatureGroup("vitals", [("hr_mean", "hr_std"), ("bp_mean", "bp_std")], "statistics")
    assert group.column_names == ["hr_mean", "hr_std", "bp_mean", "bp_std"]
    assert FeatureGroup("age", ["age"], "rbf").column_names == ["age"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"similarity": "manhattan"}, "similarity of the group 'g' to be one of agreement, .*; found 'manhattan'"),
        ({"scaling": "log"}, "scaling of the group 'g' to be one of none, range, standard; found 'log'"),
        ({"columns": []}, r"at least one column, each named once, in the group 'g'; found \[\]"),
        ({"columns": ["a", "a"]}, r"each named once, in the group 'g'; found \['a', 'a'\]"),
        ({"similarity": "statistics"}, r"for 'statistics' a tuple of names for every feature, .* found \['a', 'b'\] with 'statistics'"),
        ({"columns": [("a", "b")]}, "found .* with 'sigmoid'"),
        ({"columns": [("a", "b"), ("c",)], "similarity": "statistics"}, "all of one length"),
        ({"columns": [("a", "b"), "c"], "similarity": "statistics"}, "all of one length"),
        ({"weight": 0}, "a weight and a length above 0 .* found weight=0"),
        ({"length": -1.0}, r"length=-1\.0"),
        ({"similarity": "agreement", "tolerance": {"a": -2}}, "tolerances of at least 0"),
        ({"similarity": "agreement", "tolerance": {"age": 2}}, r"a tolerance for columns of an agreement only, found \['age'\]"),
        ({"tolerance": {"a": 2}}, r"found \['a'\] in the group 'g' \(sigmoid\)"),
    ],
)
def test_what_is_refused(arguments, match):
    with pytest.raises(ConfigError, match=match):
        FeatureGroup(**{"name": "g", "columns": ["a", "b"], "similarity": "sigmoid", **arguments})
