"""What notebooks show of cohorts and results: the numbers are right, text is escaped, and no single subject is named."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd

from graphssl.data import Cohort, Column, Schema
from graphssl.evaluation.protocols import Evaluation
from graphssl.reports.notebook import bars, card, columns_table, counts_table, histogram, lines, results_card
from graphssl.results import Result

EVIL = "<script>x</script>"


class Checker(HTMLParser):
    """Elements are closed in order, and the text can be read."""

    def __init__(self, page):
        super().__init__()
        self.stack, self.words = [], []
        self.feed(page)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(page):
    return " ".join(" ".join(Checker(page).words).split())


def result(method, value, split="s", metric="auroc"):
    return Result("toy", "diagnosis", "leave_one_site_out", method, split, 0, 1.0, metric, value, 90, 10, 0.1)


def test_bars_are_as_high_as_counts_and_tell_them():
    plot = bars([0, 5, 10], ["a", EVIL, "c"])
    assert [float(h) for h in re.findall(r'class="bar"[^>]*height="([\d.]+)"', plot)] == [0, 10, 20]
    assert "<title>c: 10</title>" in plot
    assert EVIL not in plot
    assert 'height="0.0"' in bars([0, 0])


def test_a_histogram_counts_what_is_finite():
    heights = re.findall(r"<title>[^<]*: (\d+)</title>", histogram([0.0] * 5 + [1.0] * 3 + [np.nan, np.inf]))
    assert (len(heights), heights[0], heights[-1]) == (12, "5", "3")
    assert histogram([np.nan]) == ""


def test_a_cohort_shows_columns_sites_and_classes_but_no_subject(make_cohort):
    cohort = make_cohort(n_subjects=24)
    age = pd.Series(np.linspace(20, 60, 24), index=cohort.subjects.index)
    note = pd.Series([f"{EVIL} {k}" for k in range(24)], index=cohort.subjects.index)
    cohort = cohort.with_column(Column("age", "continuous", "covariate", unit="years"), age).with_column(Column("note", "text"), note)
    page = cohort._repr_html_()
    said = read(page)
    assert said.count("24 subjects") >= 1
    assert "age continuous, years covariate 100%" in said
    assert "40 ± 12" in said
    for site, n in cohort.sites.value_counts().items():
        assert site in said
        assert str(n) in said
    assert not [subject for subject in cohort.ids if subject in page]
    assert EVIL not in page
    assert "<script" not in page


def test_a_cohort_of_nothing_but_ids_and_one_of_many_columns_are_shown():
    ids = pd.Index(["a", "b"], dtype="str")
    assert "2 subjects" in read(Cohort("bare", pd.DataFrame(index=ids), Schema([]))._repr_html_())
    wide = pd.DataFrame({f"c{k}": [1.0, np.nan] for k in range(50)}, index=ids)
    said = read(Cohort("wide", wide, Schema([Column(name, "continuous") for name in wide]))._repr_html_())
    assert "The first 40 of 50 columns." in said
    assert "c39" in said
    assert "c40" not in said


def test_long_lists_of_categories_and_sites_are_cut():
    values = pd.Series([f"v{k:02d}" for k in range(20)] * 2)
    assert "and 8 more" in read(columns_table([("ward", "categorical", "feature", "", values)]))
    counts = pd.DataFrame({"a": range(50)}, index=[f"site{k}" for k in range(50)])
    assert "The first 40 of 50." in read(counts_table(counts, "site"))


def test_results_are_means_over_splits_with_their_interval():
    results = [result("ridge_tangent", 0.6, "a"), result("ridge_tangent", 0.8, "b"), result(EVIL, 0.5, "a"), result("majority", 0.2, "a", "brier")]
    page = Evaluation(results, pd.DataFrame(), [], pd.DataFrame())._repr_html_()
    said = read(page)
    assert "diagnosis in toy, leave one site out: 2 splits, 1 seed" in said
    assert "Ridge on tangent 100% 0.700" in said
    assert "AUROC, higher is better" in said
    assert "Brier score, lower is better" in said
    assert EVIL not in page
    assert said.index("AUROC") < said.index("Other metrics") < said.index("Brier")


def test_no_results_are_said_and_a_card_escapes_its_title():
    assert "No results" in read(results_card(pd.DataFrame()))
    assert EVIL not in card(EVIL, lines({EVIL: EVIL}))


def test_a_card_takes_the_colours_of_the_notebook_dark_or_light():
    """Text inherits its colour, in tables too; marks have one that is told from white and from black by 3 to 1 at least (WCAG 1.4.11)."""
    style = card("title").partition("</style>")[0]
    assert "table{border-collapse:collapse;margin:4px 0 10px;color:inherit" in style
    (colour,) = set(re.findall(r"fill:#(\w{6})", style))
    parts = [int(colour[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
    assert 1.05 / (luminance + 0.05) > 3
    assert (luminance + 0.05) / 0.05 > 3
