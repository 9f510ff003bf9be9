"""How an experiment is evaluated: protocol, methods, baselines, and what is asked of them."""

from dataclasses import dataclass, field

from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.evaluation.baselines import BASELINES
from graphssl.evaluation.challenges import CHALLENGE_SCORES
from graphssl.evaluation.ensemble import check_members
from graphssl.evaluation.protocol_splits import ProtocolName
from graphssl.experiment.parser import nearest
from graphssl.objectives.base import AbstractObjective

# What a tuned parameter may be: a class with its arguments, or a plain value.
Choice = AbstractObjective | AbstractEncoder | bool | int | float | str | None
# What reads the same data in other ways; see `make_method`.
COMPARISONS = ("gcn", "gat", "gin", "sage", "brain_network_transformer", "mlp")
# What fusion of several modalities is compared with; `only_<name>` beside them is one modality alone.
OF_MODALITIES = ("late_average", "concatenated_boosting")
ONLY = "only_"
OURS = (
    "pretrained",
    "pretrained_probe",
    "pretrained_linear",
    "scratch",
    "scratch_probe",
    "pretrained_knn",
    "scratch_knn",
    "no_edges",
    *OF_MODALITIES,
    *COMPARISONS,
)


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate.

    Args:
        protocol: `leave_one_site_out`, `k_fold`, `published` (columns of the table with the role `split`), or `time_ordered` (trained on the past, by
            prediction time).
        methods: Methods of ours: `pretrained` and `scratch` (encoder and head trained), `pretrained_probe` and `scratch_probe` (head only),
            `pretrained_knn` and `scratch_knn` (votes of the nearest training subjects),
            `pretrained_linear` (a ridge on what `ScanContrast` learned from all training scans, which must be time series),
            of several modalities `only_<name>` (one alone, on those who have it), `late_average` (the mean of these) and `concatenated_boosting`
            (gradient boosting on embeddings side by side, see `EmbeddingBoosting`),
            `no_edges` (pre-trained with every edge cut), and the comparison encoders `gcn`, `gat`, `gin`, `mlp`,
            `brain_network_transformer` (of connectomes) and `sage` (of patients in a population), pre-trained alike.
        baselines: Baselines beside them; see `graphssl.evaluation.BASELINES`.
        tuned: Methods and baselines to score once more, as `<name>_tuned`, with settings chosen on inner folds of the training subjects: values to
            choose from, by parameter, by name (see `graphssl.evaluation.Tuned`). A value may be a class with its `init_args`.
        n_inner: Inner folds; they hold out sites under `leave_one_site_out`, else subjects.
        audited: Methods that are also fitted on shuffled labels; when left out, `pretrained_probe` and `logistic_correlation` where they are run.
        scores: Scores of challenges beside the metrics: `physionet2012_event1` (its threshold chosen on training subjects, by one more fit),
            `physionet2012_event1_best_threshold` (chosen on the test subjects: an upper bound), `physionet2012_event2`, `physionet2019_utility`.
        ensembles: Methods and baselines that also predict together, each counting alike, by the name of the ensemble; a name that begins with
            `pretrained` counts as pre-trained in the report.
        missing: Shares of the test subjects with a modality who lose it before our methods are asked, by name of the modality, such as
            `{image: [0.3, 0.5, 0.7, 1.0]}`: what is left when it is missing.
        seeds: Seeds of methods and label draws.
        label_fractions: Shares of the training labels.
        n_splits: Folds of `k_fold`.
        n_jobs: Processes side by side.
    """

    protocol: ProtocolName = "leave_one_site_out"
    methods: tuple[str, ...] = ("pretrained", "pretrained_probe", "scratch", "no_edges")
    baselines: tuple[str, ...] = ("logistic_correlation", "ridge_correlation", "logistic_tangent", "ridge_tangent", "covariates", "majority")
    audited: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    label_fractions: tuple[float, ...] = (1.0,)
    n_splits: int = 5
    n_jobs: int = 1
    tuned: dict[str, dict[str, list[Choice]]] = field(default_factory=dict)
    n_inner: int = 3
    scores: tuple[str, ...] = ()
    ensembles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(name for name in set(self.methods) - set(OURS) if not name.startswith(ONLY))
        if unknown:
            raise ConfigError(f"Expected methods among {', '.join(OURS)}; found {unknown[0]!r}.{nearest(unknown[0], OURS)}")
        strange = sorted(set(self.baselines) - set(BASELINES))
        if strange:
            raise ConfigError(f"Expected baselines among {', '.join(BASELINES)}; found {strange[0]!r}.{nearest(strange[0], BASELINES)}")
        odd = sorted(set(self.scores) - set(CHALLENGE_SCORES))
        if odd:
            raise ConfigError(f"Expected scores among {', '.join(CHALLENGE_SCORES)}; found {odd[0]!r}.{nearest(odd[0], list(CHALLENGE_SCORES))}")
        foreign = sorted(set(self.tuned) - {*OURS, *BASELINES})
        if foreign:
            raise ConfigError(f"Expected methods or baselines to tune, found {foreign[0]!r}.{nearest(foreign[0], [*OURS, *BASELINES])}")
        check_members(self.ensembles, [*self.methods, *self.baselines, *(f"{name}_tuned" for name in self.tuned)])
        missing = sorted({*(self.audited or ())} - set(self.methods) - set(self.baselines))
        if missing:
            raise ConfigError(f"Expected audited methods to be among the methods and baselines, found {missing}. Add them there, or audit others.")

    @property
    def to_audit(self) -> tuple[str, ...]:
        """The audited methods, named or not."""
        run = (*self.methods, *self.baselines)
        return tuple(name for name in _AUDITED if name in run) if self.audited is None else self.audited


_AUDITED = ("pretrained_probe", "logistic_correlation")
