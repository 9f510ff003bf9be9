"""What a cell starts from: an encoder pre-trained in stages that cells share, or random weights."""

import numpy as np

from graphssl.data.cohort import Cohort
from graphssl.errors import ConfigError
from graphssl.evaluation.cell import Cell
from graphssl.evaluation.cell_unit import Unit, stage_settings
from graphssl.evaluation.parallel import one_thread
from graphssl.training.carry import carried
from graphssl.training.model import Model
from graphssl.training.pretrain import untrained
from graphssl.training.stage import Stage
from graphssl.training.stages import pretrain_stages


def prepare_stage(unit: Unit, stage: int, alone: bool) -> None:
    """Pre-train a stage of what a cell starts from, unless that or the cell was done before."""
    if not unit.path.is_file():
        with one_thread(alone):
            _stage(unit, stage)


def start_model(unit: Unit) -> Model:
    """The pre-trained encoder, ready for the training subjects; random weights where it learned from nothing."""
    cell = unit.cell
    if not unit.starts:
        return untrained(unit.train, encoder=cell.encoder, builder=cell.builder, seed=unit.seed)
    model = _stage(unit, len(unit.starts) - 1)
    if cell.settings.pretrain_on[-1] == "cohort":
        return model
    return carried(model, unit.train, encoder=cell.encoder, builder=cell.builder, seed=unit.seed)


def subjects_of_source(cell: Cell, seed: int) -> Cohort:
    """The subjects of the source to learn from, none of whom is one of the cohort."""
    assert cell.source is not None
    source, size = without_subjects(cell.source, cell.cohort), cell.settings.source_size
    if size is None:
        return source
    if size > len(source):
        raise ConfigError(f"Expected at most the {len(source)} subjects of the source to pre-train on, found source_size={size}. Ask for fewer.")
    order = np.random.default_rng(seed).permutation(len(source))[:size]
    return source.select([source.ids[k] for k in sorted(order.tolist())])


def n_pretrained(unit: Unit) -> int:
    """Subjects that any stage of the pre-training had."""
    sizes = {"cohort": len(unit.split.train), "source": 0 if unit.cell.source is None else len(subjects_of_source(unit.cell, unit.seed))}
    return sum(sizes[name] for name in unit.cell.settings.pretrain_on)


def without_subjects(source: Cohort, cohort: Cohort) -> Cohort:
    """A source without the subjects of a cohort; only a source of the cohort's name holds any, since ids of other cohorts name other people.

    Args:
        source: Subjects to pre-train on.
        cohort: Those who are split into training and test subjects.

    Raises:
        DataError: If nobody is left.
    """
    if source.name != cohort.name:
        return source
    own = set(cohort.ids)
    return source.select([subject for subject in source.ids if subject not in own])


def _stage(unit: Unit, stage: int) -> Model:
    """The encoder after a stage, trained from where the one before is kept, or read back."""
    cell, names = unit.cell, unit.cell.settings.pretrain_on
    before = "random" if stage == 0 else unit.starts[stage - 1] / f"1-{names[stage - 1]}"
    cohort = unit.train if names[stage] == "cohort" else subjects_of_source(cell, unit.seed)
    return pretrain_stages(
        [Stage(names[stage], cohort, initialisation=before)],
        objective=cell.objective,
        encoder=cell.encoder,
        builder=cell.builder,
        settings=stage_settings(cell, names[stage]),
        seed=unit.seed,
        folder=unit.starts[stage],
    ).model
