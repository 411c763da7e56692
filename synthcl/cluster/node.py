"""What one machine offers a run: versions, devices, room, the storage as it sees it, and the data."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import psutil
import torch

from synthcl.cluster.ray_internals import is_token_auth_enabled
from synthcl.config.schema import Config
from synthcl.core.device import has_bf16
from synthcl.core.errors import UserError
from synthcl.runs.preflight import open_data
from synthcl.runs.storage import Storage

PACKAGES = ("synthcl", "torch", "torchvision", "ray", "optuna")


@dataclass(frozen=True)
class NodeReport:
    """A machine at one moment; `storage` and `data` say what is wrong with them, or nothing."""

    name: str
    versions: dict[str, str]
    cpus: int
    gpus: tuple[str, ...]
    gpus_in_ray: float
    """how many Ray gives away, whether or not PyTorch can use them"""
    disk_free_bytes: int
    disk_free_fraction: float
    memory_free_bytes: int
    memory_free_fraction: float
    storage: str
    storage_seconds: float
    data: str
    token: bool
    """whether Ray asks for a token there"""
    bf16: bool
    """whether what trains there has instructions for bf16"""


def examine(config: Config, beacon: str, name: str, gpus_in_ray: float) -> NodeReport:
    """Look at the machine this process runs on; nothing is downloaded and nothing stays behind.

    Args:
        config: the data and the storage that a run would use.
        beacon: token of the beacon that stands in the storage.
        name: of the machine.
        gpus_in_ray: how many GPUs Ray has there.
    """
    disk, memory = shutil.disk_usage(tempfile.gettempdir()), psutil.virtual_memory()
    began = time.perf_counter()
    storage = _complaint(lambda: Storage(config.compute.storage, config.name).answer(beacon))
    storage_seconds = time.perf_counter() - began
    as_it_is = config.with_overrides({"data.download": False})
    return NodeReport(
        name=name,
        versions=versions(),
        cpus=os.cpu_count() or 1,
        gpus=tuple(_gpu(index) for index in range(torch.cuda.device_count())),
        gpus_in_ray=gpus_in_ray,
        disk_free_bytes=disk.free,
        disk_free_fraction=disk.free / disk.total,
        memory_free_bytes=memory.available,
        memory_free_fraction=memory.available / memory.total,
        storage=storage,
        storage_seconds=storage_seconds,
        data=_complaint(lambda: open_data(as_it_is, chooses=False)),
        token=is_token_auth_enabled(),
        bf16=has_bf16(),
    )


def versions() -> dict[str, str]:
    """What has to be the same on all machines of a cluster."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def _gpu(index: int) -> str:
    free, total = torch.cuda.mem_get_info(index)
    return f"{torch.cuda.get_device_name(index)}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"


def _complaint(look: Callable[[], object]) -> str:
    try:
        look()
    except UserError as error:
        return str(error)
    return ""
