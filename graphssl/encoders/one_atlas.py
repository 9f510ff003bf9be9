"""Encoders that know regions by their rows are of one atlas, and refuse others."""

from graphssl.data.connectome import ConnectomeBatch
from graphssl.errors import AtlasError


def check_one_atlas(batch: ConnectomeBatch, atlas: str, n_regions: int, who: str) -> None:
    """Check that connectomes are in the one atlas that an encoder reads.

    Args:
        batch: The connectomes.
        atlas: Name of the atlas.
        n_regions: Number of its regions.
        who: The encoder, for the message.

    Raises:
        AtlasError: If one is in another atlas, or has more regions.
    """
    others = sorted(set(batch.atlas) - {atlas})
    n = batch.mask.shape[1]
    if others or n > n_regions:
        raise AtlasError(
            f"Expected connectomes in atlas {atlas!r} with {n_regions} regions, which {who} knows by their rows; "
            f"found {', '.join(map(repr, others or [atlas]))} with {n}. Make one for that atlas, or take an encoder that reads places."
        )
