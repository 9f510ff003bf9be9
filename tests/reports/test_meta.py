"""The report of a meta-training: its numbers are those of the files, its figures say what they show."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from graphssl.errors import DataError, RunFolderError
from graphssl.reports import is_meta_run, write_meta_report
from graphssl.reports.meta import read_meta_run

NAMES = ["a", "b", "c", "d"]


def make_run(folder, *, similarity=True, adaptation=True, targets=("small <site>",)):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    told = {"classes": ["no", "yes"], "counts": [20, 22], "target": "ill", "atlases": {"toy": {}}, "n_subjects": 42}
    manifest = {"created": "2026-01-01T00:00:00", "command": "graphssl meta-train", "versions": {"torch": "2"}}
    manifest |= {"sources": [{"source": name, **told} for name in NAMES], "targets": [{"source": name, **told} for name in targets if adaptation]}
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
            {
                "target": target,
                "strategy": s,
                "n_support": k,
                "draw": d,
                "step": t,
                "loss": 0.6,
                "auroc": 0.5 + 0.05 * t + 0.1 * rng.random(),
                "n_query": 30 - k,
            }
            for target in targets
            for s in ("meta_reweighted", "direct")
            for k in (5, 10)
            for d in range(4)
            for t in range(3)
        ]
        pd.DataFrame(curve).to_csv(folder / "adaptation.csv", index=False)
        baselines = [
            {
                "target": target,
                "method": "ridge_correlation",
                "trained_on": w,
                "n_support": k,
                "draw": d,
                "auroc": 0.5 + 0.2 * rng.random(),
                "n_query": 20,
            }
            for target in targets
            for w in ("target", "sources")
            for k in (5, 10)
            for d in range(4)
        ]
        pd.DataFrame(baselines).to_csv(folder / "baselines.csv", index=False)
        tensors = [
            {"strategy": "meta_reweighted", "source": n, "tensor": t, "learning_rate": 0.01 * rng.random(), "weight_decay": 1e-4 * rng.random()}
            for n in NAMES
            for t in ("encoder.first.weight", "head.bias")
        ]
        pd.DataFrame(tensors).to_csv(folder / "rates.csv", index=False)
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
    baselines = pd.read_csv(run / "baselines.csv")
    for _, part in baselines.groupby(["trained_on", "n_support"]):
        assert f"{part['auroc'].mean():.3f}" in page
    assert "Ridge on correlation, trained on the sources" in page
    assert "small &lt;site&gt;" in page
    assert "from random weights" in page
    assert "by ridge on correlation, trained on the" in page
    assert "after 2 gradient steps" in page
    rates = pd.read_csv(run / "rates.csv")
    assert f"{rates.loc[rates['source'] == 'a', 'learning_rate'].mean():.4g}" in page
    assert "Weight of the source" not in page  # all count alike
    assert ">Transfer (AUROC)<" in page
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


def test_several_targets_count_once_each(tmp_path):
    folder = make_run(tmp_path / "many", targets=tuple("stuvwxy"))
    page = write_meta_report(folder).read_text(encoding="utf-8")
    curve = pd.read_csv(folder / "adaptation.csv")
    last = curve[(curve["step"] == 2) & (curve["n_support"] == 5)].groupby(["strategy", "target"])["auroc"].mean()
    ours, theirs = last["meta_reweighted"], last["direct"]
    assert f"AUROC {ours.mean():.3f} on 7 targets with 5 labelled subjects of each class" in page
    assert f"{ours.std():.3f}" in page
    assert f"{stats.wilcoxon(ours - theirs).pvalue:.3f}" in page
    assert f"{ours['w']:.3f}" in page  # by target


def test_other_folders_and_damaged_files_are_refused(run, tmp_path):
    assert is_meta_run(run)
    assert not is_meta_run(tmp_path)
    with pytest.raises(RunFolderError, match=r"Expected manifest\.json in the run folder .* `graphssl meta-train` wrote"):
        read_meta_run(tmp_path)
    damaged = make_run(tmp_path / "damaged")
    (damaged / "similarity.json").write_text("[{")
    with pytest.raises(DataError, match=r"Expected .*similarity\.json whole, found a damaged file"):
        read_meta_run(damaged)
