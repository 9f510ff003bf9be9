"""How alike datasets are, with the intervals of permutations: large sites of ABIDE I, and four hospitals of the UCI heart disease data.

    python benchmarks/studies/dataset_similarity.py --data ../shared/data --out FOLDER

Three measures: cosine of the mean gradients of tasks at a model trained on all of them jointly; AUROC of a model trained on half of one dataset and
adapted to a few labelled subjects of another's other half (five of each class; one in hospitals, of which one has eight without disease); and how
alike models of each see the same subjects (CKA), which for sites are the people of all small sites, none of whom any model has seen, and for
hospitals all patients. FOLDER gets a JSON file and three figures a study.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from few_shot import Study, hospitals, sites
from few_shot import parsed as few_shot_options

from graphssl.data import Cohort
from graphssl.reports.meta import similarity_figure
from graphssl.training.meta import (
    JointTraining,
    MetaSettings,
    Similarity,
    Source,
    gradient_cosine,
    meta_train,
    representation_similarity,
    task_gradients,
    transfer_matrix,
)
from graphssl.training.meta.similarity import embedded

N_STEPS = {"sites": 30, "hospitals": 100}
RATE = {"sites": 0.003, "hospitals": 0.03}  # of adaptation
TASK = {"sites": 5, "hospitals": 2}  # half of the smallest dataset is shared by support and query


def main() -> None:
    """Measure, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--out", required=True)
    parser.add_argument("--permutations", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, load in (("sites", sites), ("hospitals", hospitals)):
        study = load(few_shot_options([name, "--data", options.data]))
        found = similarities(name, study, options.permutations)
        (folder / f"{name}.json").write_text(json.dumps([one.to_dict() for one in found], indent=1), encoding="utf-8")
        for one, short in zip(found, ("gradients", "transfer", "representations"), strict=True):
            (folder / f"{name}-{short}.png").write_bytes(similarity_figure(one.to_dict()).png)
            print_matrix(name, one)


def similarities(name: str, study: Study, n_permutations: int) -> list[Similarity]:
    """By gradients, by transfer and by representations."""
    sources, targets = study.groups[0]
    datasets = sources if name == "sites" else sorted([*sources, *targets], key=lambda source: source.name)
    names, how = [source.name for source in datasets], {"encoder": study.encoder, "builder": study.builder}
    task = {"n_support": TASK[name], "n_query": TASK[name]}
    settings = MetaSettings(max_epochs=1, steps_per_epoch=N_STEPS[name], weight_decay=0.1, accelerator="cpu", **task)
    together = meta_train(datasets, strategy=JointTraining(), settings=settings, **how)
    drawn = task_gradients(together, datasets, n_support=2 * TASK[name], n_draws=20)
    adapted = {"n_support": 5 if name == "sites" else 1, "n_draws": 10, "n_steps": 5, "learning_rate": RATE[name]}
    transfer, models = transfer_matrix(datasets, settings=settings, n_permutations=n_permutations, **adapted, **how)
    seen = _together(targets) if name == "sites" else _together(datasets)
    return [
        gradient_cosine(drawn, names, n_permutations=n_permutations),
        transfer,
        representation_similarity([embedded(model, seen) for model in models], names, n_permutations=n_permutations),
    ]


def print_matrix(name: str, found: Similarity) -> None:
    """The matrix; values within the interval of permutations in brackets."""
    print(f"\n{name}: {found.measure}; values in brackets are within what permutations give if {found.null}")
    print("| |" + "|".join(found.names) + "|")
    for row, of_row in enumerate(found.names):
        cells = []
        for value, low, high in zip(found.values[row], found.low[row], found.high[row], strict=True):
            cells.append(f"({value:.2f})" if low <= value <= high else f"{value:.2f}")
        print(f"|{of_row}|" + "|".join(cells) + "|")
    off = ~np.eye(len(found.names), dtype=bool)
    print("mean off the diagonal", round(float(found.values[off].mean()), 3))


def _together(sources: list[Source]) -> Cohort:
    joined = sources[0].cohort
    for source in sources[1:]:
        joined = joined | source.cohort
    return joined


if __name__ == "__main__":
    main()
