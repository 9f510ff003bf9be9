"""Connectomes converted between atlases against the true ones of the same people: pairs of atlases, methods, numbers of people with both.

    python benchmarks/studies/atlas_conversion.py FOLDER VOLUMES [--parts table downstream own] [--draws 2] [--json FILE]

FOLDER holds ABIDE I as packed arrays, VOLUMES the label volumes of its three atlases (aal116, cc200, ho111). People are held out in two ways: 120 of
them, whatever their site, and each third of the sites in turn. Maps are made from the others: from 0, 10, 50, 200 or all of them as people with both
atlases (fewer than all are drawn `--draws` times, a draw for each method the same); geometry also reads the source connectivity of all of them,
never the target's. Scores are means over held-out people: the correlation over edges of converted and true matrices, raw and after the training
people's mean was taken from each (the converted people's from the converted, the true ones' from the true), and the share of people whose converted
matrix is nearest to their own true one among all held-out people. `downstream` trains a logistic regression on true CC200 connections and tests it on
those converted from AAL116, in each site left out. `own` asks how far one can get who knows how a person's regions are laid out: a map is fitted
to the first half of the person's own scan in both atlases, starting from the map of all training people, and converts the second half.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from graphssl.atlases import (
    AtlasMap,
    LabelVolume,
    PairedSubjects,
    autoencoder_map,
    convert_matrices,
    geometry_map,
    joint_map,
    load_label_volume,
    overlap_map,
    paired_subjects,
    ridge_map,
    transport_map,
)
from graphssl.atlases.paired import mean_matrix
from graphssl.data import Cohort, RegionData
from graphssl.datasets import load_abide_arrays

ATLASES = ("aal116", "cc200", "ho111")
FEW = (10, 50, 200)
N_HELD_OUT, N_SITE_GROUPS = 120, 3
OWN_START, OWN_PENALTIES = 0.02, (3.0, 6.0, 12.0, 24.0)

Matrices = npt.NDArray[np.float32]
Maker = Callable[[LabelVolume, LabelVolume, PairedSubjects, Matrices], AtlasMap]

# The last argument is the source connectivity of all training people.
WITHOUT_PAIRS: dict[str, Maker] = {
    "overlap": lambda source, target, _pairs, _all: overlap_map(source, target),
    "geometry": lambda source, target, _pairs, everybody: geometry_map(source, target, mean_matrix(everybody)),
    "geometry, centroids only": lambda source, target, _pairs, everybody: geometry_map(source.atlas, target.atlas, mean_matrix(everybody)),
    "transport": lambda source, target, _pairs, _all: transport_map(source, target),
}
WITH_PAIRS: dict[str, Maker] = {
    "transport, functional": lambda source, target, pairs, _all: transport_map(source, target, pairs, cost="functional"),
    "autoencoder": lambda _source, _target, pairs, _all: autoencoder_map(pairs, align=False),
    "autoencoder, aligned": lambda _source, _target, pairs, _all: autoencoder_map(pairs),
    "ridge": lambda _source, _target, pairs, _all: ridge_map(pairs),
    "joint": lambda source, target, pairs, _all: joint_map(source, target, pairs),
}


def opened(folder: Path, volumes: Path) -> tuple[Cohort, dict[str, LabelVolume]]:
    parcellations = {name: load_label_volume(volumes / f"{name}.nii.gz") for name in ATLASES}
    cohort = load_abide_arrays(folder, atlases=[volume.atlas for volume in parcellations.values()])
    return cohort, {name: parcellations[name].select(cohort.atlas(name).labels) for name in ATLASES}


def held_out(cohort: Cohort) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Places of the people who are held out: some of all sites, then all of some sites."""
    order = np.random.default_rng(0).permutation(len(cohort))
    yield "people", order[:N_HELD_OUT]
    assert cohort.sites is not None
    names = np.random.default_rng(0).permutation(sorted(set(cohort.sites)))
    for group in np.array_split(names, N_SITE_GROUPS):
        yield "sites", np.flatnonzero(np.isin(cohort.sites.to_numpy(), group))


def edges(matrices: Matrices) -> Matrices:
    first, second = np.triu_indices(matrices.shape[1], 1)
    return matrices[:, first, second]


def likeness(found: Matrices, true: Matrices) -> npt.NDArray[np.float64]:
    """Correlation over the edges that both have, a person `[n]`."""
    both = np.isfinite(found) & np.isfinite(true)
    return np.array([np.corrcoef(a[seen], b[seen])[0, 1] for a, b, seen in zip(found, true, both, strict=True)])


def scores(found: AtlasMap, train: PairedSubjects, test: PairedSubjects) -> dict[str, float]:
    converted, true = edges(convert_matrices(found, test.source).values), edges(test.target)
    means = [
        np.asarray(mean_matrix(part))[np.triu_indices(part.shape[1], 1)] for part in (convert_matrices(found, train.source).values, train.target)
    ]
    moved, own = converted - means[0].astype(np.float32), true - means[1].astype(np.float32)
    a, b = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (np.nan_to_num(moved), np.nan_to_num(own)))
    nearest = (a @ b.T).argmax(axis=1) == np.arange(len(a))
    error = np.sqrt(np.nanmean((converted - true) ** 2))
    expected = np.nan if found.edge_error is None else np.sqrt(np.nanmean(edges(found.edge_error[None]) ** 2))
    return {
        "raw": float(likeness(converted, true).mean()),
        "demeaned": float(likeness(moved, own).mean()),
        "identified": float(nearest.mean()),
        "served": float(found.served.mean()),
        "error": float(error),
        "expected_error": float(expected),
    }


def table(cohort: Cohort, volumes: dict[str, LabelVolume], n_draws: int) -> Iterator[dict[str, object]]:
    for source, target in itertools.permutations(ATLASES, 2):
        pairs = paired_subjects(cohort.regions[source], cohort.regions[target], cohort.ids)
        for number, (way, places) in enumerate(held_out(cohort)):
            test, others = pairs.select(places), np.setdiff1d(np.arange(len(pairs)), places)
            train = pairs.select(others)
            row = {"source": source, "target": target, "held_out": way, "split": number}
            average = np.broadcast_to(mean_matrix(train.target).astype(np.float32), test.target.shape)
            yield {
                **row,
                "method": "mean of training people",
                "n": len(train),
                "draw": 0,
                "raw": float(likeness(edges(average), edges(test.target)).mean()),
            }
            for method, make in WITHOUT_PAIRS.items():
                yield {**row, "method": method, "n": 0, "draw": 0, **scores(make(volumes[source], volumes[target], train, train.source), train, test)}
            for n, draw in [(n, draw) for n in FEW for draw in range(n_draws)] + [(len(train), 0)]:
                chosen = np.random.default_rng([number, n, draw]).permutation(len(train))[:n]
                for method, make in WITH_PAIRS.items():
                    found = make(volumes[source], volumes[target], train.select(chosen), train.source)
                    yield {**row, "method": method, "n": n, "draw": draw, **scores(found, train, test)}


def downstream(cohort: Cohort, volumes: dict[str, LabelVolume], source: str = "aal116", target: str = "cc200") -> Iterator[dict[str, object]]:
    pairs = paired_subjects(cohort.regions[source], cohort.regions[target], cohort.ids)
    assert cohort.sites is not None
    labels = (cohort.subjects["diagnosis"] == "autism").to_numpy()
    for site in sorted(set(cohort.sites)):
        places = np.flatnonzero(cohort.sites.to_numpy() == site)
        others = np.setdiff1d(np.arange(len(pairs)), places)
        train, test = pairs.select(others), pairs.select(places)
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)).fit(
            features(train.target), labels[others]
        )
        makers = {**WITHOUT_PAIRS, **WITH_PAIRS}
        tested = {
            name: convert_matrices(make(volumes[source], volumes[target], train, train.source), test.source).values for name, make in makers.items()
        }
        for method, matrices in {"true": test.target, **tested}.items():
            yield {"site": site, "method": method, "auroc": float(roc_auc_score(labels[places], model.decision_function(features(matrices))))}


def own_maps(cohort: Cohort) -> Iterator[dict[str, object]]:
    halves = [cohort_of_half(cohort, half) for half in (0, 1)]
    _, places = next(held_out(cohort))
    for source, target in itertools.permutations(ATLASES, 2):
        first, second = (paired_subjects(half.regions[source], half.regions[target], half.ids).select(places) for half in halves)
        train = paired_subjects(cohort.regions[source], cohort.regions[target], cohort.ids).select(np.setdiff1d(np.arange(len(cohort)), places))
        shared = ridge_map(train, penalty=OWN_START)
        left = np.nanmean(train.target - projected(shared.weights[None], train.source), axis=0)
        mean = edges(mean_matrix(train.target)[None])[0]
        weights = {"of all": np.broadcast_to(shared.weights, (len(places), *shared.weights.shape))}
        for penalty in OWN_PENALTIES:
            error = np.nan_to_num(first.cross.transpose(0, 2, 1) - shared.weights @ np.nan_to_num(first.source))
            inverse = np.linalg.inv(np.nan_to_num(first.source) + penalty * np.eye(first.source.shape[1]))
            weights[f"own, penalty {penalty:g}"] = shared.weights + error @ inverse
        for name, own in weights.items():
            told = projected(own, np.nan_to_num(second.source))
            root = np.sqrt(np.clip(1 - np.diagonal(told, axis1=1, axis2=2), 0.01, None) / np.diagonal(left))
            whole = told + root[:, :, None] * left * root[:, None, :]
            scale = 1 / np.sqrt(np.diagonal(whole, axis1=1, axis2=2))
            converted, true = edges(whole * scale[:, :, None] * scale[:, None, :]), edges(second.target)
            raw, demeaned = likeness(converted, true).mean(), likeness(converted - mean, true - mean).mean()
            yield {"source": source, "target": target, "map": name, "raw": float(raw), "demeaned": float(demeaned)}


def cohort_of_half(cohort: Cohort, half: int) -> Cohort:
    """The cohort with the first or second half of each scan; ends of scans are cut to one length first, so that atlases keep one time."""
    lengths = {subject: min(len(cohort.regions[atlas].values[subject]) for atlas in ATLASES) for subject in cohort.ids}
    cut = {subject: (slice(-n, -(n // 2)), slice(-(n // 2), None))[half] for subject, n in lengths.items()}
    regions = {
        atlas: RegionData(data.atlas, {subject: data.values[subject][cut[subject]] for subject in cohort.ids}, data.provenance)
        for atlas, data in cohort.regions.items()
    }
    return replace(cohort, regions=regions)


def projected(weights: npt.NDArray[np.floating], matrices: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """`W C Wᵀ` of each person."""
    return weights @ np.nan_to_num(matrices) @ weights.transpose(0, 2, 1)


def features(matrices: Matrices) -> Matrices:
    """Fisher z of connections; zero where a region is missing."""
    return np.arctanh(np.clip(np.nan_to_num(edges(matrices)), -0.999999, 0.999999))


PARTS: dict[str, Callable[[Cohort, dict[str, LabelVolume], int], Iterator[dict[str, object]]]] = {
    "table": table,
    "downstream": lambda cohort, volumes, _draws: downstream(cohort, volumes),
    "own": lambda cohort, _volumes, _draws: own_maps(cohort),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("volumes", type=Path)
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=("table", "downstream"))
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file to write every number to, a line each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohort, volumes = opened(options.folder, options.volumes)
    found: dict[str, list[dict[str, object]]] = {part: [] for part in options.parts}
    for part in options.parts:
        for row in PARTS[part](cohort, volumes, options.draws):
            found[part].append(row)
            print(row, file=sys.stderr, flush=True)
            if options.json is not None:
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"part": part, **row}) + "\n")
    for part, rows in found.items():
        print(PRINTED[part](rows))


def _printed_table(rows: list[dict[str, object]]) -> str:
    import pandas as pd

    every = pd.DataFrame(rows)
    every["people with both"] = every["n"].where(every["n"].isin([0, *FEW]), "all")
    blocks = []
    for way, part in every.groupby("held_out"):
        means = part.groupby(["method", "people with both", "source", "target"], sort=False)[["raw", "demeaned", "identified"]].mean()
        text = means.apply(lambda one: f"{one['raw']:.3f} / {one['demeaned']:.3f} ({one['identified']:.2f})", axis=1)
        wide = text.reset_index(name="text").pivot_table("text", ["method", "people with both"], ["source", "target"], "first", sort=False)
        head = "| method | people with both | " + " | ".join(f"{source}→{target}" for source, target in wide.columns) + " |"
        lines = [f"| {method} | {n} | {' | '.join(map(str, wide.loc[(method, n)]))} |" for method, n in wide.index]
        blocks.append("\n".join([f"Held out: {way}. Raw / demeaned (identified).", "", head, "|" + "---|" * (2 + wide.shape[1]), *lines, ""]))
    return "\n".join(blocks)


def _printed_downstream(rows: list[dict[str, object]]) -> str:
    import pandas as pd

    means = pd.DataFrame(rows).groupby("method", sort=False)["auroc"].mean()
    kept = (means - 0.5) / (means["true"] - 0.5)
    lines = [f"| {method} | {means[method]:.3f} | {kept[method]:.0%} |" for method in means.index]
    return "\n".join(["| test matrices | AUROC, mean over sites | of the excess over chance |", "|---|---|---|", *lines])


def _printed_own(rows: list[dict[str, object]]) -> str:
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame["text"] = [f"{raw:.3f} / {demeaned:.3f}" for raw, demeaned in zip(frame["raw"], frame["demeaned"], strict=True)]
    wide = frame.pivot_table("text", "map", ["source", "target"], "first", sort=False)
    head = "| map | " + " | ".join(f"{source}→{target}" for source, target in wide.columns) + " |"
    return "\n".join([head, "|" + "---|" * (1 + wide.shape[1]), *(f"| {name} | {' | '.join(wide.loc[name])} |" for name in wide.index)])


PRINTED: dict[str, Callable[[list[dict[str, object]]], str]] = {"table": _printed_table, "downstream": _printed_downstream, "own": _printed_own}


if __name__ == "__main__":
    main()
