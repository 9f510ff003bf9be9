"""A network as a graph of its operations, so that another network can read it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from torch import Tensor, fx, nn
from torch.nn.parameter import UninitializedParameter

from graphssl.encoders.images.image_encoder import AbstractImageEncoder
from graphssl.errors import DataError

OPERATIONS = (
    "input",
    "conv",
    "depthwise_conv",
    "dilated_conv",
    "conv_transpose",
    "linear",
    "bias",
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "attention",
    "graph_conv",
    "graph_attention",
    "max_pool",
    "avg_pool",
    "global_pool",
    "upsample",
    "sum",
    "product",
    "concat",
)
Role = Literal["kernel", "scale", "shift"]


@dataclass(frozen=True)
class Weight:
    """A tensor that an operation owns.

    Args:
        name: Its name in the module, as in `named_parameters()`.
        role: `"kernel"` of a matrix or convolution, `"scale"` of a normalisation, or `"shift"`.
        shape: Its shape in the module.
        size: Of kernels what comes out, what comes in, and the voxels along depth, height and width.
        fan_in: Numbers that one number of the output is a sum over.
        gain: Variance that a kernel is to have, times `fan_in`: 2 before a ReLU, 1 where a single channel comes in.
        transposed: Whether what comes in is the first axis of the shape.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    size: tuple[int, int, int, int, int]
    fan_in: float = 1.0
    gain: float = 2.0
    transposed: bool = False


@dataclass(frozen=True)
class Operation:
    """A node of the graph.

    Args:
        kind: One of `OPERATIONS`.
        name: Name of the module, or of the call.
        weights: Tensors that it owns: a kernel, or scale and shift.
    """

    kind: str
    name: str
    weights: tuple[Weight, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """What a module computes: operations, and which feeds which.

    The kind of a convolution does not tell its axes: a volume kernel is one with several voxels along depth.

    Args:
        operations: The operations; the first is the input.
        edges: Pairs of places, from an operation to one that reads it.
        unsupported: Parameters that no operation owns, with what they belong to.
    """

    operations: tuple[Operation, ...]
    edges: tuple[tuple[int, int], ...]
    unsupported: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.operations)

    def __repr__(self) -> str:
        weights = list(self.weights())
        n = sum(math.prod(weight.shape) for weight in weights)
        return f"Architecture({len(self)} operations, {len(self.edges)} edges, {len(weights)} tensors of {n:,} numbers)"

    def weights(self) -> Iterator[Weight]:
        """All tensors that can be predicted."""
        return (weight for operation in self.operations for weight in operation.weights)

    @cached_property
    def distances(self) -> Int[Tensor, "N N"]:
        """Edges on the shortest way from one operation to another along the flow of data; -1 where there is none."""
        n = len(self)
        starts, ends = np.asarray(self.edges, dtype=np.int64).reshape(-1, 2).T
        found = shortest_path(coo_array((np.ones(len(starts)), (starts, ends)), shape=(n, n)).tocsr(), unweighted=True)
        return torch.from_numpy(np.where(np.isfinite(found), found, -1).astype(np.int64))

    def check_supported(self) -> None:
        """Check that every parameter belongs to an operation.

        Raises:
            DataError: If one does not; it is named.
        """
        if self.unsupported:
            named = ", ".join(f"{name} ({what})" for name, what in list(self.unsupported.items())[:5])
            raise DataError(
                f"Expected every parameter to belong to an operation that can be initialised ({', '.join(OPERATIONS[1:])}), found {named}. "
                "Initialise the others with partial=True; these stay as they are."
            )


def architecture_of(module: nn.Module) -> Architecture:
    """The graph of a module: traced by `torch.fx`, and where a part cannot be traced its children one after another.

    Activations, reshapes and dropout are no operations: edges go through them. A kernel and its bias are two operations, a normalisation is one.

    Args:
        module: The module; a network of any rank, of graphs or of tables. Encoders of images are traced through `scales`.

    Raises:
        DataError: If it has no parameters, or some have no shape yet.
    """
    lazy = [name for name, parameter in module.named_parameters() if isinstance(parameter, UninitializedParameter)]
    if lazy or not any(True for _ in module.parameters()):
        found = f"{lazy[0]} without a shape" if lazy else "none"
        raise DataError(f"Expected a module with parameters, found {found} in {type(module).__name__}. Run it once on a batch, or give another.")
    drawing = _Drawing()
    drawing.walk(module, "", drawing.add("input", "input", (), frozenset()))
    for path, part in module.named_modules():  # what the module holds and its forward does not reach
        if layer_kind(part) is not None and any(id(weight) not in drawing.owned for weight in part.parameters()):
            drawing.layer(part, path, frozenset())
    unsupported = {}
    for name, parameter in module.named_parameters():
        if id(parameter) not in drawing.owned:
            unsupported[name] = type(module.get_submodule(name.rpartition(".")[0])).__name__
    return Architecture(tuple(drawing.operations), tuple(sorted(drawing.edges)), unsupported)


def layer_kind(module: nn.Module) -> str | None:
    """The kind of operation that a layer is; None of what is no layer, or is not known."""
    if isinstance(module, _CONVOLUTIONS):
        if module.groups > 1 and module.groups == module.in_channels:
            return "depthwise_conv"
        return "dilated_conv" if max(module.dilation) > 1 else "conv"
    if isinstance(module, (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)):
        size = module.output_size
        return "global_pool" if set(size if isinstance(size, tuple) else (size,)) == {1} else "avg_pool"
    for kind, classes in _LAYERS.items():
        if isinstance(module, classes):
            return kind
    return _graph_layer_kind(module)


def _graph_layer_kind(module: nn.Module) -> str | None:
    """Of a layer of PyTorch Geometric, known by name so that it need not be imported."""
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__]
    if "torch_geometric.nn.dense.linear.Linear" in names:
        return "linear"
    if any(name.startswith("torch_geometric.nn.norm.") for name in names):
        return None if any(True for _ in module.children()) else "layer_norm"
    if not any(name.endswith(".MessagePassing") and name.startswith("torch_geometric.nn.conv.") for name in names):
        return None
    attends = any(name.startswith(("att", "lin_key")) for name, _ in module.named_parameters())
    return "graph_attention" if attends else "graph_conv"


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv_transpose": _TRANSPOSED,
    "linear": (nn.Linear,),
    "batch_norm": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    "instance_norm": (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    "group_norm": (nn.GroupNorm,),
    "layer_norm": (nn.LayerNorm, nn.RMSNorm),
    "attention": (nn.MultiheadAttention,),
    "max_pool": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    "avg_pool": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    "upsample": (nn.Upsample,),
}
_COMPOSITE = ("attention", "graph_conv", "graph_attention")  # layers that hold layers
_MERGING = {"add": "sum", "iadd": "sum", "add_": "sum", "mul": "product", "imul": "product", "mul_": "product", "cat": "concat", "concat": "concat"}
_CALLS = {
    **{f"{kind}_pool{rank}d": f"{kind}_pool" for kind in ("max", "avg") for rank in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{rank}d": "global_pool" for kind in ("max", "avg") for rank in (1, 2, 3)},
    "mean": "global_pool",
    "amax": "global_pool",
    "interpolate": "upsample",
    "scaled_dot_product_attention": "attention",
}
# What code says that meets a placeholder where it needs a number or a shape.
_NOT_TRACED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

_Places = frozenset[int]


class _Drawing:
    """A graph in the making."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.edges: set[tuple[int, int]] = set()
        self.owned: set[int] = set()

    def add(self, kind: str, name: str, weights: tuple[Weight, ...], sources: _Places) -> _Places:
        """Add an operation that reads others; its place."""
        self.operations.append(Operation(kind, name, weights))
        place = len(self.operations) - 1
        self.edges.update((source, place) for source in sources)
        return frozenset({place})

    def walk(self, module: nn.Module, path: str, sources: _Places) -> _Places:
        """Add a module that reads some operations; those that it gives."""
        if layer_kind(module) is not None:
            return self.layer(module, path, sources)
        if not any(True for _ in module.parameters()) and not any(True for _ in module.children()):
            return sources  # activations, reshapes, dropout
        graph = _traced(module)
        if graph is not None:
            return self._follow(graph, module, path, sources)
        for name, child in module.named_children():
            sources = self.walk(child, _join(path, name), sources)
        return sources

    def layer(self, module: nn.Module, path: str, sources: _Places) -> _Places:
        """Add a layer, with its bias after it, and the layers that it holds before it."""
        kind = layer_kind(module)
        assert kind is not None
        own = {name: weight for name, weight in module.named_parameters(recurse=False) if id(weight) not in self.owned}
        self.owned.update(map(id, own.values()))
        weights = [weight for name, tensor in own.items() if (weight := _weight(module, kind, _join(path, name), tensor)) is not None]
        if kind in _COMPOSITE:
            return self._composite(module, kind, path, weights, sources)
        if kind.endswith("norm"):
            return self.add(kind, path, tuple(weights), sources)
        kernels = tuple(weight for weight in weights if weight.role == "kernel")
        places = self.add(kind, path, kernels, sources)
        return self._biases(weights, places)

    def _composite(self, module: nn.Module, kind: str, path: str, weights: list[Weight], sources: _Places) -> _Places:
        """What is projected side by side, then attention or messages, then the projection that comes last."""
        places: _Places = frozenset()
        for weight in (weight for weight in weights if weight.role == "kernel"):
            places |= self.add("linear", weight.name, (weight,), sources)
        last = {"out_proj"} & {name for name, _ in module.named_children()}
        for name, child in module.named_children():
            if name not in last and any(True for _ in child.parameters()):
                places |= self.walk(child, _join(path, name), sources)
        places = self._biases(weights, self.add(kind, path, (), places or sources))
        for name in last:
            places = self.walk(module.get_submodule(name), _join(path, name), places)
        return places

    def _biases(self, weights: list[Weight], places: _Places) -> _Places:
        for weight in (weight for weight in weights if weight.role != "kernel"):
            places = self.add("bias", weight.name, (weight,), places)
        return places

    def _follow(self, graph: fx.Graph, module: nn.Module, path: str, sources: _Places) -> _Places:
        """Add what was traced; the operations that it gives."""
        values: dict[fx.Node, _Places] = {}
        for node in graph.nodes:
            read = [values[other] for other in node.all_input_nodes]
            every: _Places = frozenset().union(*read)
            if node.op == "placeholder":
                values[node] = sources
            elif node.op == "call_module":
                values[node] = self.walk(module.get_submodule(node.target), _join(path, node.target), every)
            elif node.op in ("call_function", "call_method"):
                values[node] = self._call(_name_of(node.target), _join(path, node.name), read, every)
            else:
                values[node] = every  # the output; of constants nothing
        return values[node]

    def _call(self, called: str, name: str, read: list[_Places], every: _Places) -> _Places:
        if called in _CALLS:
            return self.add(_CALLS[called], name, (), every)
        if called in _MERGING and len({places for places in read if places}) > 1:
            return self.add(_MERGING[called], name, (), every)
        return every


class _Tracer(fx.Tracer):
    """Layers are not looked into, nor are modules that cannot be traced by themselves."""

    def __init__(self, opaque: frozenset[nn.Module], entry: str) -> None:
        super().__init__()
        self.opaque, self.traced_func_name = opaque, entry

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.opaque or layer_kind(m) is not None or not any(True for _ in m.children())


def _traced(module: nn.Module) -> fx.Graph | None:
    """The graph of a module; with what it holds and cannot be traced as parts where that is what fails."""
    graph = _try_trace(module, frozenset())
    if graph is not None:
        return graph
    parts = [part for part in module.modules() if part is not module and layer_kind(part) is None and any(True for _ in part.children())]
    opaque = frozenset(part for part in parts if _try_trace(part, frozenset()) is None)
    return _try_trace(module, opaque) if opaque else None


def _try_trace(module: nn.Module, opaque: frozenset[nn.Module]) -> fx.Graph | None:
    entry = "scales" if isinstance(module, AbstractImageEncoder) else "forward"
    try:
        return _Tracer(opaque, entry).trace(module)
    except _NOT_TRACED:
        return None


def _weight(module: nn.Module, kind: str, name: str, tensor: Tensor) -> Weight | None:
    """What a layer's own tensor is, by its axes."""
    shape = tuple(tensor.shape)
    if kind.endswith("norm") or tensor.ndim < 2:
        is_scale = kind.endswith("norm") and name.rpartition(".")[2] == "weight"
        return Weight(name, "scale" if is_scale else "shift", shape, (math.prod(shape), 0, 0, 0, 0))
    if isinstance(module, _TRANSPOSED):
        incoming, outgoing, *voxels = shape
        inside = incoming / module.groups * math.prod(voxels) / math.prod(module.stride)
        return Weight(name, "kernel", shape, _size(outgoing, incoming, voxels), max(1.0, inside), transposed=True)
    outgoing, incoming, *voxels = shape if not kind.startswith("graph_") else (math.prod(shape[:-1]), shape[-1])
    gain = 1.0 if incoming == 1 or (len(voxels) == 2 and voxels[0] < voxels[1]) else 2.0
    return Weight(name, "kernel", shape, _size(outgoing, incoming, voxels), float(incoming * math.prod(voxels)), gain)


def _size(outgoing: int, incoming: int, voxels: Any) -> tuple[int, int, int, int, int]:
    depth, height, width = [1] * (3 - len(voxels)) + [int(n) for n in voxels]
    return outgoing, incoming, depth, height, width


def _name_of(target: Any) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
