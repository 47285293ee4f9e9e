"""What the pod's image is made of, in a fresh folder: set up, and one image rendered as proof."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from posefactory_dagster.settings import PROJECT_ROOT


@pytest.mark.soak
def test_setup_pod_makes_a_worker_that_renders(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PREFIX": str(tmp_path / "posefactory"),
        "PYTHON": sys._base_executable,  # type: ignore[attr-defined]
    }
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "PIP_FIND_LINKS"):
        if name in os.environ:
            environment[name] = os.environ[name]
    script = PROJECT_ROOT / "deploy" / "pod" / "setup_pod.sh"
    done = subprocess.run(
        ["sh", str(script)], env=environment, capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    print(done.stdout.splitlines()[-1])
    assert "selfcheck: rendered one image with cycles" in done.stdout
    python = tmp_path / "posefactory" / "venv" / "bin" / "python"
    alone = subprocess.run(
        [str(python), "-m", "blender_scripts.worker.pod"], cwd=tmp_path / "posefactory" / "app",
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert alone.returncode == 1 and "POSEFACTORY_JOB_URL is not set" in alone.stderr
