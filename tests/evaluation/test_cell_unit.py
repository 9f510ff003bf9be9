"""A cell is kept under a name of what decides it, and what it starts from under one of what decides that."""

import pytest

from graphssl.evaluation.cell_unit import of_share, stage_settings, units_of
from graphssl.evaluation.shares import Share
from graphssl.objectives import Restoration


@pytest.fixture
def unit_of(make_cell, tmp_path):
    return lambda levels=None, **settings: units_of(make_cell(levels or {}, **settings), "k_fold", 3, 1, (0,), tmp_path)[0]


def test_names_of_levels_decide_nothing(unit_of):
    assert unit_of({"a": "1"})[4:] == unit_of({"b": "2"})[4:]


def test_what_is_done_after_pre_training_leaves_its_name(unit_of):
    one, other = unit_of(shots=1), unit_of(shots=4)
    assert one.starts == other.starts
    assert one.path != other.path


def test_what_is_pre_trained_changes_both_names_and_only_where_there_is_some(unit_of):
    one, other = unit_of(), unit_of(objective=Restoration(skips=False))
    assert one.starts != other.starts
    assert one.path != other.path
    assert unit_of(pretrain_on=()).path == unit_of(pretrain_on=(), objective=Restoration(skips=False)).path


def test_a_chain_begins_as_its_first_stage_does(unit_of, image_source):
    chain, first = (unit_of(source=image_source, pretrain_on=names) for names in (("source", "cohort"), ("source",)))
    assert chain.starts[:1] == first.starts
    assert len(chain.starts) == 2


def test_a_cell_on_splits_and_seeds(make_cell, tmp_path):
    units = units_of(make_cell({"a": "1"}), "k_fold", 3, 2, (0, 1), tmp_path)
    assert [(unit.split.name, unit.seed) for unit in units] == [("fold-0", 0), ("fold-0", 1), ("fold-1", 0), ("fold-1", 1)]
    assert units[0].where() == {"a": "1", "split": "fold-0", "seed": 0}
    assert tuple(units[0].train.ids) == units[0].split.train
    assert units[0].train.subjects["diagnosis"].isna().all()


def test_what_begins_alike_is_of_one_share(make_cell, tmp_path):
    units = [unit for n in (1, 2, 4) for unit in units_of(make_cell({}, shots=n), "k_fold", 3, 1, (0, 1), tmp_path)]
    parts = [of_share(units, Share(number, 2)) for number in (1, 2)]
    assert sorted({unit.seed for unit in part} for part in parts) == [{0}, {1}]
    assert sum(map(len, parts)) == len(units)


def test_epochs_on_the_source_may_differ(make_cell, image_source):
    cell = make_cell({}, source=image_source, pretrain_on=("source", "cohort"), source_epochs=5)
    assert [stage_settings(cell, name).max_epochs for name in ("source", "cohort")] == [5, 1]
