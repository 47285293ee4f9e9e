"""Shared by all verbs: output, errors, the Dagster instance and the store."""

from __future__ import annotations

import difflib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets
from posefactory_dagster.storage.store import StoreError

#: Copied to a new DAGSTER_HOME.
INSTANCE_TEMPLATE = PROJECT_ROOT / "deploy" / "local" / "dagster.yaml"
WORK_FAILED = 1
#: What shells expect after Ctrl-C.
INTERRUPTED = 130

JsonOption = Annotated[bool, typer.Option("--json", help="Plain JSON on stdout, for scripts.")]


def printable(text: str) -> str:
    """Untrusted text without terminal control characters; line ends and tabs stay."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


class PlainConsole(Console):
    """Prints file names and errors, which are other people's words: no markup, and no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed comes through here, cells of tables too."""
        return super().render_str(printable(text), **options)


out = PlainConsole()
err = PlainConsole(stderr=True)
#: What `show` was given under --json; ``main`` prints it when the exit code is known.
answer: dict[str, Any] = {}


class CommandError(RuntimeError):
    """A command failed; the text names the reason and the next step."""


def print_error(text: str) -> None:
    """One line on stderr."""
    err.print(Text.assemble(("error: ", "red"), printable(text)), soft_wrap=True)


def print_table(table: Table, nothing: str) -> None:
    """A table for a person, or ``nothing`` where it has no rows.

    On a terminal the last column, which holds words, wraps first, and no key is ever cut: it must be typed. Into a pipe go
    plain lines with tabs between the columns.
    """
    if not table.row_count:
        out.print(nothing, soft_wrap=True)
        return
    if not out.is_terminal:
        columns = [[str(cell) for cell in column.cells] for column in table.columns]
        out.print("\t".join(str(c.header) for c in table.columns), soft_wrap=True)
        for row in zip(*columns, strict=True):
            out.print("\t".join(" ".join(cell.split()) for cell in row), soft_wrap=True)
        return
    for column in table.columns:
        column.overflow = (
            "fold"  # where even that is too wide, it goes on in the next line and is never cut
        )
    for column in table.columns[:-1]:
        column.no_wrap = True
    table.columns[-1].min_width = 20
    if out.measure(table, options=out.options.update(width=10_000)).minimum > out.width:
        for column in table.columns:
            column.no_wrap, column.min_width = False, None
    out.print(table)


def show(as_json: bool, document: Any, print_it: Callable[[], None]) -> None:
    """Print the result of a verb, as JSON or as text."""
    if as_json:
        answer["result"] = document
    else:
        print_it()


def print_json(code: int, error: str | None) -> None:
    """The one JSON object that a verb prints under --json; `docs/commands.md` explains it."""
    document = {
        "ok": code == 0,
        "exit_code": code,
        "result": _finite(answer.get("result")),
        "error": error,
    }
    print(json.dumps(document, indent=1))


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by None, as JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def open_sets() -> CommittedSets:
    """Open the store that POSEFACTORY_STORE names."""
    return CommittedSets(open_store())


def dagster_home() -> Path:
    """DAGSTER_HOME, made from the shipped template inside the project if it is not set."""
    home = Path(os.environ.get("DAGSTER_HOME") or PROJECT_ROOT / ".dagster_home").resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            shutil.copyfile(INSTANCE_TEMPLATE, home / "dagster.yaml")
    except OSError as error:
        raise CommandError(
            f"{home}: cannot be written ({error.strerror}); name another folder with DAGSTER_HOME"
        ) from error
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def migrate(instance: Any) -> None:
    """Bring what earlier versions left into today's form; what was done is said. Without a store, a later command does it."""
    from posefactory_dagster.rooms import modules

    for module in modules("migration"):
        try:
            for text in module.migrate(instance, open_sets):
                err.print(text, soft_wrap=True)
        except StoreError as error:
            print_error(f"what an earlier version left waits: {error}")


@contextmanager
def open_instance() -> Iterator[Any]:
    """The Dagster instance that the web UI shows."""
    dagster_home()
    import dagster as dg  # noqa: TID251  (a verb opens the instance; a second to import, so only here)

    with dg.DagsterInstance.get() as instance:
        migrate(instance)
        yield instance


def registered_keys(instance: Any, partition_set: str) -> list[str]:
    """The keys of a partition set, in order of registration."""
    return list(instance.get_dynamic_partitions(partition_set))


def unknown_text(unknown: list[str], known: list[str]) -> str:
    """What to say of keys that are not registered, with what may have been meant."""
    near = [n for key in unknown for n in difflib.get_close_matches(key, known, 1)]
    hint = f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else ""
    return f"{', '.join(unknown)}: not registered{hint}; posefactory characters list shows what is"


def register(instance: Any, partition_set: str, keys: list[str]) -> None:
    """Register keys that are not registered yet."""
    known = registered_keys(instance, partition_set)
    if new := [k for k in keys if k not in known]:
        instance.add_dynamic_partitions(partition_set, new)


def forget(
    instance: Any,
    sets: CommittedSets,
    partition_sets: Sequence[str],
    objects: Mapping[str, Sequence[str]],
) -> None:
    """Forget keys: their own objects, what readers are pointed to, and their places in some partition sets.

    Args:
        objects: of each key, the object keys that are its own.
    """
    pointed = [layout.parse_current(i.key) for i in sets.store.list(layout.CURRENT)]
    for key, own in objects.items():
        pointers = [layout.current(p[0], key) for p in pointed if p is not None and p[1] == key]
        sets.store.delete([*own, *pointers])
        for name in partition_sets:
            if key in registered_keys(instance, name):
                instance.delete_dynamic_partition(name, key)


@dataclass(frozen=True)
class Summary:
    """How the command line tells of what a run made in the end: reads it as a document, and shows that to a person."""

    read: Callable[[CommittedSets], dict[str, Any] | None]
    show: Callable[[dict[str, Any]], None]


@contextmanager
def own_console() -> Iterator[Console]:
    """A console on a descriptor of its own for stderr.

    Dagster redirects the descriptor behind ``sys.stderr`` into a step's compute log while the step runs: a bar drawn there
    would stand still on the terminal, and its escape codes would fill the log.
    """
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace") as file:
        yield PlainConsole(file=file)


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
