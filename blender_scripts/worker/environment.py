"""The environment of a machine that renders for somebody else."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

#: Holds the one address by which a worker gets its order.
ORDER_URL_VARIABLE = "POSEFACTORY_JOB_URL"


@dataclass(frozen=True)
class WorkerEnvironment:
    """What a worker knows when it starts.

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
        """From the environment, which is emptied of the two secrets: no child process gets them."""
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
            pod_key=os.environ.pop("RUNPOD_API_KEY", None),
            api=os.environ.get("RUNPOD_API_BASE_URL", cls.api).rstrip("/"),
        )

    def render_command(self, script: Path, job: Path) -> list[str]:
        """The command line that runs a script on a job document."""
        if self.blender is None:
            return [sys.executable, "-u", str(script), str(job)]
        return [str(self.blender), "--background", "--factory-startup", "--python", str(script), "--", str(job)]  # fmt: skip
