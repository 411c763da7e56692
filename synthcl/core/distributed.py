"""What data parallelism means here: equal slices of one global batch, and averaged gradients.

Without an initialised process group every function is the identity of a single process, so callers
have no second path.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed


def world_size() -> int:
    """Number of processes that share the batch."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Index of this process, in [0, world_size)."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def rows(total: int) -> slice:
    """This process's slice of `total` rows.

    Raises:
        ValueError: when the rows cannot be shared equally.
    """
    share, left = divmod(total, world_size())
    if left:
        raise ValueError(f"{total} rows cannot be shared equally by {world_size()} processes")
    return slice(rank() * share, (rank() + 1) * share)


def gather_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """Concatenate the tensors of all processes along dim 0; the gradient flows back to each owner."""
    if world_size() == 1:
        return tensor
    gathered: torch.Tensor = _Gather.apply(tensor)
    return gathered


class _Gather(torch.autograd.Function):
    """`gather`; backwards every owner has the sum of what all processes ask of its rows."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return gather(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        asked: torch.Tensor = _Sum.apply(gradients[0])
        return asked[rows(len(asked))]


def sum_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over processes; a process's gradient is that of the sum of all processes' losses."""
    if world_size() == 1:
        return tensor
    total: torch.Tensor = _Sum.apply(tensor)
    return total


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        asked: torch.Tensor = _Sum.apply(gradients[0])
        return asked


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """Concatenate the tensors of all processes along dim 0, without gradient."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    torch.distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def mean(tensor: torch.Tensor) -> torch.Tensor:
    """Mean over processes, without gradient."""
    if world_size() > 1:
        tensor = tensor.detach().clone()
        torch.distributed.all_reduce(tensor)
        tensor /= world_size()
    return tensor


def of_first(numbers: list[float], device: torch.device) -> list[float]:
    """The numbers of the first process, in all of them: what follows from them is the same to the bit everywhere."""
    if world_size() == 1:
        return numbers
    shared = torch.tensor(numbers, dtype=torch.float64, device=device)
    torch.distributed.broadcast(shared, 0)
    return shared.tolist()


def anywhere(condition: bool, device: torch.device) -> bool:
    """Whether the condition holds in any process: all of them get the same answer."""
    if world_size() == 1:
        return condition
    return bool(mean(torch.tensor(float(condition), device=device)) > 0)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over processes, in one collective.

    A plain all-reduce of one flat buffer rather than DistributedDataParallel: the step runs several
    networks through one backward pass and D several times, which a wrapper per network only obscures.
    """
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= world_size()
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
