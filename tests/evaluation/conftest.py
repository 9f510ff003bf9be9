"""What tests of this folder share: three small sites; for studies, small images, others to learn from before, and cells of them."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from graphssl.data import Cohort, ImageBuilder
from graphssl.datasets import simulate_images
from graphssl.encoders import ResNet
from graphssl.evaluation import Cell, CellSettings
from graphssl.objectives import AbstractObjective, Restoration
from graphssl.training import StepSettings, TrainingSettings


@pytest.fixture(scope="session")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    """Twenty-four subjects of three sites, of eight regions each."""
    return make_cohort(n_subjects=24, n_regions=8, n_sites=3, n_timepoints=20)


@pytest.fixture(scope="session")
def image_cohort() -> Cohort:
    """36 small images of two classes, benign and malignant."""
    return simulate_images(36, size=8, effect=3.0, n_sites=1)


@pytest.fixture(scope="session")
def image_source() -> Cohort:
    """30 others, from elsewhere."""
    return simulate_images(30, size=8, n_sites=1, seed=1, name="elsewhere")


@pytest.fixture(scope="session")
def make_cell(image_cohort: Cohort) -> Callable[..., Cell]:
    """Factory of quick cells on the small images: `make_cell(levels, objective=…, source=…, segmentation=…, class_weight=…, **settings)`."""
    steps = StepSettings(n_steps=2, batch_size=8, n_checks=2)
    once = TrainingSettings(max_epochs=1, batch_size=16, accelerator="cpu")

    def make(
        levels: Mapping[str, str],
        *,
        segmentation: Any = None,
        objective: AbstractObjective | None = None,
        source: Cohort | None = None,
        class_weight: Any = "balanced",
        **settings: Any,
    ) -> Cell:
        return Cell(
            levels,
            image_cohort,
            objective or Restoration(),
            ResNet(2, 1, 4, (1, 1), stem="small", norm="group"),
            ImageBuilder(),
            CellSettings(**{"steps": steps, **settings}),
            source,
            once,
            class_weight=class_weight,
            segmentation=segmentation,
        )

    return make
