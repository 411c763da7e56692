"""What a cluster can hold: its living nodes, and those that its autoscaler may still launch.

Pure functions of `ray.nodes()` and of the configuration that the autoscaler runs with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

Resources = Mapping[str, float]
Node = Mapping[str, Any]
Autoscaling = Mapping[str, Any]
"""a file of `ray up` as the head has it: every node type with its resources and max_workers"""

HEAD = "node:__internal_head__"
"""what only the head has, one of it: with a thousandth of it, a process without CPUs runs there"""
NODE_TYPE_LABEL = "ray.io/node-group"
"""under which Ray keeps the type of a node that its autoscaler launched"""


def running_autoscaling(gcs_address: str) -> dict[str, Any] | None:
    """The configuration of the autoscaler that runs on this machine for a cluster; None where there is none.

    It is the file that the running monitor was given: one that an earlier cluster left behind is not read.

    Args:
        gcs_address: of the cluster, whose head is this machine; the port tells it from others here, while the host
            has many names.
    """
    port = gcs_address.rpartition(":")[2]
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
        is_monitor = any(word.endswith("monitor.py") for word in words)
        if is_monitor and options.get("--gcs-address", "").endswith(f":{port}"):
            file = options.get("--autoscaling-config")
            return yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8")) if file else None
    return None


def fitting(wanted: Resources, there: Resources) -> int:
    """How many workers fit a node, each of which lies on one node.

    Args:
        wanted: by one worker; something of every kind it names.
        there: on the node.
    """
    return int(min(there.get(kind, 0) / amount + 1e-9 for kind, amount in wanted.items()))


def launchable(wanted: Resources, nodes: Sequence[Node], autoscaling: Autoscaling | None) -> list[Resources]:
    """The nodes that an autoscaler may launch beside the living ones, those that hold most workers first.

    Args:
        wanted: by one worker.
        nodes: the living ones of `ray.nodes()`.
        autoscaling: what the autoscaler runs with, or None where there is none.

    Returns:
        What each of them will have.
    """
    if autoscaling is None:
        return []
    workers = [node for node in nodes if HEAD not in node["Resources"]]
    more: list[Resources] = []
    for name, kind in autoscaling["available_node_types"].items():
        resources = kind.get("resources") or {}
        if any(resources.values()):  # else nothing is known of it, and no demand makes the autoscaler launch it
            left = kind.get("max_workers", 0) - sum(_is_of(node, name, resources) for node in workers)
            more += [resources] * max(0, left)
    more.sort(key=lambda resources: -fitting(wanted, resources))
    return more[: max(0, autoscaling.get("max_workers", 0) - len(workers))]


def _is_of(node: Node, name: str, resources: Resources) -> bool:
    """By the label that autoscaler v2 gives a node, else by what it has: v1 gives none."""
    if label := node.get("Labels", {}).get(NODE_TYPE_LABEL):
        return bool(label == name)
    return all(node["Resources"].get(kind, 0) == resources.get(kind, 0) for kind in ("CPU", "GPU"))


def slots(wanted: Resources, nodes: Sequence[Node], autoscaling: Autoscaling | None = None) -> int:
    """How many workers the living nodes hold together with the nodes that may be launched.

    Args:
        wanted: by one worker.
        nodes: the living ones of `ray.nodes()`.
        autoscaling: what the autoscaler runs with; None counts the living nodes alone.
    """
    there = [node["Resources"] for node in nodes]
    return sum(fitting(wanted, node) for node in [*there, *launchable(wanted, nodes, autoscaling)])


def total(kind: str, nodes: Sequence[Node], autoscaling: Autoscaling | None = None) -> float:
    """How much of a kind of resource the living nodes have together with the nodes that may be launched."""
    there = [node["Resources"] for node in nodes]
    return sum(node.get(kind, 0) for node in [*there, *launchable({kind: 1e-3}, nodes, autoscaling)])
