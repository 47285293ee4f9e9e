"""The viewer on this machine."""

from __future__ import annotations

import os
import secrets
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.pipeline.plans import failures_by_key
from posefactory_dagster.terminal import (
    CommandError,
    dagster_home,
    err,
    open_instance,
    open_sets,
    out,
    registered_keys,
)

DEFAULT_PORT = 3001
PortOption = Annotated[int, typer.Option(help="Port of the viewer.", min=1, max=65535)]


def token_of(home: Path) -> str:
    """The token of this installation's viewer, made at its first start; only this user can read it."""
    path = home / "view_token"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    except FileExistsError:
        pass
    token = path.read_text("utf-8").strip()
    if not token:
        raise CommandError(f"{path}: is empty; delete it, and the next start makes another")
    return token


def view_address(port: int, home: Path) -> str:
    """Where a browser is let in."""
    return f"http://127.0.0.1:{port}/?token={token_of(home)}"


def view(
    port: PortOption = DEFAULT_PORT,
    browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Look at characters, labels, variants and datasets in the browser, and decide on variants; Ctrl-C ends it.

    On 127.0.0.1 only, and only for browsers that come by the address it prints.
    """
    import uvicorn

    from posefactory_dagster.viewer.app import create_app

    sets = open_sets()
    home = dagster_home()

    def failures() -> Mapping[str, str]:
        from posefactory_dagster.pipeline.partitions import standing_failures

        with open_instance() as instance:
            keys = registered_keys(instance, CHARACTERS)
            return failures_by_key(standing_failures(instance, keys))

    address = view_address(port, home)
    app = create_app(sets, token_of(home), failures)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning")
    out.print(f"{address}\nCtrl-C ends it", soft_wrap=True)
    if browser and not webbrowser.open(address):
        err.print("no browser could be opened; open the address yourself")
    uvicorn.Server(config).run()


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.command()(view)
