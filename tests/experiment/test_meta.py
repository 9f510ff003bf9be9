"""The verb `meta-train`: one file or two, five strategies on the same splits, resumed as it was, and errors that say what to do."""

import json
import re
import shutil

import pandas as pd
import pytest
import yaml

from graphssl.cli import main
from graphssl.experiment.meta_config import instantiate_meta, meta_parser
from graphssl.training import Model, finetune


def cohort(n_regions=16, **arguments):
    return {"adapter": "simulate", "arguments": {"atlases": [f"simulated{n_regions}"], "n_subjects": 60, "sites": 3, "effect": 1.5, **arguments}}


TARGET = {"cohort": cohort(n_subjects=36, sites=1, seed=9, name="small"), "target": "diagnosis"}
SOURCES = {
    "name": "tiny",
    "sources": [
        {"cohort": cohort(), "target": "diagnosis"},
        {"cohort": cohort(n_regions=12, n_subjects=24, sites=1, seed=5, name="other"), "target": "diagnosis", "by_site": False},
    ],
    "compare": ["direct", "joint", "meta", "single_source"],
    "encoder": {"class_path": "graphssl.encoders.GraphTransformer", "init_args": {"width": 8, "depth": 1, "heads": 2, "spacing_mm": 40.0}},
    "settings": {"max_epochs": 2, "steps_per_epoch": 2, "n_support": 3, "n_query": 3, "accelerator": "cpu"},
    "adaptation": {"n_support": [3, 40], "n_draws": 2, "n_steps": 2},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two files, and what it printed."""
    place = tmp_path_factory.mktemp("meta")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (place / "sources.yaml").write_text(yaml.safe_dump(SOURCES))
        (place / "target.yaml").write_text(yaml.safe_dump({"target": TARGET}))
        words = ["meta-train", "--config", "sources.yaml", "--config", "target.yaml", "--quiet"]
        assert main(words) == 0
        yield place / "runs" / "tiny", words


def test_a_run_folder_holds_model_curves_similarities_and_report(run):
    folder, _ = run
    sources, curve = pd.read_csv(folder / "sources.csv"), pd.read_csv(folder / "adaptation.csv")
    assert set(sources["source"]) == {"site-1", "site-2", "site-3", "other"}
    assert set(sources["strategy"]) == {"meta_reweighted", "joint", "meta", "single_source"}  # what learns from no source has no row
    assert sources.loc[sources["strategy"] == "meta_reweighted", "learning_rate"].gt(0).all()
    assert set(curve["strategy"]) == {"meta_reweighted", "direct", "joint", "meta", "single_source"}
    assert set(curve["n_support"]) == {3}  # the target is too small for forty
    assert curve.groupby(["strategy", "draw"])["step"].max().eq(2).all()
    assert [record["measure"] for record in json.loads((folder / "similarity.json").read_text())] == [
        "gradient cosine",
        "transfer (AUROC)",
        "representation similarity (CKA)",
    ]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Meta-learning, adaptive rates: AUROC" in page
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [source["source"] for source in manifest["sources"]] == ["site-1", "site-2", "site-3", "other"]
    assert [target["counts"] for target in manifest["targets"]] == [[18, 18]]


def test_baselines_stand_on_the_same_draws_and_rates_are_kept_by_tensor(run):
    folder, _ = run
    baselines, curve = pd.read_csv(folder / "baselines.csv"), pd.read_csv(folder / "adaptation.csv")
    # One of the sources is in another atlas, so connectivity is not learned from all of them.
    assert set(zip(baselines["method"], baselines["trained_on"], strict=True)) == {("ridge_correlation", "target")}
    assert set(baselines["draw"]) == set(curve["draw"])
    assert set(baselines["n_query"]) == set(curve["n_query"])
    rates = pd.read_csv(folder / "rates.csv")
    assert set(rates["strategy"]) == {"meta_reweighted"}
    assert set(rates["source"]) == {"site-1", "site-2", "site-3", "other"}
    assert "head.weight" in set(rates["tensor"])


def test_each_of_several_sites_is_a_target_in_turn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    several = {**SOURCES, "sources": SOURCES["sources"][:1], "compare": ["direct"], "strategy": "joint", "similarity": False}
    several["target"] = {"cohort": cohort(n_subjects=48, sites=2, seed=9, name="small"), "target": "diagnosis"}
    several["baselines"] = ["logistic_correlation"]
    (tmp_path / "several.yaml").write_text(yaml.safe_dump(several))
    assert main(["meta-train", "--config", "several.yaml", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "logistic_correlation on the sources: AUROC" in said
    curve = pd.read_csv(tmp_path / "runs" / "tiny" / "adaptation.csv")
    assert set(curve["target"]) == {"site-1", "site-2"}
    assert "on 2 targets with 3 labelled subjects" in (tmp_path / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")


def test_the_model_can_be_fine_tuned(run):
    folder, _ = run
    model = Model.from_pretrained(folder / "encoder")
    (source,) = _experiment(SOURCES).sources[0].load()[:1]
    assert finetune(model, source.cohort, target="diagnosis", mode="probe").predict_proba(source.cohort).shape == (20, 2)


def test_the_same_command_gives_the_same_files(run, monkeypatch):
    folder, words = run
    before = {name: (folder / name).read_bytes() for name in ("adaptation.csv", "sources.csv", "similarity.json", "encoder/model.safetensors")}
    shutil.rmtree(folder / "checkpoints" / "meta")  # one of the strategies was not finished
    assert main(words) == 0
    assert all((folder / name).read_bytes() == content for name, content in before.items())


def test_the_report_is_written_anew(run, capsys):
    folder, _ = run
    (folder / "report.html").unlink()
    assert main(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"].endswith("report.html")
    assert (folder / "report.html").is_file()


def test_without_labels_there_is_no_curve(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = {**SOURCES, "sources": [{"cohort": cohort()}], "compare": [], "strategy": "meta"}
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump(bare))
    assert main(["meta-train", "--config", "bare.yaml", "--quiet"]) == 0
    assert not (tmp_path / "runs" / "tiny" / "adaptation.csv").exists()
    assert "MaskedRegions" in Model.from_pretrained(tmp_path / "runs" / "tiny" / "encoder").card["learned"]


def _experiment(settings, smoke=False):
    parser = meta_parser()
    return instantiate_meta(parser, parser.parse_object(settings), smoke=smoke)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "metta"}, "strategies among direct, .*found 'metta'. Did you mean 'meta'"),
        ({"sources": []}, "at least one dataset among the sources, found none"),
        (
            {
                "target": {"cohort": cohort(seed=9, name="small"), "target": "diagnosis"},
                "meta": {"weighting": {"class_path": "graphssl.training.meta.GradientAgreement"}},
            },
            "Expected one target for GradientAgreement, found 3 sites: site-1, site-2, site-3. Name one",
        ),
        ({"baselines": ["ridge_corelation"]}, "baselines among .*found 'ridge_corelation'. Did you mean 'ridge_correlation'"),
        ({"target": {"cohort": cohort(), "target": "diagnosis", "sites": ["site-1"]}}, "target's subjects in no source, found 20 of 'site-1'"),
        ({"settings": {"n_support": 30}}, "at least 40 subjects of the class"),
        ({"builder": {}, "columns": {}}, "Expected one of builder, columns, timeline, events, population, images, .*found builder and columns"),
        ({"settings": {"n_suport": 3}}, "Did you mean 'n_support'"),
    ],
)
def test_wrong_input_is_refused_and_nothing_is_written(change, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({**SOURCES, "compare": [], "target": TARGET, **change}))
    assert main(["meta-train", "--config", "wrong.yaml", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert not (tmp_path / "runs" / "tiny").exists()
