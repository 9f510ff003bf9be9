"""Pre-training on what a pool has that is most like the cohort: the model that compares, the choice, and what is told of it."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from graphssl.data.cohort import Cohort
from graphssl.data.pooled import pooled, shared, without_masks
from graphssl.errors import ConfigError
from graphssl.experiment.config import Experiment
from graphssl.experiment.methods import objective_of
from graphssl.experiment.pool_settings import PoolSettings
from graphssl.experiment.runs import RunFolder
from graphssl.objectives import AbstractObjective
from graphssl.reports import write_selection_page
from graphssl.training.model import Model
from graphssl.training.pretrain import pretrain
from graphssl.training.selection import Pool, PoolSelection

FOLDER, RETRIEVER = "selection", "retriever"
_MOST = 50_000


def prepared_pool(experiment: Experiment, cohort: Cohort, run: Path, *, progress: bool = False) -> PoolSelection | None:
    """The pool of an experiment, apart from all subjects of its cohort, embedded by a model that saw a part of the pool alone.

    Args:
        experiment: The experiment.
        cohort: The cohort of the experiment.
        run: The run folder, in which that model is kept, and found again.
        progress: Whether to show progress on stderr.

    Returns:
        The pool; None where the experiment has no selection.

    Raises:
        LeakageError: If the pool holds subjects of the cohort; names them.
        DataError: If nobody is left to choose from.
        ConfigError: If the part of the pool is too small to train on.
        CheckpointError: If a model is named and there is none.
    """
    settings = experiment.selection
    if settings is None:
        return None

    def model(eligible: Cohort) -> Model:
        if settings.encoder is not None:
            return Model.from_pretrained(settings.encoder)
        if (run / RETRIEVER / "model.safetensors").is_file():
            return Model.from_pretrained(run / RETRIEVER)
        return _retriever(experiment, settings, objective_of(experiment), shared(eligible, without_masks(cohort))[0], run, progress)

    pool = pooled({name: source.load()[0] for name, source in settings.pools.items()})
    found = Pool(pool, model, protected=cohort, leaks=settings.leaks, near_duplicate=settings.near_duplicate, search=settings.search)
    return PoolSelection(found, settings.chosen_by(), settings.with_target)


def with_chosen(experiment: Experiment, of_pool: PoolSelection | None, cohort: Cohort, folder: RunFolder) -> Cohort:
    """What to pre-train on: the cohort with those chosen for it, told of in `selection/`; the cohort where there is no pool."""
    if of_pool is None:
        return cohort
    labels = None
    if of_pool.settings.rule == "class_means":
        labels = cohort.labels(experiment.target)
    selection = of_pool.pool.select(cohort, of_pool.settings, labels)
    columns = selection.counted_columns()
    table = selection.table.assign(chosen=selection.table.index.isin(selection.ids)).join(selection.pool.subjects[columns].astype("str"))
    folder.write_text(f"{FOLDER}/subjects.csv", table.rename_axis("subject_id").to_csv())
    folder.write_text(f"{FOLDER}/distances.csv", selection.report(of_pool.settings.seed).rename_axis("subjects").to_csv())
    folder.write_text(f"{FOLDER}/excluded.csv", selection.excluded.to_csv(index=False))
    told = {
        "pool": selection.pool.name,
        "target": cohort.name,
        "n_pool": selection.n_pool,
        "n_target": len(cohort),
        "n_chosen": len(selection),
        "with_target": of_pool.with_target,
        "settings": asdict(of_pool.settings),
        "columns": columns,
        "model": of_pool.pool.model.card.get("pre-trained on", "not recorded"),
    }
    folder.write_json(f"{FOLDER}/summary.json", told)
    write_selection_page(folder.path)
    return of_pool.joined(selection)


def _retriever(experiment: Experiment, settings: PoolSettings, objective: AbstractObjective, eligible: Cohort, run: Path, progress: bool) -> Model:
    """The model that compares, trained on a part of the pool drawn at random: no subject of the cohort, whatever split it is in."""
    n = min(_MOST, round(settings.subset * len(eligible)))
    if n < _FEWEST:
        raise ConfigError(
            f"Expected {_FEWEST} subjects or more of the pool to train on, found {n}, a share of {settings.subset:g} of {len(eligible)}. "
            "Raise selection.subset, or name a model with selection.encoder."
        )
    drawn = np.sort(np.random.default_rng(settings.seed).choice(len(eligible), n, replace=False))
    model = pretrain(
        eligible[drawn],
        objective=settings.objective or objective,
        encoder=experiment.encoder,
        builder=experiment.builder,
        settings=replace(settings.pretraining or experiment.pretraining, progress=progress),
        seed=experiment.seed,
        folder=run / "checkpoints" / RETRIEVER,
    )
    model.save_pretrained(run / RETRIEVER)
    return model


_FEWEST = 10  # of whom one chooses the epoch
