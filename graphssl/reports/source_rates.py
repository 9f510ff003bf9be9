"""Generated learning rates and weight decays of each source and tensor as a heat map."""

import pandas as pd

from graphssl.reports.canvas import INCH, canvas, marks, png, tell
from graphssl.reports.markup import Picture
from graphssl.reports.names import listed

_MOST = 40  # tensors in one figure
_WHAT = {"learning_rate": "Inner learning rate", "weight_decay": "Inner weight decay"}


def rates_figure(rates: pd.DataFrame) -> Picture:
    """Learning rate and weight decay by tensor and source; of many tensors those that differ most between sources.

    Args:
        rates: Rows of `rates.csv` of one strategy.
    """
    tables = {what: rates.pivot_table(index="tensor", columns="source", values=what, sort=False) for what in _WHAT}
    # Differences count relative to the size of the rate.
    differing = sum((table.max(axis=1) - table.min(axis=1)) / table.abs().to_numpy().max() for table in tables.values())
    chosen = differing.nlargest(_MOST).index
    kept = [name for name in tables["learning_rate"].index if name in set(chosen)]
    sources = [str(name) for name in tables["learning_rate"].columns]
    width, height = min(10.5, 6.4 + 0.6 * len(sources)), 1.7 + 0.19 * len(kept)
    with canvas(width, height, columns=2) as (drawn, panels):
        for place, (axes, (what, table)) in enumerate(zip(panels, tables.items(), strict=True)):
            colours = axes.imshow(table.loc[kept].to_numpy(), cmap="viridis", aspect="auto")
            rows = table.loc[kept].iterrows()
            tell(colours, (f"{name}, {source}: {value:.3g}" for name, row in rows for source, value in zip(sources, row, strict=True)))
            axes.set_xticks(range(len(sources)), sources, rotation=40, ha="right")
            axes.set_yticks(range(len(kept)), [name.removeprefix("encoder.") for name in kept] if place == 0 else [""] * len(kept), fontsize=7)
            axes.set_title(_WHAT[what])
            drawn.colorbar(colours, ax=axes)
        image, told = png(drawn), marks(drawn)
    most = str(differing.idxmax()).removeprefix("encoder.")
    alt = f"Heat maps of generated rates by tensor for the sources {listed(sources)}; most different between sources: {most}."
    left_out = len(tables["learning_rate"]) - len(kept)
    more = f" {left_out} tensors that differ less between sources are in rates.csv." if left_out else ""
    return Picture(image, alt, f"In the first inner step, mean over draws of tasks, by tensor of the model.{more}", round(width * INCH), told)


def rates_sentence(rates: pd.DataFrame) -> str:
    """By how much the rates of one tensor differ between sources, at most and in the middle, relative to their mean.

    Args:
        rates: Rows of `rates.csv` of one strategy.
    """
    said = []
    for what, name in _WHAT.items():
        by_tensor = rates.groupby("tensor")[what]
        differing = (by_tensor.max() - by_tensor.min()) / by_tensor.mean()
        said.append(f"{name.lower()}s by {differing.median():.1%} of their mean in the median tensor and by {differing.max():.1%} at most")
    return f"Between sources differ {', '.join(said)}."


def rates_summary(rates: pd.DataFrame) -> pd.DataFrame:
    """Mean learning rate and weight decay of each source, and by how much the tensors differ: `source`, then mean, lowest and highest of each.

    Args:
        rates: Rows of `rates.csv` of one strategy.
    """
    grouped = rates.groupby("source", sort=False)[list(_WHAT)].agg(["mean", "min", "max"])
    grouped.columns = pd.Index([f"{what} {how}" for what in _WHAT for how in ("mean", "min", "max")])
    return grouped.reset_index()
