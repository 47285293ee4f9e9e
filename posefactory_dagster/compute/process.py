"""Which Blender this machine has, and how it is started."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from blender_scripts import supervise
from blender_scripts.contract import Job
from blender_scripts.supervise import SCRIPTS, BlenderError, Outcome
from posefactory_dagster.settings import PROJECT_ROOT, environment

OLDEST_BLENDER = (4, 5)


@functools.cache
def _check_binary(binary: Path) -> None:
    try:
        said = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BlenderError(f"BLENDER_PATH={binary}: does not run as Blender ({error})") from error
    words = said.split()
    try:
        version = tuple(int(n) for n in words[words.index("Blender") + 1].split(".")[:2])
    except (ValueError, IndexError) as error:
        raise BlenderError(f"BLENDER_PATH={binary}: does not say a Blender version") from error
    if version < OLDEST_BLENDER:
        raise BlenderError(
            f"BLENDER_PATH={binary}: is Blender {version[0]}.{version[1]}; "
            f"{OLDEST_BLENDER[0]}.{OLDEST_BLENDER[1]} or newer is needed. Unset it to use bpy"
        )


@functools.cache
def gpu_at_hand() -> bool:
    """Whether this machine has a GPU for EEVEE: one that nvidia-smi lists, or Apple's."""
    if sys.platform == "darwin":
        return True
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    listed = subprocess.run([tool, "--list-gpus"], capture_output=True, timeout=30, check=False)
    return listed.returncode == 0 and b"GPU" in listed.stdout


def command(job_type: str, job_path: Path) -> list[str]:
    """The command line for a job: bpy in this environment, or the binary BLENDER_PATH names."""
    script = PROJECT_ROOT / "blender_scripts" / SCRIPTS[job_type]
    binary = environment().blender_path
    if binary is None:
        if importlib.util.find_spec("bpy") is None:
            raise BlenderError("no Blender here: install bpy, or name a Blender with BLENDER_PATH")
        return [sys.executable, "-u", str(script), str(job_path)]
    _check_binary(binary)
    return [str(binary), "--background", "--factory-startup", "--python", str(script), "--", str(job_path)]  # fmt: skip


def run_job(job: Job, scratch: Path, **listeners: Any) -> dict[str, Outcome]:
    """Run a job on this machine without Dagster; see ``supervise.run_job``."""
    launch = supervise.launch(
        command, supervise.for_blender(os.environ), environment().character_timeout_s
    )
    return supervise.run_job(job, scratch, launch, **listeners)
