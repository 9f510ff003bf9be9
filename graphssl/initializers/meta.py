"""What a hypernetwork learns from: networks drawn at random, which are to be good with the weights that it predicts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from graphssl.data.classes import class_numbers
from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.initializers.architecture import architecture_of
from graphssl.initializers.hypernetwork import HyperNetwork
from graphssl.initializers.sampler import ArchitectureSampler, Blueprint, SampledNetwork
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.contrastive import nt_xent
from graphssl.objectives.segmentation_loss import SegmentationLoss
from graphssl.objectives.two_views import subject_index
from graphssl.views.base import AbstractView

Task = Literal["labels", "masks", "views"]
TASKS: tuple[Task, ...] = ("labels", "masks", "views")
SAMPLER = ArchitectureSampler()


class SampledNetworks(AbstractObjective):
    """The mean loss of several networks drawn at random, whose weights a hypernetwork predicts (Zhang et al., ICLR 2019; GHN-2).

    A step draws networks, and all of them read the minibatch, whose statistics batch normalisation takes. Labels are looked up by subject id, as in
    [`PredictLabel`][graphssl.objectives.PredictLabel]; rows without one are left out.

    Args:
        task: What the networks are to be good at: `"labels"` of images by cross-entropy in which the classes count alike, `"masks"` by cross-entropy
            and Dice, or `"views"`, without labels: the pooled vectors of two views of an image are to be more alike than those of two images
            (NT-Xent).
        target: Column of the labels; the cohort's one target when left out.
        view: The random look at an image, for `"views"`.
        sampler: The family of networks.
        n_networks: Networks a step.
        temperature: Temperature of NT-Xent.
        n_classes: Classes of the masks; those of the cohort when left out.

    Raises:
        ConfigError: If the task is unknown, or two views have no view.
    """

    knows = ("class_of",)

    def __init__(
        self,
        task: Task = "labels",
        target: str | None = None,
        view: AbstractView | None = None,
        sampler: ArchitectureSampler = SAMPLER,
        n_networks: int = 4,
        temperature: float = 0.2,
        n_classes: int | None = None,
    ) -> None:
        super().__init__()
        if task not in TASKS or n_networks < 1:
            raise ConfigError(f"Expected a task among {', '.join(TASKS)} and one network or more a step, found {task!r} and {n_networks}.")
        if task == "views" and view is None:
            raise ConfigError("Expected a view for the task 'views', found none. Give one, such as graphssl.views.ResizedCrop.")
        self.task, self.target, self.view, self.sampler = task, target, view, sampler
        self.n_networks, self.temperature, self.n_classes = n_networks, temperature, n_classes
        self.class_of: dict[str, int] | None = None
        self.overlap = SegmentationLoss({"ce": 1.0, "dice": 1.0}) if task == "masks" else None

    @property
    def reads_labels(self) -> bool:
        """Where the task is to predict them."""
        return self.task == "labels"

    @property
    def reads_maps(self) -> bool:
        """No."""
        return False

    def for_cohort(self, cohort: Cohort) -> Self:
        """The objective with the labels of a cohort, unless it was given some, or with the number of classes of its masks.

        Raises:
            DataError: If fewer than two classes are labelled, or there are no masks where they are the task.
        """
        seen = super().for_cohort(cohort)
        if self.task == "labels" and self.class_of is None:
            return seen.with_labels(cohort.labels(self.target))
        if self.task == "masks" and self.n_classes is None:
            classes = [data.classes for data in cohort.images.values() if data.has_masks]
            if not classes:
                raise DataError(f"Expected images with segmentation masks in {cohort.name!r} for the task 'masks', found none. Load them with masks.")
            return seen.but(n_classes=max(map(len, classes)))
        return seen

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """The objective with the labels of some subjects; itself where it reads none.

        Raises:
            DataError: If there are fewer than two classes.
        """
        if self.task != "labels":
            return self
        return self.but(class_of=class_numbers(labels, "to predict", "Choose another target, or another task."))

    def forward(self, encoder: AbstractEncoder, batch: ImageBatch, generator: torch.Generator) -> Loss:
        """The mean loss; everything random comes from the generator.

        Raises:
            ConfigError: If the encoder is no hypernetwork, or labels were not told.
            DataError: If masks are missing.
        """
        if not isinstance(encoder, HyperNetwork):
            raise ConfigError(f"Expected a HyperNetwork to train on SampledNetworks, found {type(encoder).__name__}.")
        images, target, n_outputs = self._given(batch, generator)
        rank, channels = images.ndim - 2, images.shape[1]
        drawn = [self.sampler.draw(generator) for _ in range(self.n_networks)]
        blueprints = [replace(each, rank=rank, in_channels=channels, n_outputs=n_outputs, decoder=self.task == "masks") for each in drawn]
        networks = [_unfilled(blueprint).to(images.device) for blueprint in blueprints]
        predicted = encoder.predict([architecture_of(network) for network in networks])
        losses = [self._loss(functional_call(network, weights, (images,)), target) for network, weights in zip(networks, predicted, strict=True)]
        every = torch.stack(losses)
        return Loss(every.mean(), {"worst": every.detach().max()})

    def _given(self, batch: ImageBatch, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Images, what is to be told of them (classes, masks, or whose views they are), and outputs of a network."""
        if self.task == "views":
            assert self.view is not None
            first, second = self.view(batch, generator), self.view(batch, generator)
            return torch.cat([first.images, second.images]), subject_index(batch), 0
        if self.task == "masks":
            if batch.masks is None or self.n_classes is None:
                raise DataError(
                    "Expected images with segmentation masks, and the number of their classes, found none. Call for_cohort(cohort) first."
                )
            return batch.images, batch.masks, self.n_classes
        if self.class_of is None:
            raise ConfigError("Expected SampledNetworks that know labels, found none. Call for_cohort(cohort) or with_labels(labels) first.")
        known = [row for row, subject in enumerate(batch.subject_ids) if subject in self.class_of]
        target = torch.tensor([self.class_of[batch.subject_ids[row]] for row in known], dtype=torch.long, device=batch.device)
        return batch.images[known], target, 1 + max(self.class_of.values())

    def _loss(self, made: Tensor, target: Tensor) -> Float[Tensor, ""]:
        if self.task == "views":
            first, second = made.chunk(2)
            return nt_xent(first, second, target, self.temperature)
        if self.overlap is not None:
            total: Tensor = self.overlap(made, target)[0]
            return total
        return F.cross_entropy(made, target, self._weights().to(made)) if len(target) else 0.0 * made.sum()

    def _weights(self) -> Float[Tensor, "K"]:
        """So that all labelled subjects of a class count as much as those of another."""
        assert self.class_of is not None
        counts = torch.bincount(torch.tensor(list(self.class_of.values())))
        return counts.sum() / (len(counts) * counts)


def _unfilled(blueprint: Blueprint) -> Any:
    """A network whose own weights are not used; the caller's random numbers stay as they are."""
    with torch.random.fork_rng(devices=[]):
        return SampledNetwork(blueprint)
