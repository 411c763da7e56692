"""How long until the work of a lost node runs elsewhere, with cluster.yaml's settings against Ray's defaults.

Three hosts of this machine (network namespaces) are a head and two workers, brought up by `ray up` with cluster.yaml's
own commands. A task runs on one worker, which then loses its power (its processes are killed) or its link (a cable is
pulled, and nobody is told). Measured is the time until Ray has started the task on the other worker; it is bounded by
the settings in cluster.yaml's setup commands. `starved` tells whether the same settings take a node for dead that only
has no CPU time: for a minute, 16 busy processes compete with it.

python -m benchmarks.reliability.node_loss --quick     the cut link with cluster.yaml's settings: two minutes
python -m benchmarks.reliability.node_loss             everything: half an hour, seven minutes of it a cut link

Needs Linux, root, and Debian's openssh-server, openssh-client, rsync and iproute2.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.support.hosts import Host, missing, wait_for
from benchmarks.support.ray_up import RayCluster, hosts_for_ray, start

STARVED_SECONDS = 60
LONGEST_SECONDS = 900
STAND = """
import pathlib, ray, socket, time
ray.init("auto", log_to_driver=False)
@ray.remote(num_cpus=1, max_retries=5)
def stand():
    with open("/mnt/stands", "a") as file:
        print(socket.gethostname(), file=file)
    time.sleep(3600)
ray.get(stand.remote())
"""


def without(pattern: str) -> Callable[[dict[str, Any]], None]:
    """Takes settings out of the cluster's file."""

    def change(cluster: dict[str, Any]) -> None:
        cluster["setup_commands"] = [re.sub(rf"{pattern}=\d+ ?", "", line) for line in cluster["setup_commands"]]

    return change


SETTINGS: dict[str, Callable[[dict[str, Any]], None]] = {
    "cluster.yaml": lambda cluster: None,
    "no keepalive": without(r"RAY_grpc_\w+"),
    "no health checks": without(r"RAY_health_\w+"),
    "Ray's defaults": without(r"RAY_(health|grpc)_\w+"),
}


def seconds_until_elsewhere(cluster: RayCluster, lose: Callable[[Host], None]) -> float:
    """Run a task, lose the host it runs on, and wait until it runs on another."""
    stands = cluster.shared / "stands"
    start(cluster.head, f"python -c {shlex.quote(STAND)}")
    wait_for("a task that runs", stands.is_file, 120)
    name = stands.read_text().split()[0]
    lose(next(host for host in cluster.workers if host.name == name))
    return wait_for("the task elsewhere", lambda: len(stands.read_text().split()) > 1, LONGEST_SECONDS, 0.1)


def taken_for_dead(cluster: RayCluster) -> float:
    """1 when a node that has no CPU time for a minute is lost, else 0."""
    busy = f"for i in $(seq 16); do timeout {STARVED_SECONDS} sh -c 'while :; do :; done' & done; wait"
    start(cluster.workers[0], busy).wait()
    return float(cluster.workers[0].name not in cluster.alive())


def measure(settings: str, event: str) -> float:
    with (
        tempfile.TemporaryDirectory() as folder,
        hosts_for_ray(Path(folder), workers=2, cpus=1, change=SETTINGS[settings]) as cluster,
    ):
        cluster.up()
        cluster.wait_for_nodes(3)
        if event == "starved":
            return taken_for_dead(cluster)
        return seconds_until_elsewhere(cluster, Host.kill if event == "killed" else cluster.network.cut)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the cut link, with cluster.yaml's settings")
    arguments = parser.parse_args()
    if reason := missing():
        sys.exit(f"error: {reason}")
    wanted = [("cluster.yaml", "cut")]
    if not arguments.quick:
        wanted = [(settings, event) for settings in SETTINGS for event in ("killed", "cut")]
        wanted += [("cluster.yaml", "starved")]
    print(f"{'settings':<18}{'event':<10}{'seconds until the task runs elsewhere'}")
    found = {}
    for settings, event in wanted:
        began = time.monotonic()
        found[f"{settings}, {event}"] = value = measure(settings, event)
        shown = f"{value:.1f}" if event != "starved" else ("taken for dead" if value else "alive")
        print(f"{settings:<18}{event:<10}{shown:<16}({time.monotonic() - began:.0f} s in all)", flush=True)
    if not arguments.quick:
        found["defaults over cluster.yaml, cut"] = found["Ray's defaults, cut"] / found["cluster.yaml, cut"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
