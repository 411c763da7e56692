"""One optimiser step on the mean gradient of all processes, a moving average, and networks that only look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from synthcl.core import distributed


def update(loss: Tensor, *optimizers: torch.optim.Optimizer, private: Tensor | None = None) -> None:
    """Backward, mean over processes, step.

    Args:
        loss: 0-dim; its gradient reaches everything.
        optimizers: of what learns.
        private: 0-dim; its gradient stops at the parameters of the first optimiser. One more backward pass.
    """
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    if private is not None:
        torch.autograd.backward(private, inputs=_parameters(optimizers[0]), retain_graph=True)
    loss.backward()
    distributed.average_gradients(parameter for optimizer in optimizers for parameter in _parameters(optimizer))
    for optimizer in optimizers:
        optimizer.step()


def begin_anew(optimizer: torch.optim.Optimizer) -> None:
    """Forget all state; momentum begins at zero for every parameter, as torch's fused SGD takes it of all or of none.

    Args:
        optimizer: whose parameters may have their first gradient at different steps.
    """
    optimizer.state.clear()
    if isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["momentum"]:
        for parameter in _parameters(optimizer):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@torch.no_grad()
def ema_update(slow: nn.Module, fast: nn.Module, decay: float) -> None:
    """slow <- decay * slow + (1 - decay) * fast, buffers copied."""
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - decay)
    for buffer, source in zip(slow.buffers(), fast.buffers(), strict=True):
        buffer.copy_(source)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Forward passes inside take no gradient to the module's parameters, only through them."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Inside, networks are in evaluation mode; every module's own mode is restored after."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
