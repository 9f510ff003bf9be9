"""Hide part of a patient's table and predict it from the rest."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.table import TableBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.table_encoder import of_tables
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.choose import choose_share, random_rank


class MaskedColumns(AbstractObjective):
    """Hide measured values and predict numbers by squared error, categories by cross-entropy; only what was hidden and truly measured counts.

    The feature masking of Pellegrini, Navab & Kazi (Medical Image Analysis 2023), value by value, and their patient masking: a share of the patients
    loses everything, so that whoever they are connected with must tell. Two decoders read the token of the hidden column
    and the pooled vector, so that the pooled vector, which later studies use, has to hold the patient too. Each column counts alike: the
    error of a category is divided by the logarithm of the number of categories, which is what guessing costs.

    Args:
        ratio: Share of the measured values of a patient that is hidden; one at least, and one is left where there are two. 0 hides none by itself.
        pooled_weight: Weight of the prediction from the pooled vector beside that from tokens; 0 leaves it out.
        patients: Share of the patients of a batch that lose all values, one at least; 0 for none. It asks for an encoder in which patients see each
            other: without a graph nothing is left to predict from but what is never hidden.
        never_hidden: Names of columns that are always read, such as age and sex.

    Raises:
        ConfigError: If a share or the weight is out of range, or nothing would be hidden.
    """

    def __init__(self, ratio: float = 0.3, pooled_weight: float = 1.0, patients: float = 0.0, never_hidden: Sequence[str] = ()) -> None:
        super().__init__()
        if not 0 <= ratio < 1 or not 0 <= patients < 1 or pooled_weight < 0:
            raise ConfigError(f"Expected 0 ≤ ratio < 1, 0 ≤ patients < 1 and pooled_weight ≥ 0; found {ratio}, {patients} and {pooled_weight}.")
        if ratio == patients == 0:
            raise ConfigError("Expected a share of values or of patients to hide, found ratio and patients both 0. Raise one.")
        self.ratio, self.pooled_weight, self.patients, self.never_hidden = ratio, pooled_weight, patients, tuple(never_hidden)

    def prepare(self, encoder: AbstractEncoder) -> "MaskedColumns":
        """Make the decoders for the encoder's columns.

        Raises:
            ConfigError: If the encoder is none of tables, or a column that is never hidden is none of its columns.
        """
        table = of_tables(encoder, "MaskedColumns")
        names = table.column_names
        strange = sorted(set(self.never_hidden) - set(names))
        if strange:
            raise ConfigError(f"Expected never_hidden among the columns {', '.join(names)}; found {strange[0]!r}.")
        self.may_hide = torch.tensor([name not in self.never_hidden for name in names], dtype=torch.bool)
        sizes = [len(known) + 1 for known in table.categories.values()]
        self.from_tokens = ColumnDecoder(len(table.numbers), sizes, encoder.token_width)
        if self.pooled_weight:
            self.from_pooled = ColumnDecoder(len(table.numbers), sizes, encoder.pooled_width)
        return self

    def draw(self, batch: TableBatch, generator: torch.Generator) -> Bool[Tensor, "B C"]:
        """Choose values: the same number of a patient whatever the order of columns, every set alike; and all of those of some patients."""
        can_go = batch.visible.cpu() & self.may_hide
        hidden = torch.zeros_like(can_go)
        if self.ratio:
            hidden = choose_share(can_go, self.ratio, generator)
        if self.patients:
            lost = random_rank(can_go.any(dim=1), generator) < max(1, round(self.patients * len(can_go)))
            hidden = torch.where(lost.unsqueeze(1), can_go, hidden)
        return hidden.to(batch.device)

    def forward(self, encoder: AbstractEncoder, batch: TableBatch, generator: torch.Generator) -> Loss:
        """The error over hidden values.

        Raises:
            ConfigError: If `prepare` was not called.
        """
        self.check_prepared("from_tokens")
        hidden = self.draw(batch, generator)
        embedding = encoder(batch.hide(hidden))
        total, parts = self.from_tokens.error(embedding.tokens, batch, hidden)
        guessed = batch.numbers.square()[hidden[:, : batch.numbers.shape[1]]]
        parts["zero_error"] = guessed.sum() / max(1, guessed.numel())
        if self.pooled_weight:
            pooled_error, _ = self.from_pooled.error(embedding.pooled, batch, hidden)
            parts["pooled_error"] = pooled_error.detach()
            total = total + self.pooled_weight * pooled_error
        return Loss(total, parts)


class ColumnDecoder(nn.Module):
    """A number, or a logit a category, of each column from a vector a column, or from one vector for all.

    Args:
        n_numbers: Number of continuous columns.
        sizes: Categories of each other column, the unknown one included.
        width: Width of the vectors.
    """

    def __init__(self, n_numbers: int, sizes: list[int], width: int) -> None:
        super().__init__()
        self.n_numbers, self.sizes = n_numbers, sizes
        self.number = nn.Parameter(torch.randn(n_numbers, width) / width**0.5)
        self.number_bias = nn.Parameter(torch.zeros(n_numbers))
        self.category = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def error(
        self, vectors: Float[Tensor, "B C D"] | Float[Tensor, "B D"], batch: TableBatch, hidden: Bool[Tensor, "B C"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean error over hidden values, each column's in units of what guessing costs, and its parts."""
        n, is_shared = self.n_numbers, vectors.dim() == 2
        if is_shared:  # nothing of size B × C × D is made
            predicted = F.linear(vectors, self.number, self.number_bias)
        else:
            predicted = torch.einsum("bnd,nd->bn", vectors[:, :n], self.number) + self.number_bias
        numbers = ((predicted - batch.numbers).square() * hidden[:, :n]).sum()
        categories, right = vectors.new_zeros(()), vectors.new_zeros(())
        for k, linear in enumerate(self.category):
            rows = hidden[:, n + k]
            logits, codes = linear(vectors[rows] if is_shared else vectors[rows, n + k]), batch.codes[rows, k]
            categories = categories + F.cross_entropy(logits, codes, reduction="sum") / torch.log(torch.tensor(float(max(2, self.sizes[k]))))
            right = right + (logits.argmax(dim=1) == codes).sum()
        n_numbers, n_codes = hidden[:, :n].sum(), hidden[:, n:].sum()
        parts = {
            "numbers_error": numbers.detach() / n_numbers.clamp(min=1),
            "categories_error": categories.detach() / n_codes.clamp(min=1),
            "categories_accuracy": right / n_codes.clamp(min=1),
        }
        return (numbers + categories) / (n_numbers + n_codes).clamp(min=1), parts
