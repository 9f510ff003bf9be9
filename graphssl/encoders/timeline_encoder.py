"""What encoders of timelines share: a token a bin of time, then one a static column."""

from abc import abstractmethod
from collections.abc import Sequence

from graphssl.data.builder import AbstractBuilder
from graphssl.data.timeline import TimelineBatch, TimelineTokenizer
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.record_encoder import AbstractRecordEncoder
from graphssl.errors import ConfigError


class AbstractTimelineEncoder(AbstractRecordEncoder):
    """An encoder whose tokens are bins of time, in order, and then the static columns.

    Attributes:
        codes: Codes of the numbers `[V]`.
        treatments: Codes of the treatments `[G]`.
        n_bins: Number of bins `T`.
    """

    codes: tuple[str, ...]
    treatments: tuple[str, ...]
    n_bins: int

    @abstractmethod
    def forward(self, batch: TimelineBatch) -> Embedding:
        """Embed a batch of patients; a token a bin, then one a static column."""

    def default_builder(self) -> AbstractBuilder:
        """A `TimelineTokenizer`."""
        return TimelineTokenizer()

    def set_bins(self, codes: Sequence[str], treatments: Sequence[str], n_bins: int) -> None:
        """Keep codes and bins, for constructors.

        Args:
            codes: Codes of numbers, in the order of the batch.
            treatments: Codes of treatments, likewise.
            n_bins: Bins of time of a patient.
        """
        self.codes, self.treatments, self.n_bins = tuple(codes), tuple(treatments), n_bins

    def rows_of(self) -> dict[str, list[tuple[str, ...]]]:
        """What the rows of weights belong to; one of `bin` to what a bin says of a code: its value, whether it was measured, given, or hidden."""
        values, treatments = ([(code,) for code in codes] for codes in (self.codes, self.treatments))
        parts = {"value": values, "measured": values, "given": treatments, "hidden value": values, "hidden treatment": treatments}
        return {**super().rows_of(), "bin": [(*code, part) for part, codes in parts.items() for code in codes]}

    def check_bins(self, batch: TimelineBatch) -> None:
        """Check that a batch has the encoder's bins, codes and static columns.

        Raises:
            ConfigError: If it has others.
        """
        shape, expected = (*batch.values.shape[1:], batch.given.shape[2]), (self.n_bins, len(self.codes), len(self.treatments))
        if shape != expected:
            raise ConfigError(
                f"Expected {expected[0]} bins of {expected[1]} numbers and {expected[2]} treatments, "
                f"found {shape[0]} of {shape[1]} and {shape[2]}. Make the encoder with for_builder(tokenizer)."
            )
        self.check_columns(batch.static)


def of_timelines(encoder: AbstractEncoder, objective: str) -> AbstractTimelineEncoder:
    """What reads the timelines in an encoder, which an objective needs to be one of timelines.

    Raises:
        ConfigError: If it is another.
    """
    reader = encoder.reader
    if not isinstance(reader, AbstractTimelineEncoder):
        raise ConfigError(f"Expected an encoder of timelines for {objective}, found {type(reader).__name__}. Use TimelineTransformer.")
    return reader
