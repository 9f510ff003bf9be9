"""Where the encoder of each modality starts from: models that were pre-trained on that kind of data alone."""

import copy
from collections.abc import Mapping

from graphssl.data.atlas import check_atlas
from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.multimodal import MultimodalBuilder
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.table import ColumnTokenizer
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images import AbstractImageEncoder
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.errors import CheckpointError
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.training.model import Model, fresh
from graphssl.training.transfer import transfer
from graphssl.training.transfer_images import transfer_images


def with_initial_parts(model: Model, cohort: Cohort, *, seed: int = 0) -> Model:
    """A model whose encoders have the weights of the saved models that `MultimodalEncoder(initial=…)` names; itself where it names none.

    Tables, timelines and events keep the weights of shared columns and codes, images all weights (kernels of images become kernels of volumes), and
    connectomes all weights in the atlas of the saved model, as it prepares them.

    Args:
        model: A model of several modalities, or of a population of such patients, whose builder is fitted.
        cohort: Training subjects.
        seed: Seed of new weights.

    Raises:
        CheckpointError: If a folder is no model, or one of other data or of another encoder than the modality's.
    """
    encoder = model.encoder.reader
    builder = model.builder.tokenizer_ if isinstance(model.builder, PopulationBuilder) else model.builder
    if not isinstance(encoder, MultimodalEncoder) or not isinstance(builder, MultimodalBuilder) or not encoder.initial:
        return model
    started = {name: _part(name, folder, cohort, encoder.encoders[name], builder.builders_[name], seed) for name, folder in encoder.initial.items()}
    fitted = copy.copy(builder)
    fitted.builders_ = {name: started[name].builder if name in started else each for name, each in builder.builders_.items()}
    parts = {name: started[name].encoder if name in started else each for name, each in encoder.encoders.items()}
    patient = type(encoder)(**{**encoder.arguments(), "encoders": parts})
    alone = encoder is model.encoder
    ready = fresh(patient if alone else type(model.encoder)(**{**model.encoder.arguments(), "patient": patient}), seed)
    assert isinstance(ready.reader, MultimodalEncoder)
    for name, part in started.items():
        ready.reader.encoders[name].load_state_dict(part.encoder.state_dict())
    return Model(_with(model.builder, fitted, cohort), ready, card={**model.card, **_told(started, encoder.initial)})


def _with(builder: AbstractBuilder, patients: MultimodalBuilder, cohort: Cohort) -> AbstractBuilder:
    """What makes patients; of a population, one whose training patients are made by it too."""
    if not isinstance(builder, PopulationBuilder):
        return patients
    made = copy.copy(builder)
    made.tokenizer_ = patients
    return made.among(cohort)


def _part(name: str, folder: str, cohort: Cohort, encoder: AbstractEncoder, builder: AbstractBuilder, seed: int) -> Model:
    """The saved model of a modality, ready for those of the cohort who have it."""
    saved = Model.from_pretrained(folder)
    if type(saved.builder) is not type(builder) or not _same_kind(saved.encoder, encoder):
        raise CheckpointError(
            f"Expected a {type(encoder).__name__} behind a {type(builder).__name__} in {folder}, to start {name} from, found a "
            f"{type(saved.encoder).__name__} behind a {type(saved.builder).__name__}. Name the same encoder, or another folder."
        )
    there = cohort.select(builder.readable(cohort))
    if isinstance(saved.builder, ImageBuilder):
        assert isinstance(builder, ImageBuilder)
        assert isinstance(encoder, AbstractImageEncoder)
        return transfer_images(saved, there, builder=builder, encoder=encoder, seed=seed)
    if isinstance(saved.builder, (ColumnTokenizer, AbstractStreamTokenizer)):
        told = {key: value for key, value in builder.get_params().items() if key in ("columns", "codes", "treatments")}
        return transfer(saved, there, **told, seed=seed).model
    assert isinstance(saved.builder, ConnectomeBuilder)
    shared = [atlas for atlas in saved.builder.atlases_ if atlas in cohort.regions]
    for atlas in shared:
        check_atlas(saved.builder.atlases_[atlas], cohort.atlas(atlas))
    if not shared:
        raise CheckpointError(
            f"Expected data in an atlas of the model in {folder} ({', '.join(saved.builder.atlases_)}), found {cohort.name!r} with "
            f"{', '.join(cohort.regions) or 'none'}. Name a model of that atlas, or convert the data."
        )
    return saved


def _same_kind(saved: AbstractEncoder, wanted: AbstractEncoder) -> bool:
    """Whether one encoder's weights are meant for another; those of images are checked where they are put in."""
    return isinstance(wanted, type(saved)) or (isinstance(saved, AbstractImageEncoder) and isinstance(wanted, AbstractImageEncoder))


def _told(started: Mapping[str, Model], initial: Mapping[str, str]) -> dict[str, str]:
    return {f"{name} started from": f"{folder} ({started[name].card.get('pre-trained on', 'no card')})" for name, folder in initial.items()}
