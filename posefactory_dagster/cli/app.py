"""Take rigged characters to labelled pose datasets: `posefactory COMMAND --help` explains each command."""

from __future__ import annotations

import errno
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from blender_scripts.contract import SettingsError
from posefactory_dagster.cli import developing, starting, store, viewing
from posefactory_dagster.intake.uploads import UploadError
from posefactory_dagster.review.approval import ApprovalError
from posefactory_dagster.rooms import modules
from posefactory_dagster.slugs import SlugError
from posefactory_dagster.storage.layout import LayoutError
from posefactory_dagster.storage.store import DISK_ERRORS, FULL, StoreError
from posefactory_dagster.terminal import (
    INTERRUPTED,
    WORK_FAILED,
    CommandError,
    print_error,
    print_json,
)

warnings.filterwarnings("ignore")  # Dagster's beta notices, on every start

USAGE_ERROR = 2
#: Typer brings a copy of click of its own, and names of its errors only this one's child.
UsageError: Any = typer.BadParameter.__base__
#: Told in one line, as their texts say what to do.
KNOWN_ERRORS = (
    CommandError, UploadError, SlugError, SettingsError, StoreError, ApprovalError, LayoutError,
)  # fmt: skip

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False
)
for module in (*modules("cli"), store, starting, developing, viewing):
    module.add_verbs(app)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        print(importlib.metadata.version("posefactory-dagster"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """The entry point: known errors are one line, anything else is a bug with its trace."""
    as_json = "--json" in sys.argv
    error: str | None = None
    try:
        code = app(standalone_mode=False)
        code = code if isinstance(code, int) else 0
    except UsageError as fault:
        code, error = USAGE_ERROR, fault.format_message()
        fault.show()
    except (typer.Abort, KeyboardInterrupt):
        code, error = INTERRUPTED, "interrupted"
    except KNOWN_ERRORS as fault:
        code, error = USAGE_ERROR, str(fault)
        print_error(error)
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno in (*DISK_ERRORS, errno.ENAMETOOLONG):
            code, error = USAGE_ERROR, _disk_text(fault)
            print_error(error)
        elif not as_json:
            raise
        else:
            traceback.print_exc()
            code = WORK_FAILED
            error = f"{type(fault).__name__}: {fault} (a fault of ours; please report it)"
    if as_json:
        print_json(code, error)
    sys.exit(code)


def _disk_text(error: OSError) -> str:
    """What a disk or a name that is too long refuses, outside the store, with the next step."""
    where = str(error.filename or "this machine")
    if error.errno == errno.ENAMETOOLONG:
        return f"{where[:60]}…: the name is too long for this file system; give a shorter one"
    if error.errno in FULL:
        return f"{where}: the disk is full; free space, or name another place with DAGSTER_HOME or POSEFACTORY_STORE"
    return f"{where}: not permitted ({error.strerror}); change its rights, or name another place"
