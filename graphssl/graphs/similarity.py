"""How alike two patients are in a group of features: the forms of similarity.

Every similarity is worked out in two ways. `exact` takes pairs, in double precision and value by value, so that a pair's similarity never depends on
which other pairs are asked for. `key` takes a block of all pairs in single precision through matrix products, and writes what ranks them; what
`from_key` makes of it is never smaller than `exact` but for rounding of the last digits. It finds the few pairs that `exact` has to look at.

The forms follow Pellegrini et al., *Unsupervised pre-training of graph transformers on patient population graphs*, Medical Image Analysis 2023
(demographic, cognitive, imaging, and statistics of time series). A value that one of two patients lacks is left out of their comparison; patients who
have no value of a group in common have the similarity 0 in it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from scipy.special import expit
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.data.schema import Column
from graphssl.data.transforms import as_numbers, as_table, as_words
from graphssl.errors import CheckpointError, DataError, SchemaError
from graphssl.graphs.feature_groups import FeatureGroup

Floats = npt.NDArray[np.float64]

_SINGLE = 2.0**-24  # largest relative error of rounding to single precision


class AbstractGroupSimilarity(ABC):
    """The similarity of one group, fitted on training patients. Values are encoded first: `[n, C]` numbers, NaN where missing."""

    def __init__(self, group: FeatureGroup) -> None:
        self.group = group

    @abstractmethod
    def fit(self, X: Cohort | pd.DataFrame) -> Floats:
        """Learn units, lengths or categories from training patients, and give their values as `encode` does.

        Raises:
            SchemaError: If a column is absent or not of its kind.
            DataError: If no training patient has a value of the group.
        """

    @abstractmethod
    def encode(self, X: Cohort | pd.DataFrame) -> Floats:
        """Values of patients as numbers `[n, C]`.

        Raises:
            SchemaError: If a column is absent or not of its kind.
        """

    @abstractmethod
    def exact(self, x: Floats, y: Floats) -> Floats:
        """Similarity of pairs `[...]` of encoded patients `[..., C]`, which broadcast."""

    @abstractmethod
    def operands(self, x: Floats, y: Floats) -> "tuple[Operand, Operand]":
        """What `key` takes, for patients asked about `[b, C]` and those they are compared with `[n, C]`."""

    @abstractmethod
    def key(self, x: "Operand", y: "Operand", out: Float[Tensor, "b n"]) -> None:
        """Write into `out` what ranks all pairs as the similarity does, or a little higher."""

    def from_key(self, key: Tensor) -> Tensor:
        """Turn keys into similarities, in their place."""
        return key

    def upper(self, x: "Operand", y: "Operand") -> Float[Tensor, "b n"]:
        """The similarity of all pairs, or a little more."""
        out = torch.empty(x.height, y.height)
        self.key(x, y, out)
        return self.from_key(out)

    def vectors(self, x: Floats) -> "tuple[str, Floats] | None":
        """Vectors `[n, D]` of patients who lack no value, whose `"distance"` or `"product"` ranks as the similarity does; None if none do."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was fitted, as plain values for JSON."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""


@dataclass(frozen=True)
class Operand:
    """One side of a block of pairs, prepared for matrix products; `rows` cuts it."""

    tensors: tuple[Tensor, ...]

    @property
    def height(self) -> int:
        """How many patients."""
        return self.tensors[0].shape[-2]

    def rows(self, part: slice) -> "Operand":
        """The given patients; they are the last axis but one of every tensor."""
        return Operand(tuple(tensor[..., part, :] for tensor in self.tensors))


def group_similarity(group: FeatureGroup) -> AbstractGroupSimilarity:
    """The similarity a group names, to be fitted."""
    forms: dict[str, type[AbstractGroupSimilarity]] = {"agreement": Agreement, "statistics": Statistics, "cosine": Cosine}
    return forms.get(group.similarity, Distance)(group)


class Agreement(AbstractGroupSimilarity):
    """Share of equal values among those that both have; numbers with a tolerance are equal within it.

    Columns that are no numbers among the training patients are compared as categories. One that no training patient has agrees with none.
    """

    def fit(self, X: Cohort | pd.DataFrame) -> Floats:
        """Learn the categories."""
        _check_columns(X, self.group)
        table = as_table(X)
        plain = [name for name in self.group.column_names if name not in self.group.tolerance and not _is_numeric(table, name)]
        words = {name: sorted(set(as_words(Column(name, "categorical"), table).dropna())) for name in plain}
        self.restore({"categories": words})
        values = self.encode(X)
        _check_observed(self.group, values)
        return values

    def encode(self, X: Cohort | pd.DataFrame) -> Floats:
        """Numbers as they are, categories by their place among the training patients', -1 for others."""
        table = as_table(X)
        if not self.categories_ and (values := _numbers_at_once(table, self.group.column_names)) is not None:
            return values
        columns = []
        for name in self.group.column_names:
            if name in self.categories_:
                words = as_words(Column(name, "categorical"), table)
                place = pd.Index(self.categories_[name], dtype="str").get_indexer(pd.Index(words)).astype(np.float64)
                columns.append(np.where(words.isna().to_numpy(), np.nan, place))
            else:
                columns.append(as_numbers(Column(name, "continuous"), table))
        return np.column_stack(columns)

    def exact(self, x: Floats, y: Floats) -> Floats:
        """Share of the columns that both have in which they agree."""
        gap = np.abs(x - y)
        return _share((gap <= self.tolerance_).sum(axis=-1), (~np.isnan(gap)).sum(axis=-1))

    def operands(self, x: Floats, y: Floats) -> tuple[Operand, Operand]:
        """Values shifted to keep their digits in single precision, and which there are where some are missing."""
        shift = _finite_means(y)
        if not (np.isnan(x).any() or np.isnan(y).any()):
            return Operand((_single(x - shift),)), Operand((_single(y - shift),))
        sides = tuple(Operand((_single(side - shift), _single(~np.isnan(side)))) for side in (x, y))
        return sides[0], sides[1]

    def key(self, x: Operand, y: Operand, out: Float[Tensor, "b n"]) -> None:
        """Agreement with tolerances widened by what rounding may add."""
        values, others = x.tensors[0], y.tensors[0]
        out.zero_()
        for c, tolerance in enumerate(self.tolerance_.tolist()):
            if tolerance == 0:  # what is equal stays so in single precision
                out += values[:, c, None] == others[None, :, c]
                continue
            size = max((float(side[:, c].nan_to_num().abs().max()) for side in (values, others) if len(side)), default=0.0)
            out += (values[:, c, None] - others[None, :, c]).abs_() <= tolerance + 8 * _SINGLE * (size + tolerance)
        out.div_(len(self.tolerance_) if len(x.tensors) == 1 else (x.tensors[1] @ y.tensors[1].T).clamp_(min=1.0))

    def vectors(self, x: Floats) -> tuple[str, Floats] | None:
        """One-hot categories, whose product is the share; None where there are numbers."""
        if len(self.categories_) < x.shape[1]:
            return None
        hot = [np.arange(len(self.categories_[name])) == x[:, c, None] for c, name in enumerate(self.group.column_names)]
        return "product", np.concatenate(hot, axis=1) / np.sqrt(x.shape[1])

    def state(self) -> dict[str, Any]:
        """The categories."""
        return {"categories": self.categories_}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.categories_: dict[str, list[str]] = {str(name): list(found) for name, found in state["categories"].items()}
        self.tolerance_ = np.array([self.group.tolerance.get(name, 0.0) for name in self.group.column_names])


class AbstractNumeric(AbstractGroupSimilarity):
    """What similarities of numbers share: columns in units learned from training patients."""

    def fit(self, X: Cohort | pd.DataFrame) -> Floats:
        """Learn centre and unit of every column, and the length."""
        _check_columns(X, self.group)
        values = self._numbers(X)
        _check_observed(self.group, values)
        present = np.where(np.isnan(values).all(axis=0), 0.0, values)  # a column without values has no unit, and takes no part
        low, high, mean, spread = (f(present, axis=0) for f in (np.nanmin, np.nanmax, np.nanmean, np.nanstd))
        centre, unit = {
            "none": (np.zeros_like(mean), np.ones_like(mean)),
            "range": (low, high - low),
            "standard": (mean, spread),
        }[self.group.scaling]
        # A constant column keeps a spread of rounding errors, which must not be blown up.
        self.centre_, self.unit_ = centre, np.where(unit > 1e-9 * np.maximum(1.0, np.abs(mean)), unit, 1.0)
        lengths = {
            "euclidean": np.linalg.norm((high - low) / self.unit_),
            "rbf": np.sqrt(2.0) * np.linalg.norm(spread / self.unit_),
        }
        length = self.group.length or float(lengths.get(self.group.similarity, 1.0))
        self.length_ = length if length > 0 else 1.0
        return (values - self.centre_) / self.unit_

    def encode(self, X: Cohort | pd.DataFrame) -> Floats:
        """Numbers in the units of the training patients."""
        return (self._numbers(X) - self.centre_) / self.unit_

    def state(self) -> dict[str, Any]:
        """Centres, units and length."""
        return {"centre": self.centre_.tolist(), "unit": self.unit_.tolist(), "length": self.length_}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        centre, unit = np.asarray(state["centre"], dtype=np.float64), np.asarray(state["unit"], dtype=np.float64)
        n_columns = len(self.group.column_names)
        if centre.shape != (n_columns,) or unit.shape != (n_columns,):
            raise CheckpointError(f"Expected units of the {n_columns} columns of the group {self.group.name!r}, found shape {unit.shape}.")
        self.centre_, self.unit_, self.length_ = centre, unit, float(state["length"])

    def _numbers(self, X: Cohort | pd.DataFrame) -> Floats:
        table, names = as_table(X), self.group.column_names
        if (values := _numbers_at_once(table, names)) is not None:
            return values
        return np.column_stack([as_numbers(Column(name, "continuous"), table) for name in names])  # names the column and the cell that is none


class Distance(AbstractNumeric):
    """Similarities that fall with the Euclidean distance over what both have: `euclidean`, `sigmoid`, `rbf`."""

    def exact(self, x: Floats, y: Floats) -> Floats:
        """The similarity of each pair."""
        gap = x - y
        squared = np.asarray((gap * gap).sum(axis=-1))
        lacking = np.isnan(squared)
        if not lacking.any():
            return self._falling(np.sqrt(squared))
        squared[lacking] = np.nansum(gap[lacking] ** 2, axis=-1)
        return np.where(np.isnan(gap).all(axis=-1), 0.0, self._falling(np.sqrt(squared)))

    def operands(self, x: Floats, y: Floats) -> tuple[Operand, Operand]:
        """Factors of minus a squared distance made smaller by what rounding may add."""
        shift = _finite_means(y)
        left, right = _square_operands(x - shift, y - shift)
        left.tensors[0].neg_()
        return left, right

    def key(self, x: Operand, y: Operand, out: Float[Tensor, "b n"]) -> None:
        """Minus the squared distance, which falls as the similarity does: neither root nor exponential is worked out for a whole block."""
        torch.mm(x.tensors[0], y.tensors[0].T, out=out)
        if len(x.tensors) > 1:  # patients who have nothing in common are as far apart as the similarity 0 says
            nothing = -(self.length_**2) if self.group.similarity == "euclidean" else torch.finfo(out.dtype).min
            out.masked_fill_(x.tensors[1] @ y.tensors[1].T == 0, nothing)

    def from_key(self, key: Tensor) -> Tensor:
        """The similarity at these distances."""
        distance = key.neg_().clamp_(min=0.0).sqrt_()
        if self.group.similarity == "euclidean":
            return distance.div_(-self.length_).add_(1.0)
        if self.group.similarity == "rbf":
            return distance.div_(self.length_).square_().mul_(-0.5).exp_()
        return distance.neg_().sigmoid_()

    def vectors(self, x: Floats) -> tuple[str, Floats]:
        """The scaled values, whose distance ranks as the similarity does."""
        return "distance", x

    def _falling(self, distance: Floats) -> Floats:
        if self.group.similarity == "euclidean":
            return 1.0 - distance / self.length_
        if self.group.similarity == "rbf":
            return np.exp(-0.5 * (distance / self.length_) ** 2)
        return np.asarray(expit(-distance))


class Statistics(AbstractNumeric):
    """`statistics`: 1 − sigmoid of the mean over features of the distance over a feature's statistics; features that a pair lacks are left out."""

    def exact(self, x: Floats, y: Floats) -> Floats:
        """The similarity of each pair."""
        gap = self._by_feature(x) - self._by_feature(y)
        distance = np.sqrt(np.nansum(gap * gap, axis=-1))
        both = (~np.isnan(gap)).any(axis=-1)
        mean = _share(np.where(both, distance, 0.0).sum(axis=-1), both.sum(axis=-1))
        return np.where(both.any(axis=-1), expit(-mean), 0.0)

    def operands(self, x: Floats, y: Floats) -> tuple[Operand, Operand]:
        """Factors of the squared distance of every feature, and which features there are."""
        shift = _finite_means(y)
        left, right = _square_operands(*(self._by_feature(side - shift).swapaxes(0, 1) for side in (x, y)))
        seen = [_single(np.asarray((~np.isnan(self._by_feature(side))).any(axis=-1))) for side in (x, y)]
        return Operand((left.tensors[0], seen[0])), Operand((right.tensors[0], seen[1]))

    def key(self, x: Operand, y: Operand, out: Float[Tensor, "b n"]) -> None:
        """Minus the smallest mean distance that rounding allows."""
        (left, seen), (right, others_seen) = x.tensors, y.tensors
        one = torch.empty_like(out, memory_format=torch.contiguous_format)
        out.zero_()
        for a, b in zip(left, right, strict=True):
            out -= torch.mm(a, b.T, out=one).clamp_(min=0.0).sqrt_()
        features = seen @ others_seen.T
        out.div_(features.clamp(min=1.0)).masked_fill_(features == 0, torch.finfo(out.dtype).min)

    def from_key(self, key: Tensor) -> Tensor:
        """The similarity at these distances; nothing where a pair has no feature in common."""
        return key.sigmoid_()

    def _by_feature(self, x: Floats) -> Floats:
        return x.reshape(*x.shape[:-1], len(self.group.columns), -1)


class Cosine(AbstractNumeric):
    """`cosine`: of the angle between the values that both have; 0 where one of the two has no length."""

    def exact(self, x: Floats, y: Floats) -> Floats:
        """The similarity of each pair."""
        both = ~np.isnan(x + y)
        a, b = np.where(both, x, 0.0), np.where(both, y, 0.0)
        lengths = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
        return _share((a * b).sum(axis=-1), lengths)

    def operands(self, x: Floats, y: Floats) -> tuple[Operand, Operand]:
        """Values of length one, or values, squares and which there are, where some are missing."""
        if not (np.isnan(x).any() or np.isnan(y).any()):
            return Operand((_single(_unit_length(x)),)), Operand((_single(_unit_length(y)),))
        known, seen = [np.nan_to_num(side) for side in (x, y)], [np.asarray(~np.isnan(side)) for side in (x, y)]
        left, right = (tuple(map(_single, (values, values**2, there))) for values, there in zip(known, seen, strict=True))
        return Operand(left), Operand(right)

    def key(self, x: Operand, y: Operand, out: Float[Tensor, "b n"]) -> None:
        """The cosine, and as much more as rounding may have taken."""
        torch.mm(x.tensors[0], y.tensors[0].T, out=out)
        if len(x.tensors) > 1:
            (_, a2, seen), (_, b2, others_seen) = x.tensors, y.tensors
            lengths = (a2 @ others_seen.T).mul_(seen @ b2.T).sqrt_()
            out.div_(lengths).masked_fill_(lengths <= 0, 0.0)
        out.add_(4 * (x.tensors[0].shape[-1] + 4) * _SINGLE)

    def vectors(self, x: Floats) -> tuple[str, Floats]:
        """Values of length one."""
        return "product", _unit_length(x)


def _check_columns(X: Cohort | pd.DataFrame, group: FeatureGroup) -> None:
    """Check that a cohort says of no column that it cannot be compared."""
    if not isinstance(X, Cohort):
        return
    for column in (X.schema[name] for name in group.column_names):
        if column.role in ("target", "identifier", "split"):
            raise SchemaError(f"Expected columns that are known of a new patient, found the {column.role} {column.name!r}. Leave it out.")
        numeric = group.similarity != "agreement" or column.name in group.tolerance
        if column.kind == "timestamp" or (numeric and column.kind in ("text", "categorical")):
            raise SchemaError(
                f"Expected columns of {'numbers' if numeric else 'numbers or categories'} in the group {group.name!r}, "
                f"found {column.name} ({column.kind}). Name others, or compare categories by 'agreement'."
            )


def _numbers_at_once(table: pd.DataFrame, names: list[str]) -> Floats | None:
    """Values of columns of finite numbers `[n, C]`; None where some are anything else, to be read one by one and named."""
    if not all(name in table.columns for name in names):
        return None
    part = table[names]
    if not all(isinstance(dtype, np.dtype) and dtype.kind in "iuf" for dtype in part.dtypes):
        return None
    values = part.to_numpy(dtype=np.float64)
    return None if np.isinf(values).any() else values


def _is_numeric(table: pd.DataFrame, name: str) -> bool:
    return name in table.columns and pd.api.types.is_numeric_dtype(table[name]) and not pd.api.types.is_bool_dtype(table[name])


def _check_observed(group: FeatureGroup, values: Floats) -> None:
    if np.isnan(values).all():
        names = ", ".join(group.column_names)
        raise DataError(f"Expected training patients with values of the group {group.name!r} ({names}), found none. Leave it out.")


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def _finite_means(values: Floats) -> Floats:
    present = ~np.isnan(values)
    return np.where(present, values, 0.0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)


def _unit_length(values: Floats) -> Floats:
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(length > 0, length, 1.0)


def _single(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _square_operands(x: Floats, y: Floats) -> tuple[Operand, Operand]:
    """Factors `[..., b, K]` and `[..., n, K]` whose product is the squared distance over what both have, made smaller by what rounding may add.

    |x − y|² = |x|² − 2 x·y + |y|², each sum over the columns that both have: three products with values or ones, side by side. A sum of K products in
    single precision is wrong by less than (K + 2) · 2⁻²⁴ times the sum of their sizes, which is at most twice |x|² + |y|². Where values are missing,
    a second tensor of each side says which there are.
    """
    missing = np.isnan(x).any() or np.isnan(y).any()
    a, b = np.nan_to_num(x), np.nan_to_num(y)
    n_products = 3 * x.shape[-1] if missing else x.shape[-1] + 2
    less = 1.0 - 2 * (n_products + 6) * _SINGLE
    if not missing:
        squares = [less * (side * side).sum(axis=-1, keepdims=True) for side in (a, b)]
        left = np.concatenate([-2 * a, squares[0], np.ones_like(squares[0])], axis=-1)
        right = np.concatenate([b, np.ones_like(squares[1]), squares[1]], axis=-1)
        return Operand((_single(left),)), Operand((_single(right),))
    present = [(~np.isnan(side)).astype(np.float64) for side in (x, y)]
    left = np.concatenate([-2 * a, less * a * a, present[0]], axis=-1)
    right = np.concatenate([b, present[1], less * b * b], axis=-1)
    return Operand((_single(left), _single(present[0]))), Operand((_single(right), _single(present[1])))
