"""The nodes of the joined cluster, and what each of them answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from synthcl.cluster import capacity
from synthcl.cluster.capacity import HEAD

T = TypeVar("T")


def living_nodes() -> list[dict[str, Any]]:
    """Those of the joined cluster's nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def autoscaling() -> dict[str, Any] | None:
    """The configuration that the autoscaler of the joined cluster runs with; None where it has none."""
    return _autoscaling(ray.get_runtime_context().get_node_id())


@lru_cache(maxsize=1)
def _autoscaling(here: str) -> dict[str, Any] | None:
    if any(node["NodeID"] == here and HEAD in node["Resources"] for node in living_nodes()):
        return _autoscaling_here()
    found: dict[str, Any] | None = ray.get(ray.remote(num_cpus=0, resources={HEAD: 0.001})(_autoscaling_here).remote())
    return found


def _autoscaling_here() -> dict[str, Any] | None:
    return capacity.running_autoscaling(ray.get_runtime_context().gcs_address)


def on_every_node(look: Callable[[str, float], T], timeout_seconds: float = 120) -> list[T | str]:
    """What every living node of the joined cluster answers.

    Args:
        look: called there with the node's name and how many GPUs Ray has there.
        timeout_seconds: for all of them together.

    Returns:
        An answer a node, in the order of their names, or the line that says why there is none.
    """

    @ray.remote(num_cpus=0, max_retries=0)
    def ask(name: str, gpus: float) -> T:
        return look(name, gpus)

    asked = {}
    for node in living_nodes():
        name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[ask.options(scheduling_strategy=there).remote(name, node["Resources"].get("GPU", 0))] = name
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_seconds)
    return [
        _answer(ref, name)
        if ref in answered
        else f"{name} has not answered in {timeout_seconds:g} s; restart Ray there"
        for ref, name in sorted(asked.items(), key=lambda item: item[1])
    ]


def _answer(ref: Any, name: str) -> Any:
    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        reason = str(getattr(error, "cause", error)).strip().splitlines()[-1]
        return f"{name} cannot run synthcl ({reason}); run the setup commands there again"
