"""A streamed cohort: who the subjects are is known, what is known of them is read a shard at a time."""

import numpy as np
import pandas as pd
import pytest

from graphssl.data import StreamedCohort, write_shards
from graphssl.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folder(make_cohort, tmp_path_factory):
    return write_shards(make_cohort(), tmp_path_factory.mktemp("data") / "shards", size=5)


def test_it_knows_who_its_subjects_are(make_cohort, folder):
    cohort, streamed = make_cohort(), StreamedCohort(folder, 2)
    assert (len(streamed), streamed.n_shards, streamed.window, streamed.has_all) == (24, 5, 2, False)
    assert streamed.ids == cohort.ids
    assert list(streamed.known.subjects) == ["diagnosis", "site"]  # and neither age nor sex
    assert streamed.known.sites.equals(cohort.sites)
    assert streamed.known.groups.equals(cohort.groups)
    assert "24 subjects, 2 of 5 shards at a time, toy timeseries" in repr(streamed)
    assert StreamedCohort(folder).has_all


def test_connectomes_are_views_of_files(folder):
    part = StreamedCohort(folder, 1).part(2)
    for values in part.regions["toy"].values.values():
        while not isinstance(values, np.memmap):
            values = values.base
        assert not values.flags.writeable


def test_parts_are_the_subjects_of_a_selection_shard_by_shard(make_cohort, folder):
    cohort = make_cohort()
    chosen = [*cohort.ids[20:22], *cohort.ids[3:12]]
    streamed = StreamedCohort(folder, 2).select(chosen)
    assert streamed.ids == chosen
    assert streamed.shards.tolist() == [4, 4, 0, 0, 1, 1, 1, 1, 1, 2, 2]
    parts = list(streamed.parts())
    assert [part.ids for part in parts] == [cohort.ids[3:5], cohort.ids[5:10], cohort.ids[10:12], cohort.ids[20:22]]
    assert all(part.hash == cohort.select(part.ids).hash for part in parts)
    assert streamed.whole().hash == cohort.select(chosen).hash
    assert streamed.whole().ids == chosen


def test_a_column_comes_whole_and_in_order(make_cohort, folder):
    cohort = make_cohort()
    chosen = cohort.ids[::-3]
    pd.testing.assert_series_equal(StreamedCohort(folder, 1).select(chosen).column("age"), cohort.subjects["age"].loc[chosen])


def test_hash_is_that_of_the_contents(make_cohort, folder, tmp_path):
    again = StreamedCohort(write_shards(make_cohort(), tmp_path / "again", size=5))
    other = StreamedCohort(write_shards(make_cohort(seed=1), tmp_path / "other", size=5))
    assert again.hash == StreamedCohort(folder, 1).hash != other.hash


def test_a_file_changed_later_is_seen_when_its_shard_is_first_read_or_all_are_checked(make_cohort, tmp_path):
    folder = write_shards(make_cohort(n_subjects=8), tmp_path / "shards", size=4)
    path = folder / "regions" / "toy" / "00001.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    streamed = StreamedCohort(folder, 1)
    assert streamed.part(0).ids == streamed.ids[:4]
    with pytest.raises(DataError, match=r"00001\.npy .*found a changed file"):
        streamed.part(1)
    with pytest.raises(DataError, match=r"00001\.npy .*found a changed file"):
        streamed.check()


def test_a_window_of_nothing_is_refused(folder):
    with pytest.raises(ConfigError, match="a window of one shard or more, found window=0"):
        StreamedCohort(folder, 0)
    with pytest.raises(DataError, match=r"found 1 that are not: \['nobody'\]"):
        StreamedCohort(folder, 1).select(["nobody"])
