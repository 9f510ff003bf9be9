"""Simulated stays in intensive care: events, treatments and an outcome that follow from one hidden severity."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from graphssl.data import Cohort, Column, Events, Schema
from graphssl.data.events import ORIGIN
from graphssl.errors import ConfigError

# Baseline, spread, change with severity, and probability of a measurement in an hour.
SIGNS = {
    "heart rate": (85.0, 8.0, 10.0, 0.8),
    "blood pressure": (85.0, 8.0, -8.0, 0.8),
    "respiration": (18.0, 3.0, 3.0, 0.6),
    "temperature": (37.0, 0.4, 0.3, 0.3),
    "lactate": (1.5, 0.4, 0.8, 0.1),
    "creatinine": (1.0, 0.2, 0.3, 0.08),
}
# Severity from which on an hour is treated.
TREATMENTS = {"ventilation": 0.3, "vasopressor": 0.9}


def simulate_stays(n_patients: int = 200, *, n_hours: int = 48, n_sites: int = 2, effect: float = 1.5, seed: int = 0, name: str = "stays") -> Cohort:
    """Simulate stays whose measurements, treatments and outcome follow from a severity that wanders from hour to hour.

    Vital signs are measured often, laboratory values seldom, and both more often in those who are ill, so that what is missing tells something.
    Patients come at any hour of the first half of the window. Treatments are given in hours of high severity. Events lie in the hours after
    `graphssl.data.events.ORIGIN`, and the prediction time is at the end of the window.

    Args:
        n_patients: Number of patients.
        n_hours: Length of the window in hours.
        n_sites: Number of units, dealt to patients in turn.
        effect: Change of the log odds of death with the severity of the last hours; 0 makes the outcome chance.
        seed: Seed of everything random.
        name: Name of the cohort.

    Raises:
        ConfigError: If there are no patients, units or fewer than two hours.
    """
    if n_patients < 1 or n_hours < 2 or n_sites < 1:
        raise ConfigError(f"Expected n_patients ≥ 1, n_hours ≥ 2 and n_sites ≥ 1; found {n_patients}, {n_hours} and {n_sites}.")
    rng = np.random.default_rng(seed)
    ids = pd.Index([f"stay-{k:05d}" for k in range(n_patients)], dtype="str")
    severity = rng.standard_normal((n_patients, 1)) + np.cumsum(0.15 * rng.standard_normal((n_patients, n_hours)), axis=1)
    arrived = np.arange(n_hours) >= rng.integers(0, n_hours // 2, (n_patients, 1))
    outlook = effect * severity[:, -6:].mean(axis=1) - 0.5
    table = pd.DataFrame(
        {
            "died": np.where(rng.random(n_patients) < 1 / (1 + np.exp(-outlook)), "yes", "no"),
            "unit": [f"unit-{k % n_sites}" for k in range(n_patients)],
            "age": rng.uniform(20, 90, n_patients).round(),
            "sex": rng.choice(["female", "male"], n_patients),
        },
        index=ids,
    )
    parts = [_measured(rng, code, severity, arrived) for code in SIGNS]
    parts += [_where(arrived & (severity > start), code, rng) for code, start in TREATMENTS.items()]
    stream = pd.concat(parts, ignore_index=True)
    stream["time"] = ORIGIN + pd.to_timedelta(stream["minute"], unit="min")
    planned = pd.DataFrame({"row": np.flatnonzero(rng.random(n_patients) < 0.3), "code": "planned admission"})  # an event without a time
    stream = pd.concat([stream, planned], ignore_index=True)
    stream["subject_id"] = ids[stream["row"]]
    cohort = Cohort(name, table, Schema(_COLUMNS), events=Events.of(stream))
    return cohort.predict_at(pd.Series(ORIGIN + pd.Timedelta(hours=n_hours), index=ids))


def _measured(rng: np.random.Generator, code: str, severity: npt.NDArray[np.float64], arrived: npt.NDArray[np.bool_]) -> pd.DataFrame:
    baseline, spread, slope, often = SIGNS[code]
    # Who is ill is measured more often.
    chance = often * np.clip(1 + 0.3 * severity, 0.3, 1.25)
    found = _where(arrived & (rng.random(severity.shape) < chance), code, rng)
    ill = severity[found["row"], found["minute"] // 60]
    return found.assign(numeric_value=baseline + slope * ill + spread * rng.standard_normal(len(found)))


def _where(hours: npt.NDArray[np.bool_], code: str, rng: np.random.Generator) -> pd.DataFrame:
    """An event at some minute of each of the hours `[n, T]`."""
    row, hour = np.nonzero(hours)
    return pd.DataFrame({"row": row, "minute": 60 * hour + rng.integers(0, 60, len(row)), "code": code})


_COLUMNS = (
    Column("died", "binary", "target", categories=("no", "yes")),
    Column("unit", "categorical", "site"),
    Column("age", "continuous", "feature", "years", (0.0, 120.0)),
    Column("sex", "binary", "feature", categories=("female", "male")),
)
