"""Figures of the brain, drawn by nilearn: the mean connectome and what the model looks at."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from graphssl.reports.canvas import INCH, canvas, marks, png, tell, tell_points
from graphssl.reports.markup import Picture
from graphssl.reports.names import listed, number
from graphssl.reports.run_folder import Array, Connectome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STRONGEST = 60


def explanation_figures(connectome: Connectome, regions: pd.DataFrame | None) -> dict[str, Picture]:
    """All figures of an explanation, by name."""
    drawn = {
        "glass_brain_regions": glass_regions(connectome, regions),
        "glass_brain_connections": glass_edges(connectome),
        "effects_matrix": effects_matrix(connectome, regions),
        "mean_connectome": connectome_matrix(connectome, regions),
    }
    return {name: picture for name, picture in drawn.items() if picture is not None}


def connectome_matrix(connectome: Connectome, regions: pd.DataFrame | None) -> Picture:
    """The mean connectome, regions ordered by network."""
    return _matrix(connectome, regions, connectome.mean, "Mean connectome over subjects", "mean connectome")


def effects_matrix(connectome: Connectome, regions: pd.DataFrame | None) -> Picture:
    """The effect of each connection on the prediction, regions ordered by network."""
    what = "Effect of one standard deviation of each connection on the logit of the last class"
    return _matrix(connectome, regions, connectome.edges, what, "effect of each connection on the prediction")


def glass_regions(connectome: Connectome, regions: pd.DataFrame | None = None) -> Picture:
    """Saliency of regions on a glass brain."""
    from nilearn.plotting import plot_markers

    values = np.nan_to_num(connectome.regions)
    sizes = 12 + 90 * values / (values.max() or 1.0)
    with canvas(9.6, 3.2, axes=False) as (figure, _):
        low, high = float(values.min()), float(values.max())
        plot_markers(
            values,
            connectome.centroids,
            node_size=sizes,
            node_cmap="viridis_r",
            node_vmin=low,
            node_vmax=high if high > low else low + 1,
            figure=figure,
        )
        tell_points(figure, [f"{name}: {value:.3g}" for name, value in zip(_named(connectome, regions), values, strict=True)])
        image, told = png(figure), marks(figure)
    top = np.argsort(-values)[:3]
    labels = listed(map(str, connectome.labels[top]))
    alt = f"Glass brain with a marker at each of {len(values)} regions, larger where the model looks more; the most salient are labels {labels}."
    return Picture(
        image,
        alt,
        "How much each region weighs in the prediction of the fine-tuned model (mean absolute saliency of its connections).",
        round(9.6 * INCH),
        told,
    )


def glass_edges(connectome: Connectome) -> Picture | None:
    """The strongest connections on a glass brain; None where no connection has any."""
    from nilearn.plotting import plot_connectome

    edges = np.nan_to_num(connectome.edges)
    edges = (edges + edges.T) / 2
    np.fill_diagonal(edges, 0.0)
    strength = np.abs(edges[np.triu_indices(len(edges), 1)])
    n = min(_STRONGEST, int((strength > 0).sum()))
    if n == 0:
        return None
    kept = np.where(np.abs(edges) >= np.sort(strength)[-n], edges, 0.0)
    ends = np.abs(kept).sum(axis=0) > 0
    with canvas(9.6, 3.2, axes=False) as (figure, _):
        plot_connectome(
            kept[np.ix_(ends, ends)], connectome.centroids[ends], node_size=14, node_color="#1b2430", edge_cmap="RdBu_r", colorbar=True,
            edge_kwargs={"linewidth": 1.4}, figure=figure,
        )  # fmt: skip
        image = png(figure)
    signs = "Red speaks for the last class, blue against it." if (kept < 0).any() else ""
    alt = f"Glass brain with the {n} connections that weigh most in the prediction, between {int(ends.sum())} regions."
    return Picture(image, alt, f"The {n} connections that weigh most in the prediction. {signs}".strip(), round(9.6 * INCH))


def _matrix(connectome: Connectome, regions: pd.DataFrame | None, values: Array, what: str, short: str) -> Picture:
    from nilearn.plotting import plot_matrix

    networks = _networks(connectome, regions)
    order = np.lexsort((connectome.centroids[:, 0] > 0, np.asarray(networks))) if any(networks) else np.arange(len(networks))
    matrix = np.nan_to_num(values[np.ix_(order, order)])
    limit = float(np.quantile(np.abs(matrix[~np.eye(len(matrix), dtype=bool)]), 0.99)) if len(matrix) > 1 else 1.0
    with canvas(6.2, 5.6) as (figure, axes):
        # The correlation of a region with itself says nothing and would set the scale.
        np.fill_diagonal(matrix, 0.0)
        image = plot_matrix(matrix, axes=axes, vmin=-(limit or 1.0), vmax=limit or 1.0, cmap="RdBu_r", colorbar=False)
        named = [_named(connectome, regions)[k] for k in order]
        tell(image, (f"{row}, {column}: {number(matrix[i, j])}" for i, row in enumerate(named) for j, column in enumerate(named)))
        figure.colorbar(image, ax=axes, shrink=0.7)
        _mark_networks(axes, [networks[k] for k in order])
        drawn, told = png(figure), marks(figure)
    known = sorted({name for name in networks if name})
    where = f"ordered by network ({listed(known, most=12)})" if known else "in the order of the atlas"
    alt = f"Matrix of the {short} of {len(matrix)} regions{f' of {connectome.atlas}' if connectome.atlas else ''}, {where}."
    return Picture(drawn, alt, f"{what}, {where}; the colour scale ends at the 99th percentile.", round(6.2 * INCH), told)


def _named(connectome: Connectome, regions: pd.DataFrame | None) -> list[str]:
    """Name of each region in the order of the matrix; its label where none is known."""
    by_label = {} if regions is None else dict(zip(regions["label"].astype(int), regions["name"], strict=True))
    found = ((int(label), by_label.get(int(label))) for label in connectome.labels)
    return [f"region {label}" if name is None or name != name else str(name) for label, name in found]


def _networks(connectome: Connectome, regions: pd.DataFrame | None) -> list[str]:
    """Network of each region in the order of the matrix; empty text where none is known."""
    if regions is None:
        return [""] * len(connectome.labels)
    by_label = {int(label): network for label, network in zip(regions["label"], regions["network"], strict=True)}
    found = (by_label.get(int(label)) for label in connectome.labels)
    return ["" if name is None or name != name else str(name) for name in found]


def _mark_networks(axes: "Axes", networks: list[str]) -> None:
    """Lines between networks, and their names at their middle."""
    starts = [k for k, name in enumerate(networks) if k == 0 or name != networks[k - 1]]
    ends = [*starts[1:], len(networks)]
    if len(starts) < 2:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    for start in starts[1:]:
        axes.axhline(start - 0.5, color="#1b2430", linewidth=0.5)
        axes.axvline(start - 0.5, color="#1b2430", linewidth=0.5)
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    labels = [networks[start] or "none" for start in starts]
    axes.set_xticks(middles, labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(middles, labels)
    axes.tick_params(length=0)
