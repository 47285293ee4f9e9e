"""How a script inside Blender talks to who started it: Pipes messages, or lines in a file of their own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from blender_scripts.contract import EVENTS_FILE_VARIABLE, PIPES_MODULE_VARIABLE


class Reporter(Protocol):
    """Sends an event to whoever started this process."""

    def event(self, event: str, **values: Any) -> None:
        """One custom message; ``values`` must be plain JSON."""


class _FileReporter:
    def __init__(self, path: str) -> None:
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115  (as long as the process is)

    def event(self, event: str, **values: Any) -> None:
        self._file.write(json.dumps({"event": event, **values}) + "\n")
        self._file.flush()


class _PrintingReporter:
    """For a person who starts a script by hand; nobody reads these lines as events."""

    def event(self, event: str, **values: Any) -> None:
        print(event, values, flush=True)


class _PipesReporter:
    def __init__(self, context: Any) -> None:
        self._context = context

    def event(self, event: str, **values: Any) -> None:
        self._context.report_custom_message({"event": event, **values})


@contextlib.contextmanager
def open_reporter() -> Iterator[Reporter]:
    """A reporter for the life of the process."""
    module_path = os.environ.get(PIPES_MODULE_VARIABLE)
    if not module_path:
        events = os.environ.pop(EVENTS_FILE_VARIABLE, None)
        yield _FileReporter(events) if events else _PrintingReporter()
        return
    spec = importlib.util.spec_from_file_location("dagster_pipes", module_path)
    assert spec is not None and spec.loader is not None
    pipes = importlib.util.module_from_spec(spec)
    sys.modules["dagster_pipes"] = pipes  # its dataclasses look their module up by name
    spec.loader.exec_module(pipes)
    with pipes.open_dagster_pipes() as context:
        yield _PipesReporter(context)


def exit_with_parent() -> None:
    """End this process when the one that holds the other end of stdin is gone.

    A pipe closes however its owner ends, kill -9 included, and on every system. Blender releases
    the GIL while it renders, so that the thread runs in the middle of an image too.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()
