"""A batch of patients as single events: the latest of each, what, when and how much, static columns beside."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional as F

from graphssl.data.cohort import Cohort
from graphssl.data.normal_scores import NormalScores
from graphssl.data.recent_events import MICROSECONDS_PER_HOUR, code_places, common_codes, matches, recent_events
from graphssl.data.schema import Role
from graphssl.data.stream_records import AbstractStreamRecords
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.table import TableBatch
from graphssl.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class EventBatch(AbstractStreamRecords):
    """Patients by events, the latest first. Rows of few events end in empty places, which `batch[rows]` cuts off as far as all have them.

    Args:
        static: Columns that do not change, one row a patient.
        codes: Number of each event's code `[B, L]`; zero in empty places.
        values: Number of each event in normal scores `[B, L]`; zero where there is none.
        has_value: Which events have a number `[B, L]`.
        hours: Hours from each event to the prediction time `[B, L]`; zero in empty places.
        present: Which places hold an event `[B, L]`.
        hidden: Numbers that must not be read `[B, L]`; none when left out.

    Raises:
        DataError: If the shapes do not fit one another.
    """

    static: TableBatch
    codes: Int[Tensor, "B L"]
    values: Float[Tensor, "B L"]
    has_value: Bool[Tensor, "B L"]
    hours: Float[Tensor, "B L"]
    present: Bool[Tensor, "B L"]
    hidden: Bool[Tensor, "B L"] = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))

    def __post_init__(self) -> None:
        if self.hidden.numel() == 0:  # none was given
            object.__setattr__(self, "hidden", torch.zeros_like(self.present))
        expected = (len(self.static), self.codes.shape[1])
        wrong = {name: tuple(getattr(self, name).shape) for name in _TENSORS if tuple(getattr(self, name).shape) != expected}
        if wrong:
            raise DataError(f"Expected shapes {expected} for events of {expected[0]} patients, found {wrong}.")

    def __repr__(self) -> str:
        mean = float(self.present.sum()) / max(1, len(self))
        return f"EventBatch({len(self)} patients × {mean:.0f} events on average, {self.codes.shape[1]} at most)"

    @property
    def visible(self) -> Bool[Tensor, "B L"]:
        """Which numbers can be read: there and not hidden."""
        return self.has_value & ~self.hidden

    def __getitem__(self, rows: Sequence[int] | Int[Tensor, "b"] | Bool[Tensor, "B"]) -> "EventBatch":
        """The given rows, by number or by a mask of booleans, as long as the longest of them."""
        taken = super().__getitem__(rows)
        return taken.resized(int(taken.present.sum(dim=1).max()) if len(taken) else 0)

    @classmethod
    def cat(cls, batches: Sequence["EventBatch"]) -> "EventBatch":
        """Events of the same codes and columns below one another, as long as the longest.

        Raises:
            DataError: If there are none, or their columns differ.
        """
        longest = max((batch.codes.shape[1] for batch in batches), default=0)
        return super().cat([batch.resized(longest) for batch in batches])

    def same_rows(self, other: "EventBatch") -> Bool[Tensor, "B"]:
        """Which rows hold the same events and columns as those of another batch."""
        longest = max(self.codes.shape[1], other.codes.shape[1])
        return super(EventBatch, self.resized(longest)).same_rows(other.resized(longest))

    def hide_in(self, rows: Int[Tensor, "b"], hidden: Bool[Tensor, "b l"]) -> "EventBatch":
        """The batch with more of some rows made unreadable; of rows with more or with fewer empty places behind the events too."""
        return super().hide_in(rows, F.pad(hidden, (0, self.codes.shape[1] - hidden.shape[1])))

    def resized(self, length: int) -> "EventBatch":
        """The batch with so many places: empty ones added, or the last ones cut off."""
        return EventBatch(self.static, *(F.pad(getattr(self, name), (0, length - self.codes.shape[1])) for name in _TENSORS))

    def signature(self) -> bytes:
        """What tells these rows from others: static columns and the sums of each row's events, weighted by their places."""
        places = torch.arange(1, self.codes.shape[1] + 1, device=self.device, dtype=torch.float64)
        sums = [block.double() @ places for block in (self.codes, self.values, self.has_value, self.hours, self.present)]
        return self.static.signature() + torch.stack(sums, dim=1).cpu().numpy().tobytes()

    def hide(self, hidden: Bool[Tensor, "B L"]) -> "EventBatch":
        """The batch with some numbers made unreadable too; that and when an event was stays readable."""
        return replace(self, hidden=self.hidden | (hidden & self.has_value))


_TENSORS = ("codes", "values", "has_value", "hours", "present", "hidden")


class EventTokenizer(AbstractStreamTokenizer):
    """Events in, an `EventBatch` out: the latest events before the prediction time, one by one, as in STraTS (Tipirneni & Reddy, TKDD 2022).

    Nothing is binned, so a vocabulary of thousands of codes and irregular times cost nothing; of a patient with more than `max_events` the oldest are
    left out. A number is written as its normal score among the training patients' values of the code; codes with numbers of too few training patients
    tell only that and when they were. Where a cohort has no prediction times, time counts back from the patient's last event. Text is not read.

    Args:
        max_events: Events of a patient, at most.
        hours: Leave out what is older than this, in hours; nothing when left out.
        codes: Codes to take, or patterns such as `LAB//*`; every code when left out.
        columns: Names of the static columns; all with one of the `roles` that hold numbers or categories when left out. Events without a time are
            static too.
        roles: Roles of the static columns to take where none are named.
        n_pieces: Pieces of each static number, at most.
        min_subjects: Codes of fewer training patients are left out, unless they are named in full.

    Attributes:
        codes_: Codes that are read `[V]`.
        scores_: Fitted `NormalScores` of those with numbers.
        static_: Fitted `StaticColumns`.
    """

    words = ("codes_",)

    def __init__(
        self,
        max_events: int = 256,
        hours: float | None = None,
        codes: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        roles: Sequence[Role] = ("covariate", "feature"),
        n_pieces: int = 16,
        min_subjects: int = 10,
    ) -> None:
        self.max_events = max_events
        self.hours = hours
        self.codes = codes
        self.columns = columns
        self.roles = roles
        self.n_pieces = n_pieces
        self.min_subjects = min_subjects

    def fit(self, cohort: Cohort, y: object = None) -> "EventTokenizer":
        """Learn from training patients.

        Raises:
            ConfigError: If there is no room for events, or no time.
            DataError: If the cohort has no events, or no code is of enough patients.
            SchemaError: If a static column is absent or of another kind.
        """
        if self.max_events < 1 or (self.hours is not None and self.hours <= 0) or self.min_subjects < 1:
            raise ConfigError(
                f"Expected max_events ≥ 1, hours > 0 and min_subjects ≥ 1; found {self.max_events}, {self.hours} and {self.min_subjects}."
            )
        events = self._read(cohort)
        chosen = events if self.codes is None else events[matches(events["code"].cat.categories, tuple(self.codes))[events["code"].cat.codes]]
        self.codes_ = tuple(common_codes(chosen, self.min_subjects, self.codes or ()))
        if not self.codes_:
            raise DataError(f"Expected a code of {self.min_subjects} patients or more, found none. Lower min_subjects, or name others.")
        numbers = chosen[chosen["numeric_value"].notna() & chosen["code"].isin(self.codes_)]
        scored = common_codes(numbers, self.min_subjects)
        numbers = numbers[numbers["code"].isin(scored)]
        self.scores_ = NormalScores(scored).fit(code_places(numbers, scored), numbers["numeric_value"].to_numpy())
        self.static_ = self.static_columns().fit(cohort)
        return self

    def transform(self, cohort: Cohort) -> EventBatch:
        """The latest events of any patients.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            DataError: If the cohort has no events.
            SchemaError: If a static column is absent or its values are not of its kind.
        """
        check_is_fitted(self, "scores_")
        events = self._read(cohort)
        codes, scored = code_places(events, self.codes_), code_places(events, self.scores_.codes)
        place = pd.Series(events["row"][codes >= 0]).groupby(events["row"][codes >= 0]).cumcount(ascending=False)
        kept = np.flatnonzero(codes >= 0)[place.to_numpy() < self.max_events]
        at = (events["row"].to_numpy()[kept], place.to_numpy()[place.to_numpy() < self.max_events])
        values, has_value = np.zeros(len(kept), np.float32), (scored[kept] >= 0) & events["numeric_value"].notna().to_numpy()[kept]
        values[has_value] = self.scores_.transform(scored[kept][has_value], events["numeric_value"].to_numpy()[kept][has_value])
        hours = events["before"].to_numpy()[kept] / MICROSECONDS_PER_HOUR
        length = int(at[1].max(initial=-1)) + 1

        def laid_out(what: Any, dtype: Any) -> Tensor:
            block = np.zeros((len(cohort), length), dtype)
            block[at] = what
            return torch.from_numpy(block)

        blocks = (laid_out(codes[kept], np.int64), laid_out(values, np.float32), laid_out(has_value, bool), laid_out(hours, np.float32))
        return EventBatch(self.static_.transform(cohort), *blocks, laid_out(True, bool))

    def count_left_out(self, cohort: Cohort) -> dict[str, int]:
        """How many events of any patients with a time are not read: codes that training patients had not, and what there was no room or time for.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
            DataError: If the cohort has no events.
        """
        check_is_fitted(self, "scores_")
        events, n_timed = self._read(cohort), len(recent_events(cohort))
        known = events[code_places(events, self.codes_) >= 0]
        n_crowded = int((known.groupby("row").size() - self.max_events).clip(lower=0).sum())
        return {"not of the vocabulary": len(events) - len(known), "older than the hours": n_timed - len(events), "beyond max_events": n_crowded}

    def layout(self) -> dict[str, Any]:
        """Codes and static columns, as encoders want them.

        Raises:
            sklearn.exceptions.NotFittedError: If nothing was fitted.
        """
        check_is_fitted(self, "scores_")
        return {**self.static_.layout(), "codes": self.codes_}

    def describe(self) -> dict[str, str]:
        """Codes, time and static columns, for the model card."""
        time = f"the latest {self.max_events} events" + ("" if self.hours is None else f" of {self.hours:g} h") + " before the prediction time"
        more = len(self.codes_) - _N_NAMED
        codes = ", ".join(self.codes_[:_N_NAMED]) + (f" and {more} more" if more > 0 else "")
        return {"codes": codes, "time": time, "static columns": self.static_names()}

    def _read(self, cohort: Cohort) -> pd.DataFrame:
        return recent_events(cohort, None if self.hours is None else round(self.hours * MICROSECONDS_PER_HOUR))


_N_NAMED = 50
