"""What a scanner makes of a simulated brain: signals of its sources, with memory along time, motion, the scanner's own pattern and noise."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from graphssl.datasets.sources import NETWORKS, Floats, SourceField
from graphssl.errors import DataError

_LOCAL_SD, _LOADING_SD, _SOURCE_NOISE = 2.0, 0.4, 2.0
_MEMORY_SECONDS = 3.0
_SPIKE_RATE, _SPIKE_SIZE, _SPIKE_RANK = 0.3, 30.0, 10
_PATTERN_RANK = 2


@dataclass(frozen=True)
class SimulatedSite:
    """A place with a scanner and its own people.

    Args:
        name: Name of the site.
        n_timepoints: Length of a scan, in volumes.
        tr: Repetition time in seconds.
        noise: Standard deviation of the measurement noise of a region; the signal of a network has 1.
        motion: Median head motion of its subjects, mm.
        offset: Standard deviation of the signal that the scanner adds to everybody, smooth in space.
        age_range: Youngest and oldest subject, years.
        patient_share: Share of patients; that of the cohort when left out.

    Raises:
        DataError: If a value is out of range.
    """

    name: str
    n_timepoints: int = 120
    tr: float = 2.0
    noise: float = 1.0
    motion: float = 0.1
    offset: float = 0.5
    age_range: tuple[float, float] = (18.0, 45.0)
    patient_share: float | None = None

    def __post_init__(self) -> None:
        low, high = self.age_range
        checks = {
            "n_timepoints of at least 20": self.n_timepoints >= 20,
            "a tr above 0 s": self.tr > 0,
            "noise, motion and offset of at least 0": min(self.noise, self.motion, self.offset) >= 0,
            "an age_range within 0 to 120 years": 0 <= low <= high <= 120,
            "a patient_share in [0, 1]": self.patient_share is None or 0 <= self.patient_share <= 1,
        }
        wrong = [what for what, fine in checks.items() if not fine]
        if wrong:
            raise DataError(f"Expected {wrong[0]} for site {self.name!r}, found {self}.")


def scanner_patterns(field: SourceField, n_sites: int, rng: np.random.Generator) -> Floats:
    """What each scanner adds to everybody: a few smooth maps a site, of mean square 1 together `[S, 2, M]`.

    Args:
        field: The sources `[M]`.
        n_sites: Number of sites.
        rng: Source of randomness.
    """
    patterns = rng.normal(size=(n_sites, _PATTERN_RANK, field.basis.shape[1])) @ field.basis.T
    scaled: Floats = patterns / np.sqrt((patterns**2).sum(axis=1).mean(axis=-1))[:, None, None]
    return scaled


def source_signals(
    field: SourceField, root: Floats, site: SimulatedSite, site_pattern: Floats, motion: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Signals of all sources of one subject `[T, M]`: network × loading + local field + scanner + motion + noise.

    Args:
        field: The sources.
        root: Square root of the covariance of the subject's networks `[7, 7]`.
        site: The scanner.
        site_pattern: What it adds `[2, M]`.
        motion: Head motion of the subject, mm.
        rng: Source of randomness.
    """
    n_basis = field.basis.shape[1]
    loading = 1.0 + _LOADING_SD * field.basis @ rng.normal(size=n_basis)
    networks = _autoregressive(rng.normal(size=(site.n_timepoints, len(NETWORKS))), site.tr) @ root.T
    local = _LOCAL_SD * _autoregressive(rng.normal(size=(site.n_timepoints, n_basis)), site.tr)
    local[:, :_SPIKE_RANK] += _spikes(site.n_timepoints, motion, rng)
    scanner = site.offset * _autoregressive(rng.normal(size=(site.n_timepoints, _PATTERN_RANK)), site.tr)
    smooth = np.concatenate([networks, local, scanner], axis=1).astype(np.float32)
    maps = np.concatenate([(field.membership * loading[:, None]).T, field.basis.T, site_pattern]).astype(np.float32)
    noise = rng.standard_normal((site.n_timepoints, len(field)), dtype=np.float32)
    signals: npt.NDArray[np.float32] = smooth @ maps + np.float32(_SOURCE_NOISE) * noise
    return signals


def absent_regions(n_regions: int, rate: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Regions that a scan lacks `[R]`; two always stay, or there would be no connection at all.

    Args:
        n_regions: Number of regions.
        rate: Probability of each.
        rng: Source of randomness.
    """
    absent = rng.random(n_regions) < rate
    absent[rng.permutation(n_regions)[:2]] = False
    return absent


def _autoregressive(noise: Floats, tr: float) -> Floats:
    """White noise of variance 1 `[T, k]` given a memory along time: a first-order autoregression of variance 1."""
    memory = np.exp(-tr / _MEMORY_SECONDS)
    noise[1:] *= np.sqrt(1 - memory**2)
    filtered: Floats = lfilter([1.0], [1.0, -memory], noise, axis=0)
    return filtered


def _spikes(n_timepoints: int, motion: float, rng: np.random.Generator) -> Floats:
    """Head movements: rare moments in which the smoothest parts of the field jump together, which ties near regions more than far ones."""
    moments = rng.random((n_timepoints, 1)) < min(1.0, _SPIKE_RATE * motion)
    jumps: Floats = moments * (_SPIKE_SIZE * motion) * rng.normal(size=(n_timepoints, _SPIKE_RANK))
    return jumps
