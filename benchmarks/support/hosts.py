"""Hosts on one Linux machine: what a test of `ray up` logs into, kills and cuts off.

A host is a network namespace on a bridge with its own processes, name, /tmp, /run, shared memory and home, and an ssh
server. It shares the file system with the machine otherwise; `/mnt` is a folder that all hosts of a network share.
Its processes end with it, and all hosts with the process that made them: nothing outlives a test, however it ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TOOLS = ("unshare", "nsenter", "setpriv", "ip", "sshd", "ssh", "ssh-keygen", "rsync")
OWN = ("/tmp", "/run", "/root", "/dev/shm", "/var/log")  # noqa: S108 (of a host, not of this machine)

BOOT = r"""
set -eu
name=$1 own=$2 shared=$3 image=$4; shift 4; visible=("$@")
hostname "$name"
mount -t tmpfs none /media  # what stays visible is held here while the folders above it are emptied
for index in "${!visible[@]}"; do mkdir "/media/$index"; mount --bind "${visible[index]}" "/media/$index"; done
mount --bind "$shared" /mnt
mkdir /media/image; mount --bind "$image" /media/image
for folder in $own; do mount -t tmpfs -o mode=1777 none "$folder"; done
chmod 700 /root; cp -a /media/image/. /root; mkdir -p /run/sshd
for index in "${!visible[@]}"; do
    mkdir -p "${visible[index]}"; mount --move "/media/$index" "${visible[index]}"
done
ip link set lo up
echo booted
exec "$(command -v sshd)" -D -f /dev/null -o HostKey=/root/.ssh/host_key -o PidFile=none -o StrictModes=no \
    -o AuthorizedKeysFile=/root/.ssh/id.pub -o PasswordAuthentication=no
"""


def missing() -> str:
    """Why hosts cannot be made here; empty where they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if lacking := [tool for tool in TOOLS if not shutil.which(tool)]:
        return f"{', '.join(lacking)} not found; Debian's openssh-server, openssh-client, rsync, iproute2 have them"
    tried = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "true"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


@dataclass(frozen=True)
class Host:
    name: str
    address: str
    process: subprocess.Popen[str]
    pid: int
    """of its first process, as seen from outside"""

    def command(self, *words: str) -> list[str]:
        """A command line that runs words on the host, as root in its home."""
        clean = ["env", "-i", "HOME=/root", "LANG=C.UTF-8", f"PATH={os.environ['PATH']}"]
        spaces = ["--net", "--pid", "--mount", "--uts", "--ipc", "--wd=/root"]
        return ["nsenter", f"--target={self.pid}", *spaces, *clean, *words]

    def kill(self) -> None:
        """Take the power away."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()


class Network:
    """A bridge and the hosts on it.

    Args:
        folder: for keys and logs; `folder/shared` is every host's /mnt, `folder/image` what a new home holds.
        visible: folders that every host sees where they are, though /tmp and the home are its own.
    """

    def __init__(self, folder: Path, visible: list[Path]) -> None:
        self._folder, self.shared, self.image = folder, folder / "shared", folder / "image"
        self._visible = [path for path in dict.fromkeys(visible) if any(path.is_relative_to(own) for own in OWN)]
        self._hosts: list[Host] = []
        self.shared.mkdir()
        (self.image / ".ssh").mkdir(parents=True)
        for key in ("host_key", "id"):
            file = str(self.image / ".ssh" / key)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *exception: object) -> None:
        for host in reversed(self._hosts):
            if host.process.poll() is None:
                host.kill()

    def host(self, name: str) -> Host:
        """Boot a host; the first one has the bridge."""
        spaces = ["--net", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        places = [" ".join(OWN), str(self.shared), str(self.image), *map(str, self._visible)]
        boot = ["bash", "-c", BOOT, "boot", name, *places]
        log = self._folder / f"{name}.log"
        with log.open("w") as file:
            command = ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, *boot]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=file, text=True)
        assert process.stdout is not None
        if process.stdout.readline() != "booted\n":
            raise RuntimeError(f"host {name} did not boot: {log.read_text()}")
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        host = Host(name, f"10.77.0.{len(self._hosts) + 1}", process, pid)
        self._hosts.append(host)
        device = "bridge"
        if host is self._hosts[0]:
            self._ip(host, "link add bridge type bridge")
        else:
            device = "eth0"
            self._ip(self._hosts[0], f"link add {name} type veth peer name eth0 netns {pid}")
            self._ip(self._hosts[0], f"link set {name} master bridge up")
        self._ip(host, f"address add {host.address}/24 dev {device}")
        self._ip(host, f"link set {device} up")
        self._ip(host, f"route add default dev {device}")  # leads nowhere; Ray asks it for the host's own address
        return host

    def cut(self, host: Host) -> None:
        """Pull the cable: nobody is told."""
        self._ip(self._hosts[0], f"link set {host.name} down")

    @staticmethod
    def _ip(host: Host, words: str) -> None:
        subprocess.run(["nsenter", f"--target={host.pid}", "--net", "ip", *words.split()], check=True)


def wait_for(what: str, happened, timeout_seconds: float, every_seconds: float = 0.5) -> float:
    """Seconds until `happened()` is true.

    Raises:
        TimeoutError: naming what did not happen.
    """
    begin = time.monotonic()
    while not happened():
        if time.monotonic() - begin > timeout_seconds:
            raise TimeoutError(f"{what}: not within {timeout_seconds:g} s")
        time.sleep(every_seconds)
    return time.monotonic() - begin
