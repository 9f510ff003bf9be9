"""Small models and short trainings, shared by the tests of this folder."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from graphssl.atlases import simulated_atlas
from graphssl.data import Cohort, ImageBuilder
from graphssl.datasets import simulate_images
from graphssl.datasets.simulate import simulate
from graphssl.datasets.simulated_scans import SimulatedSite
from graphssl.encoders import VisionTransformer
from graphssl.objectives import MaskedPatches
from graphssl.training import Chain, Model, Probe, Stage, TrainingSettings, finetune, pretrain, pretrain_stages


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., TrainingSettings]:
    """Factory of settings for a few small epochs."""

    def make(**changes: Any) -> TrainingSettings:
        return TrainingSettings(**{"max_epochs": 4, "batch_size": 8, "learning_rate": 3e-3, "patience": 50, "accelerator": "cpu", **changes})

    return make


@pytest.fixture(scope="session")
def families() -> Cohort:
    """Twenty-eight simulated subjects of two sites in two atlases, half of them with a sibling."""
    sites = [SimulatedSite("a", n_timepoints=40), SimulatedSite("b", n_timepoints=50)]
    atlases = [simulated_atlas(14), simulated_atlas(10)]
    return simulate(atlases, n_subjects=28, sites=sites, n_sources=100, share_siblings=0.5, missing_region_rate=0.03, seed=3).cohort


@pytest.fixture(scope="session")
def pretrained(make_cohort: Callable[..., Cohort], make_encoder: Callable[..., Any], make_settings: Callable[..., Any]) -> Model:
    """A model pre-trained for two epochs on the small cohort; do not change it."""
    return pretrain(make_cohort(effect=2.0), encoder=make_encoder(), settings=make_settings(max_epochs=2))


@pytest.fixture(scope="session")
def tuned(pretrained: Model, make_cohort: Callable[..., Cohort]) -> Model:
    """The pre-trained model with a probe for the diagnosis; do not change it."""
    return finetune(pretrained, make_cohort(effect=2.0), mode="probe")


@pytest.fixture(scope="session")
def same_weights() -> Callable[[Model, Model], bool]:
    """Whether the encoders of two models have the same weights, bit for bit: `same_weights(model, other)`."""

    def same(model: Model, other: Model) -> bool:
        mine, theirs = model.encoder.state_dict(), other.encoder.state_dict()
        return all(torch.equal(value, theirs[name]) for name, value in mine.items())

    return same


@pytest.fixture
def note_batches(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[tuple[Any, Any]]]:
    """Notes the batches that a module hands to `fit`, which goes on as ever: `note_batches(module)` gives the list that grows."""

    def noted(module: ModuleType) -> list[tuple[Any, Any]]:
        seen: list[tuple[Any, Any]] = []
        fit = vars(module)["fit"]

        def noting(encoder: Any, objective: Any, train: Any, validation: Any, *arguments: Any, **options: Any) -> Any:
            seen.append((train, validation))
            return fit(encoder, objective, train, validation, *arguments, **options)

        monkeypatch.setattr(module, "fit", noting)
        return seen

    return noted


# Stages of pre-training


@pytest.fixture(scope="session")
def task_images() -> Cohort:
    """Twenty-four small images, of the task that stages lead to."""
    return simulate_images(24, size=16, effect=2.0, name="task")


@pytest.fixture(scope="session")
def general_images() -> Cohort:
    """Twenty others, to learn from before."""
    return simulate_images(20, size=16, seed=7, name="general")


@pytest.fixture(scope="session")
def autoencoder() -> Callable[..., dict[str, Any]]:
    """What a small masked autoencoder of images is trained with: `autoencoder(dropout=…)`."""

    def made(**changes: Any) -> dict[str, Any]:
        return {
            "objective": MaskedPatches(width=8, depth=1, heads=2),
            "encoder": VisionTransformer(**{"patch_size": 4, "width": 8, "depth": 1, "heads": 2, "n_maps": 1, **changes}),
            "builder": ImageBuilder(size=16),
            "settings": TrainingSettings(max_epochs=2, batch_size=8, learning_rate=3e-3, accelerator="cpu"),
        }

    return made


@pytest.fixture(scope="session")
def in_stages(task_images: Cohort, autoencoder: Callable[..., dict[str, Any]]) -> Callable[..., Chain]:
    """Pre-trains it in stages on the images of the task: `in_stages(stages, cohort, **changes)`."""

    def chain(stages: list[Stage], cohort: Cohort | None = task_images, **changes: Any) -> Chain:
        return pretrain_stages(stages, cohort, **{**autoencoder(), **changes})

    return chain


@pytest.fixture(scope="session")
def chain(in_stages: Callable[..., Chain], general_images: Cohort, task_images: Cohort) -> Chain:
    """General images, those of the task twice, the last time without training; do not change it."""
    stages = [Stage("general", general_images), Stage("task"), Stage("again", epochs=1), Stage("still", epochs=0)]
    return in_stages(stages, probe=Probe(task_images))
