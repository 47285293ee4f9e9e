"""The command line in forks of one process that has imported everything: a call costs what it does, and no imports.

    python -m tests.warm

Reads a request a line from stdin, {arguments, environment, folder, stdout, stderr}, and answers each with the exit code of
a process of its own, which has that environment, that working directory, and its output in those files. Only what is
imported is shared. Tests that need more of a process than that (its signals, a terminal) start `Factory.command` themselves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = (
    "dagster._core.storage.sqlite_storage",
    "posefactory_dagster.definitions",
    "posefactory_dagster.storage.r2",
)


class WarmCommandLine:
    """Asks the process for one call after another. Usable by several threads; calls wait for each other."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run `posefactory` with ``arguments``; as ``subprocess.run`` with captured text."""
        with tempfile.TemporaryDirectory() as place, self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.warm"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
                    env={**os.environ, "COLUMNS": environment.get("COLUMNS", "200"), "NO_COLOR": "1"},  # read at the import
                )  # fmt: skip
            asked = {
                "arguments": list(arguments), "environment": dict(environment), "folder": str(folder),
                "stdout": f"{place}/stdout", "stderr": f"{place}/stderr",
            }  # fmt: skip
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            said = [Path(asked[name]).read_text("utf-8") for name in ("stdout", "stderr")]
            return subprocess.CompletedProcess(asked["arguments"], code, *said)


def serve() -> None:
    """Answer requests until stdin ends."""
    import importlib

    from posefactory_dagster.cli.app import main

    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _be(json.loads(line), main)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _be(asked: dict[str, Any], main: Any) -> None:
    """Become the process that was asked for; does not return."""
    code = 1
    try:
        os.setsid()
        for number, mode, path in (
            (0, os.O_RDONLY, os.devnull),
            (1, os.O_WRONLY | os.O_CREAT, asked["stdout"]),
            (2, os.O_WRONLY | os.O_CREAT, asked["stderr"]),
        ):
            file = os.open(path, mode, 0o600)
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        sys.argv = ["posefactory", *asked["arguments"]]
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
