"""What a process that opens strangers' files can reach, and what it can make others believe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blender_scripts import supervise
from blender_scripts.contract import EVENTS_FILE_VARIABLE, character_task
from blender_scripts.supervise import Outcome
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.settings import PROJECT_ROOT
from tests.conftest import SMALL

SECRETS = ("R2_SECRET_ACCESS_KEY", "HF_TOKEN", "GITHUB_TOKEN", "PGPASSWORD", "POSEFACTORY_JOB_URL")


def test_no_secret_reaches_blender_by_its_environment() -> None:
    given = dict.fromkeys(SECRETS, "hush") | {
        "PATH": "/bin",
        "LC_ALL": "C",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    assert supervise.for_blender(given) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "CUDA_VISIBLE_DEVICES": "0",
    }


PEEK = """
import os, pathlib
from blender_scripts.confine import confine
confine()
try:
    print("HUSH" in pathlib.Path(f"/proc/{os.getppid()}/environ").read_text())
except OSError as error:
    print(type(error).__name__)
import resource
print(resource.getrlimit(resource.RLIMIT_AS)[0] > 0)
"""


# Capabilities, prctl and /proc, by which children are confined and this test looks, are Linux's own.
@pytest.mark.skipif(sys.platform != "linux", reason="confinement is Linux's")
def test_a_child_cannot_read_what_its_parent_was_started_with(tmp_path: Path) -> None:
    parent = f"""
import sys, pathlib
from blender_scripts import supervise
child = supervise.start([sys.executable, "-c", {PEEK!r}], pathlib.Path({str(tmp_path / "log")!r}), supervise.for_blender(__import__("os").environ))
child.wait()
"""
    environment = {**os.environ, "SECRET_WORD": "HUSH", "PYTHONPATH": str(PROJECT_ROOT)}
    subprocess.run([sys.executable, "-c", parent], env=environment, check=True, timeout=60)
    assert (tmp_path / "log").read_text().split() == ["PermissionError", "True"]


def run_fake(
    tmp_path: Path, program: str, keys: str = "ab"
) -> tuple[dict[str, Outcome], list[str]]:
    """Run a job whose Blender is ``program``; outcomes, and the kinds of events that were heard."""
    path = tmp_path / "program.py"
    path.write_text(
        f"import os, json\nevents = open(os.environ[{EVENTS_FILE_VARIABLE!r}], 'a')\n{program}"
    )
    launch = supervise.launch(
        lambda kind, job: [sys.executable, str(path), str(job)], dict(os.environ), 30.0
    )
    job = new_job("render", [character_task(k, k, k) for k in keys], SMALL)
    heard: list[str] = []
    outcomes = supervise.run_job(job, tmp_path, launch, lambda e: heard.append(e["event"]))
    return outcomes, heard


SAY = """
def say(event, **values):
    events.write(json.dumps({"event": event, **values}) + "\\n"); events.flush()
def done(key):
    say("start", key=key); say("done", key=key, seconds={}, peak_mb=None)
"""


def test_what_blender_prints_is_no_event(tmp_path: Path) -> None:
    forged = json.dumps({"event": "failed", "key": "b", "error": "forged"})
    outcomes, _ = run_fake(
        tmp_path,
        f"{SAY}\nprint({forged!r}, flush=True)\ndone('a')\nprint({forged!r}, flush=True)\ndone('b')",
    )
    assert outcomes["a"].error is None and outcomes["b"].error is None


def test_events_count_for_the_character_that_was_begun_and_no_other(tmp_path: Path) -> None:
    outcomes, heard = run_fake(
        tmp_path,
        SAY
        + """
events.write("nonsense\\n[1]\\n{\\"event\\": 3}\\n")
say("done", key="b", seconds={}, peak_mb=None)
say("start", key="a")
say("failed", key="b", error="forged")
say("done", key="a", seconds="none", peak_mb=None)
say("image", key="a", name="x", done="many", total=None)
say("image", key="a", name="x", done=1, total=1)
say("start", key="stranger")
say("done", key="a", seconds={}, peak_mb=1.5)
say("failed", key="a", error="too late")
done("b")
""",
    )
    assert outcomes["a"].error is None and outcomes["b"].error is None
    assert heard == ["start", "image", "done", "start", "done", "exit"]


def test_a_crash_has_its_own_last_words_without_control_characters(tmp_path: Path) -> None:
    outcomes, _ = run_fake(
        tmp_path,
        SAY + "say('start', key='a'); print('\\x1b[2Jlast of a', flush=True); os._exit(7)",
        keys="a",
    )
    assert outcomes["a"].error is not None
    assert "last of a" in outcomes["a"].error and "\x1b" not in outcomes["a"].error
