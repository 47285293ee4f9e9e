"""The environment variables of a rented machine."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

#: Holds the one address by which a worker gets its order.
ORDER_URL_VARIABLE = "POSEFACTORY_JOB_URL"
#: RunPod's key, which acts on this pod alone.
KEY_VARIABLE = "RUNPOD_API_KEY"
#: Number of the pipe that holds the secrets after ``start_without_secrets``.
SECRETS_VARIABLE = "POSEFACTORY_SECRETS_PIPE"


@dataclass(frozen=True)
class WorkerEnvironment:
    """The worker's configuration, read from the environment.

    ``pod_id`` and ``pod_key`` are injected by RunPod; the key can act on this pod alone.
    """

    order_url: str | None
    workspace: Path
    blender: Path | None
    pod_id: str | None
    pod_key: str | None = field(repr=False)
    api: str = "https://api.runpod.io"

    @classmethod
    def read(cls) -> WorkerEnvironment:
        """From the environment, which is emptied of the two secrets: no child process gets them.

        Call ``start_without_secrets`` first where children open files of strangers: what a process was started with stays
        readable in /proc, whatever it does to its environment.
        """
        os.environ.update(_take_secrets())
        workspace = Path(os.environ.get("WORKSPACE_ROOT", "/workspace"))
        try:
            workspace.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            print(f"{workspace} cannot be used ({error}); working in {tempfile.gettempdir()}")
            workspace = Path(tempfile.gettempdir())
        blender = os.environ.get("BLENDER_PATH")
        return cls(
            order_url=os.environ.pop(ORDER_URL_VARIABLE, None),
            workspace=workspace,
            blender=Path(blender) if blender else None,
            pod_id=os.environ.get("RUNPOD_POD_ID"),
            pod_key=os.environ.pop(KEY_VARIABLE, None),
            api=os.environ.get("RUNPOD_API_BASE_URL", cls.api).rstrip("/"),
        )

    def render_command(self, script: Path, job: Path) -> list[str]:
        """The command line that runs a script on a job document."""
        if self.blender is None:
            return [sys.executable, "-u", str(script), str(job)]
        return [str(self.blender), "--background", "--factory-startup", "--python", str(script), "--", str(job)]  # fmt: skip


def start_without_secrets() -> None:
    """Start this program anew, in the same process, with its secrets in a pipe instead of its first environment.

    Does nothing where there are none, as after the second start.
    """
    secrets = {n: os.environ.pop(n) for n in (ORDER_URL_VARIABLE, KEY_VARIABLE) if n in os.environ}
    if not secrets:
        return
    reading, writing = os.pipe()
    os.write(writing, json.dumps(secrets).encode())  # smaller than any pipe
    os.close(writing)
    os.set_inheritable(reading, True)
    environment = {**os.environ, SECRETS_VARIABLE: str(reading)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _take_secrets() -> dict[str, str]:
    """What ``start_without_secrets`` left in the pipe."""
    number = os.environ.pop(SECRETS_VARIABLE, None)
    if number is None:
        return {}
    with os.fdopen(int(number), "rb") as pipe:
        return json.loads(pipe.read())
