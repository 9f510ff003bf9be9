"""What is left when a modality is missing, in the report: the table holds the means, the sentence the difference."""

from graphssl.reports.evaluated_task import audits, read_evaluated
from graphssl.reports.modalities import added, sections, swept
from graphssl.reports.page import render
from graphssl.reports.run_folder import read_run

SPLITS = {"a": 0.0, "b": 0.02, "c": -0.02}


def evaluated_of(fake_run, names):
    run = fake_run()
    for name, mean in names.items():
        run.method(name, {split: mean + offset for split, offset in SPLITS.items()})
    run.write()
    return read_evaluated(read_run(run.folder))


def test_means_by_share_are_those_of_the_results(fake_run):
    names = {
        "pretrained": 0.8,
        "pretrained|missing_image_50": 0.7,
        "pretrained|missing_image_100": 0.6,
        "late_average": 0.75,
        "late_average|missing_image_100": 0.7,
    }
    evaluated = evaluated_of(fake_run, {**names, "majority": 0.5, "pretrained|shuffled_labels": 0.5})
    found = swept(evaluated).set_index(["method", "percent"])["mean"].round(6).to_dict()
    assert found == {("pretrained", 0): 0.8, ("pretrained", 50): 0.7, ("pretrained", 100): 0.6, ("late_average", 0): 0.75, ("late_average", 100): 0.7}
    assert round(added(evaluated, "pretrained", "image").difference, 6) == 0.2
    assert added(evaluated, "pretrained", "table") is None
    text = "".join(sections(evaluated))
    assert "AUROC when image is missing at test" in text
    assert "100% of the test subjects with it lose it" in text
    assert "+0.200" in text
    assert [score.method for score in audits(evaluated)] == ["pretrained|shuffled_labels"]
    assert {score.method for score in evaluated.scores} == {"pretrained", "late_average", "majority"}
    assert "when image is missing at test" in render(evaluated)


def test_nothing_is_said_where_nothing_was_taken_away(fake_run):
    assert list(sections(evaluated_of(fake_run, {"pretrained": 0.8, "majority": 0.5}))) == []
