"""What builders promise: fitted on training subjects, saved as plain values and tensors, described in words."""

import json
from dataclasses import replace

import pytest
from sklearn.base import clone

from graphssl.data import Cohort, ColumnTokenizer, EventTokenizer, Provenance, RegionData, StreamedCohort, TimelineTokenizer, write_shards
from graphssl.data.builder import AbstractBuilder, AbstractTokenizer
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.errors import ConfigError
from graphssl.graphs import ConnectomeBuilder, PopulationBuilder

BUILDERS = [
    ConnectomeBuilder(),
    ColumnTokenizer(columns=["age", "sex"]),
    TimelineTokenizer(treatments=("ventil*",), min_subjects=3),
    EventTokenizer(max_events=5, codes=("p*", "v*"), min_subjects=3),
]


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: type(builder).__name__)
def test_a_builder_survives_json_and_tensors(builder, make_cohort, ward):
    cohort = ward() if isinstance(builder, AbstractStreamTokenizer) else make_cohort(n_subjects=12)
    fitted = clone(builder).fit(cohort)
    assert isinstance(fitted, AbstractBuilder)
    record, tensors = fitted.state()
    again = type(builder).from_state(json.loads(json.dumps(record)), tensors)
    assert again.transform(cohort).signature() == fitted.transform(cohort).signature()
    assert again.describe() == fitted.describe()
    assert all(isinstance(value, str) for value in fitted.describe().values())


def test_a_tokenizer_says_what_encoders_must_know(ward):
    columns, timeline, events = (kind(n_pieces=4).fit(ward(n=24)) for kind in (ColumnTokenizer, TimelineTokenizer, EventTokenizer))
    assert isinstance(columns, AbstractTokenizer)
    assert columns.layout() == {"numbers": ("age",), "categories": {"sex": ("f", "m")}, "n_pieces": 4}
    assert set(timeline.layout()) == {*columns.layout(), "codes", "treatments", "n_bins"}
    assert set(events.layout()) == {*columns.layout(), "codes"}


def test_a_builder_that_needs_all_subjects_says_so(make_cohort, tmp_path):
    streamed = StreamedCohort(write_shards(make_cohort(), tmp_path / "shards", size=12), 1)
    with pytest.raises(ConfigError, match="which learns from some shards at a time, found PopulationBuilder.*a window of all 2 shards"):
        PopulationBuilder(ColumnTokenizer(["age"])).fit_streamed(streamed)


def test_a_subject_has_one_row_but_in_several_atlases(make_cohort):
    cohort, other = make_cohort(n_subjects=8), make_cohort(n_subjects=6, n_regions=10)
    data = RegionData(replace(other.atlas("toy"), name="small"), other.regions["toy"].values, Provenance("timeseries"))
    both = Cohort("both", cohort.subjects, cohort.schema, {**cohort.regions, "small": data})
    assert ColumnTokenizer(["age"]).most_rows(both) == 1
    builder = ConnectomeBuilder().fit(both)
    assert builder.most_rows(both) == 2
    assert builder.most_rows(both.select(both.ids[6:])) == 1
