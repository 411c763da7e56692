"""Batch normalisation whose statistics are those of the whole batch, however many processes share it."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from synthcl.core.distributed import sum_with_gradient


def synchronise_batch_norm(module: nn.Module) -> nn.Module:
    """Make every BatchNorm of a module use the statistics of all processes of `torch.distributed`.

    Parameters, buffers and their names stay as they are. With one process, or none initialised, the
    module is returned untouched.

    Args:
        module: a network already on its device: CUDA takes torch's SyncBatchNorm, the CPU `GlooBatchNorm`.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return module
    if any(parameter.is_cuda for parameter in module.parameters()):
        return _convert(module, nn.SyncBatchNorm)
    return _convert(module, GlooBatchNorm)


class GlooBatchNorm(_BatchNorm):
    """BatchNorm1d / 2d / 3d over the batches of all processes, differentiable through the exchange.

    The mean is exchanged first and the squared deviations from it second, because the difference of two
    sums of squares loses its digits where the mean is large. The gradients of a process are those of the
    sum of all processes' losses.

    Source: Ioffe and Szegedy 2015, "Batch Normalization", algorithm 1.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch normalisation needs at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        self._check_input_dim(input)
        images = input.to(torch.promote_types(input.dtype, torch.float32))  # autocast's halves are too coarse
        axes = [axis for axis in range(images.dim()) if axis != 1]
        shape = [1, -1] + [1] * (images.dim() - 2)

        count = images.new_tensor([images.numel() / images.shape[1]])
        sums = sum_with_gradient(torch.cat([images.sum(axes), count]))  # (channels + 1,)
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = images - mean.view(shape)
        variance = sum_with_gradient(centred.square().sum(axes)) / total  # (channels,)
        output = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        if self.training and self.track_running_stats:
            self._update_running_statistics(mean.detach(), variance.detach() * total / (total - 1))
        return output.to(input.dtype)

    def _update_running_statistics(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased_variance, share)


class _Followed:
    """A mixin for layers of timm that go on with what `drop` and `act` hold after they have normalised."""

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))  # type: ignore[misc, attr-defined]


class _GlooBatchNormAct(_Followed, GlooBatchNorm):
    pass


class _SyncBatchNormAct(_Followed, nn.SyncBatchNorm):
    pass


_FOLLOWED: dict[type[_BatchNorm], type[_BatchNorm]] = {
    GlooBatchNorm: _GlooBatchNormAct,
    nn.SyncBatchNorm: _SyncBatchNormAct,
}


def _convert(module: nn.Module, kind: type[_BatchNorm]) -> nn.Module:
    if isinstance(module, _BatchNorm):
        followed = dict(module.named_children())
        if unknown := followed.keys() - {"drop", "act"}:
            raise ValueError(f"{type(module).__name__} has {sorted(unknown)}, which no synchronised layer would call")
        made = _FOLLOWED[kind] if followed else kind
        twin = made(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats)
        for name, child in followed.items():
            twin.add_module(name, child)
        twin.weight, twin.bias = module.weight, module.bias
        twin.running_mean, twin.running_var = module.running_mean, module.running_var
        twin.num_batches_tracked = module.num_batches_tracked
        return twin.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, _convert(child, kind))
    return module
