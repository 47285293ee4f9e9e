"""The frame around every script: read the job, do one task after the other, report each."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blender_scripts.confine import confine
from blender_scripts.contract import (
    EVENT_DONE,
    EVENT_FAILED,
    EVENT_IMAGE,
    EVENT_START,
    Job,
    SettingsError,
    Task,
)
from blender_scripts.errors import InputError
from blender_scripts.report import Reporter, exit_with_parent, open_reporter


class Stopwatch:
    """Seconds by stage of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent


class TaskReport:
    """Progress of one task, told to whoever waits."""

    def __init__(self, reporter: Reporter, key: str) -> None:
        self._reporter = reporter
        self._key = key

    def image(self, name: str, done: int, total: int) -> None:
        """The image ``name`` and its mask are written, ``done`` of ``total``."""
        self._reporter.event(EVENT_IMAGE, key=self._key, name=name, done=done, total=total)


Work = Callable[[Job, Task, Stopwatch, TaskReport], None]


def run(work: Work) -> None:
    """Do ``work`` for each task of the job named on the command line, then end the process.

    A task that fails is reported with its reason and takes no other down. The process always ends
    here: Blender's own teardown can hang while another thread waits.
    """
    arguments = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    parser = argparse.ArgumentParser(description=work.__module__)
    parser.add_argument("job", type=Path, help="the job document (JSON)")
    job = Job.from_dict(json.loads(parser.parse_args(arguments).job.read_text("utf-8")))
    exit_with_parent()
    confine()
    failed = 0
    with open_reporter() as reporter:
        for task in job.tasks:
            reporter.event(EVENT_START, key=task.key)
            watch = Stopwatch()
            try:
                work(job, task, watch, TaskReport(reporter, task.key))
            except (InputError, SettingsError) as error:
                failed += 1
                reporter.event(EVENT_FAILED, key=task.key, error=str(error))
            except OSError as error:
                failed += 1
                reason = f"{task.key}: cannot write its files ({error.strerror or error}); free disk space, or name another store with POSEFACTORY_STORE"
                reporter.event(EVENT_FAILED, key=task.key, error=reason)
            except MemoryError:
                failed += 1
                reason = (
                    f"{task.key}: needs more memory than this machine may give it; make its textures and meshes smaller, or "
                    "render it on a larger machine"
                )
                reporter.event(EVENT_FAILED, key=task.key, error=reason)
            except Exception as error:
                failed += 1
                traceback.print_exc()
                reason = f"{task.key}: {type(error).__name__}: {error} (a fault of ours; please report it)"
                reporter.event(EVENT_FAILED, key=task.key, error=reason)
            else:
                seconds = {k: round(v, 4) for k, v in watch.seconds.items()}
                reporter.event(EVENT_DONE, key=task.key, seconds=seconds, peak_mb=_peak_memory_mb())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if failed else 0)


def _peak_memory_mb() -> float | None:
    """The most memory this process has held.

    Linux's ``getrusage`` starts a child with its parent's peak, so the process's own page is read there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return round(int(line.split()[1]) / 1024, 1)
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
