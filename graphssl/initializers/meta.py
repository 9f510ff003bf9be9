"""What a hypernetwork learns from: networks drawn at random, which are to be good with the weights that it predicts."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.initializers.architecture import architecture_of
from graphssl.initializers.hypernetwork import HyperNetwork
from graphssl.initializers.sampler import ArchitectureSampler, SampledNetwork
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

    Normalisation over the batch takes the statistics of the minibatch. A step draws networks, images are those of the minibatch for all of them.

    Args:
        task: What the networks are to be good at: `"labels"` of images by cross-entropy in which the classes count alike, `"masks"` by cross-entropy
            and Dice, or `"views"`, without labels: the pooled vectors of two views of an image are to be more alike than those of two images
            (NT-Xent).
        labels: Class by subject, for `"labels"`.
        n_classes: Number of classes of labels or masks.
        view: The random look at an image, for `"views"`.
        sampler: The family of networks.
        n_networks: Networks a step.
        temperature: Temperature of NT-Xent.

    Raises:
        ConfigError: If the task is unknown, or what it needs is not given.
    """

    def __init__(
        self,
        task: Task = "labels",
        labels: Mapping[str, int] | None = None,
        n_classes: int = 2,
        view: AbstractView | None = None,
        sampler: ArchitectureSampler = SAMPLER,
        n_networks: int = 4,
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        if task not in TASKS or n_networks < 1:
            raise ConfigError(f"Expected a task among {', '.join(TASKS)} and one network or more a step, found {task!r} and {n_networks}.")
        if (task == "labels" and not labels) or (task == "views" and view is None):
            raise ConfigError(f"Expected the {'labels' if task == 'labels' else 'view'} of the task {task!r}, found none. Give them.")
        self.task, self.labels, self.n_classes, self.view = task, None if labels is None else dict(labels), n_classes, view
        self.sampler, self.n_networks, self.temperature = sampler, n_networks, temperature
        self.overlap = SegmentationLoss({"ce": 1.0, "dice": 1.0}) if task == "masks" else None
        counts = torch.bincount(torch.tensor(list((labels or {}).values()), dtype=torch.long), minlength=n_classes).clamp(min=1)
        self.register_buffer("weights", len(labels or {}) / (n_classes * counts.float()), persistent=False)

    weights: Tensor

    def forward(self, encoder: AbstractEncoder, batch: ImageBatch, generator: torch.Generator) -> Loss:
        """The mean loss; everything random comes from the generator.

        Raises:
            ConfigError: If the encoder is no hypernetwork.
            DataError: If a label or the masks are missing.
        """
        if not isinstance(encoder, HyperNetwork):
            raise ConfigError(f"Expected a HyperNetwork to train, found {type(encoder).__name__}.")
        given = self._given(batch, generator)
        n_outputs = 0 if self.task == "views" else self.n_classes
        how: dict[str, Any] = {"rank": batch.images.ndim - 2, "in_channels": batch.shape[1], "n_outputs": n_outputs, "decoder": self.task == "masks"}
        blueprints = [self.sampler.draw(generator, **how) for _ in range(self.n_networks)]
        with torch.random.fork_rng(devices=[]):  # their own weights are not used
            networks = [SampledNetwork(blueprint).to(batch.device) for blueprint in blueprints]
        predicted = encoder.predict([architecture_of(network) for network in networks])
        losses = torch.stack([self._loss(network, weights, given) for network, weights in zip(networks, predicted, strict=True)])
        return Loss(losses.mean(), {"worst": losses.detach().max()})

    def _given(self, batch: ImageBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images, and what is to be told of them: classes, masks, or whose views they are."""
        if self.task == "views":
            assert self.view is not None
            first, second = self.view(batch, generator), self.view(batch, generator)
            return torch.cat([first.images, second.images]), subject_index(batch)
        if self.task == "masks":
            if batch.masks is None:
                raise DataError("Expected images with segmentation masks for the task 'masks', found none. Load them with masks.")
            return batch.images, batch.masks
        assert self.labels is not None
        absent = [subject for subject in batch.subject_ids if subject not in self.labels]
        if absent:
            raise DataError(f"Expected a label for every subject of the batch, found none for {absent[:5]}.")
        return batch.images, torch.tensor([self.labels[subject] for subject in batch.subject_ids], device=batch.device)

    def _loss(self, network: SampledNetwork, weights: dict[str, Tensor], given: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
        images, target = given
        made: Tensor = functional_call(network, weights, (images,))
        if self.task == "views":
            first, second = made.chunk(2)
            return nt_xent(first, second, target, self.temperature)
        if self.overlap is not None:
            total: Tensor = self.overlap(made, target)[0]
            return total
        return F.cross_entropy(made, target, self.weights)
