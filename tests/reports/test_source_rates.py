"""Generated rates as a heat map: which tensors are shown, and what the table says."""

import pandas as pd
import pytest

from graphssl.reports.source_rates import rates_figure, rates_sentence, rates_summary


def make_rates(n_tensors):
    rows = [(s, f"encoder.t{k}", 0.01 + 0.001 * k * (s == "b"), 1e-4) for s in ("a", "b") for k in range(n_tensors)]
    return pd.DataFrame(rows, columns=["source", "tensor", "learning_rate", "weight_decay"])


def test_the_tensors_that_differ_most_are_shown():
    few, many = rates_figure(make_rates(5)), rates_figure(make_rates(50))
    assert "most different between sources: t4." in few.alt
    assert "sources a, b;" in few.alt
    assert "rates.csv" not in few.caption
    assert "10 tensors that differ less between sources are in rates.csv" in many.caption
    assert few.png.startswith(b"\x89PNG")


def test_the_sentence_says_how_far_sources_differ():
    """Of three tensors by 0, 0.001 and 0.002, around 0.01, 0.0105 and 0.011."""
    said = rates_sentence(make_rates(3))
    assert "inner learning rates by 9.5% of their mean in the median tensor and by 18.2% at most" in said
    assert "inner weight decays by 0.0% of their mean" in said


def test_the_table_holds_mean_and_ends():
    found = rates_summary(make_rates(3)).set_index("source")
    assert found.loc["b", "learning_rate mean"] == pytest.approx(0.011)
    assert found.loc["b", "learning_rate max"] == pytest.approx(0.012)
    assert found.loc["a", "learning_rate min"] == pytest.approx(0.01)
    assert found.loc["a", "weight_decay mean"] == pytest.approx(1e-4)
