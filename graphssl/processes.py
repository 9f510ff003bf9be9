"""The processes that do one training together, with what each of them finds put together in all."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from graphssl.errors import GraphSSLError

_Found = TypeVar("_Found")


class Processes:
    """This process among those that share the tasks, or the rows, of a step; alone when left out.

    Args:
        rank: Number of this process.
        n: Number of processes.
        device: Where this one computes.
    """

    def __init__(self, rank: int = 0, n: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank, self.n, self.device = rank, n, torch.device(device)

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.n == 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def share(self, n_tasks: int) -> list[int]:
        """Places of this process's tasks, every `n`-th; none where there are more processes than tasks."""
        return list(range(self.rank, n_tasks, self.n))

    def gathered(self, own: Tensor, n_tasks: int) -> Tensor:
        """Values of all tasks in order; those of this process keep their graph, those of others are constants.

        Args:
            own: A row for each task of this process.
            n_tasks: Number of tasks of all processes.
        """
        if self.alone:
            return own
        held = own.detach()
        missing = -(-n_tasks // self.n) - len(held)  # all send as much
        sent = torch.cat([held, held.new_zeros(missing, *held.shape[1:])]) if missing else held.contiguous()
        received = [torch.empty_like(sent) for _ in range(self.n)]
        torch.distributed.all_gather(received, sent)
        rows = torch.stack(received, dim=1).flatten(0, 1)[:n_tasks]
        if not own.requires_grad:
            return rows
        return rows.index_copy(0, torch.tensor(self.share(n_tasks), dtype=torch.long, device=own.device), own)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over processes; so is the gradient that comes back to each."""
        if self.alone:
            return values
        found: Tensor = _Sum.apply(values)
        return found

    def largest(self, number: int, device: torch.device) -> int:
        """The largest of a number that each process has."""
        found = torch.tensor(number, device=device)
        if not self.alone:
            torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
        return int(found)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make each gradient the sum of those of all processes; a parameter that none has used keeps none."""
        if self.alone:
            return
        held = list(parameters)
        used = torch.tensor([float(parameter.grad is not None) for parameter in held], device=self.device)
        gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in held]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), used])
        *sums, counts = self.summed(flat).split([*(parameter.numel() for parameter in held), len(held)])
        for parameter, gradient, count in zip(held, sums, counts.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter) if count else None

    def together(self, function: Callable[..., _Found], *arguments: Any) -> _Found:
        """What a function finds in this process; an error of one process is raised in all, so that none waits for it.

        Raises:
            GraphSSLError: If the function raises it in one of the processes.
        """
        if self.alone:
            return function(*arguments)
        found, error = None, None
        try:
            found = function(*arguments)
        except GraphSSLError as raised:
            error = raised
        if bool(self.summed(torch.tensor(float(error is not None), device=self.device))):
            raise GraphSSLError(next(message for message in self._told(None if error is None else str(error)) if message))
        assert found is not None
        return found

    def same(self, value: object) -> bool:
        """Whether a value is the same in all processes."""
        return self.alone or len(set(self._told(repr(value)))) == 1

    def copy_of_first(self, buffers: Iterable[Tensor]) -> None:
        """Overwrite buffers by those of the first process: what a layer or an objective remembers of its own rows differs elsewhere."""
        for buffer in buffers if not self.alone else ():
            torch.distributed.broadcast(buffer, src=0)

    def _told(self, words: str | None) -> Sequence[str | None]:
        said: list[str | None] = [None] * self.n
        torch.distributed.all_gather_object(said, words)
        return said


class _Sum(torch.autograd.Function):
    """The sum over processes; what a sum goes into differs among them, so their gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _sum(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)


def _sum(values: Tensor) -> Tensor:
    summed = values.clone(memory_format=torch.contiguous_format)
    torch.distributed.all_reduce(summed)
    return summed
