"""How far sources agree with a target, whose labels are not read: gradients of an objective without labels on both."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import DataError
from graphssl.objectives.base import AbstractObjective
from graphssl.processes import Processes
from graphssl.training.meta.inner import Parameters
from graphssl.training.meta.reweighting import flat_gradients
from graphssl.training.meta.source_batches import SourceBatches
from graphssl.training.meta.tasks import Task


class TargetAgreement:
    """Gradients of an objective without labels, on the sources and on the target.

    Args:
        encoder: The encoder that is trained.
        objective: The objective, prepared for the encoder.
        batches: The batch of each source.
        target: Subjects of the target, whose labels are not read.
        n_query: Subjects of each source's query.
        processes: Which tasks of a step are whose.

    Raises:
        DataError: If the target has fewer subjects than a query.
    """

    def __init__(
        self,
        encoder: AbstractEncoder,
        objective: AbstractObjective,
        batches: SourceBatches,
        target: Cohort,
        n_query: int,
        processes: Processes,
    ) -> None:
        if len(target) < n_query:
            raise DataError(f"Expected at least {n_query} subjects of the target {target.name!r}, found {len(target)}.")
        self.encoder, self.objective, self.batches, self.processes = encoder, objective, batches, processes
        self.batch = batches.of_target(target)

    def gradients(self, tasks: Sequence[Task], seed: int) -> tuple[Float[Tensor, "S P"], Float[Tensor, "P"]]:
        """Of each source's query, and of as many of the target's rows.

        Args:
            tasks: The tasks of a step, one a source.
            seed: Seed of the step, from which the target's rows and the draws of the objective come.
        """
        n_rows = len(self.batches.query(tasks[0])[0])
        chosen = torch.randperm(len(self.batch), generator=torch.Generator().manual_seed(seed))[:n_rows].sort().values
        queries = [self.batches.query(tasks[place])[0] for place in self.processes.share(len(tasks))]
        rows = flat_gradients([self._gradients(batch, seed) for batch in (*queries, self.batch[chosen.tolist()].to(self.processes.device))])
        return self.processes.gathered(rows[:-1], len(tasks)), rows[-1]

    def _gradients(self, batch: Any, seed: int) -> Parameters:
        named = {name: parameter for name, parameter in self.encoder.named_parameters() if parameter.requires_grad}
        loss = self.objective(self.encoder, batch, torch.Generator().manual_seed(seed)).total
        found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(named, found, strict=True))
