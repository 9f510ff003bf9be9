"""Covariates of a subject as tokens beside those of its regions."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.connectome import ConnectomeBatch
from graphssl.data.table import ColumnTokenizer
from graphssl.encoders.column_tokens import ColumnTokens
from graphssl.errors import ConfigError, DataError

# By name of a covariate: pieces of a number, or categories.
Covariates = Mapping[str, int | Sequence[str]]


class CovariateTokens(nn.Module):
    """A token a covariate, to which regions attend and which attend to them, and its share in the pooled vector.

    A value that is missing is a state of its own, as in [`ColumnTokens`][graphssl.encoders.column_tokens.ColumnTokens].

    Args:
        covariates: Pieces of each number, the same for all, and categories of each other covariate, by name and in the order of the batch.
        width: Width `D` of the tokens.
        pooled_width: Width `P` of the pooled vector.

    Raises:
        ConfigError: If numbers have different pieces.
    """

    def __init__(self, covariates: Covariates, width: int, pooled_width: int) -> None:
        super().__init__()
        self.names = tuple(covariates)
        pieces = [known for known in covariates.values() if isinstance(known, int)]
        categories = [len(known) for known in covariates.values() if not isinstance(known, int)]
        if len(set(pieces)) > 1:
            raise ConfigError(f"Expected all numbers among the covariates to have as many pieces, found {sorted(set(pieces))}.")
        self.shape = (len(pieces), pieces[0] if pieces else 0, len(categories))
        self.columns = ColumnTokens(len(pieces), self.shape[1], categories, width)
        self.share = nn.Linear(len(covariates) * width, pooled_width)

    def forward(self, batch: ConnectomeBatch) -> Float[Tensor, "B C D"]:
        """Tokens of the covariates of a batch.

        Raises:
            DataError: If the batch has no covariates, or others.
        """
        table = batch.covariates
        if table is None:
            raise DataError(
                f"Expected the covariates {', '.join(self.names)} beside the connectomes, found none. Build with ConnectomeBuilder(covariates=…)."
            )
        found = (table.numbers.shape[1], table.pieces.shape[2] if table.numbers.shape[1] else 0, table.codes.shape[1])
        if found != self.shape:
            raise DataError(
                f"Expected the covariates {', '.join(self.names)}: {self.shape[0]} numbers of {self.shape[1]} pieces and {self.shape[2]} categories, "
                f"found {found[0]} of {found[1]} and {found[2]}. Make the encoder with for_builder(builder)."
            )
        tokens: Tensor = self.columns(table)
        return tokens

    def pooled(self, tokens: Float[Tensor, "B C D"]) -> Float[Tensor, "B P"]:
        """What the covariates add to the pooled vector, each column read on its own."""
        share: Tensor = self.share(tokens.flatten(start_dim=1))
        return share


def described_covariates(tokenizer: ColumnTokenizer | None) -> dict[str, int | tuple[str, ...]] | None:
    """The covariates that a tokenizer was fitted on, as an encoder takes them; None without one."""
    if tokenizer is None:
        return None
    return {**dict.fromkeys(tokenizer.numbers, tokenizer.n_pieces), **tokenizer.categories}


def with_covariates(
    bias: Float[Tensor, "B H R R"] | Bool[Tensor, "B 1 R R"], mask: Bool[Tensor, "B R"], n_covariates: int
) -> Float[Tensor, "B H N N"] | Bool[Tensor, "B 1 N N"]:
    """A bias or mask of attention between regions for regions and covariates behind them: no preference to and from covariates.

    Args:
        bias: Bias of the logits, or which regions may be attended to.
        mask: Which regions there are; covariates attend to no other.
        n_covariates: Number of covariates.
    """
    allowed, refused = (True, False) if bias.dtype == torch.bool else (0.0, float("-inf"))
    n = mask.shape[1]
    grown = F.pad(bias, (0, n_covariates, 0, n_covariates), value=allowed)
    grown[..., n:, :n] = grown[..., n:, :n].masked_fill(~mask[:, None, None, :], refused)
    return grown
