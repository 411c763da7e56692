"""Ray nodes of one machine, to be killed, drained and joined by others."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

STORE_BYTES = 100 * 2**20


class VirtualNodes:
    """A head that runs no trial, and nodes with CPUs beside it.

    Args:
        cpus: of each node beside the head.
        dashboard: whether the head has one; trials of several workers need it.
    """

    def __init__(self, cpus: Sequence[float], dashboard: bool = True) -> None:
        free_ports = {"dashboard_port": None, "dashboard_agent_listen_port": None}  # another Ray may have the usual
        head: dict[str, Any] = {"num_cpus": 0, "object_store_memory": STORE_BYTES, **free_ports}
        head |= {"include_dashboard": dashboard, "dashboard_host": "127.0.0.1"}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        for count in cpus:
            self.join(count)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def join(self, cpus: float) -> None:
        """One more node."""
        # Ray's hook for the end of this process is a signal handler, which the main thread alone can set.
        self._cluster._shutdown_at_exit = threading.current_thread() is threading.main_thread()
        self.nodes.append(self._cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES))

    def kill(self, node: Any) -> None:
        """SIGKILL everything that runs on a node, its processes as well as Ray's own."""
        self.nodes.remove(node)
        running = _below(node)
        self._cluster.remove_node(node, allow_graceful=False)
        for process in running:
            if process.is_running():
                process.kill()

    def drain(self, node: Any, seconds: float) -> None:
        """Announce what a spot market announces: the node goes at a deadline."""
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int(1000 * (time.time() + seconds))
        GcsClient(address=self.address).drain_node(node.node_id, reason, "reclaimed", deadline)

    def processes(self, title: str, node: Any = None) -> list[psutil.Process]:
        """Ray's worker processes whose title holds these words, on one node or on all."""
        where = [node] if node else self.all
        return [process for each in where for process in _below(each) if title in _title(process)]

    def of(self, process: psutil.Process) -> Any:
        """The node that a process runs on, or any where it has ended."""
        return next((node for node in self.all if process in _below(node)), self.nodes[0])

    @property
    def all(self) -> list[Any]:
        """The nodes, the head last."""
        return [*self.nodes, self._cluster.head_node]

    def close(self) -> None:
        """Kill all nodes."""
        for node in list(self.nodes):
            self.kill(node)
        self._cluster.shutdown()


def _below(node: Any) -> list[psutil.Process]:
    try:
        return psutil.Process(node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid).children(recursive=True)
    except (psutil.NoSuchProcess, KeyError):
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def label_of(process: psutil.Process) -> str:
    """The trial that a process works for: the name of its working folder, or of that of whose crew it is in."""
    try:
        folder = os.path.basename(process.cwd())
        if crew := re.fullmatch(r"(\d+)-[0-9a-f]{32}", folder):
            folder = os.path.basename(psutil.Process(int(crew[1])).cwd())
    except psutil.Error:
        return ""
    return folder.partition("@")[0]  # a leg's folder names the images that it goes to, too
