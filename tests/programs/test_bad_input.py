"""Every mistake of a user is one line that names the thing, the value and the remedy, before anything is spent.

Each row of bad_input.yaml runs a program as its user would, in this process, and finds exit code 2, one line, and every
file as it was.
"""

import os
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import broken_files
import grpc
import program
import pytest
import ray
import yaml
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from synthcl.cluster import nodes

TABLE = yaml.safe_load((Path(__file__).parents[1] / "support" / "bad_input.yaml").read_text())
ROWS = [pytest.param(kind, row, id=f"{kind}: {what}") for kind, rows in TABLE.items() for what, row in rows.items()]
IMAGES = "--preset folder data.root=@/images data.image_size=16 training.batch_images=8"


class Head(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
    """What a head of Ray says when it is asked whether it lives."""

    def __init__(self, answer):
        self.answer = answer

    def CheckAlive(self, request, context):
        return self.answer(context)


def old(context):
    return gcs_service_pb2.CheckAliveReply(ray_version="2.0.0")


def locked(context):
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: Authentication token is missing or incorrect")


@pytest.fixture(scope="module")
def heads():
    """Addresses of heads that cannot be joined, by the word that stands for each in the table."""
    servers, addresses = [], {}
    for word, answer in {"OLD": old, "LOCKED": locked}.items():
        server = grpc.server(ThreadPoolExecutor(1))
        gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(Head(answer), server)
        addresses[word] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        servers.append(server)
    yield addresses
    for server in servers:
        server.stop(None)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder of the test's own, and a cluster of one node with two CPUs on which nothing may be started."""

    def forbidden(*given, **named):
        raise AssertionError("Ray was about to work")

    monkeypatch.setattr(ray, "init", forbidden)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setattr(nodes, "autoscaling", lambda: None)
    for caller in ("search.stages", "cluster.train"):
        monkeypatch.setattr(f"synthcl.{caller}.warmed_gan", forbidden)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder: bytes of files, targets of links, none for folders."""
    found: dict[str, bytes | str | None] = {}
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in [*folders, *files]):
            link = path.is_symlink()
            found[str(path)] = os.readlink(path) if link else path.read_bytes() if path.is_file() else None
    return found


@pytest.mark.parametrize(("kind", "row"), ROWS)
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_written_or_lost(kind, row, machine, heads):
    def here(text: str) -> str:
        return re.sub(r"@(?=[/'\" ]|$)", str(machine), text)

    for name, text in row.get("files", {}).items():
        (machine / name).write_text(text)
    if prepare := row.get("with"):
        broken_files.prepare(prepare, machine)
    words = [heads.get(word, word) for word in shlex.split(here(row["run"].replace("IMAGES", IMAGES)), posix=False)]
    name, *given = [word.strip("'") if word.startswith("'") else word for word in words]
    if name in ("search", "train", "compare") and "--storage" not in given:
        given += ["--storage", str(machine / "runs")]
    before = contents(machine)
    done = program.run(name, *given)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for fragment in row["says"]:
        assert here(fragment) in done.stderr
    assert contents(machine) == before
    if kind in ("data", "labels"):  # nothing passes a dry run and fails in a run
        dry = program.run(name, *given, "--dry-run")
        assert (dry.returncode, dry.stderr) == (2, done.stderr)
        assert contents(machine) == before


def test_there_are_many_rows_and_each_asks_for_the_thing_the_value_and_the_remedy():
    assert len(ROWS) >= 60
    assert all(len(row["says"]) >= 3 for rows in TABLE.values() for row in rows.values())
