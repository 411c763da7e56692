"""What a call computes, counted on the operators that it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


@dataclass
class Work:
    """Floating-point operations, and bytes that enter and leave operators if nothing stays in a cache."""

    flops: int = 0
    bytes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)


class _Count(TorchDispatchMode):
    """Counts what runs inside. torch's FlopCounterMode cannot see through a gradient penalty."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        count = flop_registry.get(op.overloadpacket)
        flops = count(*args, **(kwargs or {}), out_val=result) if count else 0
        moved = 0 if op.is_view else sum(tensor.nbytes for tensor in _tensors([args, result]))
        self.work += Work(flops, moved)
        return result


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [tensor for value in values for tensor in _tensors(value)] if isinstance(values, list | tuple) else []


def count(call: Callable[[], object]) -> Work:
    """What a call computes: convolutions and products of matrices, two operations a multiplication and addition.

    Nothing has to be computed where its tensors are on the meta device or fake ones.
    """
    with sdpa_kernel(SDPBackend.MATH), _Count() as counter:  # attention as its products, which torch knows everywhere
        call()
    return counter.work
