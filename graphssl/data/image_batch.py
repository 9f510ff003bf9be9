"""A batch of images, volumes or clips: references until pixels are asked for, tensors from then on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, overload

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from graphssl.data.batch import row_numbers
from graphssl.errors import DataError

_CPU = torch.device("cpu")


class PixelSource(Protocol):
    """What decodes and prepares the images of a cohort when they are asked for, all to one size."""

    @property
    def size(self) -> tuple[int, ...]:
        """Channels and voxels of every row `[C, *S]`."""

    @property
    def has_masks(self) -> bool:
        """Whether there are segmentation masks."""

    def images(self, rows: Sequence[int]) -> Float[Tensor, "B C *S"]:
        """Pixels of some rows."""

    def masks(self, rows: Sequence[int]) -> Int[Tensor, "B *S"]:
        """Segmentation masks of some rows; -1 everywhere in a row without one."""

    def signature(self, rows: Sequence[int]) -> bytes:
        """What tells these rows from others, without decoding them."""


@dataclass(frozen=True)
class Pending:
    """Rows of a source that nobody has asked for yet; in a batch they stand for pixels or masks.

    Args:
        source: What decodes them.
        rows: Their numbers there.
        device: Where they go once they are decoded.
    """

    source: PixelSource
    rows: tuple[int, ...]
    device: torch.device = _CPU

    def decoded(self, what: str) -> Tensor:
        """Pixels (`images`) or segmentation masks (`masks`)."""
        tensor: Tensor = getattr(self.source, what)(self.rows)
        return tensor.to(self.device)


class Later:
    """Masks on their way through views, which are worked out when somebody reads them: most objectives never do.

    Args:
        make: What gives them.
    """

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self._make: Callable[[], Tensor] | None = make
        self._made: Tensor | None = None

    def read(self) -> Tensor:
        """The masks, made once."""
        if self._make is not None:
            self._made, self._make = self._make(), None  # what they were made of can go
        assert self._made is not None
        return self._made


class _Decoded:
    """A field that holds a tensor, or what becomes one when it is first read (a descriptor-typed field of a dataclass)."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __set_name__(self, owner: type, name: str) -> None:
        self.slot = f"_{name}"

    def __set__(self, batch: Any, value: Any) -> None:
        batch.__dict__[self.slot] = value

    def _read(self, batch: Any) -> Any:
        value = batch.__dict__[self.slot]
        if isinstance(value, Pending | Later):
            if isinstance(value, Pending):
                batch.__dict__[f"{self.slot}_of"] = value
            value = value.decoded(self.what) if isinstance(value, Pending) else value.read()
            batch.__dict__[self.slot] = value
        return value


class _Images(_Decoded):
    def __get__(self, batch: Any, owner: type | None = None) -> Tensor:
        if batch is None:
            raise AttributeError("images")  # the field has no default
        return self._read(batch)

    def __set__(self, batch: Any, value: Tensor | Pending) -> None:
        super().__set__(batch, value)


class _Masks(_Decoded):
    @overload
    def __get__(self, batch: None, owner: type) -> None: ...
    @overload
    def __get__(self, batch: Any, owner: type) -> Tensor | None: ...
    def __get__(self, batch: Any, owner: type | None = None) -> Tensor | None:
        return None if batch is None else self._read(batch)

    def __set__(self, batch: Any, value: Tensor | Pending | Later | None) -> None:
        super().__set__(batch, value)


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images, volumes or clips of one size; a row is one image. `changed` gives a batch with other images.

    A whole cohort is one batch of references. Taking rows copies references, and so does moving; pixels are decoded when `images` is first read, and
    masks when `masks` is.

    Args:
        subject_ids: Subject of each row `[B]`.
        images: Pixels `[B, C, H, W]`, `[B, C, D, H, W]` of volumes, `[B, C, T, H, W]` of clips; or rows of a source that decodes them.
        masks: Class of each voxel `[B, *S]`; 0 is the background, -1 is unknown. None where there are no masks.
        visible: Which voxels can be read `[B, *S]`; None where all can. An objective hides some.
        clip: Whether the first axis of the voxels is time.
        groups: What a row belongs to, by name of the group, such as `volume` or `clip` `[B]`; `group` is what stays together in a split.

    Raises:
        DataError: If the shapes do not fit one another.
    """

    subject_ids: tuple[str, ...]
    images: _Images = _Images("images")  # the default of a descriptor-typed field is the descriptor
    masks: _Masks = _Masks("masks")
    visible: Bool[Tensor, "B *S"] | None = None
    clip: bool = False
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, shape = len(self.subject_ids), self.shape
        n_axes = (5,) if self.clip else (4, 5)
        if len(shape) not in n_axes or shape[0] != n:
            kinds = "[B, C, T, H, W] of clips" if self.clip else "[B, C, H, W] or [B, C, D, H, W]"
            raise DataError(f"Expected images {kinds} of {n} rows, found shape {tuple(shape)}.")
        voxels = (n, *shape[2:])
        masks = self.__dict__["_masks"]
        beside = {"masks": masks if isinstance(masks, Tensor) else None, "visible": self.visible}
        wrong = {name: tuple(tensor.shape) for name, tensor in beside.items() if tensor is not None and tuple(tensor.shape) != voxels}
        wrong |= {name: (len(values),) for name, values in self.groups.items() if len(values) != n}
        if wrong:
            raise DataError(
                f"Expected shape {voxels} of masks and of what is visible, and a group a row, for images of shape {shape}, found {wrong}."
            )

    def __len__(self) -> int:
        return len(self.subject_ids)

    def __repr__(self) -> str:
        noun = "clips" if self.clip else "volumes" if self.rank == 3 else "images"
        size = " × ".join(map(str, self.shape[2:]))
        state = "not decoded" if self.pending is not None else str(self.device)
        return f"ImageBatch({len(self)} {noun} of {self.shape[1]} channels, {size}{', with masks' if self.has_masks else ''}; {state})"

    @property
    def pending(self) -> Pending | None:
        """The rows that are not decoded yet, or None."""
        value = self.__dict__["_images"]
        return value if isinstance(value, Pending) else None

    @property
    def references(self) -> Pending | None:
        """The rows of a source that the images are, decoded or not; None where they are others than a source has."""
        found = self.pending or self.__dict__.get("_images_of")
        return found if isinstance(found, Pending) else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the images `[B, C, *S]`, known without decoding them."""
        value = self.__dict__["_images"]
        return (len(value.rows), *value.source.size) if isinstance(value, Pending) else tuple(value.shape)

    @property
    def rank(self) -> int:
        """Axes of space: 2 of images and clips, 3 of volumes."""
        return 3 if len(self.shape) == 5 and not self.clip else 2

    @property
    def has_masks(self) -> bool:
        """Whether there are segmentation masks, known without decoding them."""
        return self.__dict__["_masks"] is not None

    @property
    def device(self) -> torch.device:
        """Where the tensors are, or will be once they are decoded."""
        return self.images.device if self.pending is None else self.pending.device

    def __getitem__(self, rows: Sequence[int] | Int[Tensor, "b"] | Bool[Tensor, "B"]) -> "ImageBatch":
        """The given rows, by number or by a mask of booleans; what is not decoded stays so."""
        index = row_numbers(rows, _CPU)
        chosen = index.tolist()

        def of(tensor: Tensor) -> Tensor:
            return tensor[index.to(tensor.device)]

        def taken(value: Any) -> Any:
            if isinstance(value, Pending):
                return Pending(value.source, tuple(value.rows[i] for i in chosen), value.device)
            if isinstance(value, Later):
                return Later(lambda: of(value.read()))
            return None if value is None else of(value)

        return ImageBatch(
            tuple(self.subject_ids[i] for i in chosen),
            taken(self.__dict__["_images"]),
            taken(self.__dict__["_masks"]),
            taken(self.visible),
            self.clip,
            {name: tuple(values[i] for i in chosen) for name, values in self.groups.items()},
        )

    def to(self, device: torch.device | str) -> "ImageBatch":
        """The batch on another device; what is not decoded goes there once it is."""

        def moved(value: Any) -> Any:
            if isinstance(value, Pending):
                return Pending(value.source, value.rows, torch.device(device))
            if isinstance(value, Later):
                return Later(lambda: value.read().to(device))
            return None if value is None else value.to(device)

        held = self.__dict__
        return replace(self, images=moved(held["_images"]), masks=moved(held["_masks"]), visible=moved(self.visible))

    def changed(self, **fields: Any) -> "ImageBatch":
        """The batch with other fields, as `dataclasses.replace` gives it, but what nobody has read is not decoded for that."""
        return replace(self, **{"images": self.__dict__["_images"], "masks": self.__dict__["_masks"], **fields})

    def masks_later(self, change: Callable[[Tensor], Tensor] = lambda masks: masks) -> Later | None:
        """The masks for another batch, changed once somebody reads them; None where there are none.

        Args:
            change: What is done to them; keep no images in it.
        """
        held = self.__dict__["_masks"]
        if isinstance(held, Pending):
            rows = held
            held = self.__dict__["_masks"] = Later(lambda: rows.decoded("masks"))  # decoded once, for this batch and all that come of it
        if held is None:
            return None
        return Later(lambda: change(held.read() if isinstance(held, Later) else held))

    def hide(self, hidden: Bool[Tensor, "B *S"]) -> "ImageBatch":
        """The batch with some voxels made unreadable: not visible, zero in every channel."""
        visible = ~hidden if self.visible is None else self.visible & ~hidden
        return self.changed(images=self.images.masked_fill(hidden.unsqueeze(1), 0.0), visible=visible)

    def without_masks(self) -> "ImageBatch":
        """The batch without segmentation masks, which are then never decoded."""
        return self.changed(masks=None)

    def signature(self) -> bytes:
        """What tells these rows from others: subjects, and contents of the files where they are not decoded, else the sum of each row's pixels."""
        ids = "\n".join(self.subject_ids).encode()
        if self.pending is not None:
            return ids + self.pending.source.signature(self.pending.rows)
        return ids + self.images.double().flatten(start_dim=1).sum(dim=1).cpu().numpy().tobytes()

    @classmethod
    def cat(cls, batches: Sequence["ImageBatch"]) -> "ImageBatch":
        """Batches of one size below one another; decoded, unless none is and all are of one source.

        Raises:
            DataError: If there is none, sizes differ, some hold clips, or some have masks or groups and others none.
        """
        if not batches:
            raise DataError("Expected at least one batch of images, found none.")
        described = {(batch.shape[1:], batch.clip, batch.has_masks, tuple(batch.groups)) for batch in batches}
        if len(described) > 1:
            raise DataError(f"Expected images of one size and kind in all batches, found {sorted(map(str, described))[:2]}. Use one builder.")
        waiting = [each for batch in batches if (each := batch.pending) is not None]
        images: Tensor | Pending
        if len(waiting) == len(batches) and len({(id(each.source), each.device) for each in waiting}) == 1:
            images = Pending(waiting[0].source, tuple(row for each in waiting for row in each.rows), waiting[0].device)
        else:
            images = torch.cat([batch.changed().images for batch in batches])  # of copies, so that the parts stay references
        visible = None
        if any(batch.visible is not None for batch in batches):
            seen = [torch.ones_like(batch.images[:, 0], dtype=torch.bool) if batch.visible is None else batch.visible for batch in batches]
            visible = torch.cat(seen)
        masks = [later for batch in batches if (later := batch.masks_later()) is not None]
        return cls(
            tuple(subject for batch in batches for subject in batch.subject_ids),
            images,
            Later(lambda: torch.cat([each.read() for each in masks])) if masks else None,
            visible,
            batches[0].clip,
            {name: tuple(value for batch in batches for value in batch.groups[name]) for name in batches[0].groups},
        )
