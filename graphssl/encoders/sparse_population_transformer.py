"""Attention along the edges of a population graph, by PyTorch Geometric or by DGL."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.population_batch import PopulationBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.population_biases import along_edges, group_slopes
from graphssl.encoders.population_encoder import AbstractPopulationEncoder
from graphssl.errors import ConfigError
from graphssl.extras import require

Backend = Literal["pyg", "dgl"]


class SparsePopulationTransformer(AbstractPopulationEncoder):
    """Every patient attends to its neighbours in the graph and to itself, drawn to those who are alike.

    Its cost grows with the number of edges, where that of `PopulationTransformer` grows with the square of the number of patients; what is further
    away is heard of through more blocks. Both backends have the same weights and give the same values and first derivatives.

    Attention along edges is that of Dwivedi & Bresson (AAAI workshop 2021); the pull towards those who are alike is ours.

    DGL's `edge_softmax` gives wrong second derivatives, without an error: take PyTorch Geometric for second-order meta-learning.

    Args:
        width: Width of tokens and vectors.
        depth: Number of blocks over patients.
        heads: Attention heads; divides `width`.
        patient: What embeds a patient alone, such as `TimelineTransformer` or `MultimodalEncoder`: an encoder whose arguments are used, with new
            weights. The mean of its columns when left out, `PatientNetwork`.
        dropout: Dropout of attention and feed-forward outputs.
        backend: `"pyg"`, or `"dgl"` (the extra `dgl`).
        learn_bias: Whether the slopes of similarity are trained.
        edges: False leaves each patient only itself: the control without the graph.
        whole_limit: Patients up to which the population is embedded whole.
        fan_outs: How many neighbours of a patient, of its neighbours, and so on, are taken of a larger one.
        groups: Names of the groups of features by which patients are compared.

    Raises:
        ConfigError: If the heads do not divide the width, the backend is unknown, or there is no fan-out.
        MissingExtraError: If the backend is not installed.
    """

    slopes: Tensor

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        patient: AbstractEncoder | None = None,
        dropout: float = 0.1,
        backend: Backend = "pyg",
        learn_bias: bool = False,
        edges: bool = True,
        whole_limit: int = 20_000,
        fan_outs: Sequence[int] = (8, 4),
        groups: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if backend not in get_args(Backend):
            raise ConfigError(f"Expected the backend to be one of {', '.join(get_args(Backend))}; found {backend!r}.")
        if backend == "dgl":
            require("dgl", extra="dgl", purpose="pass messages with DGL")
        self.set_patients(patient, width, heads, dropout, edges, whole_limit, fan_outs, groups)
        self.depth, self.backend, self.learn_bias = depth, backend, learn_bias
        slopes = group_slopes(heads, len(self.groups))
        if learn_bias:
            self.slopes = nn.Parameter(slopes)
        else:
            self.register_buffer("slopes", slopes, persistent=False)
        self.blocks = nn.ModuleList(EdgeBlock(width, heads, dropout, backend) for _ in range(depth))

    def forward(self, batch: PopulationBatch) -> Embedding:
        """Embed a batch of patients; the tokens are those of a patient alone.

        Raises:
            ConfigError: If the batch has other records or groups.
        """
        self.check_population(batch)
        alone, patients, graph, place = self.flat(batch)
        similar = along_edges(graph.similarity, self.slopes)
        bias = torch.cat([similar, similar.new_zeros(len(patients), self.heads)])  # [E + M, H], to itself without
        itself = torch.arange(len(patients), device=patients.device).expand(2, -1)
        edge_index = torch.cat([graph.edge_index, itself], dim=1)
        for block in self.blocks:
            assert isinstance(block, EdgeBlock)
            patients = block.along(patients, edge_index, bias)
        return self.embedding(alone, patients.index_select(0, place))


class EdgeBlock(Block):
    """A block whose attention goes along edges.

    Args:
        width: Width of the patients' vectors.
        heads: Attention heads.
        dropout: Dropout of both outputs.
        backend: Who passes the messages.
    """

    def __init__(self, width: int, heads: int, dropout: float, backend: Backend) -> None:
        super().__init__(width, heads, dropout)
        self.attend = {"pyg": _attend_pyg, "dgl": _attend_dgl}[backend]

    def along(self, patients: Float[Tensor, "M D"], edge_index: Tensor, bias: Float[Tensor, "E H"]) -> Float[Tensor, "M D"]:
        """One round of attention along edges, each with a bias a head."""
        query, key, value = self.qkv(self.norm_attention(patients)).unflatten(-1, (3, self.heads, -1)).unbind(dim=1)  # each [M, H, D / H]
        mixed = self.attend(query * query.shape[-1] ** -0.5, key, value, edge_index, bias)
        patients = patients + self.drop(self.out(mixed.flatten(start_dim=1)))
        return patients + self.drop(self.feed(self.norm_feed(patients)))


def _attend_pyg(query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor, bias: Tensor) -> Float[Tensor, "M H D"]:
    from torch_geometric.utils import scatter, softmax

    source, target = edge_index
    logits = (query.index_select(0, target) * key.index_select(0, source)).sum(dim=-1) + bias
    share = softmax(logits, target, num_nodes=len(query))  # [E, H]
    return scatter(share.unsqueeze(-1) * value.index_select(0, source), target, dim=0, dim_size=len(query))


def _attend_dgl(query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor, bias: Tensor) -> Float[Tensor, "M H D"]:
    dgl = require("dgl", extra="dgl", purpose="pass messages with DGL")
    graph = dgl.graph(tuple(edge_index), num_nodes=len(query))
    logits = dgl.ops.u_dot_v(graph, key, query) + bias.unsqueeze(-1)  # [E, H, 1]
    share = dgl.ops.edge_softmax(graph, logits)
    mixed: Tensor = dgl.ops.u_mul_e_sum(graph, value, share)
    return mixed
