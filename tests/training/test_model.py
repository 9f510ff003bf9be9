"""The model on disk: it predicts the same after a round trip, and refuses what is damaged, unsafe or of another atlas."""

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from graphssl import __version__
from graphssl.data import Cohort, ColumnTokenizer, Schema
from graphssl.encoders import GIN, BrainNetworkTransformer, GraphTransformer, LinearEncoder, PlaceEncoder, TableTransformer
from graphssl.errors import AtlasError, CheckpointError, DataError, InputError, RunFolderError, SchemaError
from graphssl.graphs import ConnectomeBuilder
from graphssl.training import Model, finetune, load_model, untrained
from graphssl.training import model as module
from graphssl.training.model import by_subject, embed_rows, fresh

FILES = ["README.md", "config.json", "model.safetensors", "schema.json"]


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(effect=2.0)


@pytest.fixture
def folder(tuned, tmp_path):
    """A saved model."""
    return tuned.save_pretrained(tmp_path / "model")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


# Predictions


def test_probabilities_are_those_of_encoder_and_head(tuned, cohort):
    batch = tuned.builder.transform(cohort)
    with torch.no_grad():
        logits = tuned.head(tuned.encoder(batch).pooled).double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = tuned.predict_proba(cohort)
    assert found.shape == (24, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_rows_follow_the_subjects_of_the_call(tuned, cohort):
    order = list(np.random.default_rng(0).permutation(cohort.ids))
    found, expected = tuned.predict_proba(cohort.select(order)), tuned.predict_proba(cohort)
    np.testing.assert_allclose(found, expected[[cohort.ids.index(subject) for subject in order]], atol=1e-6)
    assert list(tuned.embed(cohort.select(order)).index) == order


@pytest.mark.parametrize("company", [1, 5, 24])
def test_a_prediction_does_not_depend_on_who_else_is_there(tuned, cohort, company):
    alone = tuned.predict_proba(cohort.select(["sub-003"]))[0]
    others = [subject for subject in cohort.ids if subject != "sub-003"][: company - 1]
    together = tuned.predict_proba(cohort.select([*others, "sub-003"]))[-1]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_more_subjects_than_one_pass_takes(tuned, make_cohort, monkeypatch):
    many = make_cohort(n_subjects=31, effect=2.0)
    expected = tuned.predict_proba(many)
    monkeypatch.setattr(type(tuned.encoder), "rows_at_once", 7)
    np.testing.assert_allclose(tuned.predict_proba(many), expected, atol=1e-6)


def test_the_class_is_the_most_probable(tuned, cohort):
    expected = [tuned.classes[int(p[1] > p[0])] for p in tuned.predict_proba(cohort)]
    assert tuned.predict(cohort).tolist() == expected


def test_a_subject_of_several_atlases_gets_the_mean(families, make_encoder):
    model = untrained(families, encoder=make_encoder(), seed=1)
    model = model.with_head(torch.nn.Linear(model.encoder.pooled_width, 2), ("control", "patient"), "diagnosis")
    batch = model.builder.transform(families)
    model.encoder.eval()
    with torch.no_grad():
        pooled = model.encoder(batch).pooled
        logits = model.head(pooled)
    for k, subject in enumerate(families.ids[:5]):
        rows = [row for row, other in enumerate(batch.subject_ids) if other == subject]
        assert len(rows) == 2
        np.testing.assert_allclose(model.embed(families).iloc[k], pooled[rows].mean(dim=0), atol=1e-5)
        expected = torch.softmax(logits[rows].mean(dim=0), dim=0)
        np.testing.assert_allclose(model.predict_proba(families)[k], expected, atol=1e-5)


def test_predicting_changes_no_mode_and_keeps_no_gradient(tuned, cohort):
    encoder = fresh(tuned.encoder, 0).train()
    pooled = embed_rows(encoder, tuned.builder.transform(cohort))
    assert encoder.training
    assert not pooled.requires_grad
    encoder.eval()
    assert torch.equal(embed_rows(encoder, tuned.builder.transform(cohort)), pooled)  # dropout was off


def test_embeddings_have_names(tuned, cohort):
    table = tuned.embed(cohort)
    assert table.shape == (24, tuned.encoder.pooled_width)
    assert list(table.columns[:2]) == ["pooled_0", "pooled_1"]
    assert list(table.index) == cohort.ids


def test_rows_are_averaged_by_subject():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])
    found = by_subject(values, ["b", "a", "b"], ["a", "b"])
    assert found.tolist() == [[3.0, 4.0], [3.0, 5.5]]
    with pytest.raises(DataError, match=r"Expected a row for every subject, found none for \['c'\]"):
        by_subject(values, ["b", "a", "b"], ["a", "b", "c"])


def test_a_pre_trained_model_does_not_predict(pretrained, cohort):
    with pytest.raises(CheckpointError, match=r"Expected a fine-tuned model, found a pre-trained encoder without a head. Call graphssl.finetune"):
        pretrained.predict_proba(cohort)


def test_a_fresh_encoder_is_a_function_of_the_seed(make_encoder):
    state = torch.get_rng_state()
    first, again, other = (fresh(make_encoder(), seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["tokens.profile.weight"], other["tokens.profile.weight"])


def test_the_text_of_a_model_says_what_it_does(tuned, pretrained):
    assert "no head yet" in repr(pretrained)
    assert "predicts 'diagnosis' (control / patient)" in repr(tuned)
    assert "atlas toy, connectivity" in repr(tuned)


# Round trip


@pytest.mark.parametrize("kind", ["correlation", "tangent"])
@pytest.mark.parametrize("options", [{}, {"readout": "mean", "learn_bias": True}, {"edges": False}])
def test_a_model_predicts_the_same_to_the_last_bit_after_a_round_trip(families, make_encoder, tmp_path, kind, options):
    model = finetune(untrained(families, encoder=make_encoder(**options), builder=ConnectomeBuilder(kind=kind)), families, mode="probe")
    again = load_model(model.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(families), model.predict_proba(families))
    np.testing.assert_array_equal(again.embed(families), model.embed(families))
    assert again.classes == model.classes
    assert again.target == model.target
    assert again.card == model.card
    assert again.encoder.arguments() == model.encoder.arguments()
    assert not again.encoder.training


@pytest.mark.parametrize(
    "encoder",
    [
        GraphTransformer(8, 1, 2, spacing_mm=40.0, readout="clusters", biases=("network",), encodings=("spectral", "random_walk")),
        GIN(8, 1, spacing_mm=40.0, readout="attention"),
        BrainNetworkTransformer("toy", 12, width=8, depth=1, heads=2),
        LinearEncoder("toy", 12, width=4),
        PlaceEncoder(4, spacing_mm=40.0),
    ],
    ids=lambda encoder: type(encoder).__name__,
)
def test_any_encoder_goes_round(cohort, tmp_path, encoder):
    model = untrained(cohort, encoder=encoder)
    again = load_model(model.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(again.embed(cohort), model.embed(cohort))
    assert again.encoder.arguments() == encoder.arguments()


def test_a_model_with_covariates_goes_round(cohort, make_encoder, tmp_path):
    table = cohort.subjects.copy()
    table.iloc[3, table.columns.get_loc("age")] = np.nan
    some = replace(cohort, subjects=table)
    model = finetune(untrained(some, encoder=make_encoder(), builder=ConnectomeBuilder(covariates=True)), some, mode="probe")
    again = load_model(model.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(some), model.predict_proba(some))
    assert again.encoder.arguments() == model.encoder.arguments()
    assert "- **covariates**: age, sex" in (tmp_path / "model" / "README.md").read_text()
    assert (again.embed(some) != again.embed(cohort)).any(axis=1).tolist() == [k == 3 for k in range(24)], "only the one whose age is lost differs"
    bare = Schema([column for column in cohort.schema if column.name != "age"])
    with pytest.raises(SchemaError, match="Expected the column 'age' of the training subjects"):
        again.predict_proba(replace(cohort, subjects=cohort.subjects.drop(columns="age"), schema=bare))


def test_a_folder_from_before_there_were_covariates_loads(tuned, folder, cohort):
    edit(folder / "config.json", lambda config: (config["encoder"]["arguments"].pop("covariates"), config["builder"]["arguments"].pop("covariates")))
    np.testing.assert_array_equal(load_model(folder).predict_proba(cohort), tuned.predict_proba(cohort))


def test_a_model_without_a_head_goes_round_too(pretrained, cohort, tmp_path):
    again = Model.from_pretrained(str(pretrained.save_pretrained(str(tmp_path / "a" / "model"))))
    assert again.head is None
    assert again.target is None
    np.testing.assert_array_equal(again.embed(cohort), pretrained.embed(cohort))


def test_a_loaded_model_can_be_tuned_as_the_one_that_was_saved(pretrained, cohort, tmp_path):
    again = load_model(pretrained.save_pretrained(tmp_path / "model"))
    found, expected = (finetune(model, cohort, mode="probe").head.weight for model in (again, pretrained))
    assert torch.equal(found, expected)


def test_the_folder_holds_no_pickle_and_no_subject(folder):
    assert names(folder) == FILES
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"\x80", b"PK"))
        assert b"sub-0" not in content
    config = json.loads((folder / "config.json").read_text())
    assert config["encoder"]["class"] == "GraphTransformer"
    assert json.loads((folder / "schema.json").read_text())["atlases"][0]["name"] == "toy"


def test_the_card_names_data_and_atlas(folder, tuned):
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: graphssl\ntags: [connectome, GraphTransformer, self-supervised]\n---")
    assert tuned.card["fine-tuned on"] in card
    assert f"12 regions, hash {tuned.builder.atlases_['toy'].hash}" in card


def test_the_card_says_how_it_was_trained_and_what_it_is_not_for(folder, tuned):
    card = (folder / "README.md").read_text()
    assert tuned.card["training"] in card
    assert "epochs of minibatches of" in tuned.card["training"]
    assert f"made with graphssl {__version__}" in card
    assert [line for line in card.splitlines() if line.startswith("## ")] == ["## Use", "## Licence"]
    assert "no medical device" in card


# Saving


def test_a_model_replaces_a_model(tuned, pretrained, folder):
    (folder / "notes.txt").write_text("of the first model")
    pretrained.save_pretrained(folder)
    assert load_model(folder).head is None
    assert names(folder) == FILES
    assert names(folder.parent) == ["model"]


def test_a_folder_of_other_files_is_not_touched(tuned, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(RunFolderError, match="Expected .* to be absent, empty or a saved model; found other files. Give another folder"):
        tuned.save_pretrained(tmp_path)
    assert names(tmp_path) == ["thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_not_touched(tuned, tmp_path):
    (tmp_path / "model").write_text("three years")
    with pytest.raises(RunFolderError, match="found other files"):
        tuned.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "three years"


def test_a_save_that_fails_leaves_the_old_model(tuned, pretrained, folder, cohort, monkeypatch):
    def full(*arguments):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", full)
        with pytest.raises(OSError, match="No space left"):
            pretrained.save_pretrained(folder)
    np.testing.assert_array_equal(load_model(folder).predict_proba(cohort), tuned.predict_proba(cohort))
    pretrained.save_pretrained(folder)  # what the failure left is no obstacle
    assert names(folder.parent) == ["model"]


# What is refused


@pytest.mark.parametrize("lost", ["config.json", "schema.json"])
def test_a_missing_description_is_refused(folder, lost):
    (folder / lost).unlink()
    with pytest.raises(CheckpointError, match=rf"Expected a model folder with {lost} at .*, found none. Save models with save_pretrained"):
        load_model(folder)


def test_missing_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="Expected weights at .*model.safetensors, found no such file"):
        load_model(folder)


@pytest.mark.parametrize("name", ["absent", "model.pt"])
def test_what_is_no_folder_is_refused(tmp_path, name):
    torch.save({}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="Expected a model folder with config.json at"):
        load_model(tmp_path / name)


@pytest.mark.parametrize("name", ["model.pt", "weights.pth", "last.ckpt", "model.pkl"])
def test_a_pickle_instead_of_a_model_is_named_and_not_read(tmp_path, name):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harmed"),)

    (tmp_path / name).write_bytes(pickle.dumps(Harm()))
    with pytest.raises(CheckpointError, match=f"The folder holds {name}, a pickle, which is never loaded"):
        load_model(tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_a_pickle_under_the_name_of_the_weights_is_refused(folder, tuned):
    torch.save(tuned.encoder.state_dict(), folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="Expected whole safetensors weights at .*, found a truncated file or another format"):
        load_model(folder)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_weights_are_refused(folder, share):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="Expected whole safetensors weights at .*, found a truncated file or another format"):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "schema.json"])
@pytest.mark.parametrize("content", [b"", b'{"format": 1, "enc', b"\xff\xfe\x00", b"7"])
def test_damaged_json_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"Expected JSON in .*{name}, found a damaged file"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "key"),
    [("config.json", key) for key in ("encoder", "builder", "head")] + [("schema.json", key) for key in ("target", "classes")],
)
def test_a_missing_entry_is_refused(folder, name, key):
    edit(folder / name, lambda record: record.pop(key))
    with pytest.raises(CheckpointError, match=f"Expected the entry '{key}' in the model folder"):
        load_model(folder)


@pytest.mark.parametrize("value", [1, None])
def test_another_format_is_refused(folder, value):
    edit(folder / "config.json", lambda record: record.update(format=value))
    with pytest.raises(CheckpointError, match=f"Expected a model folder of format 2 at .*, found {value}"):
        load_model(folder)


@pytest.mark.parametrize("name", ["Foo", "AbstractEncoder", "Embedding", "__name__", "os"])
def test_an_unknown_encoder_is_refused(folder, name):
    edit(folder / "config.json", lambda record: record["encoder"].update({"class": name}))
    with pytest.raises(CheckpointError, match=f"Expected (an encoder of graphssl.encoders|arguments of {name}), found"):
        load_model(folder)


def test_unknown_arguments_of_an_encoder_are_refused(folder):
    edit(folder / "config.json", lambda record: record["encoder"]["arguments"].update(colour="blue"))
    with pytest.raises(CheckpointError, match=r"Expected arguments of GraphTransformer, found others \(.*colour.*saved by another version"):
        load_model(folder)


@pytest.mark.parametrize("part", ["encoder", "head"])
def test_weights_that_do_not_fit_are_refused(folder, part):
    weights = load_file(folder / "model.safetensors")
    lost = next(key for key in weights if key.startswith(f"{part}."))
    save_file({key: value for key, value in weights.items() if key != lost}, folder / "model.safetensors")
    kind = "GraphTransformer" if part == "encoder" else "Linear"
    with pytest.raises(CheckpointError, match=f"Expected the weights in .* to fit {kind}, found a mismatch"):
        load_model(folder)


def test_weights_of_another_encoder_are_refused(folder):
    edit(folder / "config.json", lambda record: record["encoder"]["arguments"].update(width=16))
    with pytest.raises(CheckpointError, match="to fit GraphTransformer, found a mismatch"):
        load_model(folder)


def test_a_lost_mean_is_refused(folder):
    weights = load_file(folder / "model.safetensors")
    save_file({key: value for key, value in weights.items() if key != "builder.mean.toy"}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"Expected the fitted state of a ConnectomeBuilder, found none of 'mean.toy'"):
        load_model(folder)


def test_labels_changed_on_disk_are_refused(folder):
    edit(folder / "schema.json", lambda record: record["atlases"][0]["labels"].__setitem__(0, 11))
    with pytest.raises(AtlasError, match="Expected atlas 'toy' with hash .*: its labels or names were changed"):
        load_model(folder)


@pytest.mark.parametrize("method", ["embed", "predict_proba", "predict"])
def test_data_of_another_atlas_of_the_same_name_are_refused(folder, cohort, method):
    atlas = replace(cohort.atlas("toy"), labels=cohort.atlas("toy").labels + 1)
    other = replace(cohort, regions={"toy": replace(cohort.regions["toy"], atlas=atlas)})
    with pytest.raises(AtlasError, match=r"Expected atlas 'toy' with 12 regions .*Use the atlas of the training data, or convert the data to it"):
        getattr(load_model(folder), method)(other)


def test_data_without_the_atlas_are_refused(tuned, families):
    with pytest.raises(DataError, match=r"to have data in one of the atlases \['toy'\], found none for 28"):
        tuned.predict_proba(families)


def test_a_builder_without_its_atlases_is_refused(folder):
    edit(folder / "schema.json", lambda record: record.pop("atlases"))
    with pytest.raises(CheckpointError, match="fitted state of a ConnectomeBuilder, found none of 'atlases'"):
        load_model(folder)


def test_an_unknown_builder_is_refused(folder):
    edit(folder / "config.json", lambda record: record["builder"].update({"class": "Foo"}))
    with pytest.raises(CheckpointError, match="Expected one of the builders ConnectomeBuilder, .*PopulationBuilder, found 'Foo'"):
        load_model(folder)


def test_a_schema_of_other_columns_is_refused(tmp_path):
    table = pd.DataFrame({"lactate": [1.5, 2.5, 4.5], "pulse": [60.5, 70.5, 99.5], "ward": ["a", "b", "a"]}, index=["p0", "p1", "p2"])
    cohort = Cohort("ward", table, Schema.infer(table))
    folder = untrained(cohort, encoder=TableTransformer(8, 1, 2), builder=ColumnTokenizer()).save_pretrained(tmp_path / "model")
    assert len(Model.from_pretrained(folder).embed(cohort)) == 3
    for change, message in [
        (lambda schema: schema["columns"].reverse(), r"made for the numbers \['lactate', 'pulse'\]; found \['pulse', 'lactate'\]"),
        (lambda schema: schema["columns"][-1].update(name="lactates"), r"made for the numbers \['lactate', 'pulse'\]; found \['pulse', 'lactates'\]"),
        (lambda schema: schema["columns"].pop(), "Expected the fitted state of a ColumnTokenizer, found a problem"),
        (lambda schema: schema["columns"][0].update(kind="strange"), "Expected kind of column 'ward' to be one of"),
    ]:
        edit(folder / "schema.json", change)
        with pytest.raises(CheckpointError, match=message):
            Model.from_pretrained(folder)
    fresh_folder = untrained(cohort, encoder=TableTransformer(8, 1, 2), builder=ColumnTokenizer()).save_pretrained(tmp_path / "again")
    with pytest.raises(SchemaError, match=r"Expected the column 'pulse' of the training subjects, found \['lactate', 'ward'\]. Add it"):
        Model.from_pretrained(fresh_folder).embed(Cohort("narrow", table[["lactate", "ward"]], Schema.infer(table[["lactate", "ward"]])))


def test_images_of_several_kinds_are_embedded_kind_by_kind_and_saved(tmp_path):
    from graphssl.data import ImageBuilder, MixedImageBuilder
    from graphssl.datasets import simulate_modalities
    from graphssl.encoders import PyramidTransformer

    cohort = simulate_modalities(9, size=16, complete=0.5)
    encoder = PyramidTransformer(1, 1, (8, 12), (1, 1), (1,), (1, 2), (2, 1), stem_width=4, image_size=(16, 16), volume_size=(8, 16, 16))
    encoder.rows_at_once = 2
    builder = MixedImageBuilder({"radiographs": ImageBuilder(size=16), "volumes": ImageBuilder(size=(8, 16, 16))})
    model = untrained(cohort, encoder=encoder, builder=builder)
    batch = model.builder.transform(cohort)
    with torch.no_grad():
        rows = torch.cat([model.encoder.eval()(part).pooled for part in batch.parts.values()])
    torch.testing.assert_close(embed_rows(model.encoder, batch), rows, rtol=1e-4, atol=1e-5)
    expected = torch.stack([rows[[k for k, owner in enumerate(batch.subject_ids) if owner == subject]].mean(dim=0) for subject in cohort.ids])
    found = Model.from_pretrained(model.save_pretrained(tmp_path / "mixed")).embed(cohort)
    torch.testing.assert_close(torch.tensor(found.to_numpy()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("entry", "value"), [("heads", 0), ("width", -8), ("depth", "two")])
def test_arguments_that_make_no_encoder_are_refused(folder, entry, value):
    record = json.loads((folder / "config.json").read_text())
    record["encoder"]["arguments"][entry] = value
    (folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="Expected"):
        load_model(folder)
