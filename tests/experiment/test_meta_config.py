"""Configurations of meta-training: strategies and baselines by name, what is left out, and what cannot be."""

import pytest

from graphssl.errors import ConfigError
from graphssl.experiment.meta_config import MetaExperiment, instantiate_meta, meta_parser
from graphssl.training.meta import JointTraining, MetaLearning, SingleSource

SOURCE = {"cohort": {"adapter": "simulate_table", "arguments": {"n_subjects": 40}}, "target": "died"}


def read(**settings):
    parser = meta_parser()
    return instantiate_meta(parser, parser.parse_object({"name": "meta", "sources": [SOURCE], **settings}))[0]


def test_the_strategy_that_is_kept_comes_first_and_once():
    experiment = read(strategy="meta", compare=["joint", "meta", "single_source"], meta={"algorithm": "anil"}, single_source="site-2")
    assert experiment.strategies == {"meta": MetaLearning("anil"), "joint": JointTraining(), "single_source": SingleSource("site-2")}
    assert read(meta={"algorithm": "anil"}).strategies == {"meta_reweighted": MetaLearning("anil", adaptive=True)}


@pytest.mark.parametrize(
    ("reader", "baselines"),
    [
        ({}, ("ridge_correlation",)),
        ({"columns": {}}, ("logistic_table",)),
        ({"images": {}}, ("logistic_pixels",)),
        ({"encoder": {"class_path": "graphssl.encoders.EventTransformer"}}, ("logistic_table",)),
        ({"columns": {}, "baselines": []}, ()),
    ],
)
def test_baselines_that_are_left_out_are_those_of_the_data(reader, baselines):
    assert read(**reader).baselines == baselines


def test_an_experiment_needs_a_source():
    with pytest.raises(ConfigError, match="at least one dataset"):
        MetaExperiment("empty", [])
