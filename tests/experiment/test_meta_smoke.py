"""The smallest meta-training is on simulated cohorts where the real ones are absent, of a few subjects of each class."""

import pytest

from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.meta_config import instantiate_meta, meta_parser
from graphssl.experiment.meta_smoke import first_subjects
from graphssl.training.meta import Source


@pytest.mark.parametrize(
    "reader",
    [
        {"builder": {}},
        {"columns": {}},
        {"timeline": {}},
        {"events": {}},
        {"population": {"tokenizer": {"class_path": "TimelineTokenizer"}}},
        {"images": {}},
    ],
    ids=lambda one: next(iter(one)),
)
def test_simulated_cohorts_take_the_place_of_absent_ones(reader):
    absent = {"cohort": {"path": "nowhere"}, "target": "outcome"}
    parser = meta_parser()
    settings = {"name": "small", "sources": [absent, absent], "target": absent, **reader}
    experiment, text = instantiate_meta(parser, parser.parse_object(settings), smoke=True)
    assert "# simulated data, for there is nothing at nowhere\n" in text
    sources, (target,) = experiment.load_sources(), experiment.load_targets()
    assert len(sources) == 3
    assert target.name.startswith("target")
    assert min(*target.counts, *(count for source in sources for count in source.counts)) >= 4
    ids = [f"{source.cohort.name} {subject}" for source in (*sources, target) for subject in source.labels]
    assert len(set(ids)) == len(ids)


def test_the_first_subjects_of_each_class():
    cohort = CohortSource("simulate_table", {"n_subjects": 40, "sites": 1}).load()[0]
    source = Source("one", cohort, "died")
    few = first_subjects(source, 3)
    assert few.counts == [3, 3]
    assert set(few.labels.items()) <= set(source.labels.items())
    first = {label: [subject for subject, other in source.labels.items() if other == label][:3] for label in (0, 1)}
    assert sorted(few.labels) == sorted([*first[0], *first[1]])
