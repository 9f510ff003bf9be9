"""A stage of pre-training in a configuration: what it says, and what it leaves to the run."""

from dataclasses import dataclass

from graphssl.data.builder import AbstractBuilder
from graphssl.data.event_tokens import EventTokenizer
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.mixed_images import MixedImageBuilder
from graphssl.data.multimodal import MultimodalBuilder
from graphssl.data.table import ColumnTokenizer
from graphssl.data.timeline import TimelineTokenizer
from graphssl.encoders.base import AbstractEncoder
from graphssl.experiment.builders import BUILDERS, one_builder
from graphssl.experiment.cohort_source import CohortSource
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.initializers.dimension import Inflation
from graphssl.objectives.base import AbstractObjective
from graphssl.training.fit import TrainingSettings
from graphssl.training.stage import Stage, check_stage


@dataclass(frozen=True)
class StageSource:
    """One stage of a chain of pre-training. What it does not say is as the run has it.

    Args:
        name: Name, of letters, digits, `-` and `_`.
        cohort: Where its cohort comes from. When left out it is the cohort of the run, in an evaluation the training subjects of the split.
        objective: What to pre-train on.
        epochs: Epochs; with 0 the weights are only taken over.
        initialisation: `previous` (random weights for the first stage), `random`, or a folder or file of weights (see `graphssl.Stage`).
        keep_objective: Whether decoders and heads go on too; where they fit when left out.
        learning_rate_scale: Factor of the learning rate.
        anchor: Weight of half the squared distance of the encoder's weights from those the stage starts with.
        encoder: The encoder, where it is another.
        builder: How connectomes are made, where otherwise.
        columns: How tables are made, likewise.
        timeline: How events become bins of time, likewise.
        events: How events become tokens, likewise.
        population: How patients are placed in a population, likewise.
        images: How images are prepared, likewise.
        modalities: How each kind of data is made, likewise.
        pretraining: How long and how fast, likewise.
        inflation: What kernels of images become in a network of volumes: `mean`, `centre` or `acs`.
        probe_every: Epochs from one probe to the next within the stage.

    Raises:
        ConfigError: If a number is out of range, the name cannot be one of a folder, or there is more than one builder.
    """

    name: str
    cohort: CohortSource | None = None
    objective: AbstractObjective | None = None
    epochs: int | None = None
    initialisation: str = "previous"
    keep_objective: bool | None = None
    learning_rate_scale: float = 1.0
    anchor: float = 0.0
    encoder: AbstractEncoder | None = None
    builder: ConnectomeBuilder | None = None
    columns: ColumnTokenizer | None = None
    timeline: TimelineTokenizer | None = None
    events: EventTokenizer | None = None
    population: PopulationBuilder | None = None
    images: ImageBuilder | MixedImageBuilder | None = None
    modalities: MultimodalBuilder | None = None
    pretraining: TrainingSettings | None = None
    inflation: Inflation = "mean"
    probe_every: int | None = None

    def __post_init__(self) -> None:
        check_stage(self.name, self.epochs, self.learning_rate_scale, self.anchor, self.probe_every)
        self._builder()

    def load(self) -> Stage:
        """The stage, with its cohort.

        Raises:
            InputError: If the cohort cannot be read.
        """
        same = (
            "name",
            "objective",
            "epochs",
            "initialisation",
            "keep_objective",
            "learning_rate_scale",
            "anchor",
            "encoder",
            "inflation",
            "probe_every",
        )
        cohort = None if self.cohort is None else self.cohort.load()[0]
        return Stage(**{name: getattr(self, name) for name in same}, cohort=cohort, builder=self._builder(), settings=self.pretraining)

    def _builder(self) -> AbstractBuilder | None:
        return one_builder(**{name: getattr(self, name) for name in BUILDERS})
