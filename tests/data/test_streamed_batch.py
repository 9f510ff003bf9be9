"""A batch in shards: rows are those of a batch in memory, and never more than a window of shards is held."""

from weakref import WeakSet

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.atlases import simulated_atlas
from graphssl.data import Cohort, ColumnTokenizer, StreamedCohort, write_shards
from graphssl.data.streamed_batch import StreamedBatch, Window
from graphssl.graphs import ConnectomeBuilder

N = 24


@pytest.fixture(scope="module")
def cohort(make_cohort):
    """Twenty-four subjects, the last sixteen with a second atlas."""
    first = make_cohort(n_subjects=N)
    second = Cohort.from_arrays(np.random.default_rng(0).standard_normal((16, 20, 10)), simulated_atlas(10), ids=first.ids[8:])
    return Cohort("both", first.subjects, first.schema, {**first.regions, **second.regions})


@pytest.fixture(scope="module")
def folder(cohort, tmp_path_factory):
    return write_shards(cohort, tmp_path_factory.mktemp("data") / "shards", size=5)


@pytest.fixture(scope="module")
def builders(cohort):
    return {"connectomes": ConnectomeBuilder(covariates=["age"]).fit(cohort), "table": ColumnTokenizer(["age", "sex"]).fit(cohort)}


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.integers(0, N - 1), min_size=1, max_size=N, unique=True),
    window=st.integers(1, 6),
    kind=st.sampled_from(["connectomes", "table"]),
)
def test_rows_are_those_of_a_batch_in_memory(cohort, folder, builders, rows, window, kind):
    whole = builders[kind].transform(cohort)
    found = StreamedBatch(StreamedCohort(folder, window), builders[kind])[rows]
    expected = whole[[row for k in rows for row, subject in enumerate(whole.subject_ids) if subject == cohort.ids[k]]]
    assert found.subject_ids == expected.subject_ids
    names = ("weights", "visible", "mask", "centroids", "networks") if kind == "connectomes" else ("numbers", "pieces", "codes", "measured")
    for name in names:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-6)
    if kind == "connectomes":
        assert found.atlas == expected.atlas
        assert torch.equal(found.covariates.numbers, expected.covariates.numbers)


class Counted(ConnectomeBuilder):
    """Keeps count of the batches that it has made and that are still in memory."""

    def transform(self, cohort, **options):
        batch = super().transform(cohort, **options)
        self.alive.add(batch)
        self.most, self.made = max(self.most, len(self.alive)), self.made + 1
        return batch


@pytest.mark.parametrize("window", [1, 2, 4])
def test_never_more_than_a_window_of_shards_is_in_memory(cohort, folder, window):
    builder, streamed = Counted().fit(cohort), StreamedCohort(folder, window)
    builder.alive, builder.most, builder.made = WeakSet(), 0, 0
    shared = Window(window)
    train, validation = (StreamedBatch(streamed.select(ids), builder, shared) for ids in (cohort.ids[:18], cohort.ids[18:]))
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert len(train[rng.permutation(18)[:6].tolist()].subject_ids) >= 6
        assert len(validation[rng.permutation(6)[:2].tolist()].subject_ids) >= 2
    assert builder.most == window
    assert builder.made > 40  # they came and went


def test_what_was_used_last_stays():
    window = Window(2)
    made = []
    for number in (0, 1, 0, 2, 0, 1):
        window.get(("a", number), lambda number=number: made.append(number))
    assert made == [0, 1, 2, 1]
    assert ("a", 1) in window
    assert ("a", 2) not in window


def test_series_are_kept_for_views_that_need_them(cohort, folder, builders):
    batch = StreamedBatch(StreamedCohort(folder, 1), ConnectomeBuilder(atlases=["toy"]).fit(cohort), series=True)[[0, 7]]
    assert batch.scans.series.shape[:1] == (2,)
    np.testing.assert_allclose(batch.scans.series[1].std(dim=0).numpy() > 0, True)


def test_a_signature_tells_contents_subjects_window_and_what_was_learned(cohort, folder, builders):
    def signature(window=2, ids=slice(None), builder=builders["connectomes"]):
        return StreamedBatch(StreamedCohort(folder, window).select(cohort.ids[ids]), builder).signature()

    assert signature() == signature()
    other = ConnectomeBuilder(covariates=["age"]).fit(cohort.select(cohort.ids[4:]))
    assert len({signature(), signature(window=3), signature(ids=slice(1, None)), signature(builder=other)}) == 4


def test_size_words_and_device(cohort, folder, builders):
    batch = StreamedBatch(StreamedCohort(folder, 2), builders["connectomes"])
    assert (len(batch), batch.subject_ids, batch.most_rows) == (N, tuple(cohort.ids), 2)
    assert repr(batch).endswith("by ConnectomeBuilder)")
    assert batch.device.type == "cpu"
    assert batch.to("meta")[[3]].weights.device.type == "meta"
    assert batch[torch.arange(N) < 2].subject_ids == tuple(cohort.ids[:2])
