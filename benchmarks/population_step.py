"""One pre-training step over a whole population: ours against the published dense encoding of paths, and PyTorch Geometric's layers.

    python benchmarks/population_step.py [--nodes 564 1000] [--large 5000] [--repeats 3] [--json]

Patients have the twelve columns of TADPOLE, three groups of them, and five neighbours; four layers of width 64 with eight heads, dropout 0.4. A step
hides a tenth of the values, embeds everybody, predicts what is hidden, and goes back through it all to AdamW.

- `published` is Graphormer over patients with an encoding of every path: each of up to twenty hops between any two patients has a vector a feature of
  its edge, a matrix a hop, and their mean is a bias of attention. It is written after the description of Pellegrini et al. (Medical Image Analysis
  2023), with their node embeddings and losses; searching the paths is not timed.
  Their own code, run once on one thread for 564 and 1,000 patients, is recorded: 6.15 and 21.2 CPU seconds, 2.4 and 6.7 GB.
- `TransformerConv` and `GPSConv` of PyTorch Geometric stand in the place of our blocks, on the same graph with similarities as features of edges;
  GPSConv attends to everybody besides. `ours sparse` attends along edges only, as `TransformerConv` does.

`equal` says that `ours sparse` without similarities and `TransformerConv` without features of edges give the same values with the same weights. Each
measurement runs in a process of its own: CPU seconds of one thread of a second step, and the peak of memory on top of what it started with; the
median of the repeats counts. `published` needs about 3 GiB at 564 patients and 7 at 1,000.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})  # before torch is loaded

import numpy as np
import pandas as pd
import torch
from measure.forked import measure
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GINEConv, GPSConv, TransformerConv

from graphssl.data import ColumnTokenizer, PopulationBatch
from graphssl.encoders import AbstractPopulationEncoder, Embedding, PatientNetwork, PopulationTransformer, SparsePopulationTransformer
from graphssl.encoders.graph_transformer import Block
from graphssl.encoders.mlp import feed_forward
from graphssl.graphs import FeatureGroup, PopulationBuilder
from graphssl.objectives import MaskedColumns

WIDTH, DEPTH, HEADS, DROPOUT, MASKED = 64, 4, 8, 0.4, 0.1
MAX_HOPS = 20
RECORDED = {564: (6.15, 2300), 1000: (21.2, 6400)}
CLASSES = (3, 19, 107, 11, 68)
SCORES = ("cdr", "adas", "mmse", "ravlt")
VOLUMES = tuple(f"volume{i}" for i in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="*", default=[564, 1000])
    parser.add_argument("--large", type=int, default=5000, help="patients of a step of ours alone; 0 for none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the record as one line of JSON, last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = [part for n in arguments.nodes for part in compare(n, arguments.repeats)]
    for n, (seconds, mib) in RECORDED.items():
        for part in parts:
            if part["name"].endswith(f" {n}") and part["peer"] == "published":
                report({**part, "peer": "recorded", "peer_seconds": seconds, "peer_mib": mib, "ratio": round(seconds / part["ours_seconds"], 2)})
    if arguments.large:
        seconds, mib = cost(partial(ours_step, ours, population(arguments.large)), 1)
        print(f"{arguments.large:6d} patients   ours {seconds:9.3f} s {mib:6.0f} MiB   alone", flush=True)
    gap = difference(population(200))  # after the forks: a process that has run autograd must not be forked
    print(f"largest relative difference of TransformerConv from ours with the same weights: {gap:.1e}")
    parts = [{**part, "equal": gap < 1e-4} for part in parts]
    if arguments.json:
        print(json.dumps({**min((p for p in parts if p["peer"] == "published"), key=lambda part: part["ratio"]), "parts": parts}))


def compare(n: int, repeats: int) -> list[dict[str, Any]]:
    batch = population(n)
    published = published_input(batch)
    sides: dict[str, Callable[[], float]] = {name: partial(ours_step, make, batch) for name, make in ENCODERS.items()}
    sides["published"] = partial(published_step, *published)
    costs = {name: cost(step, repeats) for name, step in sides.items()}
    mine, mib = costs["ours"]
    parts = []
    for peer, (seconds, peer_mib) in costs.items():
        if peer != "ours":
            part = {
                "name": f"population_step {n}",
                "peer": peer,
                "ours_seconds": round(mine, 4),
                "peer_seconds": round(seconds, 4),
                "ratio": round(seconds / mine, 2),
            }
            parts.append({**part, "ours_mib": round(mib), "peer_mib": round(peer_mib)})
            report(parts[-1])
    return parts


def report(part: dict[str, Any]) -> None:
    print(
        f"{part['name']:<22} ours {part['ours_seconds']:7.3f} s {part['ours_mib']:5d} MiB   {part['peer']:<16} {part['peer_seconds']:7.3f} s "
        f"{part['peer_mib']:5d} MiB   ratio {part['ratio']:6.2f}",
        flush=True,
    )


def cost(step: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Median CPU seconds and largest MiB."""
    found = [measure(step) for _ in range(repeats)]
    return statistics.median(seconds for seconds, _, _ in found), max(mib for _, _, mib in found)


# The data


def table(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {"age": rng.uniform(55, 91, n), "sex": rng.choice(["f", "m"], n), "apoe4": rng.choice(["0", "1", "2"], n)}
    columns |= {name: rng.integers(0, top, n).astype(float) for name, top in zip(SCORES, CLASSES[1:], strict=True)}
    columns |= {name: rng.random(n) for name in VOLUMES}
    return pd.DataFrame(columns).set_axis([f"p{i}" for i in range(n)])


def population(n: int) -> PopulationBatch:
    groups = [
        FeatureGroup("demographics", ["age", "sex", "apoe4"], "agreement", tolerance={"age": 2}),
        FeatureGroup("cognition", list(SCORES), "euclidean", scaling="none", length=116),
        FeatureGroup("imaging", list(VOLUMES), "sigmoid", scaling="none"),
    ]
    return PopulationBuilder(ColumnTokenizer(n_pieces=16), groups, n_neighbors=5, symmetric=False).fit_transform(table(n))


# Ours, and the layers of PyTorch Geometric


class Peer(AbstractPopulationEncoder):
    """Our patient part and our decoders with other layers between.

    Args:
        layers: Layers that take patients, edges and features of edges.
        batch: Patients whose columns and groups it reads.
    """

    def __init__(self, layers: list[nn.Module], batch: PopulationBatch) -> None:
        super().__init__()
        self.set_patients(like(batch)["patient"], WIDTH, HEADS, DROPOUT, True, 10**9, (1,), like(batch)["groups"])
        self.layers = nn.ModuleList(layers)

    def forward(self, batch: PopulationBatch) -> Embedding:
        tokens, patients, graph, place = self.flat(batch)
        itself = torch.arange(len(patients)).expand(2, -1)
        edge_index = torch.cat([graph.edge_index, itself], dim=1)
        edge_attr = torch.cat([graph.similarity, graph.similarity.new_zeros(len(patients), len(self.groups))])
        for layer in self.layers:
            patients = layer(patients, edge_index, edge_attr)
        return self.embedding(tokens, patients[place])


class ConvBlock(Block):
    """Our block with `TransformerConv` in the place of its attention."""

    def __init__(self, edge_dim: int | None = 3) -> None:
        super().__init__(WIDTH, HEADS, DROPOUT)
        del self.qkv
        self.conv = TransformerConv(WIDTH, WIDTH // HEADS, HEADS, edge_dim=edge_dim, root_weight=False)
        self.edge_dim = edge_dim

    def forward(self, patients: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        mixed = self.conv(self.norm_attention(patients), edge_index, edge_attr if self.edge_dim else None)
        patients = patients + self.drop(self.out(mixed))
        return patients + self.drop(self.feed(self.norm_feed(patients)))

    def take(self, block: Block) -> None:
        """Take the weights of a block of ours."""
        for linear, weight, offset in zip(
            (self.conv.lin_query, self.conv.lin_key, self.conv.lin_value), block.qkv.weight.chunk(3), block.qkv.bias.chunk(3), strict=True
        ):
            linear.load_state_dict({"weight": weight, "bias": offset})
        self.load_state_dict({name: value for name, value in block.state_dict().items() if not name.startswith("qkv")}, strict=False)


class GPSBlock(nn.Module):
    """`GPSConv` with edge features read by `GINEConv`, its own attention to everybody, normalisation and feed-forward layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GPSConv(WIDTH, GINEConv(feed_forward(WIDTH), edge_dim=3), heads=HEADS, dropout=DROPOUT, act="gelu")

    def forward(self, patients: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        return self.conv(patients, edge_index, edge_attr=edge_attr)


def like(batch: PopulationBatch) -> dict[str, Any]:
    """What encoders are made for: the columns and groups of a batch."""
    numbers, categories = ("age", *SCORES, *VOLUMES), {"sex": ("f", "m"), "apoe4": ("0", "1", "2")}
    patient = PatientNetwork(WIDTH, 0, HEADS, DROPOUT, numbers, categories, batch.pieces.shape[2])
    return {"patient": patient, "groups": batch.population.graph.groups}


def ours(batch: PopulationBatch) -> AbstractPopulationEncoder:
    return PopulationTransformer(WIDTH, DEPTH, HEADS, dropout=DROPOUT, whole_limit=10**9, **like(batch))


def sparse(batch: PopulationBatch) -> AbstractPopulationEncoder:
    return SparsePopulationTransformer(WIDTH, DEPTH, HEADS, dropout=DROPOUT, **like(batch))


def transformer_conv(batch: PopulationBatch) -> AbstractPopulationEncoder:
    return Peer([ConvBlock() for _ in range(DEPTH)], batch)


def gps_conv(batch: PopulationBatch) -> AbstractPopulationEncoder:
    return Peer([GPSBlock() for _ in range(DEPTH)], batch)


ENCODERS = {"ours": ours, "ours sparse": sparse, "TransformerConv": transformer_conv, "GPSConv": gps_conv}


def ours_step(make: Callable[[PopulationBatch], AbstractPopulationEncoder], batch: PopulationBatch) -> float:
    torch.manual_seed(0)
    encoder = make(batch)
    objective = MaskedColumns(MASKED).prepare(encoder)
    return timed([*encoder.parameters(), *objective.parameters()], lambda seed: objective(encoder, batch, torch.Generator().manual_seed(seed)).total)


def timed(weights: list[nn.Parameter], loss: Callable[[int], Tensor]) -> float:
    """CPU seconds of the second of two steps."""
    optimizer = torch.optim.AdamW(weights)
    for seed in range(2):
        start = time.process_time()
        optimizer.zero_grad()
        loss(seed).backward()
        optimizer.step()
    return time.process_time() - start


# The published encoding


def published_input(batch: PopulationBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Discrete columns as numbers of their values, continuous ones, hops between any two patients, and features of the edges on the way.

    One shortest path counts. Features of edges are the similarities as whole numbers, apart from one another; 0 stands where there is no edge.
    """
    graph = batch.population.graph
    n = len(graph)
    source, target = graph.edge_index.numpy()
    hops, before = shortest_path(csr_array((np.ones(len(source)), (target, source)), shape=(n, n)), unweighted=True, return_predecessors=True)
    spatial = torch.from_numpy(np.where(np.isfinite(hops), hops, MAX_HOPS + 1).clip(max=MAX_HOPS + 1)).long()
    codes = torch.zeros(n, n, 3, dtype=torch.long)
    scales = torch.tensor([3.0, 100.0, 100.0])
    codes[target, source] = (graph.similarity * scales).round().long().clamp(min=0) + torch.tensor([1, 5, 106])
    paths = torch.zeros(n, n, MAX_HOPS, 3, dtype=torch.long)
    start = torch.arange(n).unsqueeze(1)
    at = torch.arange(n).expand(n, -1).clone()  # from each patient asked, back along the path to who asks
    reached = (spatial > 0) & (spatial <= MAX_HOPS)
    for _ in range(MAX_HOPS):
        previous = torch.from_numpy(before)[start, at].long()
        step = reached & (previous >= 0)
        place = spatial[start, at] - 1
        rows, columns = step.nonzero().unbind(1)
        paths[rows, columns, place[rows, columns]] = codes[previous[rows, columns], at[rows, columns]]
        at = torch.where(step, previous, at)
    values = table(n)
    discrete = torch.from_numpy(np.column_stack([values["sex"] == "m", values["apoe4"].astype(int), *(values[name] for name in SCORES)]).astype(int))
    continuous = values[["age", *VOLUMES]]
    scaled = (continuous - continuous.min()) / (continuous.max() - continuous.min())
    return discrete, torch.tensor(scaled.to_numpy(dtype=np.float32)), spatial, paths


class PublishedEncoder(nn.Module):
    """Graphormer over patients: vectors of columns and of in-degree, a virtual node, and biases by distance and by the edges of paths."""

    def __init__(self) -> None:
        super().__init__()
        self.discrete, self.continuous = nn.Embedding(512, WIDTH // 2), nn.Linear(6, WIDTH // 2)
        self.degrees = nn.ModuleList(nn.Embedding(512, WIDTH) for _ in range(2))
        self.virtual, self.to_virtual = nn.Parameter(torch.randn(1, WIDTH)), nn.Parameter(torch.randn(HEADS))
        self.distance, self.edge = nn.Embedding(512, HEADS), nn.Embedding(512, HEADS, padding_idx=0)
        self.by_hop = nn.Parameter(0.02 * torch.randn(MAX_HOPS, HEADS, HEADS))
        self.blocks = nn.ModuleList(PublishedBlock() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.heads = nn.ModuleList([*(nn.Linear(WIDTH, size) for size in CLASSES), nn.Linear(WIDTH, 6)])

    def forward(self, discrete: Tensor, continuous: Tensor, spatial: Tensor, paths: Tensor) -> list[Tensor]:
        degree = torch.full((len(discrete),), 5)
        nodes = torch.cat([self.discrete(discrete).sum(dim=1), self.continuous(continuous)], dim=1) + sum(table(degree) for table in self.degrees)
        nodes = torch.cat([self.virtual, nodes])
        bias = self._bias(spatial, paths)
        for block in self.blocks:
            nodes = block(nodes, bias)
        nodes = self.norm(nodes)[1:]
        return [head(nodes) for head in self.heads]

    def _bias(self, spatial: Tensor, paths: Tensor) -> Tensor:
        n = len(spatial)
        hops = self.edge(paths).mean(dim=-2)  # [n, n, hops, heads], of the features of each edge
        each = hops.permute(2, 0, 1, 3).flatten(1, 2) @ self.by_hop  # [hops, n · n, heads], a matrix a hop
        along = each.unflatten(1, (n, n)).sum(dim=0) / spatial.clamp(1, MAX_HOPS).unsqueeze(-1)
        inner = (self.distance(spatial) + along).permute(2, 0, 1)
        inner = inner.masked_fill(spatial > MAX_HOPS, float("-inf"))
        bias = self.to_virtual.view(-1, 1, 1).expand(-1, n + 1, n + 1).clone()
        bias[:, 1:, 1:] = inner
        return bias


class PublishedBlock(nn.Module):
    """Attention with a bias and feed-forward, normalisation before each; as wide inside as outside."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, nodes: Tensor, bias: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norms[0](nodes)).unflatten(-1, (3, HEADS, -1)).permute(1, 2, 0, 3)
        share = self.drop((query * (WIDTH // HEADS) ** -0.5 @ key.mT + bias).softmax(dim=-1))
        nodes = nodes + self.drop(self.out((share @ value).transpose(0, 1).flatten(1)))
        return nodes + self.drop(self.feed(self.norms[1](nodes)))


def published_step(discrete: Tensor, continuous: Tensor, spatial: Tensor, paths: Tensor) -> float:
    torch.manual_seed(0)
    encoder = PublishedEncoder()
    kept = discrete[:, 1:]

    def loss(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.rand(len(discrete), 12, generator=generator) < MASKED
        seen = discrete.masked_fill(hidden[:, :6], 510)
        predicted = encoder(seen, continuous.masked_fill(hidden[:, 6:], 0.0), spatial, paths)
        parts = [F.cross_entropy(logits[hidden[:, i + 1]], kept[hidden[:, i + 1], i]) for i, logits in enumerate(predicted[:-1])]
        return sum(parts) / len(parts) + (predicted[-1] - continuous).square()[hidden[:, 6:]].mean()

    return timed(list(encoder.parameters()), loss)


# The same values from the same weights


def difference(batch: PopulationBatch) -> float:
    """Largest difference of `TransformerConv` from ours along edges, both without similarities, relative to the largest value."""
    torch.manual_seed(0)
    mine = SparsePopulationTransformer(WIDTH, DEPTH, HEADS, dropout=DROPOUT, **like(batch)).eval()
    mine.slopes.zero_()
    peer = Peer([ConvBlock(edge_dim=None) for _ in range(DEPTH)], batch).eval()
    peer.load_state_dict({name: value for name, value in mine.state_dict().items() if not name.startswith("blocks.")}, strict=False)
    for block, layer in zip(mine.blocks, peer.layers, strict=True):
        layer.take(block)
    with torch.no_grad():
        expected, found = mine(batch).pooled, peer(batch).pooled
    return float((found - expected).abs().max() / expected.abs().max())


if __name__ == "__main__":
    main()
