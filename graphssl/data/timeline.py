"""A batch of patients as bins of time: what was measured and given in each hour before the prediction time, static columns beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Bool, Float
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.data.normal_scores import NormalScores
from graphssl.data.recent_events import MICROSECONDS_PER_HOUR, code_places, common_codes, matches, recent_events
from graphssl.data.schema import Role
from graphssl.data.stream_records import AbstractStreamRecords
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.table import TableBatch
from graphssl.errors import ConfigError, DataError, SchemaError

BinStatistic = Literal["last", "mean"]


@dataclass(frozen=True, eq=False)
class TimelineBatch(AbstractStreamRecords):
    """Patients by bins of time, the last bin right before the prediction time.

    That a number was not measured in a bin, and that an objective hides it, are two different things. A treatment is given in a bin or not, wherever
    the patient was there.

    Args:
        static: Columns that do not change, one row a patient.
        values: Numbers in normal scores `[B, T, V]`; zero where not measured.
        measured: Which of them there are `[B, T, V]`.
        given: Which treatments were given `[B, T, G]`.
        present: Bins from the patient's first event on `[B, T]`; nothing is known of the others.
        hidden: What must not be read, numbers first, then treatments `[B, T, V + G]`; nothing when left out.

    Raises:
        DataError: If the shapes do not fit one another.
    """

    static: TableBatch
    values: Float[Tensor, "B T V"]
    measured: Bool[Tensor, "B T V"]
    given: Bool[Tensor, "B T G"]
    present: Bool[Tensor, "B T"]
    hidden: Bool[Tensor, "B T C"] = field(default_factory=lambda: torch.zeros(0, 0, 0, dtype=torch.bool))

    def __post_init__(self) -> None:
        n, (n_bins, n_values), n_treatments = len(self.static), self.values.shape[1:], self.given.shape[2]
        if self.hidden.numel() == 0:  # none was given; nothing is stored for it
            nothing = torch.zeros((), dtype=torch.bool, device=self.values.device)
            object.__setattr__(self, "hidden", nothing.expand(n, n_bins, n_values + n_treatments))
        expected = {
            "values": (n, n_bins, n_values),
            "measured": (n, n_bins, n_values),
            "given": (n, n_bins, n_treatments),
            "present": (n, n_bins),
            "hidden": (n, n_bins, n_values + n_treatments),
        }
        wrong = {name: tuple(getattr(self, name).shape) for name, shape in expected.items() if tuple(getattr(self, name).shape) != shape}
        if wrong:
            raise DataError(f"Expected shapes {expected} for a batch of {n} patients, found {wrong}.")

    def __repr__(self) -> str:
        _, n_bins, n_values = self.values.shape
        share = float(self.measured.float().mean()) if self.measured.numel() else 0.0
        return f"TimelineBatch({len(self)} patients × {n_bins} bins of {n_values} numbers, {share:.0%} measured, {self.given.shape[2]} treatments)"

    @property
    def known(self) -> Bool[Tensor, "B T C"]:
        """What there is to hide: numbers that were measured, and treatments, given or not, while the patient was there."""
        return torch.cat([self.measured, self.present.unsqueeze(-1).expand_as(self.given)], dim=2)

    def signature(self) -> bytes:
        """What tells these rows from others: static columns and the sums of each row's bins, weighted by their places."""
        places = torch.arange(1, self.values.shape[1] + 1, device=self.device, dtype=torch.float64)
        sums = [torch.einsum("btc,t->bc", block.double(), places) for block in (self.values, self.measured, self.given)]
        return self.static.signature() + torch.cat(sums, dim=1).cpu().numpy().tobytes()

    def hide(self, hidden: Bool[Tensor, "B T C"]) -> "TimelineBatch":
        """The batch with some of what is known made unreadable too; what was not measured stays as it is."""
        return replace(self, hidden=self.hidden | (hidden & self.known))


class TimelineTokenizer(AbstractStreamTokenizer):
    """Events in, a `TimelineBatch` out; codes and their scales are learned from training patients.

    Bins count back from the prediction time: the last one reaches up to it, and what is older than all bins is left out. Where a cohort has no
    prediction times, they count back from the patient's last event. A bin holds what was measured in it and nothing else: values are neither carried
    forward nor interpolated, so that nothing later than a bin is in it. A number is written as its normal score among the training patients' values
    of the code. Codes that no training patient had are left out, and counted by `count_left_out`.

    Args:
        n_bins: Number of bins `T`.
        bin_hours: Length of a bin in hours.
        statistic: What to say of several values of a code in a bin: the `"last"` or the `"mean"`.
        codes: Codes of numbers to take, or patterns such as `LAB//*`; every code with numbers when left out.
        treatments: Codes, or patterns of codes, of which is told only whether they were given in a bin; a number of 0 says that they were not.
        columns: Names of the static columns; all with one of the `roles` that hold numbers or categories when left out. Events without a time are
            static too.
        roles: Roles of the static columns to take where none are named.
        n_pieces: Pieces of each static number, at most.
        min_subjects: Codes of fewer training patients are left out, unless they are named in full.

    Attributes:
        codes_: Codes of the numbers `[V]`.
        treatments_: Codes of the treatments `[G]`.
        scores_: Fitted `NormalScores` of the numbers.
        static_: Fitted `StaticColumns`.
    """

    words = ("codes_", "treatments_")

    def __init__(
        self,
        n_bins: int = 48,
        bin_hours: float = 1.0,
        statistic: BinStatistic = "last",
        codes: Sequence[str] | None = None,
        treatments: Sequence[str] = (),
        columns: Sequence[str] | None = None,
        roles: Sequence[Role] = ("covariate", "feature"),
        n_pieces: int = 16,
        min_subjects: int = 10,
    ) -> None:
        self.n_bins = n_bins
        self.bin_hours = bin_hours
        self.statistic = statistic
        self.codes = codes
        self.treatments = treatments
        self.columns = columns
        self.roles = roles
        self.n_pieces = n_pieces
        self.min_subjects = min_subjects

    def fit(self, cohort: Cohort, y: object = None) -> "TimelineTokenizer":
        """Learn from training patients.

        Raises:
            ConfigError: If there are no bins, they have no length, or the statistic is unknown.
            DataError: If the cohort has no events, or no code has values in enough patients.
            SchemaError: If nothing is called as a treatment is, or a static column is absent or of another kind.
        """
        if self.n_bins < 1 or self.bin_hours <= 0 or self.statistic not in get_args(BinStatistic) or self.min_subjects < 1:
            raise ConfigError(
                f"Expected n_bins ≥ 1, bin_hours > 0, a statistic among {', '.join(get_args(BinStatistic))} and min_subjects ≥ 1; "
                f"found {self.n_bins}, {self.bin_hours}, {self.statistic!r} and {self.min_subjects}."
            )
        events = recent_events(cohort, self.n_bins * self._width)
        seen = events["code"].cat.categories
        unknown = [pattern for pattern in self.treatments if not matches(seen, (pattern,)).any()]
        if unknown:
            raise SchemaError(
                f"Expected events of the treatment {unknown[0]!r}, found none among {len(seen)} codes: {seen[:10].tolist()}. Name others."
            )
        numbers, given = self._by_kind(events)
        self.codes_ = tuple(common_codes(numbers, self.min_subjects, self.codes or ()))
        self.treatments_ = tuple(common_codes(given, self.min_subjects, self.treatments))
        if not self.codes_:
            raise DataError(f"Expected a code with numbers in {self.min_subjects} patients or more, found none. Lower min_subjects, or name others.")
        cells = self._cells(numbers, self.codes_)
        self.scores_ = NormalScores(self.codes_).fit(cells["place"].to_numpy(), cells["value"].to_numpy())
        self.static_ = self.static_columns().fit(cohort)
        return self

    def transform(self, cohort: Cohort) -> TimelineBatch:
        """The bins of any patients.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            DataError: If the cohort has no events.
            SchemaError: If a static column is absent or its values are not of its kind.
        """
        check_is_fitted(self, "scores_")
        n, n_bins = len(cohort), self.n_bins
        events = recent_events(cohort, n_bins * self._width)
        numbers, treated = self._by_kind(events)
        cells, doses = self._cells(numbers, self.codes_), self._cells(treated, self.treatments_)
        at = (cells["row"].to_numpy(), cells["bin"].to_numpy(), cells["place"].to_numpy())
        values, measured = np.zeros((n, n_bins, len(self.codes_)), np.float32), np.zeros((n, n_bins, len(self.codes_)), bool)
        values[at], measured[at] = self.scores_.transform(at[2], cells["value"].to_numpy()), True
        given = np.zeros((n, n_bins, len(self.treatments_)), bool)
        given[doses["row"], doses["bin"], doses["place"]] = True
        first = np.full(n, n_bins)
        np.minimum.at(first, events["row"].to_numpy(), self._bins(events))
        present = np.arange(n_bins) >= first[:, None]
        return TimelineBatch(self.static_.transform(cohort), *(torch.from_numpy(block) for block in (values, measured, given, present)))

    def count_left_out(self, cohort: Cohort) -> Mapping[str, int]:
        """How many events of any patients with a time are not read: codes that training patients had not, and what is older than the bins.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            DataError: If the cohort has no events.
        """
        check_is_fitted(self, "scores_")
        recent, n_timed = recent_events(cohort, self.n_bins * self._width), len(recent_events(cohort))
        numbers, given = self._by_kind(recent)
        n_read = int(numbers["code"].isin(self.codes_).sum() + given["code"].isin(self.treatments_).sum())
        return {"not of the vocabulary": len(recent) - n_read, "older than the bins": n_timed - len(recent)}

    def layout(self) -> dict[str, Any]:
        """Codes, treatments, static columns and bins, as encoders want them.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self, "scores_")
        return {**self.static_.layout(), "codes": self.codes_, "treatments": self.treatments_, "n_bins": self.n_bins}

    def describe(self) -> dict[str, str]:
        """Codes, treatments, bins and static columns, for the model card."""
        return {
            "codes": ", ".join(self.codes_),
            "treatments": ", ".join(self.treatments_) or "none",
            "time": f"{self.n_bins} bins of {self.bin_hours:g} h before the prediction time",
            "static columns": self.static_names(),
        }

    def _by_kind(self, events: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Events with numbers, and treatments that were given."""
        known, codes = events["code"].cat.categories, events["code"].cat.codes.to_numpy()
        treatments, values = tuple(self.treatments), events["numeric_value"].to_numpy()
        is_treatment = matches(known, treatments)[codes]
        chosen = True if self.codes is None else matches(known, tuple(self.codes))[codes]
        return events[~is_treatment & ~np.isnan(values) & chosen], events[is_treatment & (values != 0)]

    def _cells(self, events: pd.DataFrame, codes: tuple[str, ...]) -> pd.DataFrame:
        """One row a patient, bin and code of the vocabulary: `row`, `bin`, `place` of the code, and the `value` of the bin."""
        places = code_places(events, codes)
        known, sizes = places >= 0, (self.n_bins, max(1, len(codes)))
        key = (events["row"].to_numpy() * sizes[0] + self._bins(events)) * sizes[1] + places
        found = events["numeric_value"][known].astype("float64").groupby(key[known]).agg(self.statistic)
        rows = found.index.to_numpy(dtype=np.int64)
        return pd.DataFrame(
            {"row": rows // sizes[1] // sizes[0], "bin": rows // sizes[1] % sizes[0], "place": rows % sizes[1], "value": found.to_numpy()}
        )

    def _bins(self, events: pd.DataFrame) -> npt.NDArray[np.int64]:
        """Bin of each event, the last one right before the prediction time."""
        return np.asarray(self.n_bins - 1 - (events["before"].to_numpy() - 1) // self._width)

    @property
    def _width(self) -> int:
        """Length of a bin in microseconds."""
        return round(self.bin_hours * MICROSECONDS_PER_HOUR)
