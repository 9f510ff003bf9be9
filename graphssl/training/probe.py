"""A linear probe on an encoder while it is pre-trained: what its vectors say of a target, on subjects that are not for testing."""

from dataclasses import dataclass

from graphssl.data.cohort import Cohort
from graphssl.data.splits import hold_out
from graphssl.statistics import auroc
from graphssl.training.carry import carried
from graphssl.training.finetune import finetune
from graphssl.training.model import Model


@dataclass(frozen=True, eq=False)
class Probe:
    """Labelled subjects on whom a logistic regression on an encoder's vectors is trained and scored, some for the one and some for the other.

    The score shows whether pre-training helps a target. Leave test subjects out of it: who chooses stages or epochs by it has seen these subjects.

    Args:
        cohort: Training and validation subjects.
        target: Column to predict; the cohort's one target when left out.
        classes: Names of the classes in order, the positive one last; sorted when left out.
        validation_fraction: Share of the labelled subjects that the score is of.
        seed: Seed of the split, the same for every model that is probed.

    Raises:
        SchemaError: If there is no such target.
    """

    cohort: Cohort
    target: str | None = None
    classes: tuple[str, ...] | None = None
    validation_fraction: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        self.cohort.target(self.target)

    def score(self, model: Model) -> float:
        """AUROC on the validation subjects, with several classes the macro mean; the model's builder is fitted anew on the others.

        Args:
            model: A model without a head; it is not changed.

        Raises:
            InputError: If the encoder cannot read the subjects, or labels are too few.
        """
        labels = self.cohort.labels(self.target)
        labelled = self.cohort.select([subject for subject in self.cohort.ids if subject in labels])
        split = hold_out(
            labelled.ids,
            [labels[subject] for subject in labelled.ids],
            groups=labelled.groups.tolist(),
            test_fraction=self.validation_fraction,
            seed=self.seed,
        )
        train, validation = labelled.select(split.train), labelled.select(split.test)
        tuned = finetune(carried(model, train), train, target=self.target, classes=self.classes, mode="probe", seed=self.seed)
        y = [tuned.classes.index(labels[subject]) for subject in validation.ids]
        return auroc(y, tuned.predict_proba(validation))
