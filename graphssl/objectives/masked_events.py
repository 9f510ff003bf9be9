"""Hide the numbers of some events and predict them from the rest."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.event_tokens import EventBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.event_transformer import EventTransformer, ScalarEmbedding
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.choose import choose_share


class MaskedEvents(AbstractObjective):
    """Hide the numbers of a share of a patient's events and predict them by squared error; what was measured and when stays readable.

    One decoder reads the token of the event. The other reads the pooled vector with the code and the time of the event, so that the pooled vector,
    which later studies use, has to hold the course of the patient. Events are read as STraTS reads them (Tipirneni & Reddy, ACM TKDD 2022), which
    forecasts instead; hiding numbers and the second decoder are ours.

    Args:
        ratio: Share of a patient's numbers that is hidden; one at least, and one is left where there are two.
        pooled_weight: Weight of the prediction from the pooled vector beside that from tokens; 0 leaves it out.

    Raises:
        ConfigError: If the ratio or the weight is out of range.
    """

    def __init__(self, ratio: float = 0.3, pooled_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 < ratio < 1 or pooled_weight < 0:
            raise ConfigError(f"Expected 0 < ratio < 1 and pooled_weight ≥ 0; found {ratio} and {pooled_weight}.")
        self.ratio, self.pooled_weight = ratio, pooled_weight

    def prepare(self, encoder: AbstractEncoder) -> "MaskedEvents":
        """Make the decoders for the encoder's codes.

        Raises:
            ConfigError: If the encoder is none of events.
        """
        reader = encoder.reader
        if not isinstance(reader, EventTransformer):
            raise ConfigError(f"Expected an encoder of events for MaskedEvents, found {type(reader).__name__}. Use EventTransformer.")
        self.from_tokens = CodeDecoder(len(reader.codes), encoder.token_width)
        if self.pooled_weight:
            self.from_pooled = PooledEvents(len(reader.codes), encoder.pooled_width)
        return self

    def draw(self, batch: EventBatch, generator: torch.Generator) -> Bool[Tensor, "B L"]:
        """Choose numbers of each patient."""
        return choose_share(batch.visible.cpu(), self.ratio, generator).to(batch.device)

    def forward(self, encoder: AbstractEncoder, batch: EventBatch, generator: torch.Generator) -> Loss:
        """The error over hidden numbers.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("from_tokens")
        hidden = self.draw(batch, generator)
        embedding = encoder(batch.hide(hidden))
        rows, places = hidden.nonzero(as_tuple=True)
        codes, values = batch.codes[rows, places], batch.values[rows, places]
        total = _mean_square(self.from_tokens(embedding.tokens[rows, places], codes) - values)
        parts = {"values_error": total.detach(), "zero_error": _mean_square(values)}
        if self.pooled_weight:
            pooled_error = _mean_square(self.from_pooled(embedding.pooled[rows], codes, batch.hours[rows, places]) - values)
            parts["pooled_error"] = pooled_error.detach()
            total = total + self.pooled_weight * pooled_error
        return Loss(total, parts)


class CodeDecoder(nn.Module):
    """A number from a vector, by a linear map of its code.

    Args:
        n_codes: Number of codes.
        width: Width of the vectors.
    """

    def __init__(self, n_codes: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_codes, width) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(n_codes))

    def forward(self, vectors: Float[Tensor, "n D"], codes: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Predicted numbers."""
        return (vectors * self.weight[codes]).sum(dim=1) + self.bias[codes]


class PooledEvents(nn.Module):
    """A number of any code at any time from the pooled vector.

    Args:
        n_codes: Number of codes.
        pooled_width: Width of the pooled vector.
    """

    def __init__(self, n_codes: int, pooled_width: int) -> None:
        super().__init__()
        self.patient = nn.Linear(pooled_width, pooled_width)
        self.code, self.time = nn.Embedding(n_codes, pooled_width), ScalarEmbedding(pooled_width)
        self.out = CodeDecoder(n_codes, pooled_width)

    def forward(self, pooled: Float[Tensor, "n P"], codes: Int[Tensor, "n"], hours: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Predicted numbers of events at hours before the prediction time."""
        asked = F.gelu(self.patient(pooled) + self.code(codes) + self.time(hours.log1p()))
        return torch.as_tensor(self.out(asked, codes))


def _mean_square(errors: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    return errors.square().sum() / max(1, len(errors))
