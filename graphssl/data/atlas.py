"""An atlas as a container: which regions, where, and in which networks. Readers live in `graphssl.atlases`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from graphssl.errors import AtlasError

# Centroids of one atlas differ by some mm between a table and a volume; those of another atlas by tens.
_SAME_PLACE_MM = 10.0


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions of a parcellation, in the order in which data hold them.

    Regions are known by their label id, never by their position: tables in the field have gaps and other orders.

    Args:
        name: Short name, such as `"cc200"`.
        labels: Label ids `[R]`, unique positive integers.
        names: Region names `[R]`.
        centroids: Centroids in MNI mm `[R, 3]`.
        networks: Network of each region `[R]`; `""` where none is known.
        space: Name of the space of the centroids.

    Raises:
        AtlasError: If lengths disagree, labels repeat or are no positive whole numbers, or a centroid is not finite.
    """

    name: str
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    centroids: npt.NDArray[np.float32]
    networks: tuple[str, ...]
    space: str = "MNI152"

    def __post_init__(self) -> None:
        labels = _label_ids(self.name, self.labels)
        centroids = np.asarray(self.centroids, dtype=np.float32)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "centroids", centroids)
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        object.__setattr__(self, "networks", tuple(str(network) for network in self.networks))
        n_regions = labels.size
        if n_regions == 0:
            raise AtlasError(f"Expected at least one region in atlas {self.name!r}, found none.")
        found = {"names": len(self.names), "centroids": len(centroids), "networks": len(self.networks)}
        wrong = {what: n for what, n in found.items() if n != n_regions}
        if wrong or centroids.shape != (n_regions, 3):
            raise AtlasError(
                f"Expected {n_regions} names, networks and centroids [R, 3] for the {n_regions} labels of atlas {self.name!r}; "
                f"found {wrong or centroids.shape}."
            )
        values, counts = np.unique(labels, return_counts=True)
        if (counts > 1).any():
            raise AtlasError(f"Expected unique labels in atlas {self.name!r}, found repeated {values[counts > 1].tolist()[:5]}.")
        if not np.isfinite(centroids).all():
            bad = labels[~np.isfinite(centroids).all(axis=1)]
            raise AtlasError(f"Expected finite centroids in atlas {self.name!r}; labels {bad.tolist()[:5]} have none.")

    def __len__(self) -> int:
        return int(self.labels.size)

    def __repr__(self) -> str:
        return f"Atlas({self.name!r}, {len(self)} regions, {len(self.network_names)} networks, {self.space}, hash {self.hash})"

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over label ids and names: two atlases of one name but other labels differ here."""
        text = "\n".join(f"{label}\t{name}" for label, name in zip(self.labels.tolist(), self.names, strict=True))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def network_names(self) -> tuple[str, ...]:
        """Known networks, sorted; regions without one do not count."""
        return tuple(sorted({network for network in self.networks if network}))

    @property
    def display_names(self) -> tuple[str, ...]:
        """A readable name a region: its own, or the atlas' name and the label id where it has none."""
        return tuple(name or f"{self.name}-{label}" for name, label in zip(self.names, self.labels.tolist(), strict=True))

    def select(self, labels: Sequence[int] | npt.NDArray[np.int64]) -> "Atlas":
        """The atlas with the given labels only, in the given order.

        Raises:
            AtlasError: If a label is not in the atlas.
        """
        position = {label: index for index, label in enumerate(self.labels.tolist())}
        wanted = [int(label) for label in labels]
        unknown = [label for label in wanted if label not in position]
        if unknown:
            raise AtlasError(
                f"Expected labels of atlas {self.name!r} ({len(self)} regions), found {len(unknown)} unknown: {unknown[:5]}. "
                "Give the atlas the data were made with."
            )
        order = [position[label] for label in wanted]
        return Atlas(
            self.name,
            self.labels[order],
            tuple(self.names[i] for i in order),
            self.centroids[order],
            tuple(self.networks[i] for i in order),
            self.space,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "space": self.space,
            "hash": self.hash,
            "labels": self.labels.tolist(),
            "names": list(self.names),
            "centroids": [[float(str(value)) for value in row] for row in self.centroids],  # the shortest text that reads back as the same float32
            "networks": list(self.networks),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Atlas":
        """The inverse of `to_dict`.

        Raises:
            AtlasError: If an entry is missing, or the stored hash does not fit the stored labels.
        """
        try:
            atlas = cls(record["name"], record["labels"], record["names"], record["centroids"], record["networks"], record["space"])
            stored = record["hash"]
        except KeyError as error:
            raise AtlasError(f"Expected an atlas record with the entry {error}, found {sorted(record)}.") from error
        except (TypeError, ValueError) as error:
            raise AtlasError(f"Expected an atlas record of labels, names, centroids and networks, found a damaged one ({error}).") from error
        if stored != atlas.hash:
            raise AtlasError(f"Expected atlas {atlas.name!r} with hash {stored}, found {atlas.hash}: its labels or names were changed.")
        return atlas


def check_atlas(expected: Atlas, found: Atlas) -> None:
    """Check that data are in the atlas a model was made with.

    Raises:
        AtlasError: If labels or names differ; says which.
    """
    if expected.hash == found.hash:
        apart = float(np.linalg.norm(expected.centroids - found.centroids, axis=1).mean())
        if apart > _SAME_PLACE_MM:
            raise AtlasError(
                f"Expected the regions of atlas {expected.name!r} where the model knows them, found them {apart:.0f} mm away on average: "
                "the same labels stand for other regions. Use the atlas of the training data, or convert the data to it."
            )
        return
    mine, theirs = set(expected.labels.tolist()), set(found.labels.tolist())
    if mine != theirs:
        what = f"labels only in the model {sorted(mine - theirs)[:5]}, only in the data {sorted(theirs - mine)[:5]}"
    else:
        what = "the same labels in another order or under other names"
    raise AtlasError(
        f"Expected atlas {expected.name!r} with {len(expected)} regions (hash {expected.hash}), found {len(found)} regions (hash {found.hash}): "
        f"{what}. Use the atlas of the training data, or convert the data to it."
    )


def _label_ids(name: str, labels: npt.ArrayLike) -> npt.NDArray[np.int64]:
    found = np.asarray(labels)
    if found.size and (found.ndim != 1 or found.dtype.kind not in "iuf" or (found % 1 != 0).any() or (found < 1).any()):
        raise AtlasError(
            f"Expected positive whole numbers as labels of atlas {name!r}, found {found.ravel()[:5].tolist()}. "
            "Label 0 is the background of a volume and no region; names belong into names."
        )
    return found.astype(np.int64)
