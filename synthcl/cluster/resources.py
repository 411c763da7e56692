"""What a trial needs of the cluster, and how many fit."""

from __future__ import annotations

from synthcl.cluster import capacity, nodes
from synthcl.config.schema import Config
from synthcl.core.errors import UserError

AHEAD_TRIALS = 4
"""trials of several workers that may wait for nodes at a time: each is a process on the head"""


def resources() -> dict[str, float]:
    """The CPUs and GPUs that the joined cluster has, or may grow to where it has an autoscaler."""
    living, grows = nodes.living_nodes(), nodes.autoscaling()
    return {kind: capacity.total(kind, living, grows) for kind in ("CPU", "GPU")}


def gpus_per_worker(config: Config, available: dict[str, float]) -> float:
    """GPUs of one worker: as configured, else one where the cluster has any."""
    if config.compute.gpus_per_worker is not None:
        return config.compute.gpus_per_worker
    return 1.0 if available.get("GPU", 0) > 0 else 0.0


def require_resources(config: Config, available: dict[str, float]) -> None:
    """Refuse a configuration whose single trial does not fit the cluster.

    Raises:
        UserError: naming what is asked and what there is.
    """
    name, workers = _fewest_workers(config)
    for kind, each in needs(config, available).items():
        if workers * each > available.get(kind, 0):
            raise UserError(
                f"{name}={workers} needs {workers * each:g} {kind}s a trial, the cluster has "
                f"{available.get(kind, 0):g}; lower {name} or compute.{kind.lower()}s_per_worker"
            )


def _fewest_workers(config: Config) -> tuple[str, int]:
    if config.compute.min_workers_per_trial:
        return "compute.min_workers_per_trial", config.compute.min_workers_per_trial
    return "compute.workers_per_trial", config.compute.workers_per_trial


def needs(config: Config, available: dict[str, float]) -> dict[str, float]:
    """What one worker holds, by kind."""
    gpus = gpus_per_worker(config, available)
    return {"CPU": config.compute.cpus_per_worker} | ({"GPU": gpus} if gpus else {})


def concurrent_trials(config: Config) -> int:
    """How many trials the cluster's nodes can hold at a time, or may come to hold where it has an autoscaler.

    Raises:
        UserError: when not even one trial fits, because a worker lies on one node.
    """
    name, fewest = _fewest_workers(config)
    wanted = needs(config, resources())
    slots = capacity.slots(wanted, nodes.living_nodes(), nodes.autoscaling())
    if slots < fewest:
        each = " and ".join(f"{amount:g} {kind}s" for kind, amount in wanted.items())
        raise UserError(
            f"{name}={fewest} of {each} each: the cluster's nodes have room for {slots} such workers; "
            f"lower {name} or compute.cpus_per_worker"
        )
    return max(1, slots // config.compute.workers_per_trial)


def trials_to_start(config: Config) -> int:
    """How many trials may be under way now, those that wait for nodes included.

    A waiting trial of one worker costs nothing. One of several is a process on the head, so a few wait at a time and
    the next ones when nodes have come.
    """
    wanted, living, workers = needs(config, resources()), nodes.living_nodes(), config.compute.workers_per_trial
    most = capacity.slots(wanted, living, nodes.autoscaling()) // workers
    if workers > 1:
        most = min(most, capacity.slots(wanted, living) // workers + AHEAD_TRIALS)
    return max(1, most)
