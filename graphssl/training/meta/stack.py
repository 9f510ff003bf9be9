"""The batches of several tasks as one, so that a function of one task runs over all of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from graphssl.data.connectome import ConnectomeBatch
from graphssl.data.image_batch import ImageBatch
from graphssl.data.records import AbstractRecords
from graphssl.errors import DataError


@dataclass(frozen=True)
class Stacked:
    """Batches of several tasks as tensors with the task in front.

    Args:
        tensors: Dictionaries, tuples and lists of tensors `[T, …]`, as `torch.func.vmap` takes them.
        template: A batch of one task, whose tensors are to be replaced.
    """

    tensors: Any
    template: Any

    def task(self, tensors: Any) -> Any:
        """The batch of one task, of its part of the tensors; called inside of the function that is mapped."""
        return _filled(self.template, tensors)


def stack(tasks: Sequence[Any]) -> Stacked:
    """Stack what each task has: batches, tensors such as labels, or tuples, lists and dictionaries of them.

    Connectomes are padded to the largest atlas of all tasks; batches need as many rows in each. A mapped function sees one `subject_ids` for all
    tasks: where tasks hold different subjects these are neutral names, which tell only whether two rows are of one subject. The same holds for
    `atlas`. So what is looked up by subject cannot be read there: give labels as a tensor beside the batch.

    Args:
        tasks: What each task has, in the same form.

    Raises:
        DataError: If there is no task, or tasks differ in form, in number of rows, or in which rows are of one subject or one atlas.
    """
    if not tasks:
        raise DataError("Expected at least one task, found none.")
    kinds = {type(task) for task in tasks}
    if len(kinds) > 1:
        raise DataError(f"Expected the same kind of data in each task, found {', '.join(sorted(kind.__name__ for kind in kinds))}.")
    first = tasks[0]
    if isinstance(first, Tensor):
        return Stacked(_stacked_tensors(tasks), first)
    if isinstance(first, ConnectomeBatch):
        return _stacked_connectomes(tasks)
    if isinstance(first, AbstractRecords):
        return _stacked_records(tasks)
    if isinstance(first, ImageBatch):
        return _stacked_images(tasks)
    if isinstance(first, dict):
        _check_sizes([tuple(task) for task in tasks], "the same entries")
        parts = {key: stack([task[key] for task in tasks]) for key in first}
        return Stacked({key: part.tensors for key, part in parts.items()}, {key: part.template for key, part in parts.items()})
    if isinstance(first, tuple | list):
        _check_sizes([len(task) for task in tasks], "as many entries")
        columns = [stack(column) for column in zip(*tasks, strict=True)]
        return Stacked([column.tensors for column in columns], _sequence(first, [column.template for column in columns]))
    raise DataError(
        f"Expected batches of connectomes, records or images, or tensors, found {type(first).__name__}. "
        "Take tasks one after the other: path='sequential'."
    )


def _stacked_tensors(tensors: Sequence[Tensor]) -> Tensor:
    _check_sizes([tuple(tensor.shape) for tensor in tensors], "tensors of the same shape")
    return torch.stack(list(tensors))


def _stacked_records(batches: Sequence[AbstractRecords]) -> Stacked:
    """Joined below one another, which pads events, and cut apart again."""
    _check_sizes([len(batch) for batch in batches], "as many rows")
    n_rows = len(batches[0])
    joined = batches[0].cat(batches)
    names = _neutral([batch.subject_ids for batch in batches], "subject_ids")
    template = joined.of_tensors(names, {name: tensor[:n_rows] for name, tensor in joined.tensors().items()})
    return Stacked(_unflattened(joined.tensors(), (len(batches), n_rows)), template)


def _stacked_connectomes(batches: Sequence[ConnectomeBatch]) -> Stacked:
    """Likewise, padded to the largest atlas."""
    _check_sizes([len(batch) for batch in batches], "as many rows")
    n_rows = len(batches[0])
    joined = ConnectomeBatch.cat(batches)
    template = _named(batches[0], {name: _neutral([getattr(batch, name) for batch in batches], name) for name in _names(batches[0])})
    return Stacked(_unflattened(_tensors(joined), (len(batches), n_rows)), template)


def _stacked_images(batches: Sequence[ImageBatch]) -> Stacked:
    held = [name for name in ("images", "masks", "visible") if getattr(batches[0], name) is not None]
    _check_sizes(
        [tuple(name for name in held if getattr(batch, name) is not None) for batch in batches], "the same of images, masks and what is visible"
    )
    names = _neutral([batch.subject_ids for batch in batches], "subject_ids")
    tensors = {name: _stacked_tensors([getattr(batch, name) for batch in batches]) for name in held}
    return Stacked(tensors, replace(batches[0], subject_ids=names, groups={}))


def _check_sizes(found: Sequence[Any], what: str) -> None:
    if len(set(found)) > 1:
        raise DataError(f"Expected {what} in each task, found {list(found)[:8]}. Take equal tasks, or one after the other: path='sequential'.")


def _names(batch: Any) -> list[str]:
    return [name for name in ("subject_ids", "atlas") if name in {field.name for field in fields(batch)}]


def _neutral(names: Sequence[tuple[str, ...]], what: str) -> tuple[str, ...]:
    """Names that are right for every task: their own where these agree, else such as tell only which rows share one."""
    if len(set(names)) == 1:
        return names[0]
    patterns = {tuple(row.index(name) for name in row) for row in names}
    if len(patterns) > 1:
        raise DataError(
            f"Expected tasks to have rows of one {what} in the same places, found different ones. "
            "Draw tasks alike, or take one after the other: path='sequential'."
        )
    return tuple(f"row {place} of a task" for place in patterns.pop())


def _named(batch: Any, names: dict[str, tuple[str, ...]]) -> Any:
    nested = {
        field.name: _named(getattr(batch, field.name), {name: names[name] for name in _names(getattr(batch, field.name))})
        for field in fields(batch)
        if is_dataclass(getattr(batch, field.name))
    }
    return replace(batch, **names, **nested)


def _tensors(batch: Any) -> dict[str, Any]:
    """Tensors of a batch by field; those of what it holds, such as covariates, nested."""
    found: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            found[field.name] = value
        elif is_dataclass(value):
            found[field.name] = _tensors(value)
    return found


def _unflattened(tensors: dict[str, Any], sizes: tuple[int, int]) -> dict[str, Any]:
    return {name: _unflattened(value, sizes) if isinstance(value, dict) else value.unflatten(0, sizes) for name, value in tensors.items()}


def _filled(template: Any, tensors: Any) -> Any:
    if isinstance(template, Tensor):
        return tensors
    if isinstance(template, AbstractRecords):
        return template.of_tensors(template.subject_ids, tensors)
    if isinstance(template, dict):
        return {key: _filled(template[key], tensors[key]) for key in template}
    if isinstance(template, tuple | list):
        return _sequence(template, [_filled(part, values) for part, values in zip(template, tensors, strict=True)])
    nested = {name: _filled(getattr(template, name), value) if isinstance(value, dict) else value for name, value in tensors.items()}
    return replace(template, **nested)


def _sequence(like: Any, values: list[Any]) -> Any:
    """Values as a list, a tuple, or a named tuple."""
    return type(like)(*values) if hasattr(like, "_fields") else type(like)(values)
