"""Joining a Ray cluster, and refusing one that does not answer or whose nodes do not share the storage."""

from __future__ import annotations

import logging
import os
import socket
from functools import partial
from typing import Any

import grpc
import ray

from synthcl.cluster import capacity, nodes
from synthcl.cluster.ray_internals import version_at
from synthcl.cluster.resources import require_resources, resources
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.runs.location import is_uri
from synthcl.runs.storage import Storage

ANSWER_SECONDS = 30.0
"""how long an address may take to answer; where nothing listens, the refusal comes at once, and a busy head is slow"""


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
        if not address.startswith("ray://") and (theirs := version_at(address, ANSWER_SECONDS)) != ray.__version__:
            raise ValueError(f"Version mismatch: Ray {theirs} there, {ray.__version__} here")
    except (OSError, ValueError, OverflowError, grpc.RpcError) as error:
        raise _no_cluster(address, error) from None


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
    if not is_uri(storage.root) and capacity.launchable({"CPU": 1e-3}, [], nodes.autoscaling()):
        raise UserError(
            f"compute.storage {storage.root!r} is a folder, and the nodes that this cluster launches have their own; "
            f"name a bucket such as s3://bucket/synthcl, or {storage.shared.as_uri()} if every node mounts it"
        )
    if len(nodes.living_nodes()) == 1:
        return  # this machine, which has proved it
    with storage.beacon() as token:
        for answer in nodes.on_every_node(partial(_sees, storage, token)):
            if answer:
                raise UserError(answer)


def _sees(storage: Storage, token: str, node: str, gpus: float) -> str | None:
    try:
        storage.answer(token)
    except UserError as error:
        return f"node {node}: {error}"
    return None
