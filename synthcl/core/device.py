"""How images lie in memory, how tensors reach a GPU, and how many threads a CPU gives."""

from __future__ import annotations

import platform

import torch
import torch.nn.functional as F
from torch import Tensor


def channels_last(images: Tensor) -> Tensor:
    """The same images with their channels last in memory, in the strides, too, where there is one channel.

    `contiguous` takes images of one channel for both layouts at once and leaves their strides as they are, and then a
    convolution chooses the slow one: on a CPU the first layer at 28 px takes three times as long.

    Args:
        images: (n, C, H, W).
    """
    count, channels, height, width = images.shape
    if channels == 1:
        return images.contiguous().view(count, height, width, 1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)


def to_float(images: Tensor) -> Tensor:
    """uint8 [0, 255] to float32 [0, 1]."""
    return images.float() / 255


def resize(images: Tensor, size: int) -> Tensor:
    """Images at `size` pixels a side, antialiased, differentiable."""
    if images.shape[-1] == size or not len(images):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def use_threads(cpus: float) -> None:
    """Give torch a thread for every whole CPU that this process holds, at least one: sums depend on the number."""
    torch.set_num_threads(max(1, int(cpus)))


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device, without waiting for what a GPU has queued: it copies page-locked memory by itself."""
    if tensor.device.type == "cpu" and torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def normalise(images: Tensor) -> Tensor:
    """Map images (n, C, H, W) from [0, 1] to the [-1, 1] that encoders take, channels last in memory."""
    return channels_last(images * 2 - 1)


def device_name(device: torch.device) -> str:
    """What people call a device: its model where it is a GPU, else the machine's kind of CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"


SLOW_BF16 = (
    "has no GPU, and its CPU no instructions for bf16: there it takes over twenty times as long as fp32; "
    "give training.precision=fp32"
)
"""after the name of a machine that `has_bf16` denies"""


def has_bf16() -> bool:
    """Whether bf16 pays on this machine: on a GPU, or a CPU with AVX-512, by which PyTorch's kernels compute it.

    Elsewhere they convert number by number: one step of a ResNet-18 took 12 s on a CPU of AVX2, and 0.5 s in fp32.
    """
    capable = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or capable["architecture"] != "x86_64" or capable["avx512_bw"]
