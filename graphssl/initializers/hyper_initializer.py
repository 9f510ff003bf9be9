"""A trained hypernetwork on disk, and its use: any network in, the same network with predicted weights out."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from graphssl.errors import CheckpointError
from graphssl.folders import ordinary, written_whole
from graphssl.initializers.architecture import Architecture, architecture_of
from graphssl.initializers.hypernetwork import HyperNetwork

_FORMAT = 1
HEADS = ("fc.", "head.")


@dataclass(frozen=True)
class Initialised:
    """What an initialiser did to a module.

    Attributes:
        predicted: Names of the parameters whose values were predicted.
        left_alone: Names of the others, with the reason.
        n_repeated: How many tensors are larger than what is predicted without repetition.
    """

    predicted: tuple[str, ...]
    left_alone: Mapping[str, str]
    n_repeated: int

    def __str__(self) -> str:
        alone = "; ".join(f"{name} ({why})" for name, why in self.left_alone.items())
        return f"{len(self.predicted)} tensors predicted, {self.n_repeated} of them by repetition; left alone: {alone or 'none'}"


@dataclass
class HyperInitializer:
    """One initialiser for networks of any architecture (after Shang et al., 2022, arXiv 2206.03661).

    Args:
        hypernetwork: What predicts weights.
        card: What it was trained on, in plain values.
        history: Losses of the training by epoch.
    """

    hypernetwork: HyperNetwork
    card: dict[str, Any] = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __repr__(self) -> str:
        n = sum(parameter.numel() for parameter in self.hypernetwork.parameters())
        return f"HyperInitializer({n:,} parameters, {self.card.get('trained on', 'not trained')})"

    def initialize(
        self, module: nn.Module, *, leave_out: Sequence[str] = HEADS, partial: bool = False, noise: float = 0.01, seed: int = 0
    ) -> Initialised:
        """Give a module predicted weights, in place.

        Channels that are alike by repetition, and branches side by side that have the same place and size, would learn the same for ever; noise tells
        them apart. Running statistics of batch normalisation start anew.

        Args:
            module: The network: an encoder of images, tables or graphs, or any torch module.
            leave_out: Beginnings of the names of parameters that stay as they are: the classifier.
            partial: Whether parameters that belong to no known operation may stay as they are; they are an error else.
            noise: Standard deviation of the noise on each kernel, as a share of that of the kernel.
            seed: Seed of the noise.

        Raises:
            DataError: If an operation is not supported, and `partial` is false; or nothing is left to predict.
        """
        architecture = architecture_of(module)
        strange = {name: what for name, what in architecture.unsupported.items() if not name.startswith(tuple(leave_out))}
        if not partial:
            Architecture(architecture.operations, architecture.edges, strange).check_supported()
        with torch.no_grad():
            (weights,) = self.hypernetwork.predict([architecture])
        chosen = {name: value for name, value in weights.items() if not name.startswith(tuple(leave_out))}
        _fill(module, chosen, noise, torch.Generator().manual_seed(seed))
        alone = {name: "left out" for name in weights if name not in chosen}
        alone |= {name: f"not supported: {what}" if name in strange else "left out" for name, what in architecture.unsupported.items()}
        block = self.hypernetwork.decoder.block
        repeated = [weight for weight in architecture.weights() if weight.name in chosen and max(weight.size[:2]) > block]
        return Initialised(tuple(chosen), alone, len(repeated))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write `config.json`, `model.safetensors` and a card, whole or not at all; no pickle.

        Raises:
            RunFolderError: If the folder holds other files.
        """
        config = {"format": _FORMAT, "kind": "initializer", "graphssl": version("graphssl"), "hypernetwork": self.hypernetwork.arguments()}
        weights = {name: value.detach().cpu().contiguous() for name, value in self.hypernetwork.state_dict().items()}
        lines = ["---", "library_name: graphssl", "tags: [medical-imaging, HyperInitializer]", "---", "", f"# {self!r}", ""]
        lines += [*(f"- **{key}**: {value}" for key, value in self.card.items()), "", "Use with `graphssl.initialize(module, folder)`.", ""]
        with written_whole(folder, marker="model.safetensors", what="a saved initialiser") as aside:
            (aside / "config.json").write_text(json.dumps({**config, "card": self.card}, indent=1), encoding="utf-8")
            (aside / "README.md").write_text("\n".join(lines), encoding="utf-8")
            save_file(weights, aside / "model.safetensors")
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> "HyperInitializer":
        """Read a folder written by `save_pretrained`, or the model folder of a run that pre-trained a `HyperNetwork`.

        Raises:
            CheckpointError: If it is no such folder, or a file is missing, truncated, or does not fit the other.
        """
        source = Path(folder)
        try:
            config = json.loads(ordinary(source / "config.json").read_text(encoding="utf-8"))
            weights = load_file(ordinary(source / "model.safetensors"))
        except (OSError, ValueError, RecursionError, SafetensorError) as error:
            raise CheckpointError(
                f"Expected config.json and model.safetensors of an initialiser at {source}, found one absent or damaged ({error})."
            ) from error
        encoder = config.get("encoder", {}) if isinstance(config, dict) else {}
        if encoder.get("class") == HyperNetwork.__name__:
            config = {"kind": "initializer", "format": _FORMAT, "hypernetwork": encoder.get("arguments", {}), "card": _card(source)}
            weights = {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")}
        if not isinstance(config, dict) or config.get("kind") != "initializer" or config.get("format") != _FORMAT:
            raise CheckpointError(f"Expected an initialiser of format {_FORMAT} at {source}, found another kind of folder, or of another version.")
        try:
            arguments, card = dict(config["hypernetwork"]), dict(config.get("card", {}))
            _check_sizes(arguments, sum(value.numel() for value in weights.values()))
            hypernetwork = HyperNetwork(**arguments)
            hypernetwork.load_state_dict(weights)
        except Exception as error:  # entries of any kind make a constructor fail in any way
            found = " ".join(str(error).split())
            raise CheckpointError(f"Expected weights that fit the configuration in {source}, found others: {found}") from error
        return cls(hypernetwork.eval(), card)


def initialize(
    module: nn.Module,
    initializer: HyperInitializer | HyperNetwork | str | os.PathLike[str],
    *,
    leave_out: Sequence[str] = HEADS,
    partial: bool = False,
    noise: float = 0.01,
    seed: int = 0,
) -> Initialised:
    """Give a module the weights that a trained hypernetwork predicts for it, in place.

    Args:
        module: The network: an encoder of images, tables or graphs, or any torch module.
        initializer: A `HyperInitializer`, its folder, or a hypernetwork.
        leave_out: Beginnings of the names of parameters that stay as they are: the classifier.
        partial: Whether parameters that belong to no known operation may stay as they are; they are an error else.
        noise: Standard deviation of the noise on each kernel, as a share of that of the kernel.
        seed: Seed of the noise.

    Returns:
        What was predicted, and what was left alone.

    Raises:
        DataError: If an operation is not supported, and `partial` is false.
        CheckpointError: If the folder holds no initialiser.
    """
    if isinstance(initializer, HyperNetwork):
        initializer = HyperInitializer(initializer)
    elif not isinstance(initializer, HyperInitializer):
        initializer = HyperInitializer.from_pretrained(initializer)
    return initializer.initialize(module, leave_out=leave_out, partial=partial, noise=noise, seed=seed)


def _card(source: Path) -> dict[str, Any]:
    """What the model folder of a run says of its training."""
    try:
        card = dict(json.loads(ordinary(source / "schema.json").read_text(encoding="utf-8")).get("card", {}))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"Expected schema.json in the model folder {source}, found it absent or damaged ({error}).") from error
    return {"trained on" if key == "pre-trained on" else key: value for key, value in card.items()}


def _check_sizes(arguments: Mapping[str, Any], n_values: int) -> None:
    """A network is not wider or deeper than it has weights; one that says so would be built for hours, or not fit into memory."""
    large = [name for name, value in arguments.items() if isinstance(value, int) and value > n_values]
    if large:
        raise CheckpointError(f"{large[0]} = {arguments[large[0]]} for {n_values} weights")


def _fill(module: nn.Module, weights: Mapping[str, Tensor], noise: float, generator: torch.Generator) -> None:
    named = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            if value.ndim > 1 and noise > 0:
                added = torch.randn(value.shape, generator=generator).to(value)
                value = value + noise * value.std(correction=0) * added
            named[name].copy_(value)
    for path, part in module.named_modules():
        if isinstance(part, _BatchNorm) and any(name.startswith(f"{path}.") for name in weights):
            part.reset_running_stats()
