"""The command line as a user meets it: verbs, exit codes, one sentence on stderr, nothing half written."""

import json

import numpy as np
import pandas as pd
import pytest

from graphssl import __version__
from graphssl.cli import VERBS, main
from graphssl.data import Cohort
from graphssl.results import read_results
from graphssl.training import Model

ATLAS = "simulated20"
MODEL = """
name: tiny
cohort: {adapter: simulate, arguments: {atlases: [simulated20], n_subjects: 24, sites: 2}}
encoder: {class_path: graphssl.encoders.GraphTransformer, init_args: {width: 8, depth: 1, heads: 2}}
pretraining: {max_epochs: 1, batch_size: 8}
finetuning: {max_epochs: 1, batch_size: 8}
evaluation: {methods: [pretrained_probe, scratch_probe], baselines: [logistic_correlation, majority], audited: [], seeds: [0]}
"""


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """A folder of twelve time series with a table of participants; the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "scans").mkdir()
    for k in range(12):
        np.savetxt(tmp_path / "scans" / f"sub-{k:03d}.tsv", rng.standard_normal((40, 20)), delimiter="\t")
    table = pd.DataFrame({"participant_id": [f"{k:03d}" for k in range(12)], "diagnosis": ["a", "b"] * 6, "site": ["x"] * 6 + ["y"] * 6})
    table.to_csv(tmp_path / "scans" / "participants.tsv", sep="\t", index=False)
    (tmp_path / "tiny.yaml").write_text(MODEL)
    return tmp_path


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_told(capsys, word):
    assert main([word]) == 0
    assert capsys.readouterr().out == f"graphssl {__version__}\n"


@pytest.mark.parametrize(("word", "hint"), [("pretain", "Did you mean 'pretrain'? "), ("--verison", "Did you mean '--version'? "), ("zzz", "")])
def test_a_wrong_verb_names_the_nearest(capsys, word, hint):
    assert refused(capsys, main([word])).endswith(f"; found {word!r}. {hint}See graphssl --help.")


def test_help_is_given_however_it_is_asked_for(capsys):
    asked = [["--help"], ["-h"], ["help"]]
    assert len({main(words) or capsys.readouterr().out for words in asked}) == 1
    asked = [["audit", "--help"], ["help", "audit"]]
    assert len({main(words) or capsys.readouterr().out for words in asked}) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_says_how_it_is_called_and_what_it_does(capsys, verb):
    assert main([verb, "--help"]) == 0
    usage, _, what, *_ = capsys.readouterr().out.splitlines()
    assert usage.startswith(f"usage: graphssl {verb} [options]")
    assert VERBS[verb][1].startswith(what)


def build(*more):
    return main(["build", "scans", "--atlas", ATLAS, "--target", "diagnosis", "--site", "site", "--out", "cohort", *more])


def refused(capsys, code):
    """The sentence of a refusal: exit code 2, one line on stderr."""
    assert code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("graphssl: ")
    return lines[0]


def rewrite(path, values):
    np.savetxt(path, values, delimiter="\t")


def test_validate_and_build_give_a_cohort(scans, capsys):
    assert main(["validate", "scans", "--atlas", ATLAS, "--target", "diagnosis", "--site", "site", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["recognised"], record["n_subjects"], record["sites"]) == ("timeseries", 12, {"x": 6, "y": 6})
    assert build("--quiet") == 0
    assert Cohort.load("cohort").ids == [f"{k:03d}" for k in range(12)]


def test_shards_are_built_streamed_and_audited(scans, capsys):
    assert build("--shards", "5", "--quiet") == 0
    assert capsys.readouterr().out.endswith("Written to cohort\n")
    assert main(["validate", "cohort", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["recognised"], record["n_subjects"], record["sites"]) == ("shards", 12, {"x": 6, "y": 6})
    words = "cohort: {path: cohort, window: 2}"
    (scans / "streamed.yaml").write_text(
        MODEL.replace("cohort: {adapter: simulate, arguments: {atlases: [simulated20], n_subjects: 24, sites: 2}}", words)
    )
    assert main(["pretrain", "--config", "streamed.yaml", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoder"] == "runs/tiny/encoder"
    manifest = json.loads((scans / "runs" / "tiny" / "manifest.json").read_text())["cohort"]
    assert (manifest["n_subjects"], manifest["n_shards"], manifest["atlases"]["simulated20"]["n_subjects"]) == (12, 3, 12)
    assert main(["audit", "runs/tiny", "--quiet"]) == 0
    assert f"12 subjects, hash {manifest['hash']}" in capsys.readouterr().out
    assert main(["pretrain", "--config", "streamed.yaml", "--smoke", "--quiet"]) == 0
    for verb in ("finetune", "evaluate"):
        said = refused(capsys, main([verb, "--config", "streamed.yaml", "--quiet"]))
        assert "Expected a cohort in memory, found window=2: `graphssl pretrain` alone streams" in said
    (scans / "cohort" / "regions" / "simulated20" / "00001.npy").write_bytes(b"cut")
    assert "found 3 bytes. Copy it again" in refused(capsys, main(["pretrain", "--config", "streamed.yaml", "--quiet"]))


def test_a_table_is_validated_corrected_and_built(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"p{k},{20 + k},{80.5 + k},{'sick' if k % 2 else 'well'}\n" for k in range(8))
    (tmp_path / "clinic.csv").write_text(f"id,age,glucose (mg/dL),state\n{rows}")
    assert main(["validate", "clinic.csv", "--target", "state", "--schema_out", "schema.yaml"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Recognised as table: a table with one row a subject")
    assert "    glucose (mg/dL)  continuous  feature  mg/dL\n" in said
    assert said.endswith("Schema written to schema.yaml\n")
    text = (tmp_path / "schema.yaml").read_text()
    (tmp_path / "schema.yaml").write_text(text.replace("mg/dL,", "mmol/L,").replace("unit: mg/dL}", "unit: mmol/L}"))
    assert main(["build", "clinic.csv", "--schema", "schema.yaml", "--out", "cohort", "--quiet"]) == 0
    cohort = Cohort.load("cohort")
    assert cohort.schema["glucose (mg/dL)"].unit == "mmol/L"
    assert cohort.target().tolist() == ["well", "sick"] * 4
    (tmp_path / "schema.yaml").write_text(text.replace("mg/dL}", "mg/furlong}"))
    assert main(["validate", "clinic.csv", "--schema", "schema.yaml"]) == 2
    assert "Expected a unit such as mg/dL" in capsys.readouterr().err


def test_a_run_gives_every_file_of_its_folder_and_is_taken_up_again(scans, capsys):
    assert main(["pretrain", "--config", "tiny.yaml", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoder"] == "runs/tiny/encoder"
    assert main(["evaluate", "--config", "tiny.yaml", "--quiet", "--json"]) == 0
    first = capsys.readouterr().out
    names = {path.name for path in (scans / "runs" / "tiny").iterdir()}
    assert names >= {
        "config.yaml",
        "manifest.json",
        "splits.json",
        "history.csv",
        "results.jsonl",
        "predictions.parquet",
        "encoder",
        "model",
        "report.html",
    }
    assert main(["evaluate", "--config", "tiny.yaml", "--quiet", "--json"]) == 0
    assert capsys.readouterr().out == first
    assert "another one" in refused(capsys, main(["evaluate", "--config", "tiny.yaml", "--quiet", "--pretraining.max_epochs", "2"]))
    assert main(["report", "runs/tiny"]) == 0
    assert main(["validate", "scans", "--atlas", ATLAS]) == 0


def test_embed_writes_vectors_and_refuses_what_does_not_fit(scans, capsys):
    assert main(["finetune", "--config", "tiny.yaml", "--quiet"]) == 0
    assert build("--quiet") == 0
    capsys.readouterr()
    model = scans / "runs" / "tiny" / "model"
    words = ["embed", "--model", str(model), "--cohort", "cohort", "--out"]
    assert main([*words, "vectors.csv"]) == 0
    assert len(pd.read_csv("vectors.csv")) == 12
    capsys.readouterr()
    assert "ending in .parquet or .csv" in refused(capsys, main([*words, "vectors.xlsx"]))
    schema = json.loads((model / "schema.json").read_text())
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:100])
    assert "truncated" in refused(capsys, main([*words, "again.csv"]))
    assert not (scans / "again.csv").exists()
    assert schema["classes"] == ["control", "patient"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "sub-003.tsv").write_text(""), "sub-003.tsv"),
        (lambda f: rewrite(f / "sub-003.tsv", np.random.default_rng(1).standard_normal((40, 19))), "19"),
        (lambda f: rewrite(f / "sub-003.tsv", np.where(np.arange(20) == 4, 1.0, np.random.default_rng(1).standard_normal((40, 20)))), "mask"),
        (lambda f: (f / "participants.tsv").write_text("participant_id\tdiagnosis\tsite\n000\ta\tx\n000\tb\ty\n"), "000"),
        (lambda f: (f / "participants.tsv").write_text("participant_id\tdiagnosis\tsite\n" + "".join(f"{k}\ta\tx\n" for k in range(12))), "zero"),
    ],
    ids=["empty file", "unequal regions", "constant region", "duplicate id", "lost zeros"],
)
def test_bad_files_end_with_one_sentence_and_no_cohort(scans, capsys, spoil, words):
    spoil(scans / "scans")
    assert words in refused(capsys, build())
    assert not (scans / "cohort").exists()


def test_other_bad_input_ends_with_one_sentence(scans, capsys):
    assert "found nothing" in refused(capsys, main(["validate", "nowhere"]))
    assert "20 regions" in refused(capsys, main(["build", "scans", "--out", "cohort"]))
    assert not (scans / "cohort").exists()
    assert "validate" in refused(capsys, main(["valdate"]))
    assert "'max_epochs'" in refused(capsys, main(["pretrain", "--config", "tiny.yaml", "--pretraining.max_epoch", "3"]))
    assert "n_subjects" in refused(capsys, main(["pretrain", "--config", "tiny.yaml", "--cohort.arguments", '{"n_subject": 3}']))
    assert not (scans / "runs").exists()


def test_matrices_are_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    matrix = np.eye(20)
    for name, value in (("asymmetric", [(0, 1, 0.5)]), ("fisher", [(0, 1, 1.5), (1, 0, 1.5)])):
        changed = matrix.copy()
        for row, column, entry in value:
            changed[row, column] = entry
        np.save(tmp_path / "m" / "s1.npy", changed + np.where(np.eye(20) == 1, 0, 0.1 if name == "fisher" else 0))
        found = refused(capsys, main(["build", "m", "--atlas", ATLAS, "--missing_regions", "mask", "--out", "c"]))
        assert {"asymmetric": "symmetric", "fisher": "isher"}[name] in found


@pytest.mark.parametrize("verb", ["demo", "evaluate"])
def test_smoke_runs_end_to_end(scans, capsys, verb):
    words = ["demo"] if verb == "demo" else ["evaluate", "--config", "tiny.yaml"]
    assert main([*words, "--smoke", "--quiet"]) == 0
    assert "Report:" in capsys.readouterr().out


def test_what_tuned_methods_chose_is_written_beside_the_results(scans):
    grid = "{svm_correlation: {classifier__model__C: [0.01, 1.0]}}"
    words = ["--evaluation.methods", "[]", "--evaluation.baselines", "[majority]", "--evaluation.protocol", "k_fold"]
    assert main(["evaluate", "--config", "tiny.yaml", *words, "--evaluation.tuned", grid, "--evaluation.n_splits", "2", "--quiet"]) == 0
    choices = pd.read_csv("runs/tiny/tuning.csv")
    assert choices["method"].tolist() == ["svm_correlation_tuned"] * 2
    assert choices["value"].isin([0.01, 1.0]).all()
    assert {"svm_correlation_tuned", "majority"} <= set(read_results("runs/tiny/results.jsonl")["method"])


TABLE = """
name: first
cohort: {adapter: simulate_table, arguments: {n_subjects: 40, columns: [0, 1, 2, 3, 4]}}
encoder: {class_path: graphssl.encoders.TableMLP, init_args: {width: 8, depth: 1}}
columns: {n_pieces: 4}
pretraining: {max_epochs: 1, batch_size: 16}
finetuning: {max_epochs: 1, batch_size: 16}
"""


def test_a_model_of_one_table_is_fine_tuned_on_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first.yaml").write_text(TABLE)
    (tmp_path / "second.yaml").write_text(TABLE.replace("first", "second").replace("[0, 1, 2, 3, 4]", "[4, 3, 7], seed: 1"))
    assert main(["pretrain", "--config", "first.yaml", "--quiet"]) == 0
    words = ["finetune", "--config", "second.yaml", "--model", "runs/first/encoder", "--quiet"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "columns: 4 shared, 1 new, 3 left out\n  shared    age: continuous; years\n" in said
    assert "  new       lab07: continuous; 10^9/L\n  left out  lab00: continuous; mg/dL\n" in said
    carried = pd.read_csv("runs/second/transfer.csv", index_col="column")
    assert carried["state"].value_counts().to_dict() == {"shared": 4, "left out": 3, "new": 1}
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["transfer"].startswith("columns: 4 shared")
    (tmp_path / "third.yaml").write_text(TABLE.replace("first", "third").replace("columns: {n_pieces: 4}", "columns: {columns: [lab00]}"))
    sentence = refused(capsys, main(["finetune", "--config", "third.yaml", "--model", "runs/second/model", "--quiet"]))
    assert "Expected at least one column of the model (age, sex, lab04, lab03, lab07)" in sentence
    assert not (tmp_path / "runs" / "third").exists()


def test_scans_are_converted_to_another_atlas(scans, capsys):
    words = ["convert-atlas", "--from", ATLAS, "--to", "simulated12"]
    assert main([*words, "scans/sub-003.tsv", "--out", "moved.tsv"]) == 0
    assert capsys.readouterr().out.startswith("Converted       1 subject, time series, from simulated20 (20 regions) to simulated12 (12 regions)\n")
    assert (scans / "moved_report" / "report.html").is_file()
    assert main([*words, "scans", "--target", "diagnosis", "--site", "site", "--out", "moved", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_subjects"] == 12
    cohort = Cohort.load("moved")
    assert cohort.target().tolist() == ["a", "b"] * 6
    assert cohort.atlas("simulated12").names[0] == "L-001"
    assert "Did you mean 'to'?" in refused(capsys, main([*words[:3], "--two", "simulated12", "scans", "--out", "again"]))
    assert main(["convert-atlas", "--help"]) == 0
    assert "--save_map" in capsys.readouterr().out


LESIONS = """
name: lesions
cohort: {adapter: simulate_images, arguments: {n_subjects: 40, size: 16}}
images: {}
encoder: {class_path: graphssl.encoders.ResNet, init_args: {width: 4, blocks: [1, 1], stem: small, norm: group}}
objective: {class_path: graphssl.objectives.NTXent, init_args: {view: {class_path: graphssl.views.Flip}}}
segmentation: {width: 4, view: {class_path: graphssl.views.ForegroundCrop, init_args: {size: 8}}}
pretraining: {max_epochs: 1, batch_size: 8}
finetuning: {max_epochs: 1, batch_size: 8}
evaluation: {protocol: k_fold, n_splits: 2, methods: [pretrained], baselines: [], audited: [], seeds: [0]}
"""


def test_lesions_are_segmented_on_folds_and_by_a_model_of_everybody(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lesions.yaml").write_text(LESIONS)
    assert main(["evaluate", "--config", "lesions.yaml", "--quiet", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    results = read_results(record["results"])
    masks = results[results["task"] == "masks of images"]
    assert set(masks["method"]) == {"pretrained", "mean_mask"}
    assert set(masks["metric"]) == {"dice", "iou", "nsd", "hd95"}
    assert "the most common class of each voxel" in (tmp_path / record["report"]).read_text()
    assert main(["finetune", "--config", "lesions.yaml", "--name", "again", "--quiet", "--json"]) == 0
    model = Model.from_pretrained(json.loads(capsys.readouterr().out)["model"])
    assert model.decoder.n_classes == 2
    volumes = ["--cohort.arguments", "{n_subjects: 6, size: 16, rank: 3}", "--encoder.init_args.rank", "3"]
    assert main(["finetune", "--config", "lesions.yaml", "--name", "deep", "--model", "runs/lesions/encoder", *volumes, "--quiet", "--json"]) == 0
    deep = Model.from_pretrained(json.loads(capsys.readouterr().out)["model"])
    assert (deep.encoder.rank, deep.builder.rank_) == (3, 3)
    assert main(["evaluate", "--config", "lesions.yaml", "--name", "other", "--evaluation.methods", "[no_edges]", "--quiet"]) == 2
    assert "Expected methods of segmentation among pretrained" in capsys.readouterr().err


def test_methods_are_listed(capsys):
    assert main(["methods", "--family", "meta"]) == 0
    assert "configs/methods/meta_uscl.yaml" in capsys.readouterr().out
    assert main(["methods", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert {"number", "name", "family", "dimensions", "inputs", "config", "page", "source", "reconstruction"} <= set(records[0])
    assert main(["methods", "--family", "magic"]) == 2
    assert "Expected a family among predictive" in capsys.readouterr().err
