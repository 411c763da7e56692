"""Ray's own autoscaler on this machine: a head without CPUs, and nodes that are launched when trials ask for them."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import psutil
import ray
import yaml

ROOT = Path(__file__).parents[2]
STORE_BYTES = 100 * 2**20


def free_ports(count):
    """Ports that nothing listens on."""
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in opened]
    for each in opened:
        each.close()
    return ports


class AutoscaledCluster:
    """cluster.yaml's head and node types, its cloud replaced by Ray's provider of nodes on one machine.

    Args:
        cpus: of a node, for each of the node types that are launched; none has a GPU.
        most: nodes, of a type and of all together.
        folder: for the configuration and the log.
    """

    def __init__(self, cpus, most, folder):
        described = yaml.safe_load((ROOT / "cluster.yaml").read_text())
        # Sockets must have short paths.
        self._session = Path(tempfile.mkdtemp(prefix="as-"))
        self._log = folder / "head.log"
        gcs, agent = free_ports(2)
        self.address = f"{ray.util.get_node_ip_address()}:{gcs}"
        (folder / "autoscaling.yaml").write_text(json.dumps(faked(described, self.address, cpus, most)))
        start = [
            *(f"{sys.prefix}/bin/ray", "start", "--head", "--block", "--num-cpus=0", f"--port={gcs}"),
            *(
                "--include-dashboard=true",
                "--dashboard-host=127.0.0.1",
                "--dashboard-port=0",
                f"--dashboard-agent-listen-port={agent}",
            ),
            *(f"--object-store-memory={STORE_BYTES}", f"--temp-dir={self._session}", "--disable-usage-stats"),
            f"--autoscaling-config={folder / 'autoscaling.yaml'}",
        ]
        # As on every node of cluster.yaml; without it, a token that this machine happens to have would decide.
        self.environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32)}
        fake = {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "0", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        with self._log.open("w") as log:
            self._head = subprocess.Popen(
                start, env=self.environment | fake, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while "Ray runtime started" not in self.log():
            assert self._head.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def log(self):
        """What the head printed."""
        return self._log.read_text()

    def autoscaler_log(self):
        """What the autoscaler did, and why."""
        (monitor,) = self._session.glob("session_2*/logs/monitor.log")
        return monitor.read_text()

    def launches(self):
        """How many nodes of a type the autoscaler launched at a time, in order."""
        return [int(count) for count in re.findall(r"Launching (\d+) nodes", self.autoscaler_log())]

    def nodes_kept(self):
        """How many nodes were launched and not taken back at once.

        On a busy machine Ray 2.60 asks for a node again while the first ones start, where its provider of nodes of one
        machine counts them neither as coming nor as there, and takes it back as one above max_workers.
        """
        return sum(self.launches()) - len(re.findall(r"Terminating the node .*max_workers", self.autoscaler_log()))

    def workers(self):
        """How many nodes run beside the head."""
        return sum(_name(process) == "raylet" for process in self._processes()) - 1

    def _processes(self):
        try:
            return psutil.Process(self._head.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def close(self):
        """End the head, and with it what it has launched; nothing else on this machine."""
        started = [psutil.Process(self._head.pid), *self._processes()]
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(started, timeout=30)
        shutil.rmtree(self._session, ignore_errors=True)


def _name(process):
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def faked(described, address, cpus, most):
    """The autoscaler's configuration: a file of `ray up` with nodes of this machine in place of its cloud."""
    head = described["head_node_type"]
    kinds = {name: kind for name, kind in described["available_node_types"].items() if name != head}
    node_types = {
        name: kind
        | {"max_workers": most, "resources": {"CPU": count, "object_store_memory": STORE_BYTES}, "node_config": {}}
        for (name, kind), count in zip(kinds.items(), cpus, strict=True)
    }
    # The provider knows the head by this name alone.
    node_types["ray.head.default"] = described["available_node_types"][head] | {"node_config": {}}
    commands = {key: [] for key in described if key.endswith("_commands")}
    return described | commands | {
        "max_workers": most,
        "provider": {
            "type": "fake_multinode",
            "gcs_address": address,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": node_types,
        **{"auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [], "rsync_exclude": []},
        **{"rsync_filter": [], "file_mounts_sync_continuously": False},
        **{"initialization_commands": [], "worker_setup_commands": []},
    }  # fmt: skip
