"""A graph transformer over the patients of a population."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from graphssl.data.population_batch import Population, PopulationBatch
from graphssl.encoders.base import AbstractEncoder, Embedding, joined
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.population_biases import PatientBias, PatientBiasKind, Relations
from graphssl.encoders.population_encoder import AbstractPopulationEncoder, taken
from graphssl.graphs.hops import hop_distances
from graphssl.graphs.induced import edges_among, hops_among


class PopulationTransformer(AbstractPopulationEncoder):
    """Every patient attends to every training patient and to itself, drawn to those near and alike in the graph.

    It is Graphormer over patients (Pellegrini, Navab & Kazi, Medical Image Analysis 2023). Training patients are embedded as if nobody else existed.
    A new patient attends to them and to itself, never to another new one. Patients without a path to one another are not kept apart: that there is
    none is a distance like others. Each bias is switched by its name, so that what it is worth can be told by leaving it out.

    In a population of more than `whole_limit` patients each attends to a sample of its neighbourhood only, and those in it to one another, with
    distances along the edges among them. The weights are the same.

    Args:
        width: Width of tokens and vectors.
        depth: Number of blocks over patients.
        heads: Attention heads; divides `width`.
        patient: What embeds a patient alone, such as `TimelineTransformer` or `MultimodalEncoder`: an encoder whose arguments are used, with new
            weights. The mean of its columns when left out, `PatientNetwork`.
        dropout: Dropout of attention and feed-forward outputs.
        biases: What draws attention: `"hops"` in the graph, `"similarity"` of neighbours by group, `"in_links"` of whom is asked.
        max_hops: Longest distance that is told from no path at all.
        learn_bias: Whether the values of the biases are trained.
        edges: False leaves each patient only itself: the control without the graph.
        whole_limit: Patients up to which the population is embedded whole.
        fan_outs: How many neighbours of a patient, of its neighbours, and so on, are taken of a larger one.
        groups: Names of the groups of features by which patients are compared.

    Raises:
        ConfigError: If the heads do not divide the width, a bias is unknown, or there is no fan-out.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        patient: AbstractEncoder | None = None,
        dropout: float = 0.1,
        biases: tuple[PatientBiasKind, ...] = ("hops", "similarity", "in_links"),
        max_hops: int = 8,
        learn_bias: bool = False,
        edges: bool = True,
        whole_limit: int = 4000,
        fan_outs: Sequence[int] = (8, 4),
        groups: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.set_patients(patient, width, heads, dropout, edges, whole_limit, fan_outs, groups)
        self.depth, self.biases, self.max_hops, self.learn_bias = depth, tuple(biases), max_hops, learn_bias
        self.bias = PatientBias(heads, self.biases, len(self.groups), max_hops, learned=learn_bias)
        self.blocks = nn.ModuleList(PatientBlock(width, heads, dropout) for _ in range(depth))
        self._kept: tuple[weakref.ref[Population], tuple[tuple[int, int], ...], tuple[Embedding, list[Tensor]]] | None = None

    def forward(self, batch: PopulationBatch) -> Embedding:
        """Embed a batch of patients; the tokens are those of a patient alone.

        Raises:
            ConfigError: If the batch has other records or groups.
        """
        self.check_population(batch)
        if not self.edges:
            return self._alone(batch)
        return self._among_all(batch) if self.is_whole(batch) else self._among_sampled(batch)

    def __getstate__(self) -> dict[str, Any]:
        """Copies do not take along what is kept of a population."""
        return {**self.__dict__, "_kept": None}

    def _alone(self, batch: PopulationBatch) -> Embedding:
        alone, patients = self.each(batch.patients)
        for block in self.blocks:
            patients = block(patients.unsqueeze(1), None).squeeze(1)
        return self.embedding(alone, patients)

    def _among_all(self, batch: PopulationBatch) -> Embedding:
        alone, rounds = self._population(batch)
        attached = batch.attached
        patients = rounds[-1]
        if bool(attached.any()):
            new_alone, new = self.each(batch.patients[attached])
            bias = self.bias(_attached_relations(batch, attached, self.max_hops)).squeeze(0)  # [H, S, N]
            for block, known in zip(self.blocks, rounds, strict=False):
                assert isinstance(block, PatientBlock)
                new = block.visit(new, known, bias)
            alone, patients = joined([alone, new_alone]), torch.cat([patients, new])
        return self.embedding(taken(alone, batch.places), patients.index_select(0, batch.places))

    def _population(self, batch: PopulationBatch) -> tuple[Embedding, list[Float[Tensor, "N D"]]]:
        """The population's patients alone, and what they are before the first block and after each.

        Outside of training they are the same for every batch that hides nothing of them, and are kept until weights or population change.
        """
        if torch.is_grad_enabled() or self.training or bool(batch.hidden[~batch.attached].any()):
            return self._rounds(batch)
        key = tuple((weight.data_ptr(), weight._version) for weight in self.parameters())
        if self._kept is None or self._kept[0]() is not batch.population or self._kept[1] != key:
            self._kept = (weakref.ref(batch.population), key, self._rounds(batch))
        return self._kept[2]

    def _rounds(self, batch: PopulationBatch) -> tuple[Embedding, list[Tensor]]:
        alone, patients = self.each(batch.read())
        bias, rounds = self._bias(batch.population), [patients]
        for block in self.blocks:
            rounds.append(block(rounds[-1].unsqueeze(0), bias).squeeze(0))
        return alone, rounds

    def _bias(self, population: Population) -> Float[Tensor, "1 H N N"]:
        """The bias among the population, made once unless it is trained."""
        relations = _relations(population, self.max_hops)
        if self.learn_bias:
            return self.bias(relations)
        return population.keep(f"bias {self.biases} {self.heads} {self.max_hops}", lambda: self.bias(relations))

    def _among_sampled(self, batch: PopulationBatch) -> Embedding:
        nodes = _each_once(self.neighborhoods(batch).nodes)
        alone, patients = self.alone(batch, nodes)  # patients [B, T, D]
        bias = self.bias(_sampled_relations(batch, nodes, self.max_hops))  # [B, H, T, T]
        itself = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
        heard = (nodes >= 0).unsqueeze(1) | itself  # an attached patient is heard by itself alone
        bias = bias.masked_fill(~heard.unsqueeze(1), float("-inf"))
        for block in self.blocks:
            patients = block(patients, bias)
        return self.embedding(alone, patients[:, 0])


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


def _each_once(nodes: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Neighbourhoods in which every patient stands once: -1 in the place of repetitions."""
    same = nodes.unsqueeze(2) == nodes.unsqueeze(1)
    return torch.where(same.tril(diagonal=-1).any(dim=2), -1, nodes)


def _sampled_relations(batch: PopulationBatch, nodes: Int[Tensor, "B T"], max_hops: int) -> Relations:
    """Those among the patients of each neighbourhood, by the edges among them."""
    graph = batch.population.graph
    edges = edges_among(batch.population, nodes)
    own = (nodes.unsqueeze(2) == batch.neighbors.unsqueeze(1)) & (batch.neighbors >= 0).unsqueeze(1)  # [B, T, K], those of the attached
    links = edges >= 0
    links[:, 0] |= own.any(dim=2)
    pairs = links.nonzero().T
    sets, asking, asked = pairs
    edge = edges[sets, asking, asked]
    similarity = graph.similarity[edge.clamp(min=0)] if len(graph.neighbors) else graph.similarity.new_zeros(len(edge), graph.similarity.shape[1])
    first = edge < 0
    if bool(first.any()):
        rank = own[sets[first], asked[first]].float().argmax(dim=1)
        similarity[first] = batch.similarity[sets[first], rank]
    in_links = torch.where(nodes >= 0, _in_links(batch.population)[nodes.clamp(min=0)], 0)
    return Relations(hops_among(links, max_hops), pairs, similarity, in_links)
