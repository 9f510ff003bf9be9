"""The report of a meta-training: its numbers are those of the files, its figures say what they show."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from graphssl.errors import DataError, RunFolderError
from graphssl.reports import is_meta_run, write_meta_report
from graphssl.reports.meta import last_scores, read_meta_run

NAMES = ["a", "b", "c", "d"]


def make_run(folder, *, similarity=True, adaptation=True):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    told = {"classes": ["no", "yes"], "counts": [20, 22], "target": "ill", "atlases": {"toy": {}}, "n_subjects": 42}
    manifest = {"created": "2026-01-01T00:00:00", "command": "graphssl meta-train", "versions": {"torch": "2"}}
    manifest |= {"sources": [{"source": name, **told} for name in NAMES], "target": {"source": "small <site>", **told} if adaptation else None}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "config.yaml").write_text("name: fake\n")
    rates = {"meta_reweighted": 0.05, "joint": None}
    rows = [
        {"strategy": s, "epoch": e, "source": n, "loss": rng.random(), "weight": 0.25, "learning_rate": rates[s], "weight_decay": None}
        for s in rates
        for e in range(3)
        for n in NAMES
    ]
    pd.DataFrame(rows).to_csv(folder / "sources.csv", index=False)
    if adaptation:
        curve = [
            {"strategy": s, "n_support": k, "draw": d, "step": t, "loss": 0.6, "auroc": 0.5 + 0.05 * t + 0.1 * rng.random(), "n_query": 30 - k}
            for s in ("meta_reweighted", "direct")
            for k in (5, 10)
            for d in range(4)
            for t in range(3)
        ]
        pd.DataFrame(curve).to_csv(folder / "adaptation.csv", index=False)
    if similarity:
        values = np.asarray([[1, 0.9, 0.1, 0.0], [0.9, 1, 0.1, 0.1], [0.1, 0.1, 1, 0.8], [0.0, 0.1, 0.8, 1]])
        record = {"measure": "gradient cosine", "names": NAMES, "values": values.tolist(), "low": np.full((4, 4), 0.05).tolist()}
        directed = np.where(np.eye(4), None, 0.6 + 0.1 * np.triu(np.ones((4, 4)))).tolist()
        record |= {"high": np.full((4, 4), 0.5).tolist(), "null": "the datasets are one"}
        (folder / "similarity.json").write_text(json.dumps([record, {**record, "measure": "transfer (AUROC)", "values": directed}]))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("meta") / "run")


def test_the_numbers_are_those_of_the_files(run):
    page = write_meta_report(run).read_text(encoding="utf-8")
    curve = pd.read_csv(run / "adaptation.csv")
    for (strategy, k), part in curve[curve["step"] == 2].groupby(["strategy", "n_support"]):
        values = part["auroc"].to_numpy()
        half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
        for number in (values.mean(), values.mean() - half, values.mean() + half):
            assert f"{number:.3f}" in page, (strategy, k)
    assert "small &lt;site&gt;" in page
    assert "from random weights" in page
    assert not list(run.glob("*.part"))


def test_it_says_which_pairs_lie_outside_of_permutations(run):
    page = write_meta_report(run).read_text(encoding="utf-8")
    assert "Of 6 pairs: a – b, c – d above; a – d below the 95% interval of permutations, which stands for: the datasets are one." in page
    assert "Heat map and dendrogram of gradient cosine between a, b, c, d; most alike: a and b." in page
    assert "Of 12 pairs" in page  # a transfer has a direction


def test_leaves_stand_beside_those_they_are_like(run):
    from graphssl.reports.meta import _links

    values = np.asarray(read_meta_run(run).similarity[0]["values"])
    first, second = _links(values)[:2, :2].astype(int).tolist()
    assert sorted([sorted(first), sorted(second)]) == [[0, 1], [2, 3]]


def test_parts_that_are_absent_have_a_sentence(tmp_path):
    page = write_meta_report(make_run(tmp_path / "bare", similarity=False, adaptation=False)).read_text(encoding="utf-8")
    assert "Meta-trained on 4 sources; no target was given." in page
    assert "Similarity was not measured" in page
    assert "No target was given, or it has no labels" in page


def test_scores_are_those_after_the_last_step():
    curve = pd.DataFrame(
        {"strategy": "meta", "n_support": 5, "draw": [0, 0, 1, 1], "step": [0, 1, 0, 1], "auroc": [0.1, 0.6, 0.1, 0.8], "n_query": 9}
    )
    row = last_scores(curve).iloc[0]
    assert row["auroc"] == pytest.approx(0.7)
    assert row["n_draws"] == 2


def test_other_folders_and_damaged_files_are_refused(run, tmp_path):
    assert is_meta_run(run)
    assert not is_meta_run(tmp_path)
    with pytest.raises(RunFolderError, match=r"Expected manifest\.json in the run folder .* `graphssl meta-train` wrote"):
        read_meta_run(tmp_path)
    damaged = make_run(tmp_path / "damaged")
    (damaged / "similarity.json").write_text("[{")
    with pytest.raises(DataError, match="whole files in the run folder"):
        read_meta_run(damaged)
