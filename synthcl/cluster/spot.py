"""Tells Ray when AWS reclaims this spot instance, so that trials here leave with a checkpoint.

python -P ~/synthcl/synthcl/cluster/spot.py     waits for the notice, drains this node, ends; one at a time a machine

AWS gives two minutes' notice through the instance metadata and no other way; Ray does not listen to it. Nothing but
the standard library is imported, so that waiting costs a few MiB.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

METADATA = "http://169.254.169.254"
POLL_SECONDS = 5.0
"""between two looks, as AWS recommends"""
ANSWER_SECONDS = 2.0
TOKEN_SECONDS = 6 * 3600
NOTICE_SECONDS = 110.0
"""how long a node has left where the notice does not say when it ends"""


class Metadata:
    """The instance's metadata, by version 2 of its service: every question shows a token.

    Args:
        base: URL of the service.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self._token = ""

    def instance_action(self) -> dict[str, str] | None:
        """What is going to be done with this instance: `{"action": ..., "time": ...}`, or None as long as nothing is.

        Raises:
            OSError: when the service does not answer.
        """
        if not self._token:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            self._token = self._ask("/latest/api/token", lifetime, "PUT")
        try:
            told = self._ask("/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token}, "GET")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            self._token = ""  # 401: it has run out
            raise
        action: dict[str, str] = json.loads(told)
        return action

    def _ask(self, path: str, headers: dict[str, str], method: str) -> str:
        request = urllib.request.Request(self._base + path, headers=headers, method=method)  # noqa: S310
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would be another machine's
        with direct.open(request, timeout=ANSWER_SECONDS) as answer:
            return str(answer.read().decode())


def seconds_left(action: dict[str, str], now: datetime) -> float:
    """How long the instance has from `now` on, by its notice."""
    try:
        left = (datetime.fromisoformat(action["time"]) - now).total_seconds()
    except (KeyError, ValueError, TypeError):
        return NOTICE_SECONDS
    return max(0.0, left)


def drain(seconds: float, node: str | None, address: str | None) -> bool:
    """Let Ray drain a node: no task or trial starts there, and those that run are told to leave.

    Args:
        seconds: until it ends.
        node: hex id; None means the node on this machine.
        address: of the cluster; None means the one this machine belongs to.

    Returns:
        Whether Ray accepted.
    """
    command = [os.path.join(os.path.dirname(sys.executable), "ray"), "drain-node"]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "AWS reclaims this spot instance"]
    command += ["--deadline-remaining-seconds", str(int(seconds))]
    command += ["--node-id", node] if node else []
    command += ["--address", address] if address else []
    return subprocess.run(command).returncode == 0


def wait(metadata: Metadata, node: str | None, address: str | None, poll_seconds: float = POLL_SECONDS) -> None:
    """Return when there was a notice and Ray has accepted it; a service that does not answer is asked again."""
    while True:
        try:
            action = metadata.instance_action()
        except (OSError, ValueError):  # away for a moment, or no machine of AWS
            action = None
        if action:
            print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} notice: {action}", flush=True)
            if drain(seconds_left(action, datetime.now(UTC)), node, address):
                return
        time.sleep(poll_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metadata", default=METADATA, help="URL of the metadata service")
    parser.add_argument("--node-id", help="the node to drain; none means the one of this machine")
    parser.add_argument("--address", help="of the cluster; none means the one that this machine belongs to")
    given = parser.parse_args()
    with open(os.path.join(tempfile.gettempdir(), f"synthcl-spot-{given.node_id or 'node'}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # one waits already: the start commands ran again
        wait(Metadata(given.metadata), given.node_id, given.address)


if __name__ == "__main__":
    main()
