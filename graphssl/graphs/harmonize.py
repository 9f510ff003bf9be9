"""Harmonised connectomes: a cohort in, the same cohort with what the sites add taken out of every connection."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from graphssl.data.atlas import Atlas, check_atlas
from graphssl.data.cohort import Cohort
from graphssl.data.harmonize import SiteHarmonizer, UnseenPolicy
from graphssl.data.regions import Provenance, RegionData
from graphssl.data.transforms import ColumnEncoder
from graphssl.errors import CheckpointError, ConfigError, DataError, SchemaError
from graphssl.folders import ordinary, written_whole
from graphssl.graphs.connectivity import CORRELATION_KINDS, Connectivity

Floats = npt.NDArray[np.float64]

_FORMAT = 1
_RECORD, _ARRAYS = "harmonizer.json", "harmonizer.safetensors"


class CohortHarmonizer(TransformerMixin, BaseEstimator):
    """Takes out of the connections of a cohort what the sites add to them.

    [`SiteHarmonizer`][graphssl.data.SiteHarmonizer] over the upper triangle of Fisher-z matrices, atlas by atlas. Fitted on training subjects, it
    transforms any cohort with a site column, in the atlases it was fitted on. Time series and matrices go in, matrices come out; their `Provenance`
    says that they were harmonised. Connections of regions that a subject lacks stay missing.

    Args:
        covariates: Columns whose effects are kept, such as age and sex. A missing value, or a category that no training subject had, counts as the
            training mean. The target is refused: see `keep_target`.
        unseen: What to do with sites that were not fitted: `"error"`, `"pooled"` or `"estimate"` (transductive over the site), as in
            `SiteHarmonizer`. It may be changed after the fit.
        atlases: Atlases to harmonise; all of the cohort when left out. Others do not come out.
        kind: Kind of connectivity, `"correlation"` or `"partial correlation"`.
        min_subjects: Fewest subjects from which a site is estimated.
        keep_target: Whether the labels given to `fit` enter it, and it alone.

    Attributes:
        atlases_: The atlases it was fitted on, by name.
        harmonizers_: Fitted `SiteHarmonizer` by atlas.
        encoder_: Fitted `ColumnEncoder` of the covariates, or None.
    """

    def __init__(
        self,
        covariates: Sequence[str] = (),
        unseen: UnseenPolicy = "error",
        atlases: Sequence[str] | None = None,
        kind: Literal["correlation", "partial correlation"] = "correlation",
        min_subjects: int = 5,
        keep_target: bool = False,
    ) -> None:
        self.covariates = covariates
        self.unseen = unseen
        self.atlases = atlases
        self.kind = kind
        self.min_subjects = min_subjects
        self.keep_target = keep_target

    def fit(self, cohort: Cohort, y: npt.ArrayLike | None = None) -> Self:
        """Learn from training subjects.

        Args:
            cohort: Training subjects, with a column of the role `site`.
            y: Class index of each subject `[n]`, read only where `keep_target=True`; -1 where it is withheld.

        Raises:
            ConfigError: If the kind is no correlation, or another argument does not fit.
            DataError: If there are no sites or no region data, or `SiteHarmonizer` cannot be fitted.
            SchemaError: If a covariate is absent, is text, or is the target.
        """
        if self.kind not in CORRELATION_KINDS:
            raise ConfigError(f"Expected the kind {' or '.join(map(repr, CORRELATION_KINDS))} to harmonise, found {self.kind!r}.")
        names = list(self.atlases) if self.atlases is not None else list(cohort.regions)
        if not names:
            raise DataError(f"Expected {cohort.name!r} to have region data, found none. Load time series or matrices.")
        labels = None if y is None else pd.Series(np.asarray(y), index=cohort.subjects.index)
        self.atlases_ = {name: cohort.atlas(name) for name in names}
        self.encoder_ = self._fitted_encoder(cohort)
        self.harmonizers_: dict[str, SiteHarmonizer] = {}
        for name in names:
            part = _with_data(cohort, name)
            fresh = SiteHarmonizer(self.unseen, self.min_subjects, self.keep_target)
            self.harmonizers_[name] = fresh.fit(
                self._features(part, name),
                None if labels is None else labels[part.ids].to_numpy(),
                sites=_sites(part),
                covariates=self._encoded(part),
            )
        return self

    def transform(self, cohort: Cohort) -> Cohort:
        """The cohort with harmonised Fisher-z matrices in the fitted atlases.

        Args:
            cohort: Any subjects. With `unseen="estimate"`, all subjects of a new site belong in one call.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            AtlasError: If the cohort's atlas of a name is not the one of the training subjects.
            DataError: If there are no data in the fitted atlases, or a site was not fitted and `unseen="error"`.
            SchemaError: If a covariate is absent.
        """
        check_is_fitted(self)
        regions = {}
        for name, atlas in self.atlases_.items():
            if name not in cohort.regions:
                continue
            check_atlas(atlas, cohort.atlas(name))
            part = _with_data(cohort, name)
            harmonizer = self.harmonizers_[name].set_params(unseen=self.unseen)
            features = harmonizer.transform(self._features(part, name), sites=_sites(part), covariates=self._encoded(part))
            values = dict(zip(part.ids, _matrices(features, len(atlas)), strict=True))
            regions[name] = RegionData(atlas, values, _provenance(part.regions[name].provenance, self.kind))
        if not regions:
            raise DataError(
                f"Expected {cohort.name!r} to have data in one of the atlases {list(self.atlases_)}, found "
                f"{list(cohort.regions) or 'no region data'}. Fit on data in its atlas."
            )
        return replace(cohort, regions=regions)

    def fit_transform(self, cohort: Cohort, y: npt.ArrayLike | None = None) -> Cohort:
        """Fit on a training cohort and harmonise it."""
        return self.fit(cohort, y).transform(cohort)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Arguments, atlases, sites and covariates as plain values, and fitted arrays as tensors. No subject's values are among them.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self)
        parts = {name: harmonizer.state() for name, harmonizer in self.harmonizers_.items()}
        record = {
            "arguments": self.get_params(),
            "atlases": [atlas.to_dict() for atlas in self.atlases_.values()],
            "covariates": None if self.encoder_ is None else self.encoder_.state(),
            "harmonizers": {name: part for name, (part, _) in parts.items()},
        }
        return record, {f"{name}.{key}": torch.from_numpy(array) for name, (_, arrays) in parts.items() for key, array in arrays.items()}

    @classmethod
    def from_state(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing, or arrays do not fit an atlas.
        """
        try:
            harmonizer = cls(**record["arguments"])
            harmonizer.atlases_ = {entry["name"]: Atlas.from_dict(entry) for entry in record["atlases"]}
            harmonizer.encoder_ = None if record["covariates"] is None else ColumnEncoder.from_state(record["covariates"])
            parts = {name: record["harmonizers"][name] for name in harmonizer.atlases_}
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"Expected the fitted state of a CohortHarmonizer, found none of {error}. The file is damaged.") from error
        harmonizer.harmonizers_ = {}
        for name, part in parts.items():
            arrays = {key.removeprefix(f"{name}."): value.numpy() for key, value in tensors.items() if key.startswith(f"{name}.")}
            harmonizer.harmonizers_[name] = SiteHarmonizer.from_state(part, arrays)
            n_regions, n_features = len(harmonizer.atlases_[name]), harmonizer.harmonizers_[name].n_features_in_
            if n_features != n_regions * (n_regions - 1) // 2:
                raise CheckpointError(
                    f"Expected the connections of the {n_regions} regions of atlas {name!r}, found {n_features}. The folder mixes the files of two."
                )
        return harmonizer

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `harmonizer.json` and `harmonizer.safetensors`, whole or not at all; no pickle.

        Raises:
            RunFolderError: If the folder holds other files.
        """
        record, tensors = self.state()
        with written_whole(folder, marker=_RECORD, what="a saved harmoniser") as aside:
            (aside / _RECORD).write_text(json.dumps({"format": _FORMAT, **record}, indent=1), encoding="utf-8")
            save_file({key: value.contiguous() for key, value in tensors.items()}, aside / _ARRAYS)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a harmoniser written by `save`.

        Raises:
            CheckpointError: If the folder is none, or a file is missing, truncated or of another version.
        """
        source = Path(folder)
        if not (source / _RECORD).is_file():
            raise CheckpointError(f"Expected a saved harmoniser at {source} (with {_RECORD}), found none. Make one with `graphssl harmonize`.")
        try:
            record = dict(json.loads((source / _RECORD).read_text(encoding="utf-8")))
            tensors = load_file(ordinary(source / _ARRAYS))
        except (ValueError, TypeError, OSError, RecursionError, SafetensorError) as error:
            raise CheckpointError(f"Expected a whole harmoniser at {source}, found a damaged one ({error}). Fit it again.") from error
        if record.get("format") != _FORMAT:
            raise CheckpointError(f"Expected a harmoniser of format {_FORMAT} at {source}, found {record.get('format')}. It needs another version.")
        return cls.from_state(record, tensors)

    def _fitted_encoder(self, cohort: Cohort) -> ColumnEncoder | None:
        targets = sorted(set(self.covariates) & set(cohort.schema.named("target")))
        if targets:
            raise SchemaError(
                f"Expected covariates that are known of every subject, found the target {targets[0]!r}: to transform a test subject would take its "
                "label. Leave it out; keep_target=True keeps it in the fit alone."
            )
        return ColumnEncoder(list(self.covariates)).fit(cohort) if len(self.covariates) else None

    def _encoded(self, cohort: Cohort) -> Floats | None:
        """Covariates as numbers `[n, P]`, a column a category but the first; NaN where nothing is known."""
        if self.encoder_ is None:
            return None
        table = self.encoder_.transform(cohort).astype(np.float64)
        blocks, start = [], 0
        for column in self.encoder_.columns_:
            is_number = column.kind == "continuous"
            n_values, n_states = (1, 1) if is_number else (len(self.encoder_.categories_[column.name]), 2)
            states = table[:, start + n_values : start + n_values + n_states]
            values = table[:, start + (not is_number) : start + n_values]
            blocks.append(np.where(states.any(axis=1, keepdims=True), np.nan, values))
            start += n_values + n_states
        return np.concatenate(blocks, axis=1)

    def _features(self, cohort: Cohort, name: str) -> Floats:
        """Fisher-z connections `[n, E]`, NaN where a region was not observed."""
        data = cohort.regions[name]
        matrices, observed = Connectivity(self.kind).fit_transform(data, cohort.ids)
        first, second = np.triu_indices(len(data.atlas), k=1)
        seen = observed.numpy()
        return np.where(seen[:, first] & seen[:, second], matrices.numpy()[:, first, second].astype(np.float64), np.nan)


def _with_data(cohort: Cohort, name: str) -> Cohort:
    subjects = [subject for subject in cohort.ids if subject in cohort.regions[name].values]
    if not subjects:
        raise DataError(f"Expected subjects with data in atlas {name!r}, found none among {len(cohort)}.")
    return cohort.select(subjects)


def _sites(cohort: Cohort) -> npt.NDArray[Any]:
    if cohort.sites is None:
        raise DataError(f"Expected {cohort.name!r} to have a column with the role 'site' to harmonise, found none. Name it when the cohort is built.")
    return cohort.sites.to_numpy()


def _matrices(features: Floats, n_regions: int) -> npt.NDArray[np.float32]:
    """Symmetric matrices `[n, R, R]` of their upper triangles, zero on the diagonal."""
    first, second = np.triu_indices(n_regions, k=1)
    matrices = np.zeros((len(features), n_regions, n_regions), dtype=np.float32)
    matrices[:, first, second] = features
    matrices[:, second, first] = features
    return matrices


def _provenance(before: Provenance, kind: Literal["correlation", "partial correlation"]) -> Provenance:
    pipeline = ", ".join(filter(None, [before.pipeline, "sites harmonized (ComBat)"]))
    return replace(before, kind=kind, fisher_z=True, pipeline=pipeline, diagonal="zero")
