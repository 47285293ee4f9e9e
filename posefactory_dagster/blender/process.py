"""Run a job document in Blender on this machine: one child process, watched to its end."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blender_scripts.contract import EVENT_DONE, EVENT_FAILED, EVENT_START, Job
from posefactory_dagster.settings import PROJECT_ROOT, environment

SCRIPTS = {"render": "render_character.py", "character": "inspect_character.py"}
OLDEST_BLENDER = (4, 5)
POLL_S = 0.03
GRACE_S = 5.0
TAIL_LINES = 15


class BlenderError(RuntimeError):
    """Blender cannot be started; the text says what to do."""


@dataclass
class Outcome:
    """How one character of a job ended. ``error`` is None when it is done."""

    error: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_mb: float | None = None


Event = dict[str, Any]


#: Starts one process on a job and yields its events; ends when the process has ended. The last item
#: is ``{"event": "exit", "code": …, "tail": …}``.
Launch = Callable[[Job, Path], Iterable[Event]]


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


def start(
    job_type: str, job_path: Path, log_path: Path, extra_environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start Blender in a process group of its own, its output in ``log_path``.

    Its stdin is a pipe that only we hold: when we are gone, however, it reads the end and exits.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("R2_", "AWS_", "RUNPOD_", "STABILITY_", "DREAMSTUDIO_"))
    }
    pipes_module = importlib.util.find_spec("dagster_pipes")
    if pipes_module and pipes_module.origin and extra_environment:
        kept["POSEFACTORY_PIPES_MODULE"] = pipes_module.origin
    else:
        kept.pop("POSEFACTORY_PIPES_MODULE", None)
    with log_path.open("wb") as log:
        return subprocess.Popen(
            command(job_type, job_path),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**kept, **extra_environment},
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and all it started; politely first."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    if process.stdin:
        process.stdin.close()
    process.wait()


def tail(log_path: Path) -> str:
    """The last lines that Blender printed."""
    try:
        lines = log_path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join([line for line in lines if line.strip()][-TAIL_LINES:])


def watch(
    process: subprocess.Popen[bytes],
    new_events: Callable[[], list[Event]],
    timeout_s: float,
) -> Iterable[Event]:
    """Yield events until the process ends; stop it when one character takes over ``timeout_s``."""
    started = time.monotonic()
    while True:
        ended = process.poll() is not None
        for event in new_events():
            if event["event"] in (EVENT_START, EVENT_DONE, EVENT_FAILED):
                started = time.monotonic()
            yield event
        if ended:
            return
        if time.monotonic() - started > timeout_s:
            stop(process)
            yield {"event": "timeout", "seconds": timeout_s}
            return
        time.sleep(POLL_S)


def launch_plain(job: Job, job_path: Path) -> Iterable[Event]:
    """Run a job without Dagster: events are the JSON lines on Blender's output."""
    log_path = job_path.with_suffix(".log")
    process = start(job.job_type, job_path, log_path, {})
    position = 0

    def new_events() -> list[Event]:
        nonlocal position
        with log_path.open("rb") as log:
            log.seek(position)
            data = log.read()
        whole = data.rfind(b"\n") + 1
        position += whole
        return [json.loads(x) for x in data[:whole].splitlines() if x.startswith(b'{"event"')]

    try:
        yield from watch(process, new_events, environment().character_timeout_s)
    finally:
        stop(process)
    yield {"event": "exit", "code": process.returncode, "tail": tail(log_path)}


def run_job(
    job: Job,
    scratch: Path,
    launch: Launch = launch_plain,
    on_event: Callable[[Event], None] = lambda event: None,
    on_outcome: Callable[[str, Outcome], None] = lambda key, outcome: None,
) -> dict[str, Outcome]:
    """Run all characters of a job; after a crash the rest go on in a fresh process.

    Args:
        job: the document.
        scratch: a folder for it and for Blender's log.
        launch: how a process is started and listened to.
        on_event: hears every event.
        on_outcome: hears of each character as soon as it has ended.

    Raises:
        BlenderError: a process ended before it began a character.
    """
    outcomes: dict[str, Outcome] = {}
    attempt = 0

    def ended(key: str, outcome: Outcome) -> None:
        outcomes[key] = outcome
        on_outcome(key, outcome)

    while todo := [t for t in job.tasks if t.key not in outcomes]:
        attempt += 1
        job_path = scratch / f"job-{attempt}.json"
        part = dataclasses.replace(job, tasks=tuple(todo))
        job_path.write_text(json.dumps(part.to_dict(), indent=1), "utf-8")
        begun: str | None = None
        timed_out: float | None = None
        exit_code, said = None, ""
        for event in launch(part, job_path):
            on_event(event)
            kind = event["event"]
            if kind == EVENT_START:
                begun = event["key"]
            elif kind == EVENT_DONE:
                outcome = Outcome(seconds=event["seconds"], peak_mb=event["peak_mb"])
                ended(event["key"], outcome)
                begun = None
            elif kind == EVENT_FAILED:
                ended(event["key"], Outcome(error=event["error"]))
                begun = None
            elif kind == "timeout":
                timed_out = event["seconds"]
            elif kind == "exit":
                exit_code, said = event["code"], event["tail"]
        if begun is not None:
            ended(begun, Outcome(error=_crash_text(begun, timed_out, exit_code, said)))
        elif len(todo) == len([t for t in todo if t.key not in outcomes]):
            raise BlenderError(
                f"Blender ended (exit code {exit_code}) before it began; "
                f"`posefactory doctor` shows what is missing. Its last words:\n{said}"
            )
    return outcomes


def _crash_text(key: str, timed_out: float | None, code: int | None, said: str) -> str:
    if timed_out is not None:
        return (
            f"{key}: not finished within {timed_out:.0f} s, so it was stopped; raise "
            "POSEFACTORY_CHARACTER_TIMEOUT_S, or render fewer or smaller images"
        )
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return f"{key}: Blender crashed on it ({how}); open the file in Blender to see. Last words:\n{said}"
