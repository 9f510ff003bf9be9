"""Chains of pre-trainings in a run: who may be in a stage, what follows their progress, and where an evaluation takes them up."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from graphssl.data.cohort import Cohort
from graphssl.data.overlap import certain_overlap
from graphssl.data.splits import published
from graphssl.errors import LeakageError
from graphssl.experiment.config import Experiment
from graphssl.experiment.runs import RunFolder
from graphssl.training.probe import Probe
from graphssl.training.stage import Stage


def check_stages_apart(stages: Sequence[Stage], cohort: Cohort) -> None:
    """Check that no subject who is to be tested was pre-trained on (see `certain_overlap`).

    Raises:
        LeakageError: If a stage with a cohort of its own holds one, or one of the family; names them.
    """
    for stage in stages:
        shared = [] if stage.cohort is None else certain_overlap(cohort, stage.cohort).index.tolist()
        if shared:
            raise LeakageError(
                f"Expected none of the subjects that are evaluated in stage {stage.name!r}, found {len(shared)}: {', '.join(shared[:5])}. "
                "Leave the cohort out of the stage, which then takes the training subjects of each split, or leave these subjects out of it."
            )


def probe_of(experiment: Experiment, cohort: Cohort) -> Probe | None:
    """The probe of the stages on the subjects who are not for testing in a published split; None where there is one training, or no target."""
    if not experiment.chain or (experiment.target is None and not cohort.schema.named("target")):
        return None
    parts = cohort.schema.named("split")
    known = cohort if not parts else cohort.select(published(cohort.ids, cohort.subjects[parts[0]].tolist(), name=parts[0]).train)
    return Probe(known, experiment.target, None if experiment.classes is None else tuple(experiment.classes))


def taken_up(experiment: Experiment, folder: RunFolder) -> Experiment:
    """The experiment whose chain begins where the stages with cohorts of their own ended, which the run folder holds."""
    own = list(takewhile(lambda stage: stage.cohort is not None, experiment.chain))
    rest = list(experiment.chain[len(own) :])
    if not own or not rest or rest[0].initialisation != "previous":
        return experiment
    there = copy.copy(experiment)
    there.taken_up = (replace(rest[0], initialisation=str(folder.path / "stages" / f"{len(own)}-{own[-1].name}")), *rest[1:])
    return there
