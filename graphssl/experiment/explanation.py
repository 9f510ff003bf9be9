"""An explanation on disk: tables, arrays, checks and figures of what a model reads, written whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.datasets.simulate import GroundTruth
from graphssl.evaluation.explain import Saliency, saliency
from graphssl.evaluation.randomisation import randomisation_check
from graphssl.folders import written_whole
from graphssl.reports import explanation_sentences
from graphssl.reports.brain import explanation_figures
from graphssl.reports.run_folder import read_connectome
from graphssl.statistics.stability import stability
from graphssl.training.model import Model


def write_explanation(
    target: Path,
    model: Model,
    cohort: Cohort,
    *,
    atlas: str | None = None,
    truth: GroundTruth | None = None,
    maps: npt.NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Write tables, arrays, checks and figures of an explanation into a folder, whole or not at all.

    Args:
        target: The folder; an earlier explanation in it is replaced.
        model: A fine-tuned model.
        cohort: Subjects to explain.
        atlas: Atlas to explain; the model's first when left out.
        truth: What was put into a simulated cohort.
        maps: Effects of connections in refitted models `[M, R, R]`.

    Raises:
        RunFolderError: If the folder holds other files.
        DataError: If the model has no head or no data in the atlas.
    """
    with written_whole(target, marker="connectome.npz", what="an earlier explanation") as aside:
        found = saliency(model, cohort, atlas=atlas)
        check = randomisation_check(model, cohort, atlas=atlas)
        tables = {"regions": found.regions, "edges": found.edges, "network_pairs": found.network_pairs}
        record: dict[str, Any] = {"atlas": found.atlas.name, "n_subjects": len(cohort), "randomisation": check.to_dict("records"), "stability": None}
        if found.attention is not None:
            record["attention_correlation"] = float(found.regions["saliency"].corr(found.regions["attention"], method="spearman"))
        if maps is not None:
            tables, record["stability"] = _with_stability(found, tables, maps)
        _write_arrays(aside, found)
        for name, table in tables.items():
            table.to_csv(aside / f"{name}.csv", index=False)
        (aside / "summary.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        if truth is not None:
            (aside / "truth.json").write_text(json.dumps({"affected": [list(pair) for pair in truth.affected]}), encoding="utf-8")
        for name, picture in explanation_figures(read_connectome(aside / "connectome.npz"), found.regions).items():
            (aside / f"{name}.png").write_bytes(picture.png)
    return {"explanation": str(target), "sentences": explanation_sentences(record), **record}


def _with_stability(
    found: Saliency, tables: Mapping[str, pd.DataFrame], maps: npt.NDArray[np.float32]
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Tables with the share of refits in which a region or connection is among the top tenth, and the agreement of the refits."""
    upper = np.triu_indices(len(found.atlas), k=1)
    regions, edges = stability(np.abs(maps).mean(axis=2)), stability(maps[:, *upper])
    labels = found.atlas.labels
    by_region = pd.Series(regions.frequency, index=labels, name="stability")
    by_edge = pd.Series(edges.frequency, index=pd.MultiIndex.from_arrays([labels[upper[0]], labels[upper[1]]]), name="stability")
    joined = {
        **tables,
        "regions": tables["regions"].join(by_region, on="label"),
        "edges": tables["edges"].join(by_edge, on=["label_a", "label_b"]),
    }
    agreement = {
        name: {"rank_correlation": one.rank_correlation, "top_overlap": one.top_overlap, "n_top": one.n_top}
        for name, one in (("regions", regions), ("connections", edges))
    }
    return joined, {"n_refits": len(maps), **agreement}


def _write_arrays(folder: Path, found: Saliency) -> None:
    order = found.regions.set_index("label").loc[found.atlas.labels.tolist()]
    arrays: dict[str, Any] = {} if found.attention is None else {"attention": found.attention}
    np.savez(
        folder / "connectome.npz",
        atlas=found.atlas.name,
        mean_connectome=found.mean_connectome,
        centroids=found.atlas.centroids,
        labels=found.atlas.labels,
        networks=np.asarray(found.atlas.networks, dtype=np.str_),
        names=np.asarray(found.atlas.display_names, dtype=np.str_),
        region_saliency=order["saliency"].to_numpy(),
        edge_saliency=found.connections,
        **arrays,
    )
