"""Simulated images: what is planted, what is not, every kind, and every refusal."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from graphssl.data import ImageBuilder
from graphssl.datasets import simulate_images
from graphssl.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({}, (1, 24, 24)),
        ({"size": 16, "n_channels": 3}, (3, 16, 16)),
        ({"rank": 3}, (1, 12, 24, 24)),
        ({"n_frames": 5}, (1, 5, 24, 24)),
        ({"n_frames": 5, "n_channels": 3}, (3, 5, 24, 24)),
    ],
)
def test_images_volumes_and_clips(arguments, size):
    cohort = simulate_images(12, images_per_subject=2, **arguments)
    batch = ImageBuilder().fit(cohort).transform(cohort)
    assert batch.shape == (24, *size)
    assert batch.subject_ids[:4] == ("patient-0000", "patient-0000", "patient-0001", "patient-0001")
    assert set(batch.masks.unique().tolist()) == {0, 1}
    assert batch.clip == ("n_frames" in arguments)


def test_the_same_seed_gives_the_same_images_wherever_they_lie(tmp_path):
    first, second = simulate_images(6, folder=tmp_path / "a"), simulate_images(6)
    assert first.hash == second.hash
    assert first.hash != simulate_images(6, seed=1).hash
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["images.npz"]


@pytest.mark.parametrize(("effect", "lowest", "highest"), [(2.0, 0.9, 1.0), (0.0, 0.3, 0.7)])
def test_the_lesion_tells_the_diagnosis_as_far_as_it_is_planted(effect, lowest, highest):
    cohort = simulate_images(120, effect=effect, n_sites=1)
    batch = ImageBuilder(scale="unit").fit(cohort).transform(cohort)
    inside = [image[0][mask == 1].std().item() for image, mask in zip(batch.images, batch.masks, strict=True)]
    malignant = (cohort.subjects["diagnosis"] == "malignant").to_numpy()
    scores = cross_val_score(LogisticRegression(C=100), 100 * np.array(inside)[:, None], malignant, scoring="roc_auc")
    assert lowest <= scores.mean() <= highest


def test_sites_and_classes_are_balanced():
    cohort = simulate_images(80, n_sites=4)
    assert set(cohort.subjects.groupby(["site", "diagnosis"]).size()) == {10}


@pytest.mark.parametrize("wrong", [{"n_subjects": 0}, {"size": 4}, {"n_channels": 5}, {"images_per_subject": 0}])
def test_numbers_that_make_no_images_are_refused(wrong):
    with pytest.raises(ConfigError, match="at least one subject"):
        simulate_images(**wrong)


@pytest.mark.parametrize("wrong", [{"rank": 4}, {"rank": 3, "n_frames": 4}, {"n_frames": 1}])
def test_kinds_that_there_are_not_are_refused(wrong):
    with pytest.raises(ConfigError, match="rank 2 or 3"):
        simulate_images(4, **wrong)
