"""A model's weights, and those of what it was pre-trained on, taken to another cohort, whatever the data are."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from graphssl.data.atlas import check_atlas
from graphssl.data.builder import AbstractBuilder, AbstractTokenizer
from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.multimodal import MultimodalBuilder
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.table import ColumnTokenizer
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.brain_network_transformer import BrainNetworkTransformer
from graphssl.encoders.images import AbstractImageEncoder
from graphssl.errors import CheckpointError
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.initializers.dimension import Inflation
from graphssl.objectives.base import AbstractObjective
from graphssl.training.model import Model
from graphssl.training.pretrain import untrained
from graphssl.training.transfer import transfer
from graphssl.training.transfer_images import transfer_images


class ObjectiveWeights(NamedTuple):
    """What of an objective goes on into the next training.

    Attributes:
        name: Class of the objective.
        tensors: Its weights by name.
    """

    name: str
    tensors: dict[str, Tensor]


def carried(
    model: Model,
    cohort: Cohort,
    *,
    encoder: AbstractEncoder | None = None,
    builder: AbstractBuilder | None = None,
    inflation: Inflation = "mean",
    seed: int = 0,
) -> Model:
    """A model with the encoder's weights of another, made ready for a cohort; the other is left as it is.

    Columns and codes are met by name (see [`transfer`][graphssl.training.transfer.transfer]), kernels of images become kernels of volumes (see
    [`transfer_images`][graphssl.training.transfer_images]), connectomes and populations take all weights as they are.

    Args:
        model: The other.
        cohort: Training subjects.
        encoder: The encoder whose arguments to use; the model's when left out.
        builder: How the cohort's data are prepared; as the model's when left out.
        inflation: What kernels of images become in a network of volumes.
        seed: Seed of weights that the model has none for.

    Raises:
        CheckpointError: If the weights do not fit the encoder; names the tensors, or the columns.
        AtlasError: If the encoder knows regions by row, and the cohort's are others.
        SchemaError: If columns share nothing, or have other kinds or units.
    """
    if isinstance(model.builder, ImageBuilder) and isinstance(builder, ImageBuilder | None) and isinstance(encoder, AbstractImageEncoder | None):
        return transfer_images(model, cohort, builder=builder, encoder=encoder, inflation=inflation, seed=seed)
    if isinstance(model.builder, (ColumnTokenizer, AbstractStreamTokenizer)) and isinstance(builder, type(model.builder) | None):
        _check_arguments(model, encoder)
        told = {} if builder is None else builder.get_params()
        named = {name: told[name] for name in ("columns", "codes", "treatments") if name in told}
        return transfer(model, cohort, **named, seed=seed).model
    ready = untrained(cohort, encoder=encoder or model.encoder, builder=builder or model.builder, seed=seed)
    _check_layout(model, ready)
    _check_regions(model, ready)
    load_weights(ready.encoder, model.encoder.state_dict())
    return ready


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load all weights into a module, in place, or none and an error.

    Raises:
        CheckpointError: If they do not fit; names the tensors.
    """
    wrong = misfits(module.state_dict(), weights)
    if wrong:
        raise CheckpointError(
            f"Expected weights of every part of {type(module).__name__} and of no other, found {'; '.join(wrong[:4])}"
            f"{f' and {len(wrong) - 4} more' if len(wrong) > 4 else ''}. Use the same encoder with the same arguments, or start from random weights."
        )
    module.load_state_dict(weights)


def misfits(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What does not fit, a sentence a tensor."""
    found = [f"no {name} {list(tensor.shape)}" for name, tensor in wanted.items() if name not in given]
    found += [
        f"{name} {list(given[name].shape)} in place of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    return found + [f"{name} {list(tensor.shape)} in excess" for name, tensor in given.items() if name not in wanted]


def objective_weights(objective: AbstractObjective) -> ObjectiveWeights:
    """What of an objective goes on into the next training: weights, running statistics of layers, and what it calls lasting.

    Queues, memories and schedules belong to the subjects and steps of one training, and begin anew.
    """
    names: list[str] = []
    for prefix, module in objective.named_modules():
        own = [name for name, _ in module.named_parameters(recurse=False)]
        if isinstance(module, AbstractObjective):
            own += module.lasting
        elif type(module).__module__.startswith("torch.nn"):
            own += [name for name, _ in module.named_buffers(recurse=False)]
        names += [f"{prefix}.{name}" if prefix else name for name in own]
    state = objective.state_dict()
    return ObjectiveWeights(type(objective).__name__, {name: state[name].detach().cpu().clone() for name in names if name in state})


def take_objective(objective: AbstractObjective, given: ObjectiveWeights) -> list[str]:
    """Give an objective the weights of the one before, all or none, and say what does not fit; an empty list where they were given.

    Args:
        objective: The objective, prepared; it is changed.
        given: The weights.
    """
    wanted = objective_weights(objective)
    if wanted.name != given.name:
        return [f"weights of {given.name} in place of {wanted.name}"]
    wrong = misfits(wanted.tensors, given.tensors)
    if not wrong:
        objective.load_state_dict({**objective.state_dict(), **given.tensors})
    return wrong


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """Twelve hex digits over names and values."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {list(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()[:12]


def same_columns(model: Model, other: Model) -> bool:
    """Whether two models read the same columns, codes and categories in the same order; True of what has none."""
    return not _layout_differences(model, other)


def _layout_differences(model: Model, other: Model) -> list[str]:
    return _differences(model.builder, other.builder)


def _differences(builder: AbstractBuilder, other: AbstractBuilder) -> list[str]:
    if isinstance(builder, MultimodalBuilder) and isinstance(other, MultimodalBuilder):
        both = [name for name in builder.builders_ if name in other.builders_]
        return [f"{name}: {wrong}" for name in both for wrong in _differences(builder.builders_[name], other.builders_[name])]
    if not isinstance(builder, AbstractTokenizer) or not isinstance(other, AbstractTokenizer):
        return []
    mine, theirs = builder.layout(), other.layout()
    return [f"{name} {theirs.get(name)} in place of {value}" for name, value in mine.items() if theirs.get(name) != value]


def _check_layout(model: Model, ready: Model) -> None:
    wrong = _layout_differences(model, ready)
    if wrong:
        raise CheckpointError(
            f"Expected the columns, codes and categories that the weights belong to, found {'; '.join(wrong)}. Name those of both cohorts in the "
            "tokenizer, or start from random weights."
        )


def _check_arguments(model: Model, encoder: AbstractEncoder | None) -> None:
    """An encoder of columns is made for those of its cohort; all else must be as it was."""
    if encoder is None:
        return
    mine, theirs = model.encoder.arguments(), encoder.for_builder(model.builder).arguments()
    wrong = [f"{name} {theirs.get(name)!r} in place of {value!r}" for name, value in mine.items() if theirs.get(name) != value]
    if type(encoder) is not type(model.encoder) or wrong:
        raise CheckpointError(
            f"Expected the {type(model.encoder).__name__} that the weights belong to, found a {type(encoder).__name__}"
            f"{' with ' + '; '.join(wrong) if wrong else ''}. Use the same encoder with the same arguments, or start from random weights."
        )


def _check_regions(model: Model, ready: Model) -> None:
    if isinstance(ready.encoder, BrainNetworkTransformer) and isinstance(model.builder, ConnectomeBuilder):
        for name, atlas in model.connectomes.atlases_.items():
            if name in ready.connectomes.atlases_:
                check_atlas(atlas, ready.connectomes.atlases_[name])
