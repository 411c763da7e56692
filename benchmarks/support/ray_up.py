"""A Ray cluster on hosts of this machine, brought up by `ray up` with the commands of cluster.yaml."""

from __future__ import annotations

import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from secrets import token_hex
from typing import Any

import yaml

from benchmarks.support.hosts import Host, Network

ROOT = Path(__file__).parents[2]

ALIVE = """
import ray
ray.init("auto", log_to_driver=False)
print("alive:", *[node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]])
"""
WAIT_FOR_NODES = """
import ray, time
ray.init("auto", log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < {}:
    time.sleep(0.2)
"""


def index_of_installed(folder: Path) -> None:
    """An offline package index: every installed distribution under its name, version, requirements and commands.

    A wheel of it holds no code but a path to the code installed here, so that an installer resolves, refuses and
    links as it would anywhere, in no time.
    """
    folder.mkdir()
    installed = sysconfig.get_path("purelib")
    for package in metadata.distributions(path=[installed]):
        name = re.sub(r"[-_.]+", "_", package.name).lower()
        if name == "synthcl":
            continue
        info = f"{name}-{package.version}.dist-info"
        files = {
            f"{info}/METADATA": package.read_text("METADATA") or "",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": package.read_text("entry_points.txt") or "",
            f"{name}.installed.pth": f"{installed}\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(folder / f"{name}-{package.version}-py3-none-any.whl", "w") as wheel:
            for file, text in files.items():
                wheel.writestr(file, text)


def prepare_image(network: Network, cpus: int) -> None:
    """What a new host's home holds: uv, the index it installs from, and what the launcher knows of the machine."""
    index_of_installed(network.shared / "index")
    home = network.image
    (home / ".local/bin").mkdir(parents=True)
    (home / ".local/bin/uv").symlink_to(Path(sys.prefix) / "bin/uv")
    (home / ".config/uv").mkdir(parents=True)
    (home / ".config/uv/uv.toml").write_text(
        'offline = true\nno-index = true\nfind-links = ["/mnt/index"]\npython-downloads = "never"\n'
    )
    (home / ".bashrc").write_text(
        f"export PATH={sys.base_prefix}/bin:$PATH\n"
        f"if [ $HOSTNAME = head ]; then CPU=0; else CPU={cpus}; fi\n"
        """export RAY_OVERRIDE_RESOURCES='{"CPU": '$CPU', "object_store_memory": 100000000}'\n"""
    )


def local_cluster(head: Host, workers: list[Host]) -> dict[str, Any]:
    """cluster.yaml with these hosts in place of its cloud, and the versions installed here in place of the pinned."""
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for cloud in ("available_node_types", "head_node_type", "max_workers"):
        del cluster[cloud]
    addresses = [worker.address for worker in workers]
    cluster["provider"] = {"type": "local", "head_ip": head.address, "worker_ips": addresses}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": "/root/.ssh/id"}
    for key in ("setup_commands", "head_setup_commands"):
        cluster[key] = [_installed_here(command) for command in cluster[key]]
    return cluster


def _installed_here(command: str) -> str:
    pinned = r"(ray\[[a-z,]+\]|[a-z0-9]+)==[\d.]+"
    command = re.sub(pinned, lambda pin: f"{pin[1]}=={metadata.version(pin[1].split('[')[0])}", command)
    return re.sub(r"--python 3\.[\d.]+", f"--python {platform.python_version()}", command)


@dataclass(frozen=True)
class RayCluster:
    """Hosts for `ray up`: a launcher with this working tree, a head and workers.

    Attributes:
        shared: the folder that every host has at /mnt; `cluster.yaml` in it is what the launcher reads.
    """

    network: Network
    launcher: Host
    head: Host
    workers: list[Host]

    @property
    def shared(self) -> Path:
        return self.network.shared

    def up(self) -> str:
        """`ray up`; the workers join while it ends, and after."""
        return finish(self.ray("up", "-y", "--no-config-cache", "/mnt/cluster.yaml"), 180)

    def down(self) -> str:
        """`ray down`, which stops Ray on the head alone where the provider is local."""
        return finish(self.ray("down", "-y", "/mnt/cluster.yaml"), 120)

    def submit(self, entrypoint: str) -> subprocess.Popen[str]:
        """`ray job submit` on the head, by `ray exec`; its output is the job's."""
        job = f"ray job submit --address http://127.0.0.1:8265 -- bash -c {shlex.quote(entrypoint)}"
        return self.ray("exec", "--no-config-cache", "/mnt/cluster.yaml", job)

    def ray(self, *words: str) -> subprocess.Popen[str]:
        """A command of the launcher, from the root of the working tree.

        Autoscaler v2, the default, takes the head of a local provider for an unmanaged worker and never starts
        the second one.
        """
        command = shlex.join([f"{sys.prefix}/bin/ray", *words])
        return start(self.launcher, f"cd {ROOT} && RAY_UP_enable_autoscaler_v2=0 {command}")

    def wait_for_nodes(self, count: int, timeout_seconds: float = 90) -> None:
        """Return when so many nodes are alive."""
        finish(start(self.head, f"python -c {shlex.quote(WAIT_FOR_NODES.format(count))}"), timeout_seconds)

    def alive(self) -> set[str]:
        """Names of the nodes that the head takes for alive."""
        return set(finish(start(self.head, f"python -c {shlex.quote(ALIVE)}"), 60).split("alive:")[1].split())


@contextmanager
def hosts_for_ray(
    folder: Path, workers: int, cpus: int, change: Callable[[dict[str, Any]], object] = lambda cluster: None
) -> Iterator[RayCluster]:
    """Boot the hosts and write the cluster's file; nothing of Ray runs yet.

    Args:
        folder: empty.
        workers: how many.
        cpus: of every worker; the head has none, as in cluster.yaml.
        change: made to the cluster's file.
    """
    with Network(folder, [Path(sys.prefix), Path(sys.base_prefix), ROOT]) as network:
        prepare_image(network, cpus)
        launcher, head = network.host("launcher"), network.host("head")
        cluster = RayCluster(network, launcher, head, [network.host(f"worker-{n + 1}") for n in range(workers)])
        finish(start(launcher, f"mkdir -m 700 ~/.ray && printf {token_hex(32)} > ~/.ray/auth_token"), 10)
        described = local_cluster(head, cluster.workers)
        change(described)
        (cluster.shared / "cluster.yaml").write_text(yaml.safe_dump(described))
        yield cluster


def start(host: Host, command: str) -> subprocess.Popen[str]:
    """Start a shell command on a host, with what ~/.bashrc exports there."""
    shell = host.command("bash", "-c", f". ~/.bashrc; {command}")
    pipe = subprocess.PIPE
    return subprocess.Popen(shell, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], timeout_seconds: float) -> str:
    """What a command prints until it ends.

    Raises:
        RuntimeError: when it fails or does not end, with what it printed.
    """
    command = " ".join(map(str, process.args)) if isinstance(process.args, list) else str(process.args)
    try:
        printed, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as late:  # what it started may live on, and hold the pipe, until its host ends
        raise RuntimeError(f"{command} has not ended in {timeout_seconds:g} s: {late.output!r}") from None
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {printed}")
    return printed
