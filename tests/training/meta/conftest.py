"""Small datasets of two diseases, planted so that it is known which are alike."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import Atlas, Cohort, Column, Provenance, RegionData, Schema
from graphssl.training.meta import MetaSettings, Source, sources_by_site


@pytest.fixture(scope="session")
def two_diseases():
    """Datasets x1, x2 of one disease and y1, y2 of another: in patients the first network leaks into the second, or into the third."""
    return [planted("x1", 1, 0), planted("x2", 1, 1), planted("y1", 2, 2), planted("y2", 2, 3)]


def planted(name, into, seed, n_subjects=48, n_regions=12):
    rng = np.random.default_rng(seed)
    centroids = np.random.default_rng(n_regions).uniform([-65, -100, -40], [65, 65, 75], (n_regions, 3)).astype(np.float32)
    networks = tuple("abc"[k % 3] for k in range(n_regions))
    atlas = Atlas("toy", np.arange(1, n_regions + 1), tuple(f"region {k}" for k in range(n_regions)), centroids, networks)
    member = np.eye(3)[:, np.arange(n_regions) % 3]
    series, ill = {}, np.arange(n_subjects) % 2 == 0
    for k in range(n_subjects):
        signals = rng.standard_normal((60, 3))
        signals[:, into] += 1.5 * ill[k] * signals[:, 0]
        series[f"{name}-{k:03d}"] = (signals @ member + rng.standard_normal((60, n_regions))).astype(np.float32)
    table = pd.DataFrame({"ill": np.where(ill, "yes", "no")}, index=pd.Index(list(series), dtype="str"))
    schema = Schema([Column("ill", "binary", "target", categories=("no", "yes"))])
    return Source(name, Cohort(name, table, schema, {"toy": RegionData(atlas, series, Provenance("timeseries"))}), "ill")


@pytest.fixture(scope="session")
def settings():
    """Factory of short meta-trainings: `settings(max_epochs=…)`."""
    short = {"max_epochs": 2, "steps_per_epoch": 3, "n_support": 3, "n_query": 3, "learning_rate": 3e-3, "accelerator": "cpu"}
    return lambda **changes: MetaSettings(**{**short, **changes})


@pytest.fixture(scope="module")
def sources(make_cohort):
    """Three sites of the small cohort, each a source."""
    return sources_by_site(make_cohort(n_subjects=36, n_sites=3, effect=2.0), target="diagnosis")
