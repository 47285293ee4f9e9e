"""Servers that tests run on 127.0.0.1."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(
    address: str, process: subprocess.Popen[bytes], seconds: float = 30
) -> None:
    """Return once ``address`` gives any HTTP answer."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.1)


@dataclass(frozen=True)
class S3Server:
    """An S3 server with one bucket; ``environment`` is what a factory needs to use it."""

    address: str
    bucket: str
    key_id: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """R2's variables, pointed at this server."""
        return {
            "R2_ENDPOINT_URL": self.address,
            "R2_ACCESS_KEY_ID": self.key_id,
            "R2_SECRET_ACCESS_KEY": self.secret,
            "POSEFACTORY_STORE": f"r2://{self.bucket}/team",
        }


@contextmanager
def running(command: list[str], address: str) -> Iterator[None]:
    """Run a server for the length of the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_it_answers(address, process)
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """rclone's S3 server: checks signatures, keys and expiry; knows no conditional writes."""
    server = S3Server(
        f"http://127.0.0.1:{free_port()}", "pose-factory", "TESTKEYID0", "test-secret-0"
    )
    (folder / server.bucket).mkdir(parents=True)
    auth = f"{server.key_id},{server.secret}"
    where = server.address.removeprefix("http://")
    command = [str(BIN / "rclone"), "serve", "s3", "--auth-key", auth, "--addr", where, "--vfs-cache-mode", "off", str(folder)]  # fmt: skip
    with running(command, server.address):
        yield server


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto's S3 server: honours conditional writes; checks no signatures."""
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}", "pose-factory", "TESTKEYID0", "test-secret-0")
    with running([str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], server.address):
        urllib.request.urlopen(
            urllib.request.Request(f"{server.address}/{server.bucket}", method="PUT")
        )
        yield server
