"""What encoders of population graphs share: a patient alone first, then what it learns from other patients."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from graphssl.data.batch import Batch
from graphssl.data.builder import AbstractBuilder
from graphssl.data.multimodal import MultimodalBatch
from graphssl.data.population_batch import Patients, PopulationBatch
from graphssl.encoders.base import AbstractEncoder, Embedding, check_heads, joined, made_of, written
from graphssl.encoders.multimodal import MultimodalEncoder
from graphssl.encoders.patient_messages import PatientGraph, trees, whole_graph
from graphssl.encoders.patient_network import PatientNetwork
from graphssl.errors import ConfigError
from graphssl.graphs.batch_neighborhoods import BatchNeighborhoods, batch_neighborhoods
from graphssl.graphs.population_builder import PopulationBuilder


class AbstractPopulationEncoder(AbstractEncoder):
    """An encoder of patients who learn from others.

    Another encoder embeds each patient alone: its columns, its bins of time, its events, or several kinds of data (`MultimodalEncoder`), images among
    them. Its vectors are what patients learn of one another; its tokens hear of the patient's neighbours too, so that a hidden value can be told from
    them. What a patient gets does not depend on which other new patients are in the batch: they are attached to the population and give nothing.

    A population of up to `whole_limit` patients is embedded whole in every step. Of a larger one, each patient of the batch hears of a sample of its
    neighbours, of theirs, and so on: drawn in training, the most alike ones outside of it. Where images are trained end to end, `whole_limit=0` has
    only those decoded and embedded that a step has drawn.

    Attributes:
        patient: What embeds a patient alone.
        groups: Names of the groups of features by which patients are compared.
        edges: Whether patients learn from one another.
        whole_limit: See above.
        fan_outs: How many neighbours are taken at each hop.
    """

    patient: AbstractEncoder
    groups: tuple[str, ...]
    edges: bool
    whole_limit: int
    fan_outs: tuple[int, ...]
    rows_at_once = 512

    @abstractmethod
    def forward(self, batch: PopulationBatch) -> Embedding:
        """Embed a batch of patients; the tokens are those of a patient alone."""

    def set_patients(
        self,
        patient: AbstractEncoder | Mapping[str, Any] | None,
        width: int,
        heads: int,
        dropout: float,
        edges: bool,
        whole_limit: int,
        fan_outs: Sequence[int],
        groups: Sequence[str],
    ) -> None:
        """Keep what is common and make the part for a patient alone, for constructors.

        Args:
            patient: An encoder whose arguments to use, or these as `arguments` writes them; `PatientNetwork` when left out.
            width: Width of what patients learn of one another.
            heads: Attention heads.
            dropout: Dropout of attention and feed-forward outputs.
            edges: Whether patients learn from one another.
            whole_limit: Patients up to which the population is embedded whole.
            fan_outs: How many neighbours are taken at each hop of a larger one.
            groups: Names of the groups of features by which patients are compared.

        Raises:
            ConfigError: If the heads do not divide the width, or there is no fan-out.
        """
        check_heads(width, heads)
        if not fan_outs or min(fan_outs) < 1:
            raise ConfigError(f"Expected at least one fan-out, each at least 1; found {list(fan_outs)}.")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.edges, self.groups = edges, tuple(groups)
        self.whole_limit, self.fan_outs = whole_limit, tuple(fan_outs)
        self.chosen = patient is not None
        given = PatientNetwork(width, heads=heads, dropout=dropout) if patient is None else patient
        self.patient = made_of(AbstractEncoder, given, "an encoder of patients")  # type: ignore[type-abstract]
        self.token_width, self.pooled_width = self.patient.token_width, width
        self.norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(self.token_width)
        self.heard = nn.Linear(width, self.token_width)
        self.into = nn.Identity() if self.patient.pooled_width == width else nn.Linear(self.patient.pooled_width, width)

    @property
    def reader(self) -> AbstractEncoder:
        """What embeds a patient alone."""
        return self.patient

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as plain values: what embeds a patient alone by its class and arguments, where it was chosen."""
        own = {name: None if name == "patient" else value for name, value in super().arguments().items()}
        return {**own, "patient": written(self.patient) if self.chosen else None}

    def default_builder(self) -> AbstractBuilder:
        """A `PopulationBuilder` of what a patient alone is embedded from."""
        return PopulationBuilder(self.patient.default_builder())

    def for_builder(self, builder: AbstractBuilder) -> "AbstractPopulationEncoder":
        """One of the same size for what a population was fitted on, with new random weights.

        Raises:
            ConfigError: If the builder makes other batches, or what embeds a patient alone reads other records.
        """
        if not isinstance(builder, PopulationBuilder):
            raise ConfigError(
                f"Expected PopulationBuilder before {type(self).__name__}, found {type(builder).__name__}. Give builder=PopulationBuilder()."
            )
        tokenizer = builder.tokenizer_
        if not isinstance(tokenizer, type(self.patient.default_builder())):
            raise ConfigError(
                f"Expected patients made by {type(self.patient.default_builder()).__name__} for {type(self.patient).__name__} in a "
                f"{type(self).__name__}, found {type(tokenizer).__name__}. Give patient=…, an encoder of what the population's tokenizer makes."
            )
        patient, groups = self.patient.for_builder(tokenizer), builder.layout()["groups"]
        return type(self)(**{**self.arguments(), "patient": patient, "groups": groups})

    def is_whole(self, batch: PopulationBatch) -> bool:
        """Whether the population of a batch is embedded whole."""
        return len(batch.population) <= self.whole_limit

    def neighborhoods(self, batch: PopulationBatch) -> BatchNeighborhoods:
        """Sampled neighbourhoods of the patients of a batch, drawn as dropout is; of a share of one those that the whole batch would have."""
        if batch.share_of is None:
            return batch_neighborhoods(batch, self.fan_outs, torch.default_generator if self.training else None)
        whole, rows, generator = batch.share_of
        found = batch_neighborhoods(whole, self.fan_outs, generator if self.training else None)
        return BatchNeighborhoods(found.nodes[rows], found.parents, found.similarity[rows])

    def once(self, batch: Batch) -> Batch:
        """The batch, and its population, with the embeddings of frozen encoders in place of what they read.

        Args:
            batch: All rows of the training.
        """
        if not isinstance(batch, PopulationBatch) or not isinstance(self.patient, MultimodalEncoder) or not self.patient.frozen:
            return batch
        patient, before = self.patient, batch.population
        population = before.keep(f"once {_digest(patient)}", lambda: before.with_patients(_embedded(patient, before.patients)))
        if batch.patients is before.patients:
            return replace(batch, patients=population.patients, population=population)
        if batch.changed or bool(batch.hidden.any()):
            return replace(batch, patients=_embedded(patient, batch.patients), population=population)
        known = [population.patients[batch.nodes[~batch.attached]]]
        new = [_embedded(patient, batch.patients[batch.attached])] if bool(batch.attached.any()) else []
        order = torch.cat([(~batch.attached).nonzero().flatten(), batch.attached.nonzero().flatten()]).argsort()
        return replace(batch, patients=population.patients.cat([*known, *new])[order], population=population)

    def each(self, patients: Patients) -> tuple[Embedding, Float[Tensor, "B D"]]:
        """Each patient alone: its embedding, and the vector that others learn from.

        Patients of several modalities are taken as rows, so that images of a population are not kept beyond the memory of their builder; outside of
        training a few at a time.
        """
        if isinstance(patients, MultimodalBatch):
            everybody = torch.arange(len(patients), device=patients.device)
            at_once = len(patients) if torch.is_grad_enabled() or self.training else self.patient.rows_at_once
            alone = joined([self.patient(patients[rows]) for rows in everybody.split(max(1, at_once))])
        else:
            alone = self.patient(patients)
        return alone, self.into(alone.pooled)

    def alone(self, batch: PopulationBatch, nodes: Int[Tensor, "B T"]) -> tuple[Embedding, Float[Tensor, "B T D"]]:
        """Each patient alone: those of the batch, and vectors of the members of their neighbourhoods; zero for nobody.

        Args:
            batch: The batch.
            nodes: Places in the population; -1 for nobody, and for an attached patient itself, which comes first.
        """
        members, place = nodes.clamp(min=0).unique(return_inverse=True)
        attached = batch.attached
        place = torch.where(nodes >= 0, place, -1)
        place[attached, 0] = len(members) + torch.arange(int(attached.sum()), device=nodes.device)
        everybody, vectors = self.each(batch.patients.cat([batch.read(members), batch.patients[attached]]))
        vectors = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])  # the last one is nobody
        place = torch.where(place < 0, len(vectors) - 1, place)
        return taken(everybody, place[:, 0]), vectors.index_select(0, place.flatten()).view(*nodes.shape, -1)

    def flat(self, batch: PopulationBatch) -> tuple[Embedding, Float[Tensor, "M D"], PatientGraph, Int[Tensor, "B"]]:
        """The batch's patients alone; vectors of all patients who pass messages, each embedded alone; their graph, and the batch's places in it.

        Without `edges` these are the patients of the batch, and there is none.
        """
        if not self.edges:
            alone, patients = self.each(batch.patients)
            nothing = PatientGraph(batch.nodes.new_zeros(2, 0), batch.similarity.new_zeros(0, len(self.groups)), len(batch))
            return alone, patients, nothing, torch.arange(len(batch), device=batch.device)
        if self.is_whole(batch):
            everybody, place = batch.with_everybody()
            alone, patients = self.each(everybody)
            return taken(alone, place), patients, whole_graph(batch), place
        found = self.neighborhoods(batch)
        alone, patients = self.alone(batch, found.nodes)
        first = torch.arange(0, found.nodes.numel(), found.nodes.shape[1], device=batch.device)
        return alone, patients.flatten(0, 1), trees(found), first

    def embedding(self, alone: Embedding, patients: Float[Tensor, "B D"]) -> Embedding:
        """The embedding of patients alone and of what they have learned `patients`."""
        pooled = self.norm(patients)
        return Embedding(self.token_norm(alone.tokens + self.heard(pooled).unsqueeze(1)), alone.mask, pooled)

    def check_population(self, batch: PopulationBatch) -> None:
        """Check that a batch is one of a population compared by the encoder's groups; its records are checked where they are read.

        Raises:
            ConfigError: If it is not.
        """
        if not isinstance(batch, PopulationBatch):
            raise ConfigError(f"Expected patients of a population before a {type(self).__name__}, found a {type(batch).__name__}.")
        if batch.population.graph.groups != self.groups:
            raise ConfigError(
                f"Expected a population compared by the groups {list(self.groups)}, found {list(batch.population.graph.groups)}. "
                "Make the encoder with for_builder(builder)."
            )


def _embedded(encoder: MultimodalEncoder, patients: Any) -> Any:
    return encoder.once(patients)


def _digest(encoder: MultimodalEncoder) -> str:
    """What tells the frozen weights of an encoder from others."""
    digest = hashlib.sha256()
    for name in sorted(encoder.frozen):
        for key, weight in sorted(encoder.encoders[name].state_dict().items()):
            digest.update(f"{name} {key}".encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def taken(embedding: Embedding, rows: Int[Tensor, "b"]) -> Embedding:
    """Some rows of an embedding."""
    tokens, mask, pooled = (part.index_select(0, rows) for part in (embedding.tokens, embedding.mask, embedding.pooled))
    return Embedding(tokens, mask, pooled)
