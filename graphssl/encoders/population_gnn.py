"""Message-passing networks over a population graph, for comparison."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.population_batch import PopulationBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.mlp import feed_forward
from graphssl.encoders.patient_messages import PatientGraph
from graphssl.encoders.population_encoder import AbstractPopulationEncoder
from graphssl.errors import ConfigError

Layer = Literal["gcn", "gat", "gin", "sage", "none"]


class PopulationGNN(AbstractPopulationEncoder):
    """Rounds of message passing between patients, each with normalisation before it and a residual around it; layers of PyTorch Geometric.

    | layer | is | reads similarity as |
    |---|---|---|
    | `gcn` | `GCNConv` (Kipf & Welling, ICLR 2017) | weights, the mean over groups without its negative part |
    | `gat` | `GATv2Conv` (Brody et al., ICLR 2022) | features of edges |
    | `gin` | `GINEConv` (Hu et al., ICLR 2020) | features of edges |
    | `sage` | `SAGEConv` (Hamilton et al., NeurIPS 2017) | nothing |
    | `none` | a feed-forward network on each patient alone | nothing |

    Args:
        width: Width of tokens and vectors.
        depth: Number of rounds.
        layer: See above.
        heads: Attention heads of `gat`; divides `width`.
        patient: What embeds a patient alone, such as `TimelineTransformer` or `MultimodalEncoder`: an encoder whose arguments are used, with new
            weights. The mean of its columns when left out, `PatientNetwork`.
        dropout: Dropout of what a round adds.
        edges: False leaves each patient only itself: the control without the graph.
        whole_limit: Patients up to which the population is embedded whole.
        fan_outs: How many neighbours of a patient, of its neighbours, and so on, are taken of a larger one.
        groups: Names of the groups of features by which patients are compared.

    Raises:
        ConfigError: If the heads do not divide the width, the layer is unknown, or there is no fan-out.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        layer: Layer = "gcn",
        heads: int = 4,
        patient: AbstractEncoder | None = None,
        dropout: float = 0.1,
        edges: bool = True,
        whole_limit: int = 20_000,
        fan_outs: Sequence[int] = (8, 4),
        groups: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if layer not in get_args(Layer):
            raise ConfigError(f"Expected the layer to be one of {', '.join(get_args(Layer))}; found {layer!r}.")
        self.set_patients(patient, width, heads, dropout, edges, whole_limit, fan_outs, groups)
        self.depth, self.layer = depth, layer
        self.layers = nn.ModuleList(self._make_layer() for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.drop = nn.Dropout(dropout)

    def forward(self, batch: PopulationBatch) -> Embedding:
        """Embed a batch of patients; the tokens are those of a patient alone.

        Raises:
            ConfigError: If the batch has other records or groups.
        """
        self.check_population(batch)
        alone, patients, graph, place = self.flat(batch)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            patients = patients + self.drop(F.gelu(self._pass(layer, norm(patients), graph)))
        return self.embedding(alone, patients.index_select(0, place))

    def _make_layer(self) -> nn.Module:
        if self.layer == "none":
            return feed_forward(self.width)
        from torch_geometric import nn as layers

        if self.layer == "gcn":
            return layers.GCNConv(self.width, self.width)
        if self.layer == "gat":
            return layers.GATv2Conv(self.width, self.width // self.heads, self.heads, edge_dim=len(self.groups), fill_value=0.0)
        if self.layer == "gin":
            return layers.GINEConv(feed_forward(self.width), train_eps=True, edge_dim=len(self.groups))
        return layers.SAGEConv(self.width, self.width)

    def _pass(self, layer: nn.Module, patients: Tensor, graph: PatientGraph) -> Tensor:
        similarity = {
            "none": (),
            "sage": (graph.edge_index,),
            "gcn": (graph.edge_index, graph.similarity.mean(dim=1).clamp(min=0)),
            "gat": (graph.edge_index, graph.similarity),
            "gin": (graph.edge_index, graph.similarity),
        }
        passed: Tensor = layer(patients, *similarity[self.layer])
        return passed
