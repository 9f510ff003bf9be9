"""What to pre-train on where nothing is said."""

from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.event_transformer import EventTransformer
from graphssl.encoders.images import AbstractImageEncoder
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.encoders.table_encoder import AbstractTableEncoder
from graphssl.encoders.timeline_encoder import AbstractTimelineEncoder
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.masked import MaskedRegions
from graphssl.objectives.masked_columns import MaskedColumns
from graphssl.objectives.masked_events import MaskedEvents
from graphssl.objectives.masked_modality import MaskedModality
from graphssl.objectives.masked_timeline import MaskedFeatures
from graphssl.objectives.restoration import Restoration


def default_objective(encoder: AbstractEncoder) -> AbstractObjective:
    """What hides parts of what the encoder reads (columns, variables of timelines, numbers of events, regions) or, of images, restores it.

    Of patients with several modalities one is hidden and told from the others.
    """
    reader = encoder.reader
    if isinstance(reader, MultimodalEncoder):
        return MaskedModality(visible_weight=1.0)
    if isinstance(reader, AbstractImageEncoder):
        return Restoration()
    if isinstance(reader, EventTransformer):
        return MaskedEvents()
    if isinstance(reader, AbstractTimelineEncoder):
        return MaskedFeatures()
    return MaskedColumns() if isinstance(reader, AbstractTableEncoder) else MaskedRegions()
