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
from graphssl.objectives.choose import choose_patients, choose_share


class MaskedColumns(AbstractObjective):
    """Hide measured values and predict numbers by squared error, categories by cross-entropy; only what was hidden and truly measured counts.

    The feature masking of Pellegrini, Navab & Kazi (Medical Image Analysis 2023), value by value, and their patient masking: a share of the patients
    loses everything, so that whoever they are connected with must tell. Two decoders read the token of the hidden column
    and the pooled vector, so that the pooled vector, which later studies use, has to hold the patient too. Each column counts alike: the
    error of a category is divided by the logarithm of the number of categories, which is what guessing costs.

    Args:
        ratio: Share of the measured values of a patient that is hidden; one at least, and one is left where there are two. 0 hides none by itself.
        pooled_weight: Weight of the prediction from the pooled vector beside that from tokens; 0 leaves it out.
        visible_weight: Weight of what is *not* hidden, predicted from the pooled vector, as in a denoising autoencoder. Without it the pooled vector
            keeps of a column only what other columns can be told from, and not what stands alone, such as the number of earlier stays.
        patients: Share of the patients of a batch that lose all values, one at least; 0 for none. It asks for an encoder in which patients see each
            other: without a graph nothing is left to predict from but what is never hidden.
        never_hidden: Names of columns that are always read, such as age and sex.

    Raises:
        ConfigError: If a share or the weight is out of range, or nothing would be hidden.
    """

    def __init__(
        self,
        ratio: float = 0.3,
        pooled_weight: float = 1.0,
        patients: float = 0.0,
        never_hidden: Sequence[str] = (),
        visible_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= ratio < 1 or not 0 <= patients < 1 or pooled_weight < 0 or visible_weight < 0:
            raise ConfigError(
                "Expected 0 ≤ ratio < 1, 0 ≤ patients < 1, pooled_weight ≥ 0 and visible_weight ≥ 0; "
                f"found {ratio}, {patients}, {pooled_weight} and {visible_weight}."
            )
        if ratio == patients == 0:
            raise ConfigError("Expected a share of values or of patients to hide, found ratio and patients both 0. Raise one.")
        self.ratio, self.pooled_weight, self.visible_weight = ratio, pooled_weight, visible_weight
        self.patients, self.never_hidden = patients, tuple(never_hidden)

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
        if self.pooled_weight or self.visible_weight:
            self.from_pooled = ColumnDecoder(len(table.numbers), sizes, encoder.pooled_width)
        return self

    def draw(self, batch: TableBatch, generator: torch.Generator) -> Bool[Tensor, "B C"]:
        """Choose values: the same number of a patient whatever the order of columns, every set alike; and all of those of some patients."""
        can_go = batch.visible.cpu() & self.may_hide
        hidden = torch.zeros_like(can_go)
        if self.ratio:
            hidden = choose_share(can_go, self.ratio, generator)
        if self.patients:
            lost = choose_patients(can_go.any(dim=1), self.patients, generator)
            hidden = torch.where(lost.unsqueeze(1), can_go, hidden)
        return hidden.to(batch.device)

    def forward(self, encoder: AbstractEncoder, batch: TableBatch, generator: torch.Generator) -> Loss:
        """The error over hidden values, and over those that are not where they have a weight.

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
        if self.visible_weight:
            visible_error, _ = self.from_pooled.error(embedding.pooled, batch, batch.visible & ~hidden)
            parts["visible_error"] = visible_error.detach()
            total = total + self.visible_weight * visible_error
        return Loss(total, parts)


class ColumnDecoder(nn.Module):
    """A number, or a logit a category, of each column from a vector a column, or from one vector for all.

    Args:
        n_numbers: Number of continuous columns.
        sizes: Categories of each other column, the unknown one included.
        width: Width of the vectors.
    """

    of: Tensor
    first: Tensor
    cost: Tensor

    def __init__(self, n_numbers: int, sizes: list[int], width: int) -> None:
        super().__init__()
        self.n_numbers, self.sizes = n_numbers, sizes
        self.number = nn.Parameter(torch.randn(n_numbers, width) / width**0.5)
        self.number_bias = nn.Parameter(torch.zeros(n_numbers))
        # The categories of all columns behind one another, each column with the weights of a linear layer.
        made = [nn.Linear(width, size) for size in sizes]
        self.category = nn.Parameter(torch.cat([torch.zeros(0, width), *(linear.weight.detach() for linear in made)]))
        self.category_bias = nn.Parameter(torch.cat([torch.zeros(0), *(linear.bias.detach() for linear in made)]))
        counts = torch.tensor(sizes, dtype=torch.long)
        self.register_buffer("of", torch.arange(len(sizes)).repeat_interleave(counts), persistent=False)
        self.register_buffer("first", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("cost", counts.clamp(min=2).float().log(), persistent=False)  # of guessing

    def error(
        self, vectors: Float[Tensor, "B C D"] | Float[Tensor, "B D"], batch: TableBatch, counted: Bool[Tensor, "B C"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean error over the values that count, each column's in units of what guessing costs, and its parts."""
        n = self.n_numbers
        numbers = ((self._predicted(vectors) - batch.numbers).square() * counted[:, :n]).sum()
        logits = self._logits(vectors)
        lowest = torch.full_like(logits[:, : len(self.sizes)], -torch.inf, requires_grad=False)
        highest = lowest.scatter_reduce(1, self.of.expand_as(logits), logits.detach(), "amax")  # [B, K]
        sums = torch.zeros_like(highest).index_add(1, self.of, (logits - highest.index_select(1, self.of)).exp())
        chosen = logits.gather(1, self.first + batch.codes)
        categories = ((highest + sums.log() - chosen) / self.cost * counted[:, n:]).sum()
        n_numbers, n_codes = counted[:, :n].sum(), counted[:, n:].sum()
        parts = {
            "numbers_error": numbers.detach() / n_numbers.clamp(min=1),
            "categories_error": categories.detach() / n_codes.clamp(min=1),
            "categories_accuracy": ((chosen.detach() >= highest) & counted[:, n:]).sum() / n_codes.clamp(min=1),
        }
        return (numbers + categories) / (n_numbers + n_codes).clamp(min=1), parts

    def _predicted(self, vectors: Float[Tensor, "B C D"] | Float[Tensor, "B D"]) -> Float[Tensor, "B N"]:
        if vectors.dim() == 2:  # nothing of size B × C × D is made
            return F.linear(vectors, self.number, self.number_bias)
        return torch.einsum("bnd,nd->bn", vectors[:, : self.n_numbers], self.number) + self.number_bias

    def _logits(self, vectors: Float[Tensor, "B C D"] | Float[Tensor, "B D"]) -> Float[Tensor, "B S"]:
        """Logits of the categories of all columns, behind one another."""
        if vectors.dim() == 2:
            return F.linear(vectors, self.category, self.category_bias)
        return torch.einsum("bsd,sd->bs", vectors.index_select(1, self.n_numbers + self.of), self.category) + self.category_bias
