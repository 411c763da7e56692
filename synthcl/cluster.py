"""Where synthcl meets Ray: joining a cluster, what it has, and what is done there before the trials."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, TypeVar

# Read by Ray when it is imported: our own log replaces the default loggers, only rungs carry a score, nothing is
# continued from Tune's snapshots, and an interrupt must leave a stage unfinished where Tune would return as if it
# were done.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import grpc
import ray
import torch
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from synthcl import capacity
from synthcl.capacity import HEAD
from synthcl.config import Config
from synthcl.curriculum import is_real_only
from synthcl.data import ImageSource, open_split
from synthcl.errors import UserError
from synthcl.storage import Storage
from synthcl.warmup import GanState, cached_gan, warm_up

T = TypeVar("T")

ANSWER_SECONDS = 5.0
"""how long an address may take to answer"""
AHEAD_TRIALS = 4
"""trials of several workers that may wait for nodes at a time: each is a process on the head"""


def connect(config: Config) -> None:
    """Join the cluster the config (or RAY_ADDRESS) names, or start Ray on this machine.

    Args:
        config: its compute section.

    Raises:
        UserError: when the cluster cannot be reached or lacks what one trial needs.
    """
    address = config.compute.address or os.environ.get("RAY_ADDRESS") or "local"
    require_answer(address)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not ray.is_initialized():
        try:
            # The dashboard listens on loopback; nested Train runs need its state API to free their workers.
            if address == "local":
                ray.init(
                    address=address,
                    include_dashboard=config.compute.workers_per_trial > 1,
                    dashboard_host="127.0.0.1",
                    **quiet,
                )
            else:
                ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from None
    require_resources(config, resources())


def require_answer(address: str) -> None:
    """Refuse at once an address where no Ray of this version answers, or wants another token; Ray tries for long.

    Args:
        address: `local`, `auto`, `host:port` or `ray://host:port`.

    Raises:
        UserError: naming the address and the reason.
    """
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if not host or not port.isdigit():
            raise ValueError("it is neither auto nor host:port")
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        if not address.startswith("ray://"):
            _require_same_ray(address)
    except (OSError, ValueError, OverflowError, grpc.RpcError) as error:
        raise _no_cluster(address, error) from None


def _require_same_ray(address: str) -> None:
    with init_grpc_channel(address) as channel:
        head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        request = gcs_service_pb2.CheckAliveRequest()  # type: ignore[attr-defined]
        theirs = head.CheckAlive(request, timeout=ANSWER_SECONDS).ray_version
    if theirs != ray.__version__:
        raise ValueError(f"Version mismatch: Ray {theirs} there, {ray.__version__} here")


def _no_cluster(address: str, error: Exception) -> UserError:
    reason = str(error.details() if isinstance(error, grpc.RpcError) else error)
    what, remedy = "no Ray cluster answers there", "start one with 'ray start --head' or leave compute.address empty"
    if "token" in reason.lower():
        what = "the Ray cluster there refuses"
        remedy = "put the cluster's token into ~/.ray/auth_token, or RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token"
    elif "Version mismatch" in reason:
        what = "the Ray cluster there is another"
        remedy = "install its versions here, or give the command on its head"
    reason = " ".join(reason.split()) or type(error).__name__
    return UserError(f"compute.address {address!r}: {what} ({reason}); {remedy}")


def require_storage(storage: Storage) -> None:
    """Refuse a storage that some node of the joined cluster cannot read and write, or that is another place there.

    A node that the autoscaler has yet to launch cannot be asked; of a plain folder it would know nothing.

    Raises:
        UserError: naming the node, or the folder.
    """
    if "://" not in storage.root and capacity.launchable({"CPU": 1e-3}, [], autoscaling()):
        raise UserError(
            f"compute.storage {storage.root!r} is a folder, and the nodes that this cluster launches have their own; "
            f"name a bucket such as s3://bucket/synthcl, or {storage.shared.as_uri()} if every node mounts it"
        )
    if len(living_nodes()) == 1:
        return  # this machine, which has proved it
    with storage.beacon() as token:
        for answer in on_every_node(partial(_sees, storage, token)):
            if answer:
                raise UserError(answer)


def _sees(storage: Storage, token: str, node: str, gpus: float) -> str | None:
    try:
        storage.answer(token)
    except UserError as error:
        return f"node {node}: {error}"
    return None


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


def resources() -> dict[str, float]:
    """The CPUs and GPUs that the joined cluster has, or may grow to where it has an autoscaler."""
    nodes, grows = living_nodes(), autoscaling()
    return {kind: capacity.total(kind, nodes, grows) for kind in ("CPU", "GPU")}


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
    slots = capacity.slots(wanted, living_nodes(), autoscaling())
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
    wanted, nodes, workers = needs(config, resources()), living_nodes(), config.compute.workers_per_trial
    most = capacity.slots(wanted, nodes, autoscaling()) // workers
    if workers > 1:
        most = min(most, capacity.slots(wanted, nodes) // workers + AHEAD_TRIALS)
    return max(1, most)


def warmed_gan(config: Config, images: ImageSource, storage: Storage) -> GanState | None:
    """The GAN that all trials share, from the cache under the storage root or trained now; None when none is needed.

    Where trials get GPUs, the warm-up gets one too, on whichever node has it free.

    Raises:
        UserError: when the images or the cached file are unusable, or the warm-up diverges.
    """
    if is_real_only(config):
        return None
    gpus = min(1.0, gpus_per_worker(config, resources()))
    train = partial(_warm_up_on_gpu, config, gpus) if gpus else None
    gan = cached_gan(config, images, storage.shared / "gan", torch.device("cpu"), train=train)
    storage.push()
    return gan


def _warm_up_on_gpu(config: Config, gpus: float) -> tuple[GanState, dict[str, float]]:
    @ray.remote(num_gpus=gpus, max_retries=2)
    def warm_up_there() -> tuple[GanState, dict[str, float]]:
        device = torch.device("cuda")  # the one that Ray gave this task; it sees no other
        state, statistics = warm_up(config, open_split(config.data, "unlabelled", device).images, device)
        return {name: {key: value.cpu() for key, value in part.items()} for name, part in state.items()}, statistics

    return ray.get(warm_up_there.remote())
