"""What the tests of encoders share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from jaxtyping import Bool
from torch import Tensor

from graphssl.atlases import simulated_atlas
from graphssl.data import ColumnTokenizer, ConnectomeBatch
from graphssl.datasets import simulate
from graphssl.encoders import AbstractFusion, Bilinear, Concatenation, CrossAttention, DynamicMetaEmbedding, Embedding, FiLM, GatedSum, Mean
from graphssl.graphs import ConnectomeBuilder, PopulationBuilder


@pytest.fixture(scope="session")
def regions_taken() -> Callable[..., ConnectomeBatch]:
    """The batch with its regions in another order, or some left out: `regions_taken(batch, index)`."""

    def take(batch: ConnectomeBatch, index: Sequence[int] | Tensor) -> ConnectomeBatch:
        index = torch.as_tensor(index)
        return replace(
            batch,
            weights=batch.weights[:, index][:, :, index],
            visible=batch.visible[:, index][:, :, index],
            mask=batch.mask[:, index],
            centroids=batch.centroids[:, index],
            networks=batch.networks[:, index],
        )

    return take


@pytest.fixture(scope="session")
def simulated() -> ConnectomeBatch:
    """Connectomes of twelve simulated subjects in an atlas with networks."""
    cohort = simulate([simulated_atlas(20)], n_subjects=12, sites=2, n_sources=100).cohort
    return ConnectomeBuilder().fit_transform(cohort)


@pytest.fixture(scope="session")
def in_networks() -> Callable[..., ConnectomeBatch]:
    """The batch with its regions in three networks by turns, every fifth in none."""

    def assign(batch: ConnectomeBatch) -> ConnectomeBatch:
        position = torch.arange(batch.mask.shape[1])
        networks = torch.where(position % 5 == 4, -1, position % 3)
        return replace(batch, networks=networks.expand(len(batch), -1), network_names=("default", "visual", "motor"))

    return assign


@pytest.fixture(scope="session")
def make_patients() -> Callable[..., pd.DataFrame]:
    """Factory of random patients with two numbers and two categories, some values missing: `make_patients(n, seed=0, prefix="p")`."""

    def make(n: int, seed: int = 0, prefix: str = "p") -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        table = pd.DataFrame({"age": rng.standard_normal(n), "dose": rng.standard_normal(n), "sex": rng.choice(["f", "m"], n)})
        table["ward"] = rng.choice(["a", "b", "c"], n)
        return table.mask(rng.random(table.shape) < 0.1).set_axis([f"{prefix}{i}" for i in range(n)])

    return make


@pytest.fixture(scope="session")
def population(make_patients: Callable[..., pd.DataFrame]) -> PopulationBuilder:
    """Thirty training patients, each with three neighbours it learns from; not everybody can be reached from everybody."""
    return PopulationBuilder(ColumnTokenizer(n_pieces=4), n_neighbors=3, symmetric=False).fit(make_patients(30))


@pytest.fixture(scope="session")
def random_sources() -> Callable[..., dict[str, Embedding]]:
    """Random embeddings of modalities by their widths: `random_sources(widths, seed, n=5)`, of three tokens, four, and so on."""

    def drawn(widths: Mapping[str, tuple[int, int]], seed: int, n: int = 5) -> dict[str, Embedding]:
        generator, found = torch.Generator().manual_seed(seed), {}
        for n_tokens, (name, (token, pooled)) in enumerate(widths.items(), start=3):
            mask = torch.arange(n_tokens) < torch.randint(1, n_tokens + 1, (n, 1), generator=generator)
            found[name] = Embedding(torch.randn(n, n_tokens, token, generator=generator), mask, torch.randn(n, pooled, generator=generator))
        return found

    return drawn


@pytest.fixture(scope="session")
def widths() -> dict[str, tuple[int, int]]:
    """Widths of tokens and of the pooled vector of three modalities."""
    return {"image": (6, 10), "table": (4, 4), "graph": (5, 7)}


@pytest.fixture(scope="session")
def presence() -> Bool[Tensor, "5 3"]:
    """Which of the three modalities each of five patients has."""
    return torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, False, True], [True, True, False]])


@pytest.fixture
def parts(random_sources: Callable[..., dict[str, Embedding]], widths: dict[str, tuple[int, int]]) -> dict[str, Embedding]:
    """Random embeddings of the three modalities of five patients."""
    return random_sources(widths, 0)


@pytest.fixture(scope="session")
def make_fusion(widths: dict[str, tuple[int, int]]) -> Callable[..., AbstractFusion]:
    """Factory of small fusions by name, of three modalities where no others are given, with the weights of seed 0: `make_fusion(form, of=…)`."""
    forms = {
        "concatenation": lambda: Concatenation(8),
        "mean": lambda: Mean(8),
        "gated_sum": lambda: GatedSum(8),
        "film": lambda: FiLM(8, "image", dynamic=False),
        "daft": lambda: FiLM(8, "table"),
        "cross_attention": lambda: CrossAttention(8, "table", heads=2),
        "bilinear": lambda: Bilinear(8, rank=3),
        "attention": lambda: DynamicMetaEmbedding(8, heads=2),
        "attention_of_tokens": lambda: DynamicMetaEmbedding(8, heads=2, layers=2, missing="token"),
        "softmax": lambda: DynamicMetaEmbedding(8, heads=2, gate="softmax"),
        "sigmoid": lambda: DynamicMetaEmbedding(8, heads=2, gate="sigmoid"),
    }

    def made(form: str, of: Mapping[str, tuple[int, int]] = widths) -> AbstractFusion:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return forms[form]().for_widths(of).eval()

    return made


@pytest.fixture
def table() -> pd.DataFrame:
    """Eight patients with two numbers and two categories, nothing missing."""
    values = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)).double() + 0.25
    return pd.DataFrame(
        {"age": values[:, 0].numpy(), "dose": values[:, 1].numpy(), "sex": ["f", "m"] * 4, "ward": list("aabbccaa")},
        index=[f"p{k}" for k in range(8)],
    )
