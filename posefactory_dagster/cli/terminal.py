"""What the verbs share: how they print, and how they find the instance and the store."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets

#: Copied to a new DAGSTER_HOME.
INSTANCE_TEMPLATE = PROJECT_ROOT / "deploy" / "local" / "dagster.yaml"
WORK_FAILED = 1
#: What shells expect after Ctrl-C.
INTERRUPTED = 130

JsonOption = Annotated[bool, typer.Option("--json", help="Plain JSON on stdout, for scripts.")]
# No markup: file names and errors are other people's words, and may hold brackets.
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False, markup=False)


class CommandError(RuntimeError):
    """The command cannot do what was asked; the text says why and what to do."""


def print_error(text: str) -> None:
    """One line on stderr."""
    err.print(Text.assemble(("error: ", "red"), text), soft_wrap=True)


def show(as_json: bool, document: Any, print_it: Callable[[], None]) -> None:
    """The answer of a verb: as JSON, or for a person."""
    if as_json:
        print(json.dumps(document, indent=1))
    else:
        print_it()


def open_sets() -> CommittedSets:
    """The sets of the store that POSEFACTORY_STORE names."""
    return CommittedSets(open_store())


def dagster_home() -> Path:
    """DAGSTER_HOME, made from the shipped template inside the project if it is not set."""
    home = Path(os.environ.get("DAGSTER_HOME") or PROJECT_ROOT / ".dagster_home").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(INSTANCE_TEMPLATE, home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    return home


@contextmanager
def open_instance() -> Iterator[Any]:
    """The Dagster instance that the web UI shows."""
    dagster_home()
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        yield instance


def registered_keys(instance: Any) -> list[str]:
    """The partition keys, in order of registration."""
    from posefactory_dagster.partitions import CHARACTERS

    return list(instance.get_dynamic_partitions(CHARACTERS.name))


def unknown_text(unknown: list[str], known: list[str]) -> str:
    """What to say of keys that are not registered, with what may have been meant."""
    near = [n for key in unknown for n in difflib.get_close_matches(key, known, 1)]
    hint = f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
    return f"{', '.join(unknown)}: not registered{hint}; posefactory characters list shows what is"


def register(instance: Any, keys: list[str]) -> None:
    """Add what is not there yet."""
    from posefactory_dagster.partitions import CHARACTERS

    new = [k for k in keys if k not in registered_keys(instance)]
    if new:
        instance.add_dynamic_partitions(CHARACTERS.name, new)


@contextmanager
def own_console() -> Iterator[Console]:
    """A console on a descriptor of its own for stderr.

    Dagster redirects the descriptor behind ``sys.stderr`` into a step's compute log while the step runs: a bar drawn there
    would stand still on the terminal, and its escape codes would fill the log.
    """
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace") as file:
        yield Console(file=file, highlight=False, markup=False)


@contextmanager
def native_chatter_in_log() -> Iterator[None]:
    """Keep what MediaPipe's C++ prints on stderr off the terminal; it goes to `native.log`.

    It obeys no setting, and would bury the progress. Python's own stderr stays what it was.
    """
    terminal = sys.stderr
    terminal.flush()
    number = terminal.fileno()
    kept = os.dup(number)
    with (
        os.fdopen(kept, "w", encoding="utf-8", errors="replace") as stderr,
        (dagster_home() / "native.log").open("ab") as log,
    ):
        os.dup2(log.fileno(), number)
        sys.stderr = stderr
        try:
            yield
        finally:
            stderr.flush()
            os.dup2(kept, number)
            sys.stderr = terminal
