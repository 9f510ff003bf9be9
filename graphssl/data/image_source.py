"""Images of a cohort decoded and prepared when they are asked for, and kept as far as memory is given."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from graphssl.data.image_files import Picture, content_hash, read_picture
from graphssl.data.image_preparation import Preparation
from graphssl.data.images import ImageData
from graphssl.errors import DataError


@dataclass(eq=False)
class ImageSource:
    """Images by their row in a cohort's references; a [`PixelSource`][graphssl.data.image_batch.PixelSource].

    Each file is checked against the hash of its reference when it is first read. Prepared images are kept in the order in which they are asked for
    until the memory is full: epochs come by all rows in a new order each, so that keeping those that were used last would keep none.

    Args:
        data: The references.
        preparation: What is done to each image.
        memory: Bytes for prepared images, and as much for masks.
    """

    data: ImageData
    preparation: Preparation
    memory: int = 1 << 30
    _images: "_Kept" = field(init=False, repr=False)
    _masks: "_Kept" = field(init=False, repr=False)
    _checked: set[str] = field(init=False, repr=False, default_factory=set)

    def __post_init__(self) -> None:
        self._images = _Kept(len(self.data), self.size, torch.float32, self.memory)
        self._masks = _Kept(len(self.data), self.size[1:], torch.int16, self.memory)

    @property
    def size(self) -> tuple[int, ...]:
        """Channels and voxels of every row `[C, *S]`."""
        return (self.preparation.channels, *self.preparation.size)

    @property
    def has_masks(self) -> bool:
        """Whether there are segmentation masks."""
        return self.data.has_masks

    def images(self, rows: Sequence[int]) -> Float[Tensor, "B C *S"]:
        """Pixels of some rows.

        Raises:
            DataError: If a file is gone, damaged, or not what it was when the references were made.
        """
        return self._images.get(rows, self._image)

    def masks(self, rows: Sequence[int]) -> Int[Tensor, "B *S"]:
        """Segmentation masks of some rows; -1 everywhere in a row without one.

        Raises:
            DataError: If a mask has another shape than its image, or a value that is no class.
        """
        return self._masks.get(rows, self._mask).long()

    def signature(self, rows: Sequence[int]) -> bytes:
        """What tells these rows from others, without decoding them: contents and preparation."""
        table = self.data.table.iloc[list(rows)]
        parts = [repr(self.preparation), *(f"{h} {p} {m}" for h, p, m in zip(table["hash"], table["part"], table["mask_hash"], strict=True))]
        return hashlib.sha256("\n".join(parts).encode()).digest()

    def picture(self, row: int, *, mask: bool = False) -> Picture:
        """What the file of a row holds, as it is.

        Raises:
            DataError: If the file is gone, damaged, or not what it was when the references were made.
        """
        before = "mask_" if mask else ""
        path, part, content = (str(self.data.table[before + name].iloc[row]) for name in ("path", "part", "hash"))
        place = self.data.place(path)
        picture = read_picture(place, part, self.data.n_axes)
        key = f"{path}\n{part if place.is_dir() else ''}"
        if key not in self._checked and content_hash(place, part) != content:
            raise DataError(f"Expected {place} as it was when the cohort was made, found other content. Build the cohort again.")
        self._checked.add(key)
        return picture

    def _image(self, row: int) -> Tensor:
        return self.preparation.pixels(self.picture(row))

    def _mask(self, row: int) -> Tensor:
        path = self.data.table["mask_path"].iloc[row]
        if not path:
            return torch.full(self.size[1:], -1)
        picture, shape = self.picture(row, mask=True), self.data.table["shape"].iloc[row]
        if picture.pixels.shape[1:] != shape:
            raise DataError(f"Expected the mask {self.data.place(path)} to have the shape {shape} of its image, found {picture.pixels.shape[1:]}.")
        try:
            return self.preparation.mask(picture, self.data.mask_values)
        except DataError as error:
            raise DataError(f"{self.data.place(path)}: {error}") from error


class _Kept:
    """Tensors of one shape by row, the first ones that fit into memory kept."""

    def __init__(self, n_rows: int, shape: Sequence[int], dtype: torch.dtype, memory: int) -> None:
        per_row = max(1, torch.Size(shape).numel() * dtype.itemsize)
        self.shape, self.dtype = tuple(shape), dtype
        self.capacity = min(n_rows, memory // per_row)
        self.place = torch.full((n_rows,), -1)
        self.store: Tensor | None = None
        self.n_stored = 0

    def get(self, rows: Sequence[int], make: Callable[[int], Tensor]) -> Tensor:
        """Tensors of some rows `[B, *S]`; those not at hand are made, several at a time."""
        made = dict.fromkeys(row for row in rows if self.place[row] < 0)
        if len(made) > 1:
            with ThreadPoolExecutor(max_workers=min(len(made), os.cpu_count() or 1)) as pool:  # decoders work outside of Python's lock
                fresh = dict(zip(made, pool.map(make, made), strict=True))
        else:
            fresh = {row: make(row) for row in made}
        fresh = {row: self._keep(row, tensor.to(self.dtype)) for row, tensor in fresh.items()}
        if not fresh and self.store is not None:
            return self.store[self.place[list(rows)]]
        found = [fresh[row] if row in fresh else self._stored(row) for row in rows]
        return torch.stack(found) if found else torch.zeros(0, *self.shape, dtype=self.dtype)

    def _keep(self, row: int, tensor: Tensor) -> Tensor:
        if self.n_stored < self.capacity:
            if self.store is None:
                self.store = torch.empty(self.capacity, *self.shape, dtype=self.dtype)
            self.store[self.n_stored] = tensor
            self.place[row] = self.n_stored
            self.n_stored += 1
        return tensor

    def _stored(self, row: int) -> Tensor:
        assert self.store is not None
        return self.store[self.place[row]]
