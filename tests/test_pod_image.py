"""What the pod's image is made of, in a fresh folder: set up, and one image rendered as proof."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.variants.enhancers.diffusion import pinned_version


@pytest.mark.soak
@pytest.mark.parametrize("with_diffusers", [False, True])
def test_setup_pod_makes_a_worker_that_renders(tmp_path: Path, with_diffusers: bool) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PREFIX": str(tmp_path / "posefactory"),
        "PYTHON": sys._base_executable,  # type: ignore[attr-defined]
        "DIFFUSERS": "1" if with_diffusers else "",
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
    enhancing = subprocess.run(
        [str(python), "-c", "from posefactory_dagster.diffusion import engine, pod; print(engine.version())"],
        cwd=tmp_path / "posefactory" / "app", capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if with_diffusers:
        assert enhancing.stdout.strip() == pinned_version(), enhancing.stderr
    else:
        assert "not installed" in enhancing.stderr
