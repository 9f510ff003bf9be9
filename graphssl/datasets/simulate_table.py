"""A simulated table of patients whose structure is known: what is measured follows from a few hidden factors, and so does the outcome."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit

from graphssl.data.cohort import Cohort
from graphssl.data.schema import Column, Schema
from graphssl.errors import DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TableTruth:
    """What was put into a simulated table.

    Attributes:
        factors: Hidden factors by patient; the first, `severity`, decides the outcome and how much is measured.
        columns: By column: the `factor` behind it, its `loading` (correlation with it, before the scale of the column), and its `kind`.
        probability: Probability of the outcome by patient.
    """

    factors: pd.DataFrame
    columns: pd.DataFrame
    probability: "pd.Series[float]"

    def __repr__(self) -> str:
        return f"TableTruth({len(self.columns)} columns of {self.factors.shape[1]} factors, {len(self.factors)} patients)"


@dataclass(frozen=True)
class TableSimulation:
    """A simulated table and the truth behind it."""

    cohort: Cohort
    truth: TableTruth


def simulate_table(
    *,
    n_subjects: int = 400,
    columns: int | Sequence[int] = 40,
    n_factors: int = 4,
    loading: float = 0.6,
    effect: float = 2.0,
    share_dead: float = 0.3,
    share_missing: float = 0.2,
    sites: int = 1,
    world: int = 0,
    seed: int = 0,
    name: str = "simulated table",
) -> TableSimulation:
    """Simulate laboratory values, categories and an outcome of patients.

    Every patient has a few independent hidden factors. Column number `c` follows one of them (by turns), with noise: a number is a skewed or a plain
    scale of it, and every fifth column is a category, cut from it. Which column means what is decided by `world` and its number alone, so cohorts
    of one world with different columns share what `columns` have in common. The outcome is drawn from the first factor, the severity; the sicker
    a patient, the more is measured. With `effect=0` the outcome means nothing.

    Args:
        n_subjects: Number of patients.
        columns: How many columns, or their numbers.
        n_factors: Number of hidden factors.
        loading: Mean correlation of a column with its factor; each has its own within a fifth of it.
        effect: Log odds of the outcome that one standard deviation of severity adds.
        share_dead: Probability of the outcome at mean severity.
        share_missing: Probability that a value of a patient of mean severity is missing.
        sites: Hospitals; their patients differ in severity.
        world: Seed of what columns mean.
        seed: Seed of the patients.
        name: Name of the cohort.

    Returns:
        The cohort, with the columns `age` and `sex` (covariates), `lab00`, `lab01`, … (features), `died` (target, yes or no) and, where there are
        several, `site`; and the ground truth.

    Raises:
        DataError: If a number is out of range.
    """
    numbers = tuple(range(columns)) if isinstance(columns, int) else tuple(columns)
    _check(n_subjects, numbers, n_factors, loading, share_dead, share_missing, sites)
    rng = np.random.default_rng([seed, 0])
    site = np.arange(n_subjects) % sites
    factors = rng.standard_normal((n_subjects, n_factors))
    factors[:, 0] += _SITE_SD * np.linspace(-1, 1, sites)[site] if sites > 1 else 0.0
    probability = expit(logit(share_dead) + effect * factors[:, 0])
    meanings = [_meaning(number, n_factors, loading, np.random.default_rng([world, number])) for number in numbers]
    index = pd.Index([f"patient-{k:05d}" for k in range(n_subjects)], dtype="str")
    written = {
        "age": pd.Series((65 + 12 * rng.standard_normal(n_subjects)).round(1), index=index),
        "sex": pd.Series(rng.choice(["female", "male"], n_subjects), index=index, dtype="str"),
        "died": pd.Series(np.where(rng.random(n_subjects) < probability, "yes", "no"), index=index, dtype="str"),
    }
    if sites > 1:
        written["site"] = pd.Series([f"site-{k}" for k in site], index=index, dtype="str")
    for number, meaning in zip(numbers, meanings, strict=True):
        # A stream of its own for each column, so that the others stay as they are when one is added.
        own = np.random.default_rng([seed, 1, number])
        is_missing = own.random(n_subjects) < _missing_rate(share_missing, factors[:, 0])
        written[meaning.column.name] = pd.Series(meaning.see(factors, own), index=index).mask(is_missing)
    cohort = Cohort(name, pd.DataFrame(written), _schema(meanings, sites), {})
    return TableSimulation(cohort, _truth(factors, probability, meanings, index))


def _missing_rate(share: float, severity: Floats) -> Floats:
    return expit(logit(share) - severity) if share > 0 else np.zeros(len(severity))


def _schema(meanings: Sequence["_Meaning"], sites: int) -> Schema:
    described = [
        Column("age", "continuous", "covariate", unit="years"),
        Column("sex", "binary", "covariate", categories=("female", "male")),
        Column("died", "binary", "target", categories=("no", "yes")),
    ]
    if sites > 1:
        described.append(Column("site", "categorical", "site", categories=tuple(f"site-{k}" for k in range(sites))))
    return Schema([*described, *(meaning.column for meaning in meanings)])


def _truth(factors: Floats, probability: Floats, meanings: Sequence["_Meaning"], index: pd.Index) -> TableTruth:
    names = ["severity", *(f"factor{k}" for k in range(1, factors.shape[1]))]
    rows = {m.column.name: {"factor": names[m.factor], "loading": m.loading, "kind": m.column.kind} for m in meanings}
    columns = pd.DataFrame.from_dict(rows, orient="index")
    return TableTruth(pd.DataFrame(factors, index=index, columns=names), columns, pd.Series(probability, index=index, name="probability"))


_SITE_SD = 0.5
_UNITS = ("mg/dL", "mmol/L", "U/L", "10^9/L")
_CATEGORIES = ("low", "middle", "high")
_CUTS = (-0.5, 0.5)


@dataclass(frozen=True)
class _Meaning:
    """What a column is: the factor behind it, its correlation with it, and how it is written down."""

    column: Column
    factor: int
    loading: float
    center: float
    scale: float
    is_skewed: bool

    def see(self, factors: Floats, rng: np.random.Generator) -> npt.NDArray[np.generic]:
        latent = self.loading * factors[:, self.factor] + np.sqrt(1 - self.loading**2) * rng.standard_normal(len(factors))
        if self.column.kind == "categorical":
            return np.asarray(_CATEGORIES)[np.digitize(latent, _CUTS)]
        return np.round(self.center + self.scale * (np.exp(latent) if self.is_skewed else latent), 3)


def _meaning(number: int, n_factors: int, loading: float, rng: np.random.Generator) -> _Meaning:
    sign = rng.choice([-1.0, 1.0])
    own = sign * loading * rng.uniform(0.8, 1.2)
    center, scale = rng.uniform(5, 200), rng.uniform(0.5, 20)
    name, is_category = f"lab{number:02d}", number % 5 == 4
    column = Column(name, "categorical", categories=_CATEGORIES) if is_category else Column(name, "continuous", unit=_UNITS[number % len(_UNITS)])
    return _Meaning(column, number % n_factors, own, center, scale, is_skewed=bool(rng.random() < 0.5))


def _check(n_subjects: int, columns: Sequence[int], n_factors: int, loading: float, share_dead: float, share_missing: float, sites: int) -> None:
    checks = {
        "at least one patient a site": n_subjects >= sites >= 1,
        "different columns, at least one": len(columns) == len(set(columns)) > 0,
        "at least one factor": n_factors >= 1,
        "a loading in [0, 0.8]": 0 <= loading <= 0.8,
        "a share_dead in (0, 1)": 0 < share_dead < 1,
        "a share_missing in [0, 1)": 0 <= share_missing < 1,
    }
    wrong = [what for what, fine in checks.items() if not fine]
    if wrong:
        raise DataError(f"Expected {wrong[0]} of a simulated table, found another. See the arguments of simulate_table.")
