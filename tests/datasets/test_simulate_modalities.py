"""Simulated modalities: who has which, in which rank, and one class a patient."""

import pytest

from graphssl.datasets import simulate_images, simulate_modalities
from graphssl.errors import ConfigError


def test_a_share_has_all_modalities_and_the_others_one():
    cohort = simulate_modalities(12, size=8, complete=0.25)
    kinds = [sum(subject in images.values for images in cohort.images.values()) for subject in cohort.ids]
    assert sorted(kinds) == [1] * 9 + [2] * 3
    assert {name: images.rank for name, images in cohort.images.items()} == {"radiographs": 2, "volumes": 3}
    assert cohort.target("diagnosis").tolist() == simulate_images(12, size=8).target("diagnosis").tolist()


def test_modalities_of_one_rank_differ_and_the_seed_decides():
    ranks = {"radiographs": 2, "ultrasound": 2}
    cohort = simulate_modalities(6, size=8, ranks=ranks, complete=1.0)
    hashes = [set(images.table["hash"]) for images in cohort.images.values()]
    assert not hashes[0] & hashes[1]
    assert simulate_modalities(6, size=8, ranks=ranks, complete=1.0).hash == cohort.hash
    assert simulate_modalities(6, size=8, ranks=ranks, complete=1.0, seed=1).hash != cohort.hash


@pytest.mark.parametrize("wrong", [{"ranks": {}}, {"complete": 1.5}])
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ConfigError, match="Expected one modality or more and a share of complete patients in"):
        simulate_modalities(4, size=8, **wrong)
