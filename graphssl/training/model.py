"""What is trained, saved and shared: a fitted builder, an encoder and, after fine-tuning, a head."""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import graphssl.encoders as encoders
from graphssl.data.batch import Batch
from graphssl.data.builder import AbstractBuilder, AbstractTokenizer
from graphssl.data.cohort import Cohort
from graphssl.data.event_tokens import EventTokenizer
from graphssl.data.image_batch import ImageBatch
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.mixed_images import MixedImageBuilder, MixedImages
from graphssl.data.multimodal import MultimodalBuilder
from graphssl.data.table import ColumnTokenizer
from graphssl.data.timeline import TimelineTokenizer
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images.image_encoder import AbstractImageEncoder
from graphssl.encoders.images.segmentation import SegmentationAdapter, SegmentationDecoder
from graphssl.errors import CheckpointError, DataError, GraphSSLError
from graphssl.folders import written_whole
from graphssl.graphs.connectome import ConnectomeBuilder
from graphssl.graphs.population_builder import PopulationBuilder
from graphssl.initializers.hypernetwork import HyperNetwork
from graphssl.objectives.base import AbstractObjective
from graphssl.progress import tracked

_FORMAT = 2
# What a builder was fitted on is told in schema.json, the rest of its state in config.json.
_DESCRIBED = ("atlases", "columns")


class Answers(NamedTuple):
    """What a model makes of subjects.

    Attributes:
        pooled: Pooled vectors, one row a subject; the mean over its rows where there are several `[n, P]`.
        probability: Class probabilities `[n, C]`, columns as the model's `classes`; None where it has no head.
    """

    pooled: Tensor
    probability: npt.NDArray[np.float64] | None


@dataclass(frozen=True, eq=False)
class Model:
    """A builder fitted on training subjects and an encoder; with a head it predicts. Of connectomes or of tables, as the builder is.

    Args:
        builder: Turns cohorts into batches, fitted on training subjects.
        encoder: Embeds batches.
        head: Linear map from the pooled vector to class logits.
        classes: Names of the classes, in the order of the head's outputs; the last one is the positive class of a binary target.
        target: Column that the head predicts.
        history: One row an epoch of the last training; not saved.
        card: What the model was trained on and how it scored, for the model card.
        update: What a step of adaptation does, where meta-training learned that too; not saved.
        target_encoder: The slow copy of the encoder, where pre-training kept one (BYOL, DINO, MoCo); `with_target_encoder` makes a model of it.
        decoder: What gives the class of every voxel; its classes are those that an `ImageBuilder` knows.
        objective: What it was pre-trained on, with its decoders and heads, for pre-training to go on from; not saved with the model.
    """

    builder: AbstractBuilder
    encoder: AbstractEncoder
    head: nn.Linear | None = None
    classes: tuple[str, ...] = ()
    target: str | None = None
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    card: dict[str, Any] = field(default_factory=dict)
    update: nn.Module | None = None
    target_encoder: AbstractEncoder | None = None
    decoder: SegmentationDecoder | None = None
    objective: AbstractObjective | None = None

    def __repr__(self) -> str:
        n = sum(parameter.numel() for parameter in self.encoder.parameters())
        what = f", predicts {self.target!r} ({' / '.join(self.classes)})" if self.head is not None else ", no head yet"
        if self.decoder is not None:
            what = f", segments into {self.decoder.n_classes} classes"
        return f"Model({type(self.encoder).__name__} with {n:,} parameters, {', '.join(self.builder.describe())}{what})"

    @property
    def connectomes(self) -> ConnectomeBuilder:
        """The builder of a model of connectomes.

        Raises:
            DataError: If it is a model of tables.
        """
        if not isinstance(self.builder, ConnectomeBuilder):
            raise DataError(
                f"Expected a model of connectomes, found one of {', '.join(self.builder.describe())}. Regions and connections need a brain."
            )
        return self.builder

    def embed(self, cohort: Cohort) -> pd.DataFrame:
        """Pooled vectors, one row a subject; a subject with several atlases gets the mean over them.

        Raises:
            AtlasError: If the cohort's atlas is not the one of the training data.
            DataError: If a subject has no data.
        """
        return pooled_table(self.answers(self.batch_of(cohort), cohort.ids).pooled, cohort)

    def batch_of(self, cohort: Cohort) -> Batch:
        """What the builder makes of a cohort; a warning says where all lack a kind of data that the training subjects had.

        Raises:
            DataError: If a subject has no data.
        """
        absent = self.builder.absent(cohort)
        if absent:
            warnings.warn(
                f"Nobody of {cohort.name!r} has {' or '.join(absent)}, which the training subjects had: what is said of them rests on the rest.",
                stacklevel=3,
            )
        return self.builder.transform(cohort)

    def predict_proba(self, cohort: Cohort) -> npt.NDArray[np.float64]:
        """Class probabilities `[n, C]`, rows as `cohort.ids`, columns as `classes`.

        Raises:
            CheckpointError: If the model was not fine-tuned.
            AtlasError: If the cohort's atlas is not the one of the training data.
            DataError: If a subject has no data.
        """
        if self.head is None:
            raise CheckpointError("Expected a fine-tuned model, found a pre-trained encoder without a head. Call graphssl.finetune first.")
        probability = self.answers(self.batch_of(cohort), cohort.ids).probability
        assert probability is not None
        return probability

    def answers(self, batch: Batch, ids: Sequence[str]) -> Answers:
        """Pooled vectors and class probabilities of a batch that is at hand: the builder and the encoder need not work twice for both.

        Args:
            batch: What the builder made of some subjects.
            ids: The subjects, in the order of the answers.

        Raises:
            DataError: If a subject has no row.
        """
        rows = embed_rows(self.encoder, batch)
        pooled = by_subject(rows, batch.subject_ids, ids)
        if self.head is None:
            return Answers(pooled, None)
        with torch.no_grad():
            logits = self.head(rows.to(next(self.head.parameters()).device)).cpu()
        return Answers(pooled, np.asarray(torch.softmax(by_subject(logits, batch.subject_ids, ids).double(), dim=1)))

    def segment(self, batch: ImageBatch, *, window: Sequence[int] | None = None, overlap: float = 0.5) -> Int[Tensor, "B *S"]:
        """The most probable class of every voxel of images that the builder made.

        Args:
            batch: The images.
            window: Voxels of a window that slides over each image, where it was trained on such; the whole image when left out.
            overlap: Share of a window that the next one covers too.

        Raises:
            CheckpointError: If the model was not fine-tuned for segmentation.
        """
        if self.decoder is None:
            raise CheckpointError("Expected a model with a decoder, found none. Call graphssl.training.finetune_segmentation first.")
        assert isinstance(self.encoder, AbstractImageEncoder)
        adapter, device = SegmentationAdapter(self.encoder, self.decoder), next(self.encoder.parameters()).device
        chunks = torch.arange(len(batch)).split(self.encoder.rows_at_once)
        parts = [adapter.predict(batch[rows.tolist()].images.to(device), window=window, overlap=overlap).argmax(dim=1).cpu() for rows in chunks]
        return torch.cat(parts)

    def predict(self, cohort: Cohort) -> npt.NDArray[np.str_]:
        """The most probable class of each subject."""
        return np.asarray(self.classes, dtype=np.str_)[self.predict_proba(cohort).argmax(axis=1)]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> Path:
        """Write `config.json`, `model.safetensors`, `schema.json` and a model card, whole or not at all; no pickle.

        Raises:
            RunFolderError: If the folder holds other files.
        """
        record, tensors = self.builder.state()
        described = {name: record.pop(name) for name in _DESCRIBED if name in record}
        config = {
            "format": _FORMAT,
            "graphssl": version("graphssl"),
            "encoder": {"class": type(self.encoder).__name__, "arguments": self.encoder.arguments()},
            "builder": {"class": type(self.builder).__name__, **record},
            "head": self.head is not None,
            "decoder": None if self.decoder is None else self.decoder.arguments(),
        }
        schema = {**described, "target": self.target, "classes": list(self.classes), "card": self.card}
        weights = {f"builder.{key}": value for key, value in tensors.items()}
        weights.update({f"encoder.{key}": value for key, value in self.encoder.state_dict().items()})
        if self.head is not None:
            weights.update({f"head.{key}": value for key, value in self.head.state_dict().items()})
        if self.decoder is not None:
            weights.update({f"decoder.{key}": value for key, value in self.decoder.state_dict().items()})
        with written_whole(folder, marker="model.safetensors", what="a saved model") as aside:
            (aside / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
            (aside / "schema.json").write_text(json.dumps(schema, indent=1), encoding="utf-8")
            (aside / "README.md").write_text(_model_card(self), encoding="utf-8")
            save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, aside / "model.safetensors")
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> "Model":
        """Read a model folder.

        Raises:
            CheckpointError: If the folder is no model, a file is missing, truncated or a pickle, or weights or columns do not fit the encoder.
        """
        source = Path(folder)
        config, schema = (_read_json(source, name) for name in ("config.json", "schema.json"))
        if config.get("format") != _FORMAT:
            raise CheckpointError(f"Expected a model folder of format {_FORMAT} at {source}, found {config.get('format')}. It needs another version.")
        weights = _read_weights(source / "model.safetensors")
        try:
            record = {**config["builder"], **{name: schema[name] for name in _DESCRIBED if name in schema}}
            builder = _builder(record).from_state(record, _with_prefix(weights, "builder."))
            encoder = _encoder(config["encoder"])
            has_head, classes, target = config["head"], tuple(schema["classes"]), schema["target"]
            decoder = SegmentationDecoder(**config["decoder"]).eval() if config.get("decoder") else None
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"Expected the entry {error} in the model folder {source}, found none. The folder is damaged or of another version."
            ) from error
        except GraphSSLError:
            raise
        except Exception as error:  # entries of any kind make a constructor fail in any way
            raise CheckpointError(
                f"Expected a model that can be made of the folder {source}, found entries that do not fit ({type(error).__name__}: {error}). "
                "The folder is damaged."
            ) from error
        _check_layout(builder, encoder, source)
        _load(encoder, _with_prefix(weights, "encoder."), source)
        head = None
        if has_head:
            head = nn.Linear(encoder.pooled_width, len(classes))
            _load(head, _with_prefix(weights, "head."), source)
        if decoder is not None:
            _load(decoder, _with_prefix(weights, "decoder."), source)
        return cls(builder, encoder.eval(), head, classes, target, card=schema.get("card", {}), decoder=decoder)

    def with_target_encoder(self) -> "Model":
        """The model with the slow copy in place of the encoder.

        Raises:
            CheckpointError: If pre-training kept none.
        """
        if self.target_encoder is None:
            raise CheckpointError("Expected a model pre-trained with a teacher, found one without. Pre-train with BYOL, DINO or MoCo.")
        return replace(self, encoder=self.target_encoder, target_encoder=None)

    def with_head(self, head: nn.Linear, classes: Sequence[str], target: str, **changes: Any) -> "Model":
        """The model with a head.

        Args:
            head: What maps pooled vectors `[B, P]` to logits of the classes `[B, C]`.
            classes: Names of the classes, the positive one last.
            target: Column that it predicts.
            changes: Other fields of the model to replace.
        """
        return replace(self, head=head, classes=tuple(classes), target=target, **changes)


def load_model(folder: str | os.PathLike[str]) -> Model:
    """Read a model folder written by `save_pretrained`.

    Raises:
        CheckpointError: If the folder is no model, or a file is missing, truncated or a pickle.
    """
    return Model.from_pretrained(folder)


def fresh(encoder: AbstractEncoder, seed: int) -> AbstractEncoder:
    """The same encoder with new random weights, a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return type(encoder)(**encoder.arguments())


def embed_rows(encoder: AbstractEncoder, batch: Batch) -> Tensor:
    """Pooled vectors `[B, P]` of a batch in evaluation mode, on the CPU."""
    was_training = encoder.training
    device = next(encoder.parameters()).device
    encoder.eval()
    batch = encoder.once(batch)
    with torch.no_grad():
        of_kind = torch.arange(len(batch)).split(list(map(len, batch.parts.values())) if isinstance(batch, MixedImages) else len(batch))
        chunks = [chunk.tolist() for rows in of_kind for chunk in rows.split(encoder.rows_at_once)]
        pooled = torch.cat([encoder(batch[rows].to(device)).pooled.cpu() for rows in tracked(chunks, "Embedding")])
    encoder.train(was_training)
    return pooled


def pooled_table(pooled: Tensor, cohort: Cohort) -> pd.DataFrame:
    """Pooled vectors `[n, P]` of a cohort's subjects as a table of the columns `pooled_0`, `pooled_1` and so on."""
    return pd.DataFrame(pooled.numpy(), index=cohort.subjects.index, columns=[f"pooled_{k}" for k in range(pooled.shape[1])])


def by_subject(values: Tensor, subject_ids: Sequence[str], ids: Sequence[str]) -> Tensor:
    """Mean of rows over each subject `[n, ...]`, in the order of `ids`.

    Raises:
        DataError: If a subject has no row.
    """
    position = {subject: k for k, subject in enumerate(ids)}
    absent = set(ids) - set(subject_ids)
    if absent:
        raise DataError(f"Expected a row for every subject, found none for {sorted(absent)[:5]}.")
    index = torch.tensor([position[subject] for subject in subject_ids])
    total = torch.zeros(len(ids), values.shape[1], dtype=values.dtype).index_add_(0, index, values)
    return total / torch.bincount(index, minlength=len(ids)).unsqueeze(1)


def _builder(record: dict[str, Any]) -> type[AbstractBuilder]:
    readers = (ConnectomeBuilder, ColumnTokenizer, TimelineTokenizer, EventTokenizer, ImageBuilder)
    known = (*readers, MixedImageBuilder, MultimodalBuilder, PopulationBuilder)
    kinds: dict[str, type[AbstractBuilder]] = {kind.__name__: kind for kind in known}
    if record["class"] not in kinds:
        raise CheckpointError(f"Expected one of the builders {', '.join(kinds)}, found {record['class']!r}. It was saved by another version.")
    return kinds[record["class"]]


def _encoder(record: dict[str, Any]) -> AbstractEncoder:
    known = {name: getattr(encoders, name) for name in encoders.__all__} | {HyperNetwork.__name__: HyperNetwork}
    kind = known.get(record["class"])
    if not isinstance(kind, type) or not issubclass(kind, AbstractEncoder):
        raise CheckpointError(f"Expected an encoder of graphssl.encoders, found {record['class']!r}. It was saved by another version.")
    try:
        return kind(**record["arguments"])
    except TypeError as error:
        raise CheckpointError(f"Expected arguments of {record['class']}, found others ({error}). It was saved by another version.") from error


def _check_layout(builder: AbstractBuilder, encoder: AbstractEncoder, source: Path) -> None:
    """Check that an encoder of columns was made for those of the schema, in their order: else it would read one column for another, unseen."""
    if isinstance(builder, PopulationBuilder) and isinstance(encoder.reader, encoders.MultimodalEncoder):
        _check_layout(builder.tokenizer_, encoder.reader, source)
    if isinstance(builder, MultimodalBuilder) and isinstance(encoder, encoders.MultimodalEncoder):
        for name, part in encoder.encoders.items():
            _check_layout(builder.builders_[name], part, source)
        return
    if not isinstance(builder, AbstractTokenizer):
        return
    arguments = {**encoder.reader.arguments(), **encoder.arguments()}
    layout, made_for = json.loads(json.dumps(builder.layout())), json.loads(json.dumps(arguments, default=str))
    for name in (name for name in layout if name in made_for):
        if layout[name] != made_for[name]:
            raise CheckpointError(
                f"Expected the schema in {source} to fit its encoder, made for the {name} {made_for[name]}; found {layout[name]}. "
                "Take schema.json and config.json of one model."
            )


def _read_json(source: Path, name: str) -> dict[str, Any]:
    if not (source / name).is_file():
        pickles = [p.name for p in source.glob("*") if p.suffix in (".pt", ".pth", ".pkl", ".ckpt", ".bin")] if source.is_dir() else []
        hint = f" The folder holds {pickles[0]}, a pickle, which is never loaded." if pickles else ""
        raise CheckpointError(f"Expected a model folder with {name} at {source}, found none.{hint} Save models with save_pretrained.")
    try:
        return dict(json.loads((source / name).read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:  # not text, not JSON, or not an object
        raise CheckpointError(f"Expected JSON in {source / name}, found a damaged file ({error}).") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"Expected weights at {path}, found no such file.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"Expected whole safetensors weights at {path}, found a truncated file or another format ({error}).") from error


def _with_prefix(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _load(module: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"Expected the weights in {source} to fit {type(module).__name__}, found a mismatch: {error}") from error


def _entry(key: str, value: Any) -> list[str]:
    """An entry of the card; a list has a line an item."""
    if not isinstance(value, list):
        return [f"- **{key}**: {value}"]
    items = ("; ".join(f"{name}: {part}" for name, part in item.items()) if isinstance(item, dict) else item for item in value)
    return [f"- **{key}**:", *(f"    {place}. {item}" for place, item in enumerate(items, start=1))]


_USE = (
    "For research: to start a model of data of the same kind, or to embed them. Not for the care of patients: it is no medical device, and no output "
    "is a diagnosis. What it does with subjects unlike those it learned from (age, sex, scanner, hospital) nobody measured; score it on yours first."
)
_LICENCE = "Weights derive from the training data: what the licence of the data asks goes on to the weights. Read it before you pass the model on."


def _model_card(model: Model) -> str:
    imaging = {ImageBuilder: "medical-imaging", MixedImageBuilder: "medical-imaging"}
    kinds = {ConnectomeBuilder: "connectome", MultimodalBuilder: "multimodal", **imaging}
    reads = model.builder.tokenizer_ if isinstance(model.builder, PopulationBuilder) else model.builder
    what = next((word for kind, word in kinds.items() if isinstance(reads, kind)), "electronic-health-records")
    lines = ["---", "library_name: graphssl", f"tags: [{what}, {type(model.encoder).__name__}, self-supervised]", "---", "", "# " + repr(model), ""]
    lines += [line for key, value in model.card.items() for line in _entry(key, value)]
    lines += [*(f"- **{key}**: {value}" for key, value in model.builder.describe().items()), ""]
    lines += [
        f"Load with `graphssl.load(folder)`; made with graphssl {version('graphssl')}.",
        "",
        "## Use",
        "",
        _USE,
        "",
        "## Licence",
        "",
        _LICENCE,
        "",
    ]
    return "\n".join(lines)
