"""What every encoder of population graphs has to keep: one answer a patient whoever else asks, what is hidden, columns told from neighbours."""

import json
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from graphssl.data import ColumnTokenizer, EmbeddedBatch, EventTokenizer, ImageBuilder, MultimodalBuilder, PopulationBatch, TimelineTokenizer
from graphssl.data.image_source import ImageSource
from graphssl.encoders import (
    EventTransformer,
    GatedSum,
    MultimodalEncoder,
    PatientNetwork,
    PopulationGNN,
    PopulationTransformer,
    ResNet,
    SparsePopulationTransformer,
    TableMLP,
    TimelineTransformer,
)
from graphssl.errors import CheckpointError, ConfigError
from graphssl.graphs import FeatureGroup, PopulationBuilder
from graphssl.objectives import MaskedColumns, MaskedEvents, MaskedFeatures
from graphssl.training import Model

LAYERS = ("gcn", "gat", "gin", "sage")
ENCODERS = {
    "transformer": PopulationTransformer,
    "sparse": SparsePopulationTransformer,
    **{layer: partial(PopulationGNN, layer=layer) for layer in LAYERS},
}


@pytest.fixture(params=ENCODERS)
def make(request, population):
    def maker(**arguments):
        torch.manual_seed(0)
        return ENCODERS[request.param](**{"width": 8, "heads": 2, "dropout": 0.0, **arguments}).for_builder(population)

    return maker


def test_a_token_a_column_and_a_vector_a_patient(make, population, make_patients):
    encoder, batch = make(), population.transform(make_patients(6, 1, "n"))
    embedding = encoder(batch)
    assert embedding.tokens.shape == (6, 4, encoder.token_width)
    assert embedding.pooled.shape == (6, encoder.pooled_width)
    assert embedding.mask.all()


@pytest.mark.parametrize(
    "arguments", [{}, {"patient": PatientNetwork(8, 1, 2)}, {"patient": TableMLP(12, 1, 4)}, {"whole_limit": 0}, {"whole_limit": 0, "fan_outs": (2,)}]
)
def test_a_patient_gets_the_same_whoever_else_is_in_the_call(make, population, make_patients, arguments):
    """New ones and training patients, in any order and any number at a time."""
    encoder = make(**arguments).eval()
    table = make_patients(12, 1, "n")
    batch = population.transform(table)
    with torch.no_grad():
        whole = encoder(batch)
        for rows in ([3], [3, 0], [11, 3, 5, 1, 2], list(range(11, -1, -1))):
            part = encoder(population.transform(table.iloc[rows]))
            assert_close(part.pooled, whole.pooled[rows], atol=1e-6, rtol=1e-5)
            assert_close(part.tokens, whole.tokens[rows], atol=1e-6, rtol=1e-5)
        known = population.transform(make_patients(30))
        alone = encoder(known)
        mixed = encoder(population.transform(table)[[0, 1]])
        assert_close(mixed.pooled, whole.pooled[:2], atol=1e-6, rtol=1e-5)
        assert_close(encoder(known[[4, 9]]).pooled, alone.pooled[[4, 9]], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("whole_limit", [0, 100])
def test_training_patients_are_heard(make, population, make_patients, whole_limit):
    """What is hidden of a neighbour in the batch changes what a patient gets; not so without edges."""
    batch = population.transform(make_patients(30))
    target = 4
    source = int(population.population_.graph.neighbors[3 * target])
    hidden = torch.zeros(30, 4, dtype=torch.bool)
    hidden[source] = batch.measured[source]
    for edges, is_heard in ((True, True), (False, False)):
        encoder = make(edges=edges, whole_limit=whole_limit).eval()
        gap = (encoder(batch).tokens[target] - encoder(batch.hide(hidden)).tokens[target]).abs().max()
        assert bool(gap > 1e-6) == is_heard


@pytest.mark.parametrize("whole_limit", [0, 100])
def test_what_is_hidden_cannot_be_read_by_anybody(make, population, make_patients, whole_limit):
    """Other values in the place of hidden ones, in the batch and in the population, change nothing."""
    batch = population.transform(make_patients(30))
    hidden = torch.zeros(30, 4, dtype=torch.bool)
    hidden[:8, 0] = True
    encoder = make(whole_limit=whole_limit).eval()
    before = encoder(batch.hide(hidden))
    store = population.population_.patients
    kept = store.pieces.clone()
    try:
        store.pieces[:8, 0] = 7.0  # the patients of the batch are other tensors; those of the population are changed in place
        batch.patients.pieces[:8, 0] = 7.0
        after = encoder(batch.hide(hidden))
    finally:
        store.pieces.copy_(kept)
    assert torch.equal(before.tokens, after.tokens)


def test_arguments_rebuild_it(make, population, make_patients):
    encoder = make().eval()
    again = type(encoder)(**encoder.arguments()).eval()
    again.load_state_dict(encoder.state_dict())
    batch = population.transform(make_patients(4, 1, "n"))
    assert torch.equal(again(batch).pooled, encoder(batch).pooled)
    assert again.groups == ("numbers", "categories")


@pytest.mark.parametrize("arguments", [{}, {"edges": False}, {"whole_limit": 0}])
def test_gradients_reach_every_weight(make, population, make_patients, arguments):
    encoder = make(**arguments)
    batch = population.transform(make_patients(30))
    objective = MaskedColumns(ratio=0.4).prepare(encoder)
    objective(encoder, batch, torch.Generator().manual_seed(0)).total.backward()
    unreached = {name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()}
    if not arguments.get("edges", True):  # what weighs neighbours has nothing to weigh
        unreached = {name for name in unreached if not name.startswith("layers.")}
    assert unreached == set(), "columns with missing values, hidden ones and categories are all in the batch"


def test_the_default_builder_is_one_of_populations(make):
    assert isinstance(make().default_builder(), PopulationBuilder)


def test_other_batches_and_builders_are_refused(make, population, make_patients):
    encoder = make()
    with pytest.raises(ConfigError, match="Expected PopulationBuilder before .*, found ColumnTokenizer"):
        encoder.for_builder(ColumnTokenizer().fit(make_patients(5)))
    with pytest.raises(ConfigError, match="Expected patients of a population before a .*, found a TableBatch"):
        encoder(population.transform(make_patients(5, 1, "n")).patients)
    other = PopulationBuilder(ColumnTokenizer(n_pieces=4), [FeatureGroup("ward", ["ward"], "agreement")]).fit(make_patients(9))
    with pytest.raises(ConfigError, match=r"compared by the groups \['numbers', 'categories'\], found \['ward'\]"):
        encoder(other.transform(make_patients(9)))
    with pytest.raises(ConfigError, match="Expected 2 numbers of 4 pieces and 2 categories, found 2 of 3"):
        encoder(PopulationBuilder(ColumnTokenizer(n_pieces=3)).fit(make_patients(9)).transform(make_patients(9)))
    with pytest.raises(ConfigError, match="multiple of the 3 heads"):
        make(heads=3)
    for fan_outs in ((), (4, 0)):
        with pytest.raises(ConfigError, match="at least one fan-out, each at least 1"):
            make(fan_outs=fan_outs)


@pytest.mark.parametrize("arguments", [{}, {"whole_limit": 0}, {"learn_bias": True}])
def test_mixed_precision_gives_nearly_the_same(make, population, make_patients, arguments):
    if "learn_bias" in arguments and "learn_bias" not in make().arguments():
        pytest.skip("it has no biases")
    encoder, batch = make(**arguments).eval(), population.transform(make_patients(6, 1, "n"))
    expected = encoder(batch).pooled
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(batch).pooled
    found.square().sum().backward()
    assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_neighbours_are_drawn_in_training_and_taken_outside_of_it(make, population, make_patients):
    encoder, batch = make(whole_limit=0, fan_outs=(2, 2)), population.transform(make_patients(6, 1, "n"))

    def drawn(seed):
        torch.manual_seed(seed)
        return encoder(batch).pooled

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    encoder.eval()
    assert torch.equal(drawn(0), drawn(1))


# Patients who are not tables

STREAMS = {
    "timeline": (
        TimelineTokenizer(n_bins=6, bin_hours=4.0, treatments=["ventilator"], min_subjects=3, n_pieces=4),
        TimelineTransformer(8, 1, 2, 0.0),
        MaskedFeatures(0.4),
    ),
    "events": (EventTokenizer(min_subjects=3, n_pieces=4), EventTransformer(12, 1, 2, 0.0), MaskedEvents(0.4)),
}


@pytest.fixture(params=STREAMS)
def stream(request, ward):
    """Training patients p2 to p11, new patients p0, p1 and nobody; an encoder of a kind, made for them; an objective."""
    tokenizer, patient, objective = STREAMS[request.param]
    cohort = ward()
    builder = PopulationBuilder(tokenizer, n_neighbors=3).fit(cohort.select(cohort.ids[2:12]))

    def maker(kind, **arguments):
        torch.manual_seed(0)
        return kind(**{"width": 8, "heads": 2, "dropout": 0.0, "patient": patient, **arguments}).for_builder(builder)

    return builder, cohort, maker, objective


@pytest.mark.parametrize("arguments", [{}, {"whole_limit": 0, "fan_outs": (2, 2)}, {"edges": False}], ids=["whole", "sampled", "alone"])
@pytest.mark.parametrize("kind", [PopulationTransformer, SparsePopulationTransformer, PopulationGNN])
def test_a_stream_gets_the_same_whoever_else_is_in_the_call(stream, kind, arguments):
    builder, cohort, maker, _ = stream
    encoder = maker(kind, **arguments).eval()
    with torch.no_grad():
        whole = encoder(builder.transform(cohort))
        assert whole.tokens.shape[::2] == (13, encoder.token_width)
        for ids in (["p0"], ["nobody", "p5", "p1"], cohort.ids[::-1]):
            part = encoder(builder.transform(cohort.select(ids)))
            rows = [cohort.ids.index(subject) for subject in cohort.select(ids).ids]
            assert_close(part.pooled, whole.pooled[rows], atol=1e-5, rtol=1e-5)
            for found, row in zip(range(len(rows)), rows, strict=True):
                assert_close(part.tokens[found][part.mask[found]], whole.tokens[row][whole.mask[row]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("whole_limit", [0, 100])
def test_streams_of_training_patients_are_heard_but_for_what_is_hidden(stream, whole_limit):
    """A neighbour's values change what a patient gets; hidden ones, in the batch and in the population, do not."""
    builder, cohort, maker, _ = stream
    batch = builder.transform(cohort.select(cohort.ids[2:12]))
    graph, store = builder.population_.graph, builder.population_.patients
    target, source = 4, int(graph.neighbors[graph.starts[4]])
    hidden = torch.zeros_like(batch.hidden)
    hidden[source] = True
    for edges, is_heard in ((True, True), (False, False)):
        encoder = maker(PopulationTransformer, edges=edges, whole_limit=whole_limit).eval()
        gap = (encoder(batch).pooled[target] - encoder(batch.hide(hidden)).pooled[target]).abs().max()
        assert bool(gap > 1e-6) == is_heard
    encoder, kept = maker(PopulationTransformer, whole_limit=whole_limit).eval(), store.values.clone()
    before = encoder(batch.hide(hidden)).pooled
    try:
        store.values[source] = 7.0
        batch.patients.values[source] = 7.0
        assert torch.equal(encoder(batch.hide(hidden)).pooled, before)
    finally:
        store.values.copy_(kept)


@pytest.mark.parametrize("whole_limit", [0, 100])
def test_an_objective_of_streams_reaches_every_weight(stream, whole_limit):
    builder, cohort, maker, objective = stream
    encoder = maker(PopulationTransformer, whole_limit=whole_limit)
    objective = objective.fresh().prepare(encoder)
    loss = objective(encoder, builder.transform(cohort), torch.Generator().manual_seed(0))
    loss.total.backward()
    unreached = {name for name, weight in encoder.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert unreached == {"patient.static.masked"}, "static columns are never hidden"
    assert all(weight.grad is not None for weight in objective.parameters())


def test_arguments_rebuild_it_with_the_encoder_of_streams(stream):
    builder, cohort, maker, _ = stream
    encoder = maker(PopulationTransformer).eval()
    again = PopulationTransformer(**json.loads(json.dumps(encoder.arguments()))).eval()
    again.load_state_dict(encoder.state_dict())
    batch = builder.transform(cohort)
    assert torch.equal(again(batch).pooled, encoder(batch).pooled)
    assert type(again.default_builder().tokenizer) is type(builder.tokenizer)
    assert again.reader is again.patient


def test_a_patient_encoder_of_other_records_is_refused(stream, population):
    builder, _, maker, _ = stream
    name = type(builder.tokenizer).__name__
    with pytest.raises(ConfigError, match=f"Expected patients made by ColumnTokenizer for PatientNetwork in a PopulationGNN, found {name}"):
        maker(PopulationGNN, patient=None)
    with pytest.raises(ConfigError, match=f"Expected patients made by {name} for .* found ColumnTokenizer. Give patient="):
        maker(PopulationTransformer).for_builder(population)


def test_the_encoder_that_is_given_stays_as_it_is(population):
    given = TableMLP(8, 1, 4)
    before = {name: weight.clone() for name, weight in given.state_dict().items()}
    made = PopulationTransformer(8, 1, 2, patient=given)
    assert made.patient is not given
    assert all(torch.equal(before[name], weight) for name, weight in given.state_dict().items())
    assert made.for_builder(population).token_width == 4
    assert PopulationTransformer(8, 1, 2).arguments()["patient"] is None


# Several kinds of data of each patient


@pytest.fixture(scope="module")
def several(patients):
    modalities = {"table": ColumnTokenizer(n_pieces=4), "image": ImageBuilder("image", memory_mib=0)}
    having = patients.select(MultimodalBuilder(modalities).readable(patients)[:30])
    return PopulationBuilder(MultimodalBuilder(modalities), n_neighbors=3).fit(having)


@pytest.fixture(params=ENCODERS)
def make_several(request, several):
    def maker(frozen=(), fusion=None, **arguments):
        torch.manual_seed(0)
        images = ResNet(2, width=4, blocks=(1, 1), stem="small", norm="group")
        encoders = {"image": images, "table": TableMLP(8, 1, 8, dropout=0.0)}
        patient = MultimodalEncoder(encoders, fusion=fusion or GatedSum(8), dropout_modality=0.0, frozen=frozen)
        return ENCODERS[request.param](**{"width": 8, "heads": 2, "dropout": 0.0, "patient": patient, **arguments}).for_builder(several)

    return maker


@pytest.fixture
def opened(monkeypatch):
    """Rows of images that were decoded, in order."""
    rows = []
    image = ImageSource._image
    monkeypatch.setattr(ImageSource, "_image", lambda self, row: (rows.append(self.data.table["subject_id"].iloc[row]), image(self, row))[1])
    return rows


@pytest.mark.parametrize("arguments", [{}, {"whole_limit": 0}, {"whole_limit": 0, "fan_outs": (2,)}])
def test_patients_of_several_modalities_get_the_same_in_any_company(make_several, several, patients, arguments):
    encoder = make_several(**arguments).eval()
    batch = several.transform(patients.select(MultimodalBuilder(several.tokenizer_.builders).readable(patients)))
    with torch.no_grad():
        whole = encoder(batch)
        assert whole.pooled.shape == (len(batch), 8)
        for rows in ([3], [35, 0], [33, 12, 34]):
            assert_close(encoder(batch[rows]).pooled, whole.pooled[rows], atol=1e-6, rtol=1e-5)
    assert_close(encoder(batch[[33, 12]]).pooled, whole.pooled[[33, 12]], atol=1e-6, rtol=1e-5)  # whole where gradients are asked for, else in parts


def test_only_images_of_sampled_patients_are_decoded(make_several, several, opened):
    """In training, in a step and its backward pass, each of them once."""
    encoder = make_several(whole_limit=0, fan_outs=(2,)).train()
    known = several.population_
    batch = PopulationBatch(known.patients, torch.arange(30), torch.full((30, 0), -1), torch.zeros(30, 0, 2), known)[[4, 9]].to("cpu")
    drawn = []
    sampled = encoder.neighborhoods
    encoder.neighborhoods = lambda batch: drawn.append(sampled(batch)) or drawn[-1]
    encoder(batch).pooled.sum().backward()
    heard = {known.patients.subject_ids[node] for node in drawn[0].nodes.unique().tolist()}
    having = set(known.patients.parts["image"].subject_ids)
    assert len(heard) < 10
    assert sorted(opened) == sorted(heard & having)
    assert known.patients.parts["image"].pending is not None


@pytest.mark.parametrize("whole_limit", [0, 100])
def test_a_hidden_modality_is_hidden_from_neighbours_too(make_several, several, opened, whole_limit):
    encoder, known = make_several(whole_limit=whole_limit).eval(), several.population_
    batch = PopulationBatch(known.patients, torch.arange(30), torch.full((30, 0), -1), torch.zeros(30, 0, 2), known)
    target = 4
    source = int(known.graph.neighbors[known.graph.starts[target]])
    hidden = torch.zeros(30, 2, dtype=torch.bool)
    hidden[source] = True
    assert bool(batch.presence[source].any())
    with torch.no_grad():
        gap = (encoder(batch).pooled - encoder(batch.hide(hidden)).pooled).abs().amax(dim=1)
    assert gap[source] > 1e-5
    assert gap[target] > 1e-6


def test_frozen_encoders_run_once_over_a_population(make_several, several, patients, opened):
    encoder = make_several(frozen=("image",)).eval()
    everybody = patients.select(MultimodalBuilder(several.tokenizer_.builders).readable(patients))
    batch = several.transform(everybody)
    with torch.no_grad():
        expected = encoder(batch).pooled
        known = encoder.once(batch)
        opened.clear()
        assert_close(encoder(known).pooled, expected, atol=1e-6, rtol=1e-5)
    assert opened == []
    assert isinstance(known.population.patients.parts["image"], EmbeddedBatch)
    assert encoder.once(batch.patients) is batch.patients
    of_all = PopulationBatch(several.population_.patients, torch.arange(30), torch.full((30, 0), -1), torch.zeros(30, 0, 2), several.population_)
    once = encoder.once(of_all)
    assert once.patients is once.population.patients
    assert once.population is known.population  # worked out once for all batches of the population
    assert opened == []
    assert {name: type(part) for name, part in encoder.once(of_all[[3, 1]]).patients.parts.items()}.get("image", EmbeddedBatch) is EmbeddedBatch
    assert opened == []  # whoever is of the population is known
    assert make_several().once(of_all) is of_all


def test_hidden_patients_are_not_known_before(make_several, several):
    encoder = make_several(frozen=("image",)).eval()
    known = several.population_
    batch = PopulationBatch(known.patients, torch.arange(30), torch.full((30, 0), -1), torch.zeros(30, 0, 2), known)[list(range(9, -1, -1))]
    hidden = batch.hide(torch.tensor([False, True]).expand(10, 2))
    with torch.no_grad():
        assert_close(encoder(encoder.once(hidden)).pooled, encoder(hidden).pooled, atol=1e-6, rtol=1e-5)


def test_a_view_of_images_reaches_the_patient_and_its_neighbours(make_several, several):
    encoder, known = make_several(whole_limit=0).eval(), several.population_
    batch = PopulationBatch(known.patients, torch.arange(30), torch.full((30, 0), -1), torch.zeros(30, 0, 2), known)
    part = batch.patients.parts["image"].changed()
    seen = batch.with_parts(image=part.changed(images=part.images.flip(-1)))
    with torch.no_grad():
        gap = (encoder(seen).pooled - encoder(batch).pooled).abs().amax(dim=1)
    assert bool((gap[batch.presence[:, 1]] > 1e-6).all())


def test_a_model_of_several_modalities_is_saved_and_knows_its_patients(make_several, several, patients, tmp_path):
    model = Model(several, make_several().eval())
    model.save_pretrained(tmp_path / "model")
    again = Model.from_pretrained(tmp_path / "model")
    new = patients.select(patients.ids[-4:])
    new = new.select(MultimodalBuilder(several.tokenizer_.builders).readable(new))
    assert again.embed(new).equals(model.embed(new))
    card = (tmp_path / "model" / "README.md").read_text()
    assert "tags: [multimodal, " in card
    assert "THIS FOLDER HOLDS THE VALUES AND IDS OF 30 TRAINING PATIENTS" in card
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["encoder"]["arguments"]["patient"]["arguments"]["encoders"]["table"]["arguments"]["numbers"].reverse()
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="made for the numbers"):
        Model.from_pretrained(tmp_path / "model")
