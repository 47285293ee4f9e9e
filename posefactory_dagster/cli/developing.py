"""The web UI and the daemon on this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from posefactory_dagster.cli.viewing import DEFAULT_PORT, PortOption, view_address
from posefactory_dagster.settings import PROJECT_ROOT, project_settings
from posefactory_dagster.terminal import (
    WORK_FAILED,
    CommandError,
    dagster_home,
    open_sets,
    out,
    print_error,
)

GRACE_S = 20.0
#: linux/prctl.h
PR_SET_PDEATHSIG = 1


def dev(
    port: Annotated[int, typer.Option(help="Port of the web UI.", min=1, max=65535)] = 3000,
    view_port: PortOption = DEFAULT_PORT,
) -> None:
    """Open the web UI and the viewer on 127.0.0.1, with sensors and daemon; Ctrl-C ends all."""
    for number, option in ((port, "--port"), (view_port, "--view-port")):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", number)) == 0:
                raise CommandError(
                    f"port {number} of this machine is taken, perhaps by another `make dev` or `posefactory view`; end that, "
                    f"or name another with {option}"
                )
    open_sets()
    project_settings()  # what is wrong with them is said before anything begins
    home = dagster_home()
    workspace = str(PROJECT_ROOT / "workspace.yaml")
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    commands = [
        [
            sys.executable,
            "-m",
            "posefactory_dagster.webserver",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-w",
            workspace,
        ],
        [str(Path(sys.executable).parent / "dagster-daemon"), "run", "-w", workspace],
        [sys.executable, "-m", "posefactory_dagster.cli", "view", "--port", str(view_port)],
    ]
    # Links in the web UI lead to the viewer.
    environment.setdefault("POSEFACTORY_VIEW_ADDRESS", f"http://127.0.0.1:{view_port}")
    parts = [
        subprocess.Popen(
            command,
            env=environment,
            cwd=PROJECT_ROOT,
            start_new_session=True,
            preexec_fn=_end_with_us,
        )
        for command in commands
    ]
    lineage = "locations/posefactory_dagster.definitions/asset-groups/pipeline/lineage"
    out.print(
        f"web UI on http://127.0.0.1:{port} in a few seconds; Ctrl-C ends it\n"
        f"the pipeline at a glance: http://127.0.0.1:{port}/{lineage}",
        soft_wrap=True,
    )
    out.print(f"viewer on {view_address(view_port, home)}", soft_wrap=True)
    # A terminal that closes, or a supervisor, ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while all(p.poll() is None for p in parts):
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    finally:
        _end(parts)
    names = ("the web UI", "the daemon", "the viewer")
    ended = next(n for n, p in zip(names, parts, strict=True) if p.returncode is not None)
    print_error(f"{ended} ended; what it printed says why")
    raise typer.Exit(WORK_FAILED)


def _end_with_us() -> None:
    """In a child: be told when the parent is gone, however it ended. Linux only; elsewhere a kill -9 leaves the parts."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _end(parts: list[subprocess.Popen[bytes]]) -> None:
    for sign, patience in ((signal.SIGINT, GRACE_S), (signal.SIGKILL, 5.0)):
        for part in parts:
            if part.poll() is None:
                os.killpg(part.pid, sign)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(p.poll() is None for p in parts):
            time.sleep(0.1)


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.command()(dev)
