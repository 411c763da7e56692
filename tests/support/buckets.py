"""A bucket of S3 on this machine, and what becomes of it: gone, back, slow."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs


class Bucket:
    """A new bucket of a server of S3, and the URI that programs take."""

    def __init__(self, port: int) -> None:
        self.port, self.name = port, f"bucket-{uuid.uuid4().hex}"
        self.uri = f"s3://{self.name}/synthcl?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}").create_bucket(Bucket=self.name)
        self._system, self._base = fs.FileSystem.from_uri(self.uri)

    def write(self, path: str, text: str = "text") -> None:
        with self._system.open_output_stream(f"{self._base}/{path}") as stream:
            stream.write(text.encode())

    def read(self, path: str) -> str:
        with self._system.open_input_file(f"{self._base}/{path}") as stream:
            return stream.read().decode()

    def names(self) -> list[str]:
        """Objects below the storage root; markers of empty folders do not count."""
        found = self._system.get_file_info(fs.FileSelector(self._base, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{self._base}/") for info in found if info.type == fs.FileType.File)


@pytest.fixture(scope="session")
def s3() -> Iterator[ThreadedMotoServer]:
    """moto's server of S3."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials().items():
            patch.setenv(name, value)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for every request
        server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        server.start()
        yield server
        server.stop()


def credentials() -> dict[str, str]:
    """What a process needs to be let in; the values do not matter here."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return dict.fromkeys(names, "test") | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def bucket(s3: ThreadedMotoServer, tmp_path, monkeypatch) -> Bucket:
    """A bucket of the test's own; the mirror lies below `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Bucket(s3.get_host_and_port()[1])


@contextmanager
def answering(server: ThreadedMotoServer, respond) -> Iterator[None]:
    """Every request goes through `respond(application, environ, start_response)`."""
    inner = server._server.app
    server._server.app = lambda environ, start: respond(inner, environ, start)
    try:
        yield
    finally:
        server._server.app = inner


def gone(application, environ, start):
    """As a server whose disks were taken away."""
    start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", "0")])
    return [b""]


def slow(application, environ, start):
    """As a server at the other end of the world."""
    time.sleep(0.05)
    return application(environ, start)
