"""What to pre-train on where nothing is said."""

from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.table_encoder import AbstractTableEncoder
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.masked import MaskedRegions
from graphssl.objectives.masked_columns import MaskedColumns


def default_objective(encoder: AbstractEncoder) -> AbstractObjective:
    """Masked columns for encoders of tables, masked regions for those of connectomes."""
    return MaskedColumns() if isinstance(encoder, AbstractTableEncoder) else MaskedRegions()
