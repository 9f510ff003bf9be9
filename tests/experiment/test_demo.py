"""The demonstration needs no file and is a configuration like any other."""

import pytest

from graphssl.experiment.config import experiment_parser, instantiate
from graphssl.experiment.demo import demo_configuration


@pytest.fixture(scope="module")
def experiment():
    parser = experiment_parser()
    parser.set_defaults(demo_configuration())
    return instantiate(parser, parser.parse_args([]))[0]


def test_it_parses(experiment):
    assert (experiment.name, experiment.target, experiment.classes) == ("demo", "diagnosis", ["control", "patient"])
    assert experiment.cohort.absent() == []


def test_it_has_what_the_first_page_promises(experiment):
    """Four sites, two atlases, and the rows of the table: pre-trained, scratch, baselines; a few labels and all of them."""
    arguments = experiment.cohort.arguments
    assert (arguments["sites"], len(arguments["atlases"])) == (4, 2)
    assert {"pretrained", "scratch"} <= set(experiment.evaluation.methods)
    assert len(experiment.evaluation.baselines) >= 3
    assert min(experiment.evaluation.label_fractions) < max(experiment.evaluation.label_fractions) == 1.0
    assert experiment.evaluation.to_audit


def test_each_call_gives_a_configuration_of_its_own():
    demo_configuration()["cohort"]["arguments"]["n_subjects"] = 1
    assert demo_configuration()["cohort"]["arguments"]["n_subjects"] > 1
