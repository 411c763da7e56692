"""What is wrong with the machines of a cluster, or with this one, told before a search finds out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import ray

from synthcl.cluster.connect import connect
from synthcl.cluster.node import NodeReport, examine, versions
from synthcl.cluster.nodes import on_every_node
from synthcl.config.schema import Config
from synthcl.core.device import SLOW_BF16
from synthcl.core.errors import UserError
from synthcl.core.tables import aligned
from synthcl.runs.storage import Storage

ROOM = 0.05
"""share of disk or memory that must be free: with less, Ray writes no objects, or ends the processes of trials"""
SLOW_STORAGE_SECONDS = 5.0


def visit(config: Config) -> tuple[list[NodeReport], list[str]]:
    """Examine every node of the cluster that the config names, or this machine.

    Args:
        config: what a run would use: data, storage and compute.

    Returns:
        A report for each node that answered, and a line for everything to mend.

    Raises:
        UserError: when the cluster cannot be joined, or the storage cannot be written from here.
    """
    lines: list[str] = []
    with Storage(config.compute.storage, config.name).beacon() as beacon:
        try:
            connect(config)
        except UserError as error:
            if not ray.is_initialized():
                raise
            lines.append(str(error))  # it is there, and too small
        answers = on_every_node(partial(examine, config, beacon))
    reports = [answer for answer in answers if isinstance(answer, NodeReport)]
    lines += [answer for answer in answers if isinstance(answer, str)]
    return reports, lines + [line for report in reports for line in faults(report, versions(), config)]


def faults(node: NodeReport, wanted: dict[str, str], config: Config) -> Iterator[str]:
    """A line for everything about a node that should be mended.

    Args:
        node: examined.
        wanted: the versions where the search is started.
        config: what the node was examined for.
    """
    for package, version in wanted.items():
        if (there := node.versions[package]) != version:
            yield f"{node.name} has {package} {there}, here is {version}; run the setup commands there again"
    if node.gpus_in_ray > len(node.gpus):
        yield (
            f"{node.name} has {node.gpus_in_ray:g} GPUs in Ray and {len(node.gpus)} that PyTorch can use; "
            "install a driver for this PyTorch's CUDA"
        )
    if node.disk_free_fraction < ROOM:
        yield f"{node.name} has {_gib(node.disk_free_bytes)} of its disk free, under {ROOM:.0%}; free some"
    if node.memory_free_fraction < ROOM:
        yield f"{node.name} has {_gib(node.memory_free_bytes)} of its memory free, under {ROOM:.0%}; end what uses it"
    if node.storage:
        yield f"{node.name}: {node.storage}"
    elif node.storage_seconds > SLOW_STORAGE_SECONDS:
        yield (
            f"{node.name} takes {node.storage_seconds:.1f} s to write and read a few bytes of compute.storage "
            f"{config.compute.storage!r}; name one that is nearer"
        )
    if node.data and not config.data.download:
        yield f"{node.name}: {node.data}"
    if config.training.precision == "bf16" and not node.bf16:
        yield f"{node.name} {SLOW_BF16}"
    if not node.token:
        yield f"{node.name} asks for no token, so whoever reaches it runs code; export RAY_AUTH_MODE=token there"


def table(reports: list[NodeReport], config: Config) -> str:
    """The reports for people, a line a node."""
    rows = [["node", *versions(), "CPUs", "GPUs", "disk free", "memory free", "storage", "data"]]
    for node in reports:
        storage = "unusable" if node.storage else f"{node.storage_seconds * 1000:.0f} ms"
        data = "there" if not node.data else "to be downloaded" if config.data.download else "missing"
        room = [_gib(node.disk_free_bytes), _gib(node.memory_free_bytes)]
        gpus = " + ".join(node.gpus) or "none"
        rows.append([node.name, *node.versions.values(), str(node.cpus), gpus, *room, storage, data])
    return aligned(rows, numbers=False)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
