"""A graph transformer over the patients of a population."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from graphssl.data.population_batch import Population, PopulationBatch
from graphssl.encoders.base import Embedding
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.population_biases import PatientBias, PatientBiasKind, Relations
from graphssl.encoders.population_encoder import AbstractPopulationEncoder
from graphssl.graphs.hops import hop_distances


class PopulationTransformer(AbstractPopulationEncoder):
    """Every patient attends to every training patient and to itself, drawn to those near and alike in the graph.

    It is Graphormer over patients (Pellegrini, Navab & Kazi, Medical Image Analysis 2023). Training patients are embedded as if nobody else existed.
    A new patient attends to them and to itself, never to another new one. Patients without a path to one another are not kept apart: that there is
    none is a distance like others. Each bias is switched by its name, so that what it is worth can be told by leaving it out.

    Args:
        width: Width of tokens and vectors.
        depth: Number of blocks over patients.
        heads: Attention heads; divides `width`.
        patient_depth: Number of blocks over the columns of a patient alone; without them its columns are averaged.
        dropout: Dropout of attention and feed-forward outputs.
        biases: What draws attention: `"hops"` in the graph, `"similarity"` of neighbours by group, `"in_links"` of whom is asked.
        max_hops: Longest distance that is told from no path at all.
        learn_bias: Whether the values of the biases are trained.
        edges: False leaves each patient only itself: the control without the graph.
        groups: Names of the groups of features by which patients are compared.
        numbers: Names of the continuous columns, in the order of the batch.
        categories: Categories of the other columns by name, in the order of the batch.
        n_pieces: Pieces of each number.

    Raises:
        ConfigError: If the heads do not divide the width, or a bias is unknown.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        patient_depth: int = 0,
        dropout: float = 0.1,
        biases: tuple[PatientBiasKind, ...] = ("hops", "similarity", "in_links"),
        max_hops: int = 8,
        learn_bias: bool = False,
        edges: bool = True,
        groups: Sequence[str] = (),
        numbers: Sequence[str] = (),
        categories: Mapping[str, Sequence[str]] | None = None,
        n_pieces: int = 16,
    ) -> None:
        super().__init__()
        self.set_patients(width, patient_depth, heads, dropout, edges, groups, numbers, categories, n_pieces)
        self.depth, self.biases, self.max_hops, self.learn_bias = depth, tuple(biases), max_hops, learn_bias
        self.bias = PatientBias(heads, self.biases, len(self.groups), max_hops, learned=learn_bias)
        self.blocks = nn.ModuleList(PatientBlock(width, heads, dropout) for _ in range(depth))

    def forward(self, batch: PopulationBatch) -> Embedding:
        """Embed a batch of patients; a token a column.

        Raises:
            ConfigError: If the batch has other columns or groups.
        """
        self.check_population(batch)
        return self._among_all(batch) if self.edges else self._alone(batch)

    def _alone(self, batch: PopulationBatch) -> Embedding:
        tokens, patients = self.patient(batch.patients)
        for block in self.blocks:
            patients = block(patients.unsqueeze(1), None).squeeze(1)
        return self.embedding(tokens, patients)

    def _among_all(self, batch: PopulationBatch) -> Embedding:
        population, attached = batch.population, batch.attached
        everybody, place = batch.with_everybody()
        tokens, patients = self.patient(everybody)
        known, new = patients.split([len(population), len(everybody) - len(population)])
        bias = self._bias(population)
        new_bias = self.bias(_attached_relations(batch, attached, self.max_hops)).squeeze(0)  # [H, S, N]
        for block in self.blocks:
            assert isinstance(block, PatientBlock)
            if len(new):
                new = block.visit(new, known, new_bias)
            known = block(known.unsqueeze(0), bias).squeeze(0)
        return self.embedding(tokens[place], torch.cat([known, new])[place])

    def _bias(self, population: Population) -> Float[Tensor, "1 H N N"]:
        """The bias among the population, made once unless it is trained."""
        relations = _relations(population, self.max_hops)
        if self.learn_bias:
            return self.bias(relations)
        return population.keep(f"bias {self.biases} {self.heads} {self.max_hops}", lambda: self.bias(relations))


class PatientBlock(Block):
    """A block over patients, which others may visit: they attend to the patients inside and to themselves, and leave nothing behind."""

    def visit(self, visitors: Float[Tensor, "S D"], patients: Float[Tensor, "N D"], bias: Float[Tensor, "H S N"]) -> Float[Tensor, "S D"]:
        """One round for visitors, before the patients' own."""
        visitors = visitors + self.drop(self.out(self._ask(self.norm_attention(visitors), self.norm_attention(patients), bias)))
        return visitors + self.drop(self.feed(self.norm_feed(visitors)))

    def _ask(self, visitors: Tensor, patients: Tensor, bias: Tensor) -> Tensor:
        query, own_key, own_value = self._split(visitors)  # each [H, S, D / H]
        _, key, value = self._split(patients)  # each [H, N, D / H]
        query = query * query.shape[-1] ** -0.5
        logits = torch.cat([query @ key.mT + bias, (query * own_key).sum(dim=-1, keepdim=True)], dim=-1)  # [H, S, N + 1]
        share = logits.softmax(dim=-1)
        return (share[..., :-1] @ value + share[..., -1:] * own_value).transpose(0, 1).flatten(start_dim=1)

    def _split(self, patients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.qkv(patients).unflatten(-1, (3, self.heads, -1)).permute(1, 2, 0, 3)
        return query, key, value


def _hops(population: Population, max_hops: int) -> Int[Tensor, "N N"]:
    return population.keep(f"hops {max_hops}", lambda: hop_distances(population.graph, max_hops=max_hops).to(torch.int8))


def _in_links(population: Population) -> Int[Tensor, "N"]:
    return population.keep("in_links", lambda: population.graph.in_links)


def _relations(population: Population, max_hops: int) -> Relations:
    """Those of all patients of a population."""
    source, target = population.graph.edge_index
    pairs = torch.stack([torch.zeros_like(source), target, source])
    return Relations(_hops(population, max_hops).unsqueeze(0), pairs, population.graph.similarity, _in_links(population).unsqueeze(0))


def _attached_relations(batch: PopulationBatch, attached: Tensor, max_hops: int) -> Relations:
    """Those of the attached patients of a batch to all of the population: a step to a neighbour, and on from there."""
    neighbors, similarity = batch.neighbors[attached], batch.similarity[attached]
    hops = _hops(batch.population, max_hops)
    nearest = torch.full((len(neighbors), len(hops)), max_hops, dtype=hops.dtype, device=hops.device)
    for k in range(neighbors.shape[1]):
        onward = torch.where(neighbors[:, k : k + 1] < 0, -1, hops[neighbors[:, k]])
        nearest = torch.where((onward >= 0) & (onward < nearest), onward, nearest)
    asking, rank = (neighbors >= 0).nonzero().unbind(dim=1)
    return Relations(
        torch.where(nearest < max_hops, nearest + 1, -1).unsqueeze(0),
        torch.stack([torch.zeros_like(asking), asking, neighbors[asking, rank]]),
        similarity[asking, rank],
        _in_links(batch.population).unsqueeze(0),
    )
