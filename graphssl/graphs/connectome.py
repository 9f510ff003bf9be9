"""From a cohort to a batch of connectomes; what is learned on the way is learned from training subjects."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pandas as pd
import torch
from sklearn.base import clone
from torch import Tensor

from graphssl.data.atlas import Atlas, check_atlas
from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.data.connectome import ConnectomeBatch
from graphssl.data.regions import MatrixKind
from graphssl.data.scans import Scans
from graphssl.data.streamed_cohort import StreamedCohort
from graphssl.data.table import ColumnTokenizer, TableBatch
from graphssl.errors import CheckpointError, ConfigError, DataError, SchemaError
from graphssl.graphs.connectivity import Connectivity
from graphssl.graphs.harmonize import CohortHarmonizer

# Matrices `[n, R, R]` and observed regions `[n, R]` of the subjects with data in an atlas.
_Matrices = tuple[Tensor, Tensor]


class ConnectomeBuilder(AbstractBuilder):
    """Region data in, connectomes out: connectivity, then the difference from the training subjects' mean, in units of its spread.

    What subjects share says nothing about who differs from whom, and an objective would spend itself on it; therefore the mean is taken away.

    Args:
        atlases: Atlases to use; all of the cohort when left out. A subject gets one row an atlas it has data in.
        kind: Kind of connectivity, in nilearn's words, or a structural kind where the data are such matrices.
        fisher_z: Whether correlations are transformed by arctanh.
        center: Whether to subtract the training mean and divide by the training spread (one number an atlas).
        harmonizer: Takes out first what the sites add; fitted with the rest on training subjects. Every cohort then needs a site column.
        covariates: Columns with the role `covariate` that stand beside the connectomes, for encoders that read them; True for all there are. A value
            may be missing, a column may not.

    Attributes:
        atlases_: The atlases it was fitted on, by name.
        connectivity_: Fitted connectivity by atlas.
        mean_: Mean connectome of the training subjects `[R, R]` by atlas.
        scale_: Standard deviation of connections around the mean, by atlas.
        network_names_: Names of the networks over all atlases.
        harmonizer_: Fitted `CohortHarmonizer`, or None.
        covariates_: Fitted `ColumnTokenizer`, or None.
    """

    def __init__(
        self,
        atlases: Sequence[str] | None = None,
        kind: MatrixKind = "correlation",
        fisher_z: bool = True,
        center: bool = True,
        harmonizer: CohortHarmonizer | None = None,
        covariates: Sequence[str] | Literal[True] | None = None,
    ) -> None:
        self.atlases = atlases
        self.kind = kind
        self.fisher_z = fisher_z
        self.center = center
        self.harmonizer = harmonizer
        self.covariates = covariates

    def fit(self, cohort: Cohort, y: object = None) -> "ConnectomeBuilder":
        """Learn what the sites add, what connectivity needs, the mean and the spread, and the scales of covariates from training subjects.

        Raises:
            DataError: If the cohort has no data in an atlas, or its sites cannot be harmonised.
            SchemaError: If a covariate is not in the table, or is none.
        """
        self._fit(cohort)
        return self

    def fit_streamed(self, cohort: StreamedCohort) -> "ConnectomeBuilder":
        """Learn the mean, the spread and the scales of covariates in one pass over the shards.

        Raises:
            ConfigError: If sites are to be harmonised or a tangent reference is to be learned, which takes all subjects at once.
            DataError: If nobody has data in an atlas.
            SchemaError: If a covariate is not in the table, or is none.
        """
        if self.harmonizer is not None or self.kind == "tangent":
            raise ConfigError(
                f"Expected connectomes that are learned from some shards at a time, found {'a harmoniser' if self.harmonizer else 'tangent space'}, "
                f"which needs all subjects. Give a window of all {cohort.n_shards} shards, or choose another kind."
            )
        self.harmonizer_: CohortHarmonizer | None = None
        self.covariates_ = self._fit_covariates(cohort) if self.covariates else None
        names = self._learn_atlases(cohort.known)
        sums = {name: torch.zeros(3, len(atlas), len(atlas), dtype=torch.float64) for name, atlas in self.atlases_.items()}
        self.connectivity_: dict[str, Connectivity] = {}
        for part in cohort.parts():
            for name in (name for name in names if name in part.regions):
                data, subjects = part.regions[name], list(part.regions[name].values)
                if name not in self.connectivity_:
                    self.connectivity_[name] = Connectivity(self.kind, self.fisher_z).fit(data, subjects)
                matrices, observed = self.connectivity_[name].transform(data, subjects)
                sums[name] += _sums(matrices, _visible(observed))
        moments = {name: _moments(*found) for name, found in sums.items()}
        self.mean_: dict[str, Tensor] = {name: mean for name, (mean, _) in moments.items()}
        self.scale_: dict[str, float] = {name: scale for name, (_, scale) in moments.items()}
        return self

    def most_rows(self, cohort: Cohort) -> int:
        """Atlases that a subject has data in, at most."""
        counts = Counter(subject for name in self.atlases_ if name in cohort.regions for subject in cohort.regions[name].values)
        return max(counts.values(), default=1)

    def transform(self, cohort: Cohort, *, series: bool = False) -> ConnectomeBatch:
        """Connectomes of a cohort, one row a subject and atlas, atlas by atlas.

        Args:
            cohort: The cohort.
            series: Whether to keep the time series beside the connectomes, for views of a part of the time. They take memory.

        Raises:
            AtlasError: If the cohort's atlas of a name is not the one of the training data.
            ConfigError: If series are to be kept and the connectivity is no correlation, or is harmonised.
            DataError: If a subject has data in none of the atlases, or a site is not to be harmonised.
            SchemaError: If a covariate of the training subjects is not in the table.
        """
        if not hasattr(self, "atlases_"):
            raise DataError("Expected a fitted builder, found one without training subjects. Call fit first.")
        if series:
            self._check_series()
        return self._connectomes(self._harmonized(cohort), {}, series=series)

    def readable(self, cohort: Cohort) -> list[str]:
        """Subjects with data in one of the atlases."""
        names = getattr(self, "atlases_", None) or self.atlases or list(cohort.regions)
        there = {subject for name in names if name in cohort.regions for subject in cohort.regions[name].values}
        return [subject for subject in cohort.ids if subject in there]

    def fit_transform(self, cohort: Cohort, y: object = None) -> ConnectomeBatch:
        """Fit on a training cohort and give its connectomes, computed once."""
        return self._connectomes(*self._fit(cohort))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Arguments and atlases as plain values, and fitted arrays as tensors, for a model folder."""
        arguments = self.get_params(deep=False)
        tensors = {f"mean.{name}": mean for name, mean in self.mean_.items()}
        if self.harmonizer_ is not None:
            arguments["harmonizer"], fitted = self.harmonizer_.state()
            tensors.update({f"harmonizer.{key}": value for key, value in fitted.items()})
        record: dict[str, Any] = {
            "arguments": arguments,
            "atlases": [atlas.to_dict() for atlas in self.atlases_.values()],
            "scale": self.scale_,
        }
        for name, connectivity in self.connectivity_.items():
            tensors.update({f"connectivity.{name}.{key}": value for key, value in connectivity.state().items()})
        if self.covariates_ is not None:
            record["covariates"], fitted = self.covariates_.state()
            tensors.update({f"covariates.{key}": value for key, value in fitted.items()})
        return record, tensors

    @classmethod
    def from_state(cls, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "ConnectomeBuilder":
        """The inverse of `state`.

        Raises:
            CheckpointError: If an entry is missing, or a mean does not fit its atlas.
        """
        try:
            arguments = dict(record["arguments"])
            if arguments.get("harmonizer") is not None:
                arguments["harmonizer"] = CohortHarmonizer.from_state(arguments["harmonizer"], _below(tensors, "harmonizer."))
            builder = cls(**arguments)
            builder.harmonizer_ = builder.harmonizer
            known = ColumnTokenizer.from_state(record["covariates"], _below(tensors, "covariates.")) if builder.covariates else None
            builder.covariates_ = known
            builder.atlases_ = {entry["name"]: Atlas.from_dict(entry) for entry in record["atlases"]}
            builder.scale_ = {name: float(record["scale"][name]) for name in builder.atlases_}
            builder.mean_ = {name: tensors[f"mean.{name}"] for name in builder.atlases_}
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"Expected the fitted state of a ConnectomeBuilder, found none of {error}. The folder is damaged.") from error
        for name, atlas in builder.atlases_.items():
            if builder.mean_[name].shape != (len(atlas), len(atlas)):
                raise CheckpointError(
                    f"Expected a mean connectome of the {len(atlas)} regions of atlas {name!r}, found shape {tuple(builder.mean_[name].shape)}. "
                    "The folder mixes the files of two models."
                )
        builder.network_names_ = tuple(sorted({n for atlas in builder.atlases_.values() for n in atlas.network_names}))
        builder.connectivity_ = {}
        for name in builder.atlases_:
            fitted = _below(tensors, f"connectivity.{name}.")
            builder.connectivity_[name] = Connectivity(builder.kind, builder.fisher_z).load_state(fitted)
        return builder

    def unknown(self, cohort: Cohort) -> pd.DataFrame:
        """Who has a category that no training subject had, by covariate."""
        return pd.DataFrame(index=cohort.subjects.index) if self.covariates_ is None else self.covariates_.unknown(cohort)

    def describe(self) -> dict[str, str]:
        """Atlases and connectivity, for the model card."""
        atlases = {f"atlas {atlas.name}": f"{len(atlas)} regions, hash {atlas.hash}" for atlas in self.atlases_.values()}
        known = {} if self.covariates_ is None else {"covariates": ", ".join((*self.covariates_.numbers, *self.covariates_.categories))}
        return {**atlases, "connectivity": f"{self.kind}, Fisher z {self.fisher_z}, centred {self.center}", **known}

    def _fit(self, cohort: Cohort) -> tuple[Cohort, dict[str, _Matrices]]:
        """Fit, and the harmonised cohort with what its connectivity was on the way."""
        names = self._learn_atlases(cohort)
        self.covariates_ = self._fit_covariates(cohort) if self.covariates else None
        self.harmonizer_ = None if self.harmonizer is None else clone(self.harmonizer).fit(cohort)
        cohort = self._harmonized(cohort)
        self.connectivity_, self.mean_, self.scale_ = {}, {}, {}
        found: dict[str, _Matrices] = {}
        for name in names:
            data = cohort.regions[name]
            subjects = [subject for subject in cohort.ids if subject in data.values]
            self.connectivity_[name] = Connectivity(self.kind, self.fisher_z)
            matrices, observed = found[name] = self.connectivity_[name].fit_transform(data, subjects)
            self.mean_[name], self.scale_[name] = _mean_and_scale(matrices, _visible(observed))
        return cohort, found

    def _learn_atlases(self, cohort: Cohort) -> list[str]:
        """The atlases to build and the names of their networks."""
        names = list(self.atlases) if self.atlases is not None else list(cohort.regions)
        if not names:
            raise DataError(f"Expected {cohort.name!r} to have region data, found none. Load time series or matrices.")
        self.atlases_ = {name: cohort.atlas(name) for name in names}
        self.network_names_ = tuple(sorted({n for atlas in self.atlases_.values() for n in atlas.network_names}))
        for name in names:
            if not len(cohort.regions[name]):
                raise DataError(f"Expected training subjects with data in atlas {name!r}, found none among {len(cohort)}.")
        return names

    def _connectomes(self, cohort: Cohort, known: Mapping[str, _Matrices], *, series: bool = False) -> ConnectomeBatch:
        """Connectomes of a harmonised cohort; connectivity is computed in atlases where it is not known."""
        batches = []
        for name, atlas in self.atlases_.items():
            data = cohort.regions.get(name)
            subjects = [s for s in cohort.ids if data is not None and s in data.values]
            if data is None or not subjects:
                continue
            check_atlas(atlas, data.atlas)
            matrices, observed = known[name] if name in known else self.connectivity_[name].transform(data, subjects)
            batch = self._batch(name, subjects, matrices, observed)
            if series and data.provenance.kind == "timeseries":
                scale = self.scale_[name] if self.center else 1.0
                scans = Scans.of([data.values[s] for s in subjects], observed, scale=scale, fisher_z=self.fisher_z)
                batch = replace(batch, scans=scans)
            batches.append(batch)
        served = {subject for batch in batches for subject in batch.subject_ids}
        absent = [subject for subject in cohort.ids if subject not in served]
        if absent:
            raise DataError(
                f"Expected every subject of {cohort.name!r} to have data in one of the atlases {list(self.atlases_)}, found none for "
                f"{len(absent)}: {absent[:5]}. Leave them out, or convert their data."
            )
        batch = ConnectomeBatch.cat(batches)
        return batch if self.covariates_ is None else replace(batch, covariates=_rows(self.covariates_.transform(cohort), batch.subject_ids))

    def _fit_covariates(self, cohort: Cohort | StreamedCohort) -> ColumnTokenizer:
        named = None if self.covariates is True else self.covariates
        others = [f"{name} ({cohort.schema[name].role})" for name in named or () if cohort.schema[name].role != "covariate"]
        if others:
            raise SchemaError(
                f"Expected covariates to be columns with the role 'covariate', found {', '.join(others)}. Name others, or correct the schema."
            )
        return ColumnTokenizer(named, roles=("covariate",)).fit(cohort)

    def _check_series(self) -> None:
        if self.kind != "correlation":
            raise ConfigError(
                f"Expected a builder of the kind 'correlation' for views of a part of the time, found {self.kind!r}: only correlations are made "
                "again from part of a scan. Use that kind, or views of connections."
            )
        if self.harmonizer_ is not None:
            raise ConfigError(
                "Expected a builder without a harmoniser for views of a part of the time, found one with: what is made again from part of a scan "
                "would not be harmonised. Leave the harmoniser out, or use views of connections."
            )

    def _harmonized(self, cohort: Cohort) -> Cohort:
        return cohort if self.harmonizer_ is None else self.harmonizer_.transform(cohort)

    def _batch(self, name: str, subjects: list[str], matrices: Tensor, observed: Tensor) -> ConnectomeBatch:
        atlas, n = self.atlases_[name], len(subjects)
        visible = _visible(observed)
        if self.center:
            matrices = (matrices - self.mean_[name]) / self.scale_[name]
        index = {network: i for i, network in enumerate(self.network_names_)}
        networks = torch.tensor([index.get(network, -1) for network in atlas.networks])
        return ConnectomeBatch(
            tuple(subjects),
            torch.where(visible, matrices, 0.0).float(),
            visible,
            observed,
            torch.from_numpy(atlas.centroids).expand(n, -1, -1),
            networks.expand(n, -1),
            (name,) * n,
            self.network_names_,
        )


def _rows(table: TableBatch, subject_ids: Sequence[str]) -> TableBatch:
    place = {subject: row for row, subject in enumerate(table.subject_ids)}
    return table[[place[subject] for subject in subject_ids]]


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _visible(observed: Tensor) -> Tensor:
    n_regions = observed.shape[1]
    return observed.unsqueeze(1) & observed.unsqueeze(2) & ~torch.eye(n_regions, dtype=torch.bool)


def _mean_and_scale(matrices: Tensor, visible: Tensor) -> tuple[Tensor, float]:
    count = visible.sum(dim=0)
    mean = torch.where(visible, matrices, 0.0).sum(dim=0) / count.clamp(min=1)
    mean = (mean + mean.mT) / 2  # sums of the two triangles may differ in the last bit
    spread = torch.where(visible, matrices - mean, 0.0).square().sum() / visible.sum().clamp(min=1)
    scale = float(spread.sqrt())
    return mean.float(), scale if scale > 0 else 1.0


def _sums(matrices: Tensor, visible: Tensor) -> Tensor:
    """How often each connection is visible, and its sum and sum of squares `[3, R, R]`, in double precision."""
    seen = torch.where(visible, matrices, 0.0).double()
    return torch.stack([visible.sum(dim=0), seen.sum(dim=0), seen.square().sum(dim=0)])


def _moments(count: Tensor, total: Tensor, squares: Tensor) -> tuple[Tensor, float]:
    """Mean and scale as `_mean_and_scale` has them, of sums."""
    mean = total / count.clamp(min=1)
    mean = (mean + mean.mT) / 2
    spread = (squares - 2 * mean * total + count * mean.square()).clamp(min=0).sum() / count.sum().clamp(min=1)
    scale = float(spread.sqrt())
    return mean.float(), scale if scale > 0 else 1.0
