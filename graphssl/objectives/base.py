"""What every objective is and what it returns."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.views.base import AbstractView


class Loss(NamedTuple):
    """What training minimises, and what to write down beside it.

    Attributes:
        total: Scalar to minimise.
        parts: Named scalars for the history, detached.
    """

    total: Tensor
    parts: dict[str, Tensor]


class AbstractObjective(nn.Module, ABC):
    """Encoder and batch in, [`Loss`][graphssl.objectives.Loss] out.

    It takes the encoder as an argument and never holds it. `prepare` makes the parts whose size depends on the encoder; call it once before training,
    and `after_step` after every step of the optimiser. Subclasses keep every constructor argument as an attribute of the same name.
    """

    # Buffers that belong with the weights when another training goes on from them; queues, memories and schedules do not.
    lasting: tuple[str, ...] = ()
    # Attributes that hold what it was told of subjects, such as their labels: a new objective of the same arguments knows it too.
    knows: tuple[str, ...] = ()

    @property
    def needs_series(self) -> bool:
        """Whether one of its views must see the time series, `ConnectomeBuilder.transform(cohort, series=True)`."""
        return any(view.needs_series for view in self._views().values())

    @property
    def selects_epoch(self) -> bool:
        """Whether its loss on validation subjects says which epoch is the best; not where what it aims at moves with the training."""
        return True

    @property
    def reads_maps(self) -> bool:
        """Whether it may read feature maps of images, `Embedding.maps`, which are large."""
        return True

    @property
    def reads_tokens(self) -> bool:
        """Whether it may read `Embedding.tokens`, which several processes then send one another."""
        return True

    @property
    def reads_labels(self) -> bool:
        """Whether it trains on labels, as supervised pre-training does."""
        return False

    @property
    def target_encoder(self) -> AbstractEncoder | None:
        """The slow copy of the encoder that it keeps; None where it keeps none."""
        return None

    def for_cohort(self, cohort: Cohort) -> Self:
        """The objective with what it, and each of its views, must know of the subjects it will meet; itself where nothing is needed."""
        views = self._views()
        seen = {name: view.for_cohort(cohort) for name, view in views.items()}
        return self if seen == views else self.but(**seen)

    def with_labels(self, labels: Mapping[str, str]) -> Self:
        """The objective with the label of each subject that has one; itself where it reads none."""
        return self

    def prepare(self, encoder: AbstractEncoder) -> "AbstractObjective":
        """Make decoders and heads for this encoder; returns the objective."""
        return self

    @abstractmethod
    def forward(self, encoder: AbstractEncoder, batch: Any, generator: torch.Generator) -> Loss:
        """The loss on a batch; everything random comes from the generator.

        Args:
            encoder: The encoder that is trained.
            batch: Rows of subjects, as its builder makes them.
            generator: Source of masks, views and draws, on the CPU.
        """

    def after_step(self, encoder: AbstractEncoder, progress: float) -> None:
        """Take note of a step of the optimiser, such as by moving a teacher.

        Args:
            encoder: The encoder after the step.
            progress: Share of the training that is done, in (0, 1].
        """
        return

    def check_prepared(self, part: str) -> None:
        """Check that `prepare` was called.

        Args:
            part: Name of a module or buffer that `prepare` makes.

        Raises:
            ConfigError: If it was not.
        """
        if not hasattr(self, part):
            raise ConfigError(f"Expected a {type(self).__name__} prepared for an encoder, found one without {part!r}. Call prepare(encoder) first.")

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments: plain values, views and objectives."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def but(self, **changed: Any) -> Self:
        """A new objective, not prepared for any encoder, of the same arguments and with the same knowledge of subjects but for what is changed.

        Args:
            changed: Arguments of the constructor, or attributes among `knows`, by name.
        """
        new = type(self)(**{**self.arguments(), **{name: value for name, value in changed.items() if name not in self.knows}})
        for name in self.knows:
            setattr(new, name, changed.get(name, getattr(self, name)))
        return new

    def fresh(self) -> Self:
        """A new objective of the same arguments that knows of subjects what this one does, not prepared for any encoder."""
        return self.but()

    def _views(self) -> dict[str, AbstractView]:
        return {name: value for name, value in self.arguments().items() if isinstance(value, AbstractView)}

    def __repr__(self) -> str:
        # Not torch's tree of modules: what is written into cards and hashed into keys is what the objective was made of.
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.arguments().items())})"
