"""Methods and baselines by name, as estimators made of an experiment."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.multimodal import MultimodalBuilder
from graphssl.encoders import (
    GAT,
    GCN,
    GIN,
    MLP,
    AbstractEncoder,
    AbstractImageEncoder,
    AbstractPopulationEncoder,
    BrainNetworkTransformer,
    GraphTransformer,
    MultimodalEncoder,
    PopulationGNN,
)
from graphssl.encoders.population_gnn import Layer
from graphssl.errors import ConfigError
from graphssl.estimators import ConnectomeClassifier
from graphssl.evaluation.baselines import BASELINES, LabelledOnly, make_baseline
from graphssl.evaluation.calibrated import RidgeProbability
from graphssl.evaluation.missing_modality import MissingAtTest, missing_name
from graphssl.evaluation.modalities import EmbeddingBoosting, LateAverage, ModalityClassifier, parts_of
from graphssl.evaluation.nearest import NearestNeighborProbe
from graphssl.evaluation.segmenter import MeanMask, Segmenter
from graphssl.evaluation.tuning import InnerUnit, Tuned
from graphssl.experiment.config import Experiment
from graphssl.experiment.evaluation_settings import COMPARISONS, OF_MODALITIES, ONLY, EvaluationSettings
from graphssl.graphs import ConnectomeBuilder, ScanContrast
from graphssl.objectives import AbstractObjective, default_objective
from graphssl.training.fit import TrainingSettings
from graphssl.training.selection import PoolSelection

Method = (
    ConnectomeClassifier
    | NearestNeighborProbe
    | LabelledOnly
    | Segmenter
    | MeanMask
    | ModalityClassifier
    | LateAverage
    | EmbeddingBoosting
    | MissingAtTest
)
# What segments images, and what it is compared with.
SEGMENTERS, MEAN_MASK = ("pretrained", "pretrained_probe", "scratch", "scratch_probe"), "mean_mask"


def make_method(name: str, experiment: Experiment, cohort: Cohort | None = None, of_pool: PoolSelection | None = None) -> Method:
    """A method of ours or a baseline as an estimator.

    Args:
        name: Name of the method.
        experiment: The experiment.
        cohort: Its cohort, which an encoder of one atlas is made for; loaded where one is needed and none is given.
        of_pool: What is chosen of a pool for the training subjects of each split, to be pre-trained on as well.

    Raises:
        ConfigError: If edges are to be cut of an encoder that has none, or an encoder is of one atlas where there are several, or of other data.
    """
    if name == MEAN_MASK:
        return MeanMask(experiment.builder if isinstance(experiment.builder, ImageBuilder) else None)
    if experiment.segmentation is not None and name not in SEGMENTERS:
        raise ConfigError(f"Expected methods of segmentation among {', '.join(SEGMENTERS)}; found {name!r}.")
    if name in BASELINES:
        return make_baseline(name, atlases_of(experiment), experiment.class_weight)
    if name == "pretrained_linear":
        return LabelledOnly(RidgeProbability(), preparation=ScanContrast(atlases_of(experiment)))
    others = _comparison_encoders(experiment, cohort)
    if name in COMPARISONS and name not in others:
        raise ConfigError(
            f"Expected one of {', '.join(others) or 'the methods'} to compare with, found {name!r}, which reads other data. Leave it out."
        )
    encoder = others[name]() if name in others else experiment.encoder or GraphTransformer()
    method = ConnectomeClassifier(
        objective=None if name.startswith("scratch") else objective_of(experiment),
        encoder=_encoder_of(name, encoder),
        builder=experiment.builder,
        mode="probe" if name.endswith("_probe") else "full",
        pretraining=_silent(experiment.pretraining),
        finetuning=_silent(experiment.finetuning),
        class_weight=experiment.class_weight,
        stages=(experiment.taken_up if encoder is experiment.encoder else None) or experiment.chain,
        selection=of_pool,
    )
    if name in OF_MODALITIES or name.startswith(ONLY):
        return _of_modalities(name, method)
    if experiment.segmentation is not None:
        return Segmenter(method, experiment.segmentation)
    return NearestNeighborProbe(method) if name.endswith("_knn") else method


def make_tuned(name: str, experiment: Experiment, cohort: Cohort | None = None, of_pool: PoolSelection | None = None) -> Tuned:
    """A method or baseline whose settings are chosen on inner folds, which hold out what the protocol holds out."""
    settings = experiment.evaluation
    inner: InnerUnit = "site" if settings.protocol == "leave_one_site_out" else "subject"
    return Tuned(make_method(name, experiment, cohort, of_pool), settings.tuned[name], n_inner=settings.n_inner, inner=inner)


def make_methods(
    names: Sequence[str], settings: EvaluationSettings, experiment: Experiment, cohort: Cohort, of_pool: PoolSelection | None = None
) -> dict[str, Any]:
    """Methods and baselines by name, those that are tuned, and those that meet patients who lack something."""
    made: dict[str, Any] = {name: make_method(name, experiment, cohort, of_pool) for name in names}
    made |= {f"{name}_tuned": make_tuned(name, experiment, cohort, of_pool) for name in settings.tuned}
    return made | _with_missing(experiment, made)


def objective_of(experiment: Experiment) -> AbstractObjective:
    """The objective of an experiment; masked regions, or masked columns of a table, when it names none."""
    return experiment.objective or default_objective(experiment.encoder or GraphTransformer())


def atlases_of(experiment: Experiment) -> list[str] | None:
    """The atlases that an experiment names; None where it takes all."""
    chosen = experiment.builder.atlases if isinstance(experiment.builder, ConnectomeBuilder) else None
    return None if chosen is None else list(chosen)


def _encoder_of(name: str, encoder: AbstractEncoder) -> AbstractEncoder:
    """The encoder as a method has it: `no_edges` without edges, from random weights without any that it would start from."""
    if name.startswith("scratch") and isinstance(encoder.reader, MultimodalEncoder):
        alone = MultimodalEncoder(**{**encoder.reader.arguments(), "initial": None, "frozen": ()})
        return alone if encoder is encoder.reader else type(encoder)(**{**encoder.arguments(), "patient": alone})
    if name != "no_edges":
        return encoder
    if "edges" not in encoder.arguments():
        raise ConfigError(f"Expected an encoder with edges to cut for the method 'no_edges', found {type(encoder).__name__}. Leave the method out.")
    return type(encoder)(**{**encoder.arguments(), "edges": False})


def _of_modalities(name: str, classifier: ConnectomeClassifier) -> Method:
    """What fusion is compared with; `ConfigError` where there are no several modalities."""
    builder = parts_of(classifier)[1]
    if not name.startswith(ONLY):
        return LateAverage(classifier) if name == "late_average" else EmbeddingBoosting(classifier)
    modality = name.removeprefix(ONLY)
    if modality not in builder.builders:
        raise ConfigError(f"Expected methods of one modality among {', '.join(ONLY + each for each in builder.builders)}; found {name!r}.")
    return ModalityClassifier(classifier, modality)


def _with_missing(experiment: Experiment, methods: dict[str, Any]) -> dict[str, Any]:
    """Our methods, those of one modality aside, with modalities missing at test, each fitted once; under its own name nothing is missing."""
    missing, builder = experiment.evaluation.missing, experiment.builder
    if not missing:
        return {}
    if not isinstance(builder, MultimodalBuilder) or set(missing) - set(builder.builders):
        found = ", ".join(builder.builders) if isinstance(builder, MultimodalBuilder) else "data of one kind"
        raise ConfigError(f"Expected missing to name modalities of the experiment ({found}), found {', '.join(missing)}.")
    ours = {name: methods[name] for name in experiment.evaluation.methods if not name.startswith(ONLY)}
    first = next(iter(missing))
    swept = {name: MissingAtTest(method, builder, first, 0.0) for name, method in ours.items()}
    for modality, shares in missing.items():
        for share in shares:
            swept |= {missing_name(name, modality, share): MissingAtTest(method, builder, modality, share) for name, method in ours.items()}
    return swept


def _comparison_encoders(experiment: Experiment, cohort: Cohort | None) -> dict[str, Callable[[], AbstractEncoder]]:
    """What reads the same data in other ways, by name of the method; of patients in a population at the size of the experiment's encoder."""
    encoder = experiment.encoder
    if isinstance(encoder, AbstractImageEncoder | MultimodalEncoder):
        return {}
    if isinstance(encoder, AbstractPopulationEncoder):
        sizes = {name: value for name, value in encoder.arguments().items() if name in ("width", "depth", "heads", "patient", "dropout")}
        layers: dict[str, Layer] = {"gcn": "gcn", "gat": "gat", "gin": "gin", "sage": "sage", "mlp": "none"}
        return {name: partial(PopulationGNN, **sizes, layer=layer) for name, layer in layers.items()}
    return {
        "gcn": GCN,
        "gat": GAT,
        "gin": GIN,
        "brain_network_transformer": partial(_brain_network_transformer, experiment, cohort),
        "mlp": MLP,
    }


def _brain_network_transformer(experiment: Experiment, cohort: Cohort | None) -> BrainNetworkTransformer:
    cohort = cohort or experiment.cohort.load()[0]  # only the data tell how many regions their atlas has
    atlases = atlases_of(experiment) or list(cohort.regions)
    if len(atlases) != 1:
        raise ConfigError(
            f"Expected one atlas for the method 'brain_network_transformer', which knows regions by row, found {', '.join(atlases) or 'none'}. "
            "Name one in builder.atlases, or leave the method out."
        )
    return BrainNetworkTransformer(atlases[0], len(cohort.atlas(atlases[0])))


def _silent(settings: TrainingSettings) -> TrainingSettings:
    return replace(settings, progress=False)
