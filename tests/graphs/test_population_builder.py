"""From cohorts to patients in a population."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from graphssl.data import Cohort, ColumnTokenizer, EventSummary, EventTokenizer, ImageBuilder, MultimodalBuilder, Schema, TimelineTokenizer
from graphssl.errors import CheckpointError, ConfigError, DataError, SchemaError
from graphssl.graphs import ConnectomeBuilder, FeatureGroup, NeighborIndex, PopulationBuilder, population_graph


def patients(n, *, seed=0, prefix="p", missing=0.1):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"a": rng.standard_normal(n), "b": rng.standard_normal(n), "ward": rng.choice(["x", "y"], n)})
    return table.mask(rng.random(table.shape) < missing).set_axis([f"{prefix}{i}" for i in range(n)])


@pytest.fixture(scope="module")
def builder():
    return PopulationBuilder(ColumnTokenizer(n_pieces=4), n_neighbors=3).fit(patients(20))


def test_training_patients_are_nodes_and_others_are_attached(builder):
    table = pd.concat([patients(3, seed=1, prefix="n"), patients(20).iloc[[7, 2]]])
    batch = builder.transform(table)
    assert batch.nodes.tolist() == [-1, -1, -1, 7, 2]
    assert batch.population is builder.population_
    found = builder.index_.query(table.iloc[:3])
    assert batch.neighbors.tolist() == [*found.indices.tolist(), [-1] * 3, [-1] * 3]
    assert torch.equal(batch.similarity[:3], torch.from_numpy(found.by_group).float())
    assert torch.equal(batch.patients.numbers, builder.tokenizer_.transform(table).numbers)


def test_who_else_is_in_the_call_changes_nothing(builder):
    new = patients(6, seed=1, prefix="n")
    together, alone = builder.transform(new), builder.transform(new.iloc[[4]])
    assert torch.equal(together.neighbors[4], alone.neighbors[0])
    assert torch.equal(together.similarity[4], alone.similarity[0])


def test_neighbours_that_were_found_already_are_taken(builder):
    table = pd.concat([patients(3, seed=1, prefix="n"), patients(20).iloc[[7]]])
    found = builder.index_.query(table)
    assert builder.transform(table, found).signature() == builder.transform(table).signature()
    for other in (builder.index_.query(table, 2), builder.index_.query(table.iloc[:2])):
        with pytest.raises(DataError, match="Expected 3 neighbours of each of the 4 patients that are given, found Neighbors"):
            builder.transform(table, other)


def test_the_graph_is_that_of_the_training_patients(builder):
    graph = population_graph(builder.index_, symmetric=True)
    assert torch.equal(builder.population_.graph.neighbors, graph.neighbors)
    directed = PopulationBuilder(n_neighbors=3, symmetric=False).fit(patients(20)).population_.graph
    assert directed.starts.diff().tolist() == [3] * 20


def test_others_take_the_place_of_the_training_patients(builder):
    """Tokens and groups stay those of the first population."""
    others, new = patients(12, seed=2, prefix="o"), patients(3, seed=1, prefix="n")
    other = builder.among(others)
    assert other.population_.patients.subject_ids == tuple(others.index)
    assert other.layout() == builder.layout()
    assert torch.equal(other.transform(new).numbers, builder.transform(new).numbers)
    expected = NeighborIndex(builder.index_.groups, n_neighbors=3).fit(others).query(new)
    assert other.transform(new).neighbors.tolist() == expected.indices.tolist()
    assert other.transform(patients(20)).attached.all()
    assert builder.population_.patients.subject_ids == tuple(patients(20).index)  # it is not changed


def test_groups_that_are_not_told_leave_out_empty_columns():
    table = patients(12).assign(never=np.nan, code=["u", "v", "w"] * 4)
    schema = Schema.infer(table.assign(never=1.5))
    groups = PopulationBuilder().fit(Cohort("ward", table, schema)).index_.groups
    assert [(group.name, group.column_names, group.similarity) for group in groups] == [
        ("numbers", ["a", "b"], "statistics"),
        ("categories", ["ward", "code"], "agreement"),
    ]


def test_in_a_transductive_setting_all_are_one_population():
    builder = PopulationBuilder(n_neighbors=3, transductive=True).fit(patients(20))
    batch = builder.transform(pd.concat([patients(20).iloc[[5]], patients(4, seed=1, prefix="n")]))
    assert batch.nodes.tolist() == [5, 20, 21, 22, 23]
    assert len(batch.population) == 24
    assert batch.population.graph.transductive
    assert not builder.transform(patients(20)).population.graph.transductive


def test_a_cohort_is_taken_as_a_table_is(builder):
    table = pd.concat([patients(20), patients(4, seed=1, prefix="n", missing=0)])
    cohort = Cohort("ward", table, Schema.infer(table))
    told = PopulationBuilder(ColumnTokenizer(n_pieces=4), n_neighbors=3).fit(cohort.select([f"p{i}" for i in range(20)]))
    assert torch.equal(told.transform(cohort).neighbors, builder.transform(table).neighbors)


def test_it_is_restored_from_what_is_written(builder):
    record, tensors = builder.state()
    again = PopulationBuilder.from_state(json.loads(json.dumps(record)), tensors)
    table = pd.concat([patients(20), patients(5, seed=1, prefix="n")])
    first, second = builder.transform(table), again.transform(table)
    assert first.signature() == second.signature()
    assert torch.equal(first.population.patients.pieces, second.population.patients.pieces)
    assert torch.equal(first.similarity, second.similarity)
    assert clone(again).fit(patients(20)).transform(table).signature() == first.signature()


def test_a_damaged_state_is_refused(builder):
    record, tensors = builder.state()
    for lacking in ("graph.starts", "patients.codes", "tokenizer.edges", "index.numbers"):
        with pytest.raises(CheckpointError, match="The file is damaged"):
            PopulationBuilder.from_state(record, {name: value for name, value in tensors.items() if name != lacking})
    with pytest.raises(CheckpointError, match="Expected the fitted state of a PopulationBuilder"):
        PopulationBuilder.from_state(record, {**tensors, "graph.neighbors": tensors["graph.neighbors"] + 100})


def test_the_card_warns_of_what_the_folder_holds(builder):
    described = builder.describe()
    assert "HOLDS THE VALUES AND IDS OF 20 TRAINING PATIENTS" in described["PATIENT DATA"]
    assert described["population"] == "20 training patients, 3 neighbours each, over numbers, categories"


def test_another_patient_under_the_id_of_a_training_patient_is_refused(builder):
    with pytest.raises(DataError, match=r"Expected the values of the training patients .* found others for \('p1',\)"):
        builder.transform(patients(20).iloc[:3].assign(a=lambda t: t["a"].where(t.index != "p1", 5.0)))


def test_categories_that_training_patients_had_not_are_told():
    table = patients(20).assign(ward=["a", "b"] * 10)
    new = patients(2, seed=1, prefix="n").assign(ward=["a", "c"])
    assert PopulationBuilder(n_neighbors=2).fit(table).unknown(new)["ward"].tolist() == [False, True]


def test_the_smallest_cohorts():
    pair = PopulationBuilder(n_neighbors=5).fit(patients(2, missing=0))
    assert pair.index_.n_neighbors == 1
    assert pair.transform(patients(1, seed=1, prefix="n")).neighbors.shape == (1, 1)
    with pytest.raises(DataError, match="more training patients than neighbours, found 1 patients and 1"):
        PopulationBuilder().fit(patients(1, missing=0))
    with pytest.raises(ConfigError, match="at least one neighbour of a patient, found 0"):
        PopulationBuilder(n_neighbors=0).fit(patients(5))


def test_named_groups_are_taken():
    builder = PopulationBuilder(groups=[FeatureGroup("blood", ["a", "b"], "rbf")], n_neighbors=2).fit(patients(9))
    alone = NeighborIndex([FeatureGroup("blood", ["a", "b"], "rbf")], n_neighbors=2).fit(patients(9))
    new = patients(3, seed=2, prefix="n")
    assert builder.transform(new).neighbors.tolist() == alone.query(new).indices.tolist()


STREAMS = {
    "timeline": TimelineTokenizer(n_bins=6, bin_hours=4.0, treatments=["ventilator"], columns=["age"], min_subjects=3, n_pieces=4),
    "events": EventTokenizer(columns=["age"], min_subjects=3, n_pieces=4),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_streams_are_placed_by_columns_and_read_by_their_tokenizer(ward, kind):
    """Summaries of the events before the prediction time are columns like others; the tokenizer reads age alone of the table."""
    cohort = EventSummary(("mean", "last"), min_subjects=3).apply(ward())
    train = cohort.select(cohort.ids[:9])
    builder = PopulationBuilder(STREAMS[kind], n_neighbors=3).fit(train)
    compared = [(group.name, group.column_names) for group in builder.index_.groups]
    assert compared == [
        ("numbers", ["age", "height mean", "height last", "pulse mean", "pulse last", "temp mean", "temp last"]),
        ("categories", ["sex"]),
    ]
    assert builder.layout()["numbers"] == ("age", "height")
    assert builder.layout()["groups"] == ("numbers", "categories")
    batch = builder.transform(cohort)
    assert batch.nodes.tolist() == [*range(9), -1, -1, -1, -1]
    assert batch.neighbors[9:].tolist() == builder.index_.query(cohort.select(cohort.ids[9:])).indices.tolist()
    assert torch.equal(batch.values, builder.tokenizer_.transform(cohort).values)
    assert batch[[10, 2]].static.subject_ids == (cohort.ids[10], cohort.ids[2])


@pytest.mark.parametrize("kind", STREAMS)
def test_streams_are_restored_from_what_is_written(ward, kind):
    cohort = ward()
    train = cohort.select(cohort.ids[:9])
    builder = PopulationBuilder(STREAMS[kind], n_neighbors=3).fit(train)
    record, tensors = builder.state()
    again = PopulationBuilder.from_state(json.loads(json.dumps(record)), tensors)
    first, second = builder.transform(cohort), again.transform(cohort)
    assert first.signature() == second.signature()
    assert again.population_.patients.same_rows(builder.population_.patients).all()
    assert clone(again).fit(train).transform(cohort).signature() == first.signature()
    for lacking in ("patients.values", "patients.static.codes", "tokenizer.quantiles"):
        with pytest.raises(CheckpointError, match="The file is damaged"):
            PopulationBuilder.from_state(record, {name: value for name, value in tensors.items() if name != lacking})
    with pytest.raises(CheckpointError, match="The file is damaged"):
        PopulationBuilder.from_state({**record, "tokenizer": {**record["tokenizer"], "class": "Foo"}}, tensors)


@pytest.mark.parametrize("kind", STREAMS)
def test_other_events_under_the_id_of_a_training_patient_are_refused(ward, kind):
    builder = PopulationBuilder(STREAMS[kind], n_neighbors=3).fit(ward())
    builder.transform(ward().select(["p3", "p7"]))
    with pytest.raises(DataError, match=r"found others for \('p3',\)"):
        builder.transform(ward(planted=(("p3", 23.0, "pulse", 180.0, None),)).select(["p3", "p7"]))


def test_a_transductive_population_of_streams(ward):
    cohort = ward()
    builder = PopulationBuilder(STREAMS["events"], n_neighbors=3, transductive=True).fit(cohort.select(cohort.ids[:9]))
    batch = builder.transform(cohort)
    assert len(batch.population) == 13
    assert batch.population.patients.same_rows(builder.tokenizer_.transform(cohort)).all()


@pytest.mark.parametrize("kind", STREAMS)
def test_a_table_has_no_events(kind):
    with pytest.raises(DataError, match="Expected a cohort for a .*Tokenizer, found a table. Give a cohort, or a ColumnTokenizer"):
        PopulationBuilder(STREAMS[kind]).fit(patients(9))


def test_patients_of_whom_there_is_no_column_cannot_be_compared(ward):
    cohort = ward()
    schema = Schema([column for column in cohort.schema if column.role == "prediction_time"])
    bare = Cohort("bare", cohort.subjects[[column.name for column in schema]], schema, events=cohort.events)
    with pytest.raises(SchemaError, match="Expected columns of numbers or categories with one of the roles"):
        PopulationBuilder(TimelineTokenizer(columns=(), min_subjects=3), n_neighbors=3).fit(bare)


# Several kinds of data


@pytest.fixture(scope="module")
def patients_by_modality(request):
    return request.getfixturevalue("patients")


@pytest.fixture(scope="module")
def several(patients_by_modality):
    modalities = {"connectome": ConnectomeBuilder(), "table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder("image")}
    return PopulationBuilder(MultimodalBuilder(modalities), n_neighbors=3).fit(patients_by_modality.select(patients_by_modality.ids[:30]))


def test_patients_of_several_modalities_are_compared_by_their_table(several, patients_by_modality):
    assert [(group.name, group.similarity) for group in several.index_.groups] == [("numbers", "statistics"), ("categories", "agreement")]
    read = {column.name for column in several.tokenizer_.builders_["table"].encoder_.columns_}
    assert {name for group in several.index_.groups for name in group.column_names} == read
    batch = several.transform(patients_by_modality)
    assert (len(batch), int(batch.attached.sum()), batch.modalities) == (40, 10, ("connectome", "table", "image"))
    assert batch.population.patients.parts["image"].pending is not None
    assert several.transform(patients_by_modality.select(patients_by_modality.ids[:30])).patients is several.population_.patients
    other = several.among(patients_by_modality.select(patients_by_modality.ids[20:]))
    assert (len(other.population_), other.tokenizer_) == (20, several.tokenizer_)
    assert set(several.layout()) == {"modalities", "groups"}


def test_without_a_table_among_the_modalities_all_features_compare(patients_by_modality):
    builder = PopulationBuilder(MultimodalBuilder({"image": ImageBuilder("image")}))
    having = builder.tokenizer.readable(patients_by_modality)
    fitted = builder.fit(patients_by_modality.select(having))
    assert "lab0" in [name for group in fitted.index_.groups for name in group.column_names]


def test_several_modalities_are_saved_by_reference(several, patients_by_modality, tmp_path):
    record, tensors = several.state()
    again = PopulationBuilder.from_state(json.loads(json.dumps(record)), tensors)
    assert not [name for name in tensors if name.startswith("patients.image.")]
    assert again.population_.signature() == several.population_.signature()
    assert again.transform(patients_by_modality).signature() == several.transform(patients_by_modality).signature()
    assert again.describe() == several.describe()
    assert "THIS FOLDER HOLDS THE VALUES AND IDS OF 30 TRAINING PATIENTS" in again.describe()["PATIENT DATA"]
    moved = again.images_at("image", tmp_path)
    assert moved.population_.patients.parts["image"].references.source.data.root == tmp_path
    assert again.population_.patients.parts["image"].references.source.data.root != tmp_path
    for damaged in ({**record, "patients": {}}, {name: value for name, value in record.items() if name != "patients"}):
        with pytest.raises(CheckpointError, match="Expected the fitted state of a PopulationBuilder"):
            PopulationBuilder.from_state(damaged, tensors)


def test_only_patients_with_images_have_images_elsewhere(builder, tmp_path):
    with pytest.raises(ConfigError, match="Expected patients with images, found a TableBatch. Only a MultimodalBuilder reads images"):
        builder.images_at("image", tmp_path)


def test_new_patients_of_several_modalities_join_a_transductive_graph(patients_by_modality):
    builder = PopulationBuilder(MultimodalBuilder({"table": ColumnTokenizer(), "image": ImageBuilder("image")}), transductive=True)
    having = builder.tokenizer.readable(patients_by_modality)
    builder.fit(patients_by_modality.select(having[:20]))
    batch = builder.transform(patients_by_modality.select(having[15:30]))
    assert batch.population.graph.transductive
    assert len(batch.population) == 30
    assert batch.patients[[14]].same_rows(batch.read()[batch.places[[14]]]).all()
