"""How a script inside Blender talks to Dagster: Pipes messages, or lines on stdout without it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from blender_scripts.contract import PIPES_MODULE_VARIABLE


class Reporter(Protocol):
    """Sends an event to whoever started this process."""

    def event(self, event: str, **values: Any) -> None:
        """One custom message; ``values`` must be plain JSON."""


class _StdoutReporter:
    def event(self, event: str, **values: Any) -> None:
        print(json.dumps({"event": event, **values}), flush=True)


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
        yield _StdoutReporter()
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
