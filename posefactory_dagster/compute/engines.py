"""Which renderer `engine = "auto"` means on this machine: the one that a tiny timed render shows to be fastest."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from blender_scripts.contract import TIMED_ENGINES, TIMING, RenderSettings, Task
from blender_scripts.supervise import BlenderError
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import gpu_at_hand, run_job
from posefactory_dagster.settings import environment

#: What is timed: as large as common renders are.
TIMED = RenderSettings(num_angles=1, frames_per_clip=1, width=512, height=512)
TIMING_VERSION = 1


class EngineChoice(BaseModel):
    """The renderer that was chosen, and why. ``seconds``: of a render by each engine that was timed; ``errors``: why others were not."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    engine: str
    why: str
    seconds: dict[str, float] = {}
    errors: dict[str, str] = {}


@functools.cache
def choose() -> EngineChoice:
    """The choice for this machine; timed once, and then kept in the user's cache folder.

    Without a GPU nothing is timed: Cycles on the CPU is what is left, as EEVEE wants one.
    """
    if not gpu_at_hand():
        return EngineChoice(engine="cycles", why="no GPU on this machine, so Cycles on the CPU")
    path = _cache_file()
    try:
        return EngineChoice.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        choice = time_all(TIMED_ENGINES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(choice.model_dump_json(), "utf-8")
    except OSError:
        pass  # timed again next time
    return choice


def time_all(names: tuple[str, ...]) -> EngineChoice:
    """Time some engines in Blender, each in a process of its own, as one without a GPU may crash."""
    seconds: dict[str, float] = {}
    errors: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for engine in names:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            try:
                job = new_job("engine", [Task(engine, {}, str(place / engine))], TIMED)
                outcome = run_job(job, place)[engine]
                if outcome.error is None:
                    said = json.loads((place / engine / TIMING).read_text("utf-8"))
                    seconds[engine], kinds[engine] = float(said["seconds"]), str(said["gpu"])
                else:
                    errors[engine] = outcome.error[:300]
            except (BlenderError, OSError, ValueError) as error:
                errors[engine] = str(error)[:300]
    if not seconds:
        why = "no engine could be timed, so Cycles on the CPU: " + "; ".join(errors.values())
        return EngineChoice(engine="cycles", why=why, errors=errors)
    best = min(seconds, key=lambda name: seconds[name])
    told = ", ".join(f"{n}{f' by {kinds[n]}' if kinds[n] else ''} {s:.3f} s" for n, s in sorted(seconds.items(), key=lambda i: i[1]))  # fmt: skip
    missing = f"; not usable here: {', '.join(errors)}" if errors else ""
    return EngineChoice(engine=best, why=f"fastest of a timed render ({told}{missing})", seconds=seconds, errors=errors)  # fmt: skip


def _cache_file() -> Path:
    tool = shutil.which("nvidia-smi")
    gpus = b""
    if tool is not None:
        gpus = subprocess.run([tool, "--list-gpus"], capture_output=True, timeout=30, check=False).stdout  # fmt: skip
    machine = f"{TIMING_VERSION} {platform.node()} {platform.machine()} {environment().blender_path} {os.cpu_count()}".encode()
    return environment().cache / f"engine-{hashlib.sha256(machine + gpus).hexdigest()[:16]}.json"
