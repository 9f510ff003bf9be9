"""A step of several processes: each embeds its share of the rows, and all compare all of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from graphssl.data.multimodal import MultimodalBatch
from graphssl.data.population_batch import PopulationBatch
from graphssl.encoders.base import AbstractEncoder, Embedding
from graphssl.objectives.base import AbstractObjective
from graphssl.processes import Processes
from graphssl.training.seeds import seed_of_process


@contextmanager
def divided(encoder: AbstractEncoder, objective: AbstractObjective, processes: Processes) -> Iterator[None]:
    """Let each process embed its share of the rows of a batch, while losses and gradients are those of the whole batch.

    Every process holds the same batch and draws the same random numbers for it. Within the block, the `forward` of the encoder, and of encoders that
    the objective keeps, embeds every `n`-th row and puts the embeddings of all processes together; the loss is then computed by all of them alike,
    whatever it compares. What comes back to the rows of a process is its part of the gradient, multiplied by the number of processes: the mean over
    processes, which data-parallel training takes, is then the gradient of one process for the encoder, and for heads, whose gradients are the same
    everywhere. A minibatch with fewer rows than processes is embedded whole by each. So is one of several modalities behind batch normalisation if
    a process has fewer than two patients with a modality that another has, or if patients are read with their neighbours.

    Dropout, and what else an encoder draws for its rows, is drawn anew in each process; sampled neighbourhoods are those of one process. Batch
    normalisation of a divided encoder takes the statistics of all rows.

    Args:
        encoder: The encoder.
        objective: The objective.
        processes: Those that do the step together.
    """
    if processes.alone:
        yield
        return
    shared = torch.Generator().manual_seed(torch.initial_seed())
    torch.manual_seed(seed_of_process(torch.initial_seed(), processes.rank))
    before = {part: vars(part).get("forward") for part in (encoder, *_outermost(objective))}
    for part in before:
        part.forward = _Share(part, objective, processes, shared)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part, forward in before.items():
            del part.forward
            if forward is not None:
                part.forward = forward  # type: ignore[method-assign]


class _Share:
    """The `forward` of an encoder that embeds a share of the rows and gives the embedding of all."""

    def __init__(self, encoder: AbstractEncoder, objective: AbstractObjective, processes: Processes, shared: torch.Generator) -> None:
        self.forward: Callable[[Any], Embedding] = encoder.forward
        self.norms = [part for part in encoder.modules() if isinstance(part, _BatchNorm)]
        self.processes, self.shared = processes, shared
        self.tokens, self.maps = objective.reads_tokens, objective.reads_maps

    def __call__(self, batch: Any) -> Embedding:
        n_rows, rows = len(batch), self.processes.share(len(batch))
        if n_rows < self.processes.n or not self._all_normalise_alike(batch):
            return self.forward(batch)
        own = batch.share(rows, self.shared) if isinstance(batch, PopulationBatch) else batch[rows]
        with joint_statistics(self.norms, self.processes):
            embedding = self.forward(own)
        maps = tuple(self._whole(scale, n_rows) for scale in embedding.maps) if self.maps else ()
        pooled = self._whole(embedding.pooled, n_rows)
        if not self.tokens:
            return Embedding(pooled.new_zeros(n_rows, 0, embedding.tokens.shape[-1]), embedding.mask.new_zeros(n_rows, 0), pooled, maps)
        n_tokens = self.processes.largest(embedding.mask.shape[1], pooled.device)
        missing = n_tokens - embedding.mask.shape[1]
        tokens, mask = F.pad(embedding.tokens, (0, 0, 0, missing)), F.pad(embedding.mask, (0, missing))
        return Embedding(self._whole(tokens, n_rows), self._whole(mask, n_rows), pooled, maps)

    def _all_normalise_alike(self, batch: Any) -> bool:
        """Whether of each modality all shares have two patients or none has one: all processes must have rows to give to the statistics."""
        patients = batch.patients if isinstance(batch, PopulationBatch) else batch
        if not isinstance(patients, MultimodalBatch) or not any(norm.training for norm in self.norms):
            return True
        counts = torch.stack([patients.presence[rank :: self.processes.n].sum(dim=0) for rank in range(self.processes.n)])
        return patients is batch and bool(((counts > 1).all(dim=0) | (counts == 0).all(dim=0)).all())

    def _whole(self, own: Tensor, n_rows: int) -> Tensor:
        """All rows of the batch in order; the gradient of one's own is multiplied by the number of processes."""
        if own.requires_grad:
            own = own.view_as(own)  # whose gradient is that of this way alone
            own.register_hook(lambda gradient: gradient * self.processes.n)
        return self.processes.gathered(own, n_rows)


@contextmanager
def joint_statistics(norms: list[_BatchNorm], processes: Processes) -> Iterator[None]:
    """Let batch normalisation in training take mean and variance of the rows of all processes.

    Args:
        norms: The layers.
        processes: Those that hold the rows together.
    """
    training = [norm for norm in norms if norm.training]
    for norm in training:
        norm.forward = partial(_normalised, norm, processes)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in training:
            del norm.forward


def _normalised(norm: _BatchNorm, processes: Processes, values: Tensor) -> Tensor:
    rows = values.float()
    others, shape = [0, *range(2, values.dim())], (1, -1, *(1,) * (values.dim() - 2))
    total = processes.summed(torch.cat([rows.sum(dim=others), rows.new_tensor([rows.numel() / rows.shape[1]])]))
    n, mean = total[-1].detach(), total[:-1] / total[-1].detach()
    centred = rows - mean.view(shape)
    variance = processes.summed(centred.square().sum(dim=others)) / n
    if norm.running_mean is not None and norm.running_var is not None:
        _note_statistics(norm, mean.detach(), variance.detach() * n / (n - 1).clamp(min=1))
    found = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        found = found * norm.weight.view(shape) + norm.bias.view(shape)
    return found.to(values.dtype)


@torch.no_grad()
def _note_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


def _outermost(module: nn.Module) -> Iterator[AbstractEncoder]:
    """Encoders of a module that are not parts of other encoders."""
    for part in module.children():
        if isinstance(part, AbstractEncoder):
            yield part
        else:
            yield from _outermost(part)
