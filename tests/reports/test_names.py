import math

import pytest

from graphssl.reports.names import (
    count,
    fraction_label,
    interval,
    listed,
    method_label,
    method_phrase,
    metric_label,
    number,
    p_value,
    protocol_phrase,
    role,
    signed,
)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("pretrained", "pretrained"),
        ("pretrained_probe", "pretrained"),
        ("scratch", "scratch"),
        ("no_edges", "control"),
        ("gcn", "control"),
        ("logistic_correlation", "linear"),
        ("somebody_elses_model", "linear"),  # what is not known is a rival
        ("majority", "majority"),
        ("covariates", "confounds"),
        ("site_and_covariates", "confounds"),
        ("site", "confounds"),
    ],
)
def test_roles(method: str, expected: str) -> None:
    assert role(method) == expected


def test_numbers() -> None:
    assert [number(value) for value in (0.12345, -0.5, -0.0001, math.nan)] == ["0.123", "−0.500", "0.000", "–"]
    assert [signed(value) for value in (0.1, -0.1, 0.0, math.nan)] == ["+0.100", "−0.100", "0.000", "–"]
    assert interval(0.1, 0.2) == "0.100 to 0.200"
    assert interval(-0.1, 0.2, sign=True) == "−0.100 to +0.200"
    assert interval(math.nan, 0.2) == "–"
    assert [p_value(value) for value in (0.0, 0.0009, 0.0123, 1.0, math.nan)] == ["<0.001", "<0.001", "0.012", "1.000", "–"]


def test_words() -> None:
    assert method_label("pretrained|shuffled_labels") == "Pre-trained encoder, labels shuffled"
    assert method_label("my_model") == "My model"
    assert method_phrase("my_model") == "my model"
    assert metric_label("auroc") == "AUROC"
    assert metric_label("top_3") == "Top 3"
    assert protocol_phrase("my_split") == "my split"
    assert [fraction_label(value) for value in (1.0, 0.1, 0.05)] == ["all labels", "10% of the labels", "5% of the labels"]
    assert [count(n, "site") for n in (1, 4, 12000)] == ["1 site", "4 sites", "12 000 sites"]
    assert listed("abc") == "a, b, c"
    assert listed("abcdefghi", most=3) == "a, b, c and 6 more"
    assert listed([]) == ""
