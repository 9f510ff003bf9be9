"""Patients of several modalities as plain values and tensors, and back: images by reference, with the hash of their content; all else as it is."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from graphssl.data.connectome import ConnectomeBatch
from graphssl.data.event_tokens import EventBatch
from graphssl.data.image_batch import ImageBatch, Pending
from graphssl.data.image_builder import ImageBuilder
from graphssl.data.image_source import ImageSource
from graphssl.data.images import ImageData
from graphssl.data.multimodal import MultimodalBatch, MultimodalBuilder
from graphssl.data.records import AbstractRecords
from graphssl.data.table import TableBatch
from graphssl.data.timeline import TimelineBatch
from graphssl.errors import ConfigError, DataError

_RECORDS: dict[str, type[AbstractRecords]] = {kind.__name__: kind for kind in (TableBatch, TimelineBatch, EventBatch)}
_OF_CONNECTOMES = ("weights", "visible", "mask", "centroids", "networks")


def stored_patients(batch: MultimodalBatch) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Patients as plain values, for JSON, and tensors; nothing is decoded. What is hidden is not kept.

    Args:
        batch: The patients.

    Raises:
        DataError: If images are no longer those of files, so that there is nothing to refer to, or a modality is of no kind that can be kept.
    """
    parts: dict[str, Any] = {}
    tensors = {f"rows.{name}": rows for name, rows in batch.rows.items()}
    for name, part in batch.parts.items():
        parts[name], own = _stored(name, part)
        tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    return {"modalities": list(batch.modalities), "parts": parts}, tensors


def restored_patients(
    subject_ids: Sequence[str], record: Mapping[str, Any], tensors: Mapping[str, Tensor], builder: MultimodalBuilder
) -> MultimodalBatch:
    """The inverse of `stored_patients`.

    Args:
        subject_ids: The patients `[B]`.
        record: The plain values.
        tensors: The tensors.
        builder: What made the patients, and knows how their images are prepared.
    """
    parts = {}
    for name, kept in record["parts"].items():
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        parts[name] = _restored(kept, own, builder.builders_[name])
    return MultimodalBatch(tuple(subject_ids), parts, {name: tensors[f"rows.{name}"] for name in record["modalities"]})


def images_at(batch: MultimodalBatch, name: str, root: str | os.PathLike[str]) -> MultimodalBatch:
    """The patients with the files of a modality below another folder, where they were moved.

    Args:
        batch: The patients.
        name: Name of the modality.
        root: The folder.

    Raises:
        ConfigError: If it is no modality of images.
        DataError: If images are no longer those of files.
    """
    part = batch.parts.get(name)
    if not isinstance(part, ImageBatch):
        known = [each for each, held in batch.parts.items() if isinstance(held, ImageBatch)]
        raise ConfigError(f"Expected a modality of images among {', '.join(known) or 'none'}, found {name!r}.")
    rows, source = _references(name, part)
    moved = Pending(ImageSource(source.data.at(root), source.preparation, source.memory), rows.rows)
    return batch.with_parts(**{name: part.changed(images=moved, masks=moved if part.has_masks else None)})


def _stored(name: str, part: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    kind, ids = type(part).__name__, list(part.subject_ids)
    if isinstance(part, ImageBatch):
        rows, source = _references(name, part)
        data = source.data
        table = data.table.iloc[list(rows.rows)]
        columns = {str(column): [list(v) if isinstance(v, tuple) else v for v in values] for column, values in table.items()}
        about = {"rank": data.rank, "clip": data.clip, "classes": list(data.classes), "mask_values": list(data.mask_values)}
        groups = {group: list(values) for group, values in part.groups.items()}
        return {"kind": kind, "ids": ids, "table": columns, **about, "root": os.path.abspath(data.root), "groups": groups}, {}
    if isinstance(part, ConnectomeBatch):
        own = {key: getattr(part, key) for key in _OF_CONNECTOMES}
        if part.covariates is not None:
            own |= {f"covariates.{key}": tensor for key, tensor in _known(part.covariates).items()}
        return {"kind": kind, "ids": ids, "atlas": list(part.atlas), "network_names": list(part.network_names)}, own
    if kind not in _RECORDS:
        raise DataError(
            f"Expected columns, bins, events, connectomes or images to keep of {name}, found a {kind}. Keep what was read, not what was made of it."
        )
    return {"kind": kind, "ids": ids}, _known(part)


def _restored(record: Mapping[str, Any], tensors: Mapping[str, Tensor], builder: Any) -> Any:
    kind, ids = record["kind"], tuple(record["ids"])
    if kind == ImageBatch.__name__:
        assert isinstance(builder, ImageBuilder)
        about = {key: record[key] for key in ("rank", "clip", "classes", "mask_values")}
        data = ImageData(pd.DataFrame(record["table"]), root=Path(record["root"]), **about)
        rows = Pending(ImageSource(data, builder.preparation_, builder.memory_mib << 20), tuple(range(len(data))))
        groups = {group: tuple(values) for group, values in record["groups"].items()}
        return ImageBatch(ids, rows, rows if data.has_masks else None, None, data.clip, groups)
    if kind == ConnectomeBatch.__name__:
        own: dict[str, Any] = {key: tensors[key] for key in _OF_CONNECTOMES}
        known = {key.removeprefix("covariates."): tensor for key, tensor in tensors.items() if key.startswith("covariates.")}
        covariates = TableBatch.of_tensors(ids, known) if known else None
        return ConnectomeBatch(ids, **own, atlas=tuple(record["atlas"]), network_names=tuple(record["network_names"]), covariates=covariates)
    return _RECORDS[kind].of_tensors(ids, dict(tensors))


def _known(records: AbstractRecords) -> dict[str, Tensor]:
    """Tensors of records but for what says what is hidden."""
    return {key: tensor for key, tensor in records.tensors().items() if not key.endswith("hidden")}


def _references(name: str, part: ImageBatch) -> tuple[Pending, ImageSource]:
    found = part.references
    if found is None or not isinstance(found.source, ImageSource):
        raise DataError(f"Expected the images of {name} by reference, found pixels. Make the patients with the builder, from a cohort.")
    return found, found.source
