"""What `graphssl embed` does: write the vectors, and predictions, of a saved cohort."""

from itertools import compress
from pathlib import Path

import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.multimodal import MultimodalBatch
from graphssl.errors import DataError
from graphssl.folders import file_written_whole
from graphssl.graphs import PopulationBuilder
from graphssl.training.model import Model, pooled_table


def embed(model: str | Path, cohort: str | Path, out: str | Path) -> pd.DataFrame:
    """Write the pooled vectors of a saved cohort, and predictions where the model has a head, as parquet or CSV.

    Where the model reads categories, the column `unknown_categories` names those columns in which a subject has one that no training subject had.
    Where patients have several kinds of data, `modalities` names those that each was embedded from.
    Where patients learn from one another, `neighbors` names the training patients most like each (a training patient is its own), the most alike
    first, and `unlikeness` is the share of training patients whose own neighbours are more like them.

    Args:
        model: Model folder.
        cohort: Cohort folder.
        out: File to write, ending in `.parquet` or `.csv`.

    Raises:
        DataError: If the ending is another one.
    """
    target = Path(out)
    if target.suffix not in (".parquet", ".csv"):
        raise DataError(f"Expected an output file ending in .parquet or .csv, found {target.name!r}.")
    loaded, subjects = Model.from_pretrained(model), Cohort.load(cohort)
    builder = loaded.builder
    found = builder.index_.query(subjects) if isinstance(builder, PopulationBuilder) else None
    batch = builder.transform(subjects, found) if isinstance(builder, PopulationBuilder) else loaded.batch_of(subjects)
    pooled, probability = loaded.answers(batch, subjects.ids)
    table = pooled_table(pooled, subjects)
    if probability is not None:
        columns = [f"probability_{name}" for name in loaded.classes]
        table = table.join(pd.DataFrame(probability, index=table.index, columns=columns))
    unknown = builder.unknown(subjects)
    if len(unknown.columns):
        table["unknown_categories"] = ["; ".join(unknown.columns[row]) for row in unknown.to_numpy(dtype=bool)]
    if found is not None:
        table["neighbors"], table["unlikeness"] = ["; ".join(row) for row in found.neighbor_ids], found.unlikeness
    if isinstance(batch, MultimodalBatch):
        table["modalities"] = ["; ".join(compress(batch.modalities, row)) for row in batch.presence.tolist()]
    table = table.rename_axis("subject_id").reset_index()
    with file_written_whole(target) as aside:
        if target.suffix == ".csv":
            table.to_csv(aside, index=False)
        else:
            table.to_parquet(aside, index=False)
    return table
