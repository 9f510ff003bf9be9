"""What the contrasts of modalities share: whom they read, and what they refuse."""

import pytest
import torch

from graphssl.encoders import GraphTransformer
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.cross_modal import chosen_modalities, corrupted, of_modalities, patients_of, presence_by_name, project
from graphssl.objectives.cross_modal_contrast import CrossModalContrast
from graphssl.views import AbstractView


class Fitted(AbstractView):
    """A view that learns how many subjects there are."""

    def __init__(self, n=0):
        self.n = n

    def for_cohort(self, cohort):
        return Fitted(len(cohort))

    def draw(self, batch, generator):
        return None

    def apply(self, batch, draw):
        return batch


def test_the_view_learns_of_the_subjects_and_the_objective_stays_as_it_was(two_modalities):
    cohort, _ = two_modalities(9)
    objective = CrossModalContrast(view=Fitted(), temperature=0.3)
    seen = objective.for_cohort(cohort)
    assert (objective.view.n, seen.view.n, seen.temperature) == (0, 9, 0.3)
    assert seen.fresh().view.n == 9
    assert not seen.needs_series
    assert not seen.reads_maps


def test_projected_vectors_stand_where_their_patients_do():
    head, pooled, present = torch.nn.Linear(3, 2), torch.randn(4, 3), torch.tensor([True, False, True, True])
    made = project(head, pooled, present)
    torch.testing.assert_close(made[present], head(pooled[present]))
    assert made[1].tolist() == [0.0, 0.0]
    assert project(head, pooled, torch.tensor([True, False, False, False])).abs().sum() == 0


def test_tables_that_nobody_has_are_not_corrupted(two_modalities):
    patients = two_modalities(4)[1].without("table")
    assert corrupted(patients, ["image", "table"], 0.5, torch.Generator()) is patients
    assert presence_by_name(patients, ["table", "image"])["table"].tolist() == [False] * 4


def test_a_table_of_one_patient_is_left_as_it_is(two_modalities, make_multimodal):
    patients, encoder = two_modalities(4, no_table=[0, 1, 2])[1], make_multimodal()
    objective = CrossModalContrast(corruption=0.5, width=4, hidden=4).prepare(encoder)
    assert objective.look(patients, torch.Generator()).parts["table"] is patients.parts["table"]
    assert objective(encoder, patients, torch.Generator()).total.item() == 0.0


def test_names_are_those_of_the_encoder_or_the_wanted_ones(make_multimodal, two_modalities):
    encoder = make_multimodal()
    assert of_modalities(encoder, "it") is encoder
    assert chosen_modalities(encoder, None) == ("image", "table")
    assert chosen_modalities(encoder, ("table", "image")) == ("table", "image")
    patients = two_modalities(3)[1]
    assert patients_of(patients) is patients


def test_what_makes_no_sense_is_refused(make_multimodal, crops):
    encoder = make_multimodal()
    with pytest.raises(ConfigError, match="Expected an encoder of several modalities for CrossModalContrast, found GraphTransformer"):
        CrossModalContrast().prepare(GraphTransformer())
    with pytest.raises(ConfigError, match="Expected modalities among image, table; found 'ecg'"):
        CrossModalContrast(modalities=["image", "ecg"]).prepare(encoder)
    with pytest.raises(ConfigError, match="Expected an encoder of two modalities or more, found one of image"):
        CrossModalContrast().prepare(MultimodalEncoder({"image": encoder.encoders["image"]}))
    with pytest.raises(ConfigError, match="Expected two modalities or more to compare, found \\['image'\\]"):
        CrossModalContrast(modalities=["image"])
    with pytest.raises(ConfigError, match="Expected a view of one look, found MultiCrop, of several"):
        CrossModalContrast(view=crops())
    with pytest.raises(ConfigError, match="share of corrupted columns in \\[0, 1\\), found 1.0"):
        CrossModalContrast(corruption=1.0)
    with pytest.raises(ConfigError, match="width, hidden above 0"):
        CrossModalContrast(width=0)
    with pytest.raises(ConfigError, match="Call prepare"):
        CrossModalContrast()(encoder, None, torch.Generator())
