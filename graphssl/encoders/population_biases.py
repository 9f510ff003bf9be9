"""What draws a patient's attention to another: how near in the graph, how alike in each group of features, how often chosen as a neighbour."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from graphssl.encoders.base import check_parts
from graphssl.errors import ConfigError

PatientBiasKind = Literal["hops", "similarity", "in_links"]
_KINDS: tuple[PatientBiasKind, ...] = get_args(PatientBiasKind)


@dataclass(frozen=True)
class Relations:
    """How patients who ask stand to those they ask, in `B` sets of patients apart from one another.

    Attributes:
        hops: Fewest edges from who asks back to whom it asks `[B, Q, K]`; -1 where there is no short path.
        pairs: Set, place of who asks and of whom it asks, of every pair with an edge `[3, E]`.
        similarity: Similarity over each of these edges in every group `[E, G]`.
        in_links: How many have whom is asked among their neighbours `[B, K]`.
    """

    hops: Int[Tensor, "B Q K"]
    pairs: Int[Tensor, "3 E"]
    similarity: Float[Tensor, "E G"]
    in_links: Int[Tensor, "B K"]


class PatientBias(nn.Module):
    """Bias of the attention logits `[B, H, Q, K]`, a sum over relations of two patients.

    - `"hops"`: a value for every distance in the graph, up to `max_hops`, and one for patients further away or not connected, who are heard all the
      same;
    - `"similarity"`: over an edge, the similarity of its ends in each group of features;
    - `"in_links"`: the logarithm of one more than the number of patients who have the other among their neighbours.

    Values are fixed and differ by head, as the slopes of ALiBi (Press et al., ICLR 2022); Graphormer's are learned (Ying et al., NeurIPS 2021).

    Args:
        heads: Number of heads. The first has no preference for near patients, which grows from head to head. Heads take the groups by turns, the
            later ones more strongly. Every fourth head is drawn to patients who are often chosen, and every fourth away from them.
        kinds: The relations that count.
        n_groups: Number of groups of features.
        max_hops: Longest distance that is told from no path at all.
        learned: Whether the values are trained.

    Raises:
        ConfigError: If a relation is unknown or named twice, or no distance is told.
    """

    by_hops: Tensor
    by_group: Tensor
    by_in_links: Tensor

    def __init__(self, heads: int, kinds: tuple[PatientBiasKind, ...], n_groups: int, max_hops: int, *, learned: bool = False) -> None:
        super().__init__()
        check_parts("biases", kinds, _KINDS)
        if max_hops < 1:
            raise ConfigError(f"Expected max_hops of at least 1, found {max_hops}.")
        self.kinds, self.heads, self.max_hops = kinds, heads, max_hops
        head = torch.arange(heads, dtype=torch.float32)
        distance = torch.arange(max_hops + 2, dtype=torch.float32)
        values = {
            "by_hops": -distance.unsqueeze(1) * 2 * head / max(1, heads - 1),  # [max_hops + 2, H]
            "by_group": group_slopes(heads, n_groups),
            "by_in_links": torch.tensor([0.0, 0.5, 0.0, -0.5])[head.long() % 4],  # [H]
        }
        for (name, value), kind in zip(values.items(), _KINDS, strict=True):
            if learned and kind in kinds:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value, persistent=False)

    def forward(self, relations: Relations) -> Float[Tensor, "B H Q K"]:
        """The bias of some patients towards others."""
        b, q, k = relations.hops.shape
        if "hops" in self.kinds:
            place = torch.where(relations.hops < 0, self.max_hops + 1, relations.hops).int().flatten()
            bias = self.by_hops.T.index_select(1, place).view(self.heads, b, q, k).transpose(0, 1).contiguous()
        else:
            bias = self.by_hops.new_zeros(b, self.heads, q, k)
        if "in_links" in self.kinds:
            bias += self.by_in_links.view(1, -1, 1, 1) * torch.log1p(relations.in_links.to(bias.dtype))[:, None, None, :]
        if "similarity" in self.kinds:
            sets, asking, asked = relations.pairs.unsqueeze(-1)  # each [E, 1]
            head = torch.arange(self.heads, device=bias.device)
            bias.index_put_((sets, head, asking, asked), along_edges(relations.similarity, self.by_group), accumulate=True)
        return bias


def group_slopes(heads: int, n_groups: int) -> Float[Tensor, "G H"]:
    """How much each head counts the similarity in each group: one group a head, by turns, the later heads more."""
    head = torch.arange(heads)
    return (head % max(1, n_groups) == torch.arange(n_groups).unsqueeze(1)) * 4.0 * (head + 1) / heads


def along_edges(similarity: Float[Tensor, "E G"], slopes: Float[Tensor, "G H"]) -> Float[Tensor, "E H"]:
    """What similarity adds over each edge, in single precision where products are taken in half: a sum of a few numbers is no product of matrices."""
    return (similarity.unsqueeze(-1) * slopes).sum(dim=1)
