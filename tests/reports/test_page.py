import json
import math
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from graphssl.errors import RunFolderError
from graphssl.reports import write_report

Make = Callable[[], Any]
VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def page(rich_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    copy = Path(shutil.copytree(rich_run, tmp_path_factory.mktemp("page") / "fake"))
    path = write_report(copy)
    assert path == copy / "report.html"
    assert not list(copy.glob("*.part"))
    return path.read_text(encoding="utf-8")


def by_split(folder: Path, method: str, metric: str = "auroc", fraction: float = 1.0) -> list[float]:
    """Mean over seeds in each split, read from the file without graphssl."""
    found = defaultdict(list)
    for line in (folder / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        if (row["task"], row["method"], row["metric"], row["label_fraction"]) == ("diagnosis", method, metric, fraction):
            found[row["split"]].append(row["value"])
    return [statistics.fmean(found[split]) for split in sorted(found)]


def test_the_numbers_are_those_of_the_results(page: str, rich_run: Path) -> None:
    values = by_split(rich_run, "pretrained")
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    half = stats.t.ppf(0.975, 3) * sd / 2
    row = re.search(r'<tr class=strong><th scope="row">Pre-trained encoder</th>(.*?)</tr>', page)
    assert row is not None
    for number in (mean, mean - half, mean + half, sd, min(values), max(values)):
        assert f"{number:.3f}" in row[1]
    differences = [ours - theirs for ours, theirs in zip(values, by_split(rich_run, "scratch"), strict=True)]
    assert f"+{statistics.fmean(differences):.3f}" in row[1]
    error = math.sqrt((1 / 4 + 41.5 / 124.5) * statistics.variance(differences))  # 166 subjects, 4 sites
    assert f"p\u00a0{2 * stats.t.sf(statistics.fmean(differences) / error, 3):.3f}" in row[1]  # which no line parts from its number
    assert all(f'<td class="n">{value:.3f}</td>' in page for value in values)


def test_other_metrics_and_fractions_are_there(page: str, rich_run: Path) -> None:
    for metric, label in (("brier", "Brier score"), ("auprc", "AUPRC"), ("expected_calibration_error", "Expected calibration error")):
        assert f"{label}, {'higher' if metric == 'auprc' else 'lower'} is better" in page
        for fraction in (1.0, 0.25):
            assert f"{statistics.fmean(by_split(rich_run, 'ridge_tangent', metric, fraction)):.3f}" in page


def test_what_was_run_is_said(page: str) -> None:
    for fact in (
        "abcdef012345", "feedbeef0123", "Ann Arbor 40, Leuven 36", "cc200 (200 regions, timeseries, hash 0123456789ab)",
        "diagnosis (control 83, patient 83)",
        "graphssl evaluate --config fake.yaml", "2.13.0", "leave one site out, 4 splits", "100%, 25%", "166 subjects",
    ):  # fmt: skip
        assert fact in page


def test_cautions_come_before_the_results(page: str) -> None:
    assert page.index("Before you believe the numbers") < page.index('id="results"')
    assert "The site can be read from the embedding" in page
    assert "7 subjects of the source left out" in page
    assert "Shuffled labels do not score chance" not in page


def test_audits_and_truth_are_there(page: str) -> None:
    assert "Removing the edges changes the AUROC of the encoder by −" in page
    assert "Embedding, random weights" in page
    assert "the planted pair of networks ranks 1 of 10" in page


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    assert not re.findall(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//""", page, flags=re.IGNORECASE)
    assert not re.findall(r"url\s*\(|@import|<link|<iframe|<object|<base", page, flags=re.IGNORECASE)
    assert page.count("<script") == 1
    sources = re.findall(r'<img src="([^"]{0,40})', page)
    assert len(sources) == 8
    assert all(source.startswith("data:image/png;base64,iVBORw0KGgo") for source in sources)
    assert all(f'id="{anchor}"' in page for anchor in re.findall(r'href="#([^"]+)"', page))


def test_every_image_says_what_it_shows(page: str) -> None:
    assert all(len(alt) > 20 for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page))
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">')


def test_elements_are_closed_in_order(page: str) -> None:
    class Checker(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.stack: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in VOID:
                self.stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.stack.pop() == tag

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            pass

    checker = Checker()
    checker.feed(page)
    assert checker.stack == []


def test_text_of_the_run_is_escaped(page: str) -> None:
    assert "region &lt;36&gt;" in page
    assert "no time series &lt;file&gt;" in page
    assert "diagnosis # &lt;b&gt;&amp;" in page
    assert "<file>" not in page


def test_names_from_outside_are_escaped_everywhere(fake_run: Make) -> None:
    evil = '<script>alert("x")</script>'
    run = fake_run().method(f"pretrained {evil}", {evil: 0.7, "b": 0.8}).method(f"ridge {evil}", {evil: 0.7, "b": 0.6}, metric=f"m{evil}")
    run.method(f"ridge {evil}", {evil: 0.7, "b": 0.6})
    folder = run.write(
        name=evil, command=evil, device=evil, versions={evil: evil}, git_commit=evil, created=evil,
        cohort={"name": evil, "sites": {evil: 3}, "targets": {"diagnosis": {evil: 3}}, "atlases": {evil: {"kind": evil}}},
        task={"target": "diagnosis", "classes": [evil, evil]},
    )  # fmt: skip
    page = write_report(folder).read_text(encoding="utf-8")
    assert page.count("<script") == 1  # the page's own
    assert "<script>alert" not in page


def test_a_bare_run_has_a_page(fake_run: Make) -> None:
    folder = fake_run().method("pretrained", {"hold-out": 0.7}, seeds=(0,)).write()
    (folder / "manifest.json").write_text("{}")
    page = write_report(folder).read_text(encoding="utf-8")
    for sentence in (
        "No baseline was run; the same encoder from random weights was not run.",
        "Predictions of single subjects were not kept (predictions.parquet), so there is no test over subjects.",
        "so calibration cannot be drawn", "Neither shuffled labels nor a site probe were run.", "The encoder was not scored with its edges removed.",
        "The course of the training was not recorded (history.csv).", "The model was not explained (explain/connectome.npz).",
        "The list of what was left out was not kept (excluded.csv).", "The configuration was not kept (config.yaml).",
        "The command was not recorded.", "Versions were not recorded.", "One split and no predictions: no interval can be given.",
    ):  # fmt: skip
        assert sentence in page
    assert "<img" not in page


def test_nothing_left_out(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.7, "b": 0.8})
    (run.folder / "excluded.csv").write_text("what,id,reason\n")
    assert "Nothing was left out." in write_report(run.write()).read_text(encoding="utf-8")


def test_many_left_out_are_cut_with_a_word(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.7, "b": 0.8})
    (run.folder / "excluded.csv").write_text("what,id,reason\n" + "".join(f"subject,s{k},\n" for k in range(201)))
    page = write_report(run.write(), ids=True).read_text(encoding="utf-8")
    assert "The first 200 of 201 are shown" in page
    assert "s199" in page
    assert "s200<" not in page


def test_patients_who_were_left_out_are_counted_and_named_only_when_asked(fake_run: Make) -> None:
    run = fake_run().method("pretrained", {"a": 0.7, "b": 0.8})
    (run.folder / "excluded.csv").write_text("what,id,reason\nsubject,zoe,no file\nregion,thomasina,1 of 12\ncolumn,shoe size,empty\n")
    folder = run.write()
    page = write_report(folder).read_text(encoding="utf-8")
    assert "zoe" not in page
    assert "thomasina" not in page
    assert "shoe size" in page
    assert "Which subjects and scans they are stands in excluded.csv" in page
    named = write_report(folder, ids=True).read_text(encoding="utf-8")
    assert "zoe" in named
    assert "thomasina" in named


def test_more_than_two_classes(fake_run: Make) -> None:
    run = fake_run().predicted({"pretrained": 1.0, "ridge_tangent": 0.5}, n_classes=3, seeds=(0,))
    page = write_report(run.write(task={"target": "diagnosis", "classes": ["a", "b", "c"]})).read_text(encoding="utf-8")
    assert "DeLong’s test over subjects is for two classes" in page
    assert "Share that was right" not in page  # drawn, not written


def test_predictions_of_one_method_allow_no_pair(fake_run: Make) -> None:
    run = fake_run().predicted({"pretrained": 1.0}, seeds=(0,))
    assert "predictions hold no pair of methods to compare" in write_report(run.write()).read_text(encoding="utf-8")


def test_nothing_is_written_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="graphssl evaluate"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_old_page_stays_whole_when_writing_fails(fake_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake_run().method("pretrained", {"a": 0.7, "b": 0.8}).write()
    before = write_report(folder).read_text(encoding="utf-8")
    monkeypatch.setattr("graphssl.reports.page.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == before


def test_neither_torch_nor_figures_are_imported() -> None:
    code = "import sys, graphssl.reports, graphssl.statistics; print(sorted({'torch', 'nilearn', 'matplotlib', 'graphssl.data'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_explanation_says_how_far_it_goes(page: str) -> None:
    assert "Models fitted again read largely the same regions (12 refits over folds and seeds: rank correlation 0.90" in page
    assert "The explanation depends on what was learned: with all weights random its rank correlation is 0.05." in page
    assert "Stability is the share of refitted models in which it is among the top tenth." in page
    assert "The 15 most salient of 780 connections" in page
    assert re.search(r'<th scope="row">tokens</th><td class="n">0.05</td>', page)


def test_scores_by_share_of_the_labels_stand_in_one_table(page: str, rich_run: Path) -> None:
    head = re.search(r"AUROC by share of the training labels.*?</thead>", page, re.DOTALL)
    assert head is not None
    assert re.findall(r">([\d.]+%)<", head[0]) == ["25%", "100%"]
    values = [statistics.fmean(by_split(rich_run, "pretrained", fraction=fraction)) for fraction in (0.25, 1.0)]
    assert '<th scope="row">Pre-trained encoder</th>' + "".join(f'<td class="n">{value:.3f}</td>' for value in values) in page


def test_chance_by_permuted_labels(page: str) -> None:
    """A method that separates the classes has the smallest p value there is; the majority class has the largest."""
    assert "p, labels permuted" in page
    rows = {name: re.search(rf'<th scope="row">{name}</th>(.*?)</tr>', page) for name in ("Ridge on tangent", "Majority class")}
    cells = {name: re.findall(r'<td class="n">([^<]*)</td>', row[1]) for name, row in rows.items() if row is not None}
    assert cells["Ridge on tangent"][-1] == "0.001"
    assert cells["Majority class"][-1] == "1.000"


def test_what_was_tuned_is_shown(rich_run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(rich_run, tmp_path / "fake", ignore=shutil.ignore_patterns("explain")))
    rows = ["method,split,seed,label_fraction,parameter,value,inner_score"]
    rows += [f"svm_tangent_tuned,{site},0,1.0,classifier__model__C,{value},0.7" for site, value in (("a", 0.1), ("b", 0.1), ("c", 10))]
    (folder / "tuning.csv").write_text("\n".join(rows) + "\n")
    page = write_report(folder).read_text(encoding="utf-8")
    assert "What tuned methods chose on inner folds" in page
    assert re.search(r'<th scope="row">Linear SVM on tangent, tuned</th><td >classifier__model__C</td><td >0.1</td><td class="n">2</td>', page)
