"""What is pre-trained on where nothing is said."""

from graphssl.encoders import (
    EventTransformer,
    GraphTransformer,
    MultimodalEncoder,
    PopulationTransformer,
    ResNet,
    TableTransformer,
    TimelineTransformer,
)
from graphssl.objectives import MaskedColumns, MaskedEvents, MaskedFeatures, MaskedRegions, Restoration, default_objective
from graphssl.objectives.masked_modality import MaskedModality


def test_follows_what_the_encoder_reads():
    assert isinstance(default_objective(GraphTransformer()), MaskedRegions)
    assert isinstance(default_objective(TableTransformer()), MaskedColumns)
    assert isinstance(default_objective(TimelineTransformer()), MaskedFeatures)
    assert isinstance(default_objective(EventTransformer()), MaskedEvents)
    assert isinstance(default_objective(PopulationTransformer()), MaskedColumns)
    assert isinstance(default_objective(PopulationTransformer(patient=TimelineTransformer())), MaskedFeatures)
    assert isinstance(default_objective(ResNet()), Restoration)
    assert isinstance(default_objective(MultimodalEncoder({"image": ResNet(width=4, blocks=(1, 1)), "table": TableTransformer()})), MaskedModality)
