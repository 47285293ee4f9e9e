"""Run a job document in Blender: one child process, watched to its end. Standard library only.

Both sides share it: Dagster's on this machine, and the worker's on a rented one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blender_scripts.confine import keep_others_out
from blender_scripts.contract import (
    EVENT_DONE,
    EVENT_FAILED,
    EVENT_IMAGE,
    EVENT_START,
    EVENTS_FILE_VARIABLE,
    Job,
    Task,
)

SCRIPTS = {
    "render": "render_character.py",
    "character": "inspect_character.py",
    "compare": "compare_motion.py",
    "rig": "describe_rig.py",
    "arrange": "arrange_group.py",
    "engine": "time_engines.py",
}
POLL_S = 0.03
GRACE_S = 5.0
TAIL_LINES = 15
TAIL_BYTES = 65536
MAX_EVENT_BYTES = 1 << 20
#: What Blender, which opens files of strangers, gets of the environment; no list of secrets would ever be complete.
PASSED_NAMES = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TEMP", "TMP", "LANG", "LANGUAGE", "TZ", "TERM", "DISPLAY",
        "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LD_LIBRARY_PATH",
        "LIBGL_ALWAYS_SOFTWARE", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "VIRTUAL_ENV",
        "OMP_NUM_THREADS", "COLUMNS", "NO_COLOR", "SYSTEMROOT",
        "COVERAGE_PROCESS_CONFIG",  # so that `make coverage` sees what runs in Blender
    }
)  # fmt: skip
PASSED_PREFIXES = (
    "LC_",
    "CUDA_",
    "NVIDIA_",
    "OPTIX_",
    "MESA_",
    "GALLIUM_",
    "BLENDER_",
    "OCIO",
    "CYCLES_",
    "OPENBLAS_",
)


class BlenderError(RuntimeError):
    """Blender cannot be started; the text names the next step."""


@dataclass
class Outcome:
    """How one character of a job ended. ``error`` is None when it is done.

    ``uploaded`` is set where the files went to the store by themselves: each name with {sha256, size}.
    """

    error: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_mb: float | None = None
    attempt: str | None = None
    uploaded: Mapping[str, Mapping[str, Any]] | None = None


Event = dict[str, Any]


#: Starts one process on a job and yields its events; ends when the process has ended. The last item
#: is ``{"event": "exit", "code": …, "tail": …}``.
Launch = Callable[[Job, Path], Iterable[Event]]


def for_blender(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a Blender process: what it needs of ``environment``, without secrets."""
    return {
        name: value
        for name, value in environment.items()
        if name in PASSED_NAMES or name.startswith(PASSED_PREFIXES)
    }


def start(
    command: Sequence[str], log_path: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, its output in ``log_path``.

    Its stdin is a pipe that only we hold: when we are gone, however, it reads the end and exits. It cannot read this
    process's environment or memory.
    """
    keep_others_out()
    with log_path.open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process group, and kill it if it does not end within the grace period."""
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
    """The last lines that Blender printed, without control characters."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log_path.stat().st_size - TAIL_BYTES))
            lines = log.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(plain_text(line) for line in lines[-TAIL_LINES:] if line.strip())


def plain_text(text: str) -> str:
    """Untrusted text without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


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


def events_in(path: Path) -> Callable[[], list[Event]]:
    """A function that gives the events written to ``path`` since it was last called; lines that are none are passed over."""
    position = 0

    def new_events() -> list[Event]:
        nonlocal position
        with path.open("rb") as file:
            file.seek(position)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        position += whole
        return [e for e in map(_event, data[:whole].splitlines()) if e is not None]

    return new_events


def _event(line: bytes) -> Event | None:
    if len(line) > MAX_EVENT_BYTES:
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def well_formed(event: Event) -> bool:
    """Whether an event has the fields of its kind; others are ignored, as a process may be damaged."""
    kind = event.get("event")
    if kind not in (EVENT_START, EVENT_IMAGE, EVENT_DONE, EVENT_FAILED):
        return True
    if not isinstance(event.get("key"), str):
        return False
    if kind == EVENT_IMAGE:
        counts = event.get("done"), event.get("total")
        return isinstance(event.get("name"), str) and all(isinstance(c, int) for c in counts)
    if kind == EVENT_DONE:
        return isinstance(event.get("seconds"), dict) and isinstance(
            event.get("peak_mb"), int | float | None
        )
    return kind == EVENT_START or isinstance(event.get("error"), str)


@contextmanager
def temporary_folder(job_path: Path) -> Iterator[dict[str, str]]:
    """A folder for Blender's temporary files, as environment variables; it is removed however Blender ended."""
    folder = job_path.with_suffix(".tmp")
    folder.mkdir(exist_ok=True)
    try:
        yield dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def launch(
    command: Callable[[str, Path], Sequence[str]],
    environment: Mapping[str, str],
    timeout_s: float,
) -> Launch:
    """A launch whose events are JSON lines in a file beside the job document.

    Args:
        command: the command line for (job type, path of the job document).
    """

    def work(job: Job, job_path: Path) -> Iterable[Event]:
        log_path, events_path = job_path.with_suffix(".log"), job_path.with_suffix(".events")
        events_path.write_bytes(b"")  # a folder may be used again
        with temporary_folder(job_path) as temporary:
            variables = {**environment, **temporary, EVENTS_FILE_VARIABLE: str(events_path)}
            process = start(command(job.job_type, job_path), log_path, variables)
            try:
                yield from watch(process, events_in(events_path), timeout_s)
            finally:
                stop(process)
        yield {"event": "exit", "code": process.returncode, "tail": tail(log_path)}

    return work


def run_job(
    job: Job,
    scratch: Path,
    launch: Launch,
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
            if not well_formed(event) or not _expected(event, begun, todo, outcomes):
                continue
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
            ended(begun, Outcome(error=_crash_text(job, begun, timed_out, exit_code, said)))
        elif len(todo) == len([t for t in todo if t.key not in outcomes]):
            raise BlenderError(
                f"Blender ended (exit code {exit_code}) before it began; "
                f"`posefactory doctor` shows what is missing. Its last words:\n{said}"
            )
    return outcomes


def _expected(
    event: Event, begun: str | None, todo: Sequence[Task], outcomes: Mapping[str, Outcome]
) -> bool:
    """Whether an event can come now: a character is begun once, and only the one that is begun is told of."""
    kind, key = event["event"], event.get("key")
    if kind == EVENT_START:
        return begun is None and key not in outcomes and any(t.key == key for t in todo)
    if kind in (EVENT_IMAGE, EVENT_DONE, EVENT_FAILED):
        return begun is not None and key == begun
    return True


def _crash_text(job: Job, key: str, timed_out: float | None, code: int | None, said: str) -> str:
    if timed_out is not None:
        advice = {
            "render": "render fewer or smaller images",
            "character": "make the file simpler: fewer objects, bones, curves or keys",
        }[job.job_type]
        return (
            f"{key}: not finished within {timed_out:.0f} s, so it was stopped; "
            f"{advice}, or raise POSEFACTORY_CHARACTER_TIMEOUT_S"
        )
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return f"{key}: Blender crashed on it ({how}); open the file in Blender to see. Last words:\n{said}"
