"""Command-line verbs that run keys through the assets."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from posefactory_dagster.progress import listening
from posefactory_dagster.settings import project_settings
from posefactory_dagster.storage.sets import CommittedSets
from posefactory_dagster.terminal import (
    INTERRUPTED,
    WORK_FAILED,
    CommandError,
    JsonOption,
    dagster_home,
    err,
    native_chatter_in_log,
    open_instance,
    open_sets,
    out,
    own_console,
    print_error,
    print_table,
    show,
    unknown_text,
)

if TYPE_CHECKING:
    from posefactory_dagster.pipeline.jobs import Flow, House


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this room to the command line."""
    app.command()(run)


def run(
    keys: Annotated[
        list[str] | None, typer.Argument(help="Keys of characters, casts or motions.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All registered keys.")] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Only what would be made anew.")] = False,
    until: Annotated[str, typer.Option(help="The last asset; by default all.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for runs in progress to end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take characters through the assets, in as few Dagster runs as the keys allow."""
    if not keys and not every and not stale:
        raise CommandError("name keys, or give --all or --stale")
    sets = open_sets()
    dagster_home()
    project_settings()
    house = _house()
    for check in house.checks:
        check()  # before anything begins
    main = house.main_flow
    if until and not any(until in (*f.chain, *f.ends) for f in house.flows.values()):
        raise CommandError(f"--until {until}: choose one of {', '.join((*main.chain, *main.ends))}")
    with open_instance() as instance:
        registered = {n: list(instance.get_dynamic_partitions(n)) for n in house.flows}
        first = {main.partition_set: registered[main.partition_set], **registered}
        everybody = list(dict.fromkeys(k for known in first.values() for k in known))
        chosen = list(dict.fromkeys(keys)) if keys else everybody
        if unknown := [k for k in chosen if k not in everybody]:
            raise CommandError(unknown_text(unknown, everybody))
        with _alone(wait):
            wait_for_others(instance, wait)
            for begin in house.before_runs:
                begin(instance, sets)
            sets.store.sweep_dead()
            parts = _parts(house, registered, chosen, until)
            if stale:
                parts = [(f, house.stale_keys(sets, f, mine), last) for f, mine, last in parts]
            document = run_in_terminal(house, instance, sets, parts, quiet=as_json)
    apart = {
        key: flow
        for flow, mine, _ in parts
        if flow is not main
        for key in mine
        if key not in registered[main.partition_set]
    }
    reached = {asset for flow in apart.values() for asset in (*flow.chain, *flow.ends)}
    if keys and until not in reached:  # named one by one, so more was wanted of them
        for key, flow in apart.items():
            if hint := house.hints.get(flow.partition_set):
                document["failed"].setdefault(key, hint.format(key=key))
    document["apart"] = {k: f.partition_set for k, f in apart.items() if k in document["done"]}
    document["done"] = [
        k for k in document["done"] if k not in (*document["failed"], *document["apart"])
    ]
    summaries = house.summaries() if not until or until in main.ends else {}
    document |= {name: summary.read(sets) for name, summary in summaries.items()}
    show(as_json, document, lambda: print_report(document, summaries))
    if document["failed"] or document["trouble"]:
        raise typer.Exit(WORK_FAILED)


def _house() -> House:
    from posefactory_dagster.definitions import house

    return house()


def _parts(
    house: House, registered: Mapping[str, Sequence[str]], keys: Sequence[str], until: str
) -> list[tuple[Flow, list[str], str]]:
    """Which keys go through which flow, and how far.

    A key of the main flow needs no part of its own in others: what it is made from is made with it.
    """
    main = house.main_flow
    mains = [k for k in keys if k in registered[main.partition_set]]
    parts = []
    for name, flow in house.flows.items():
        if flow is not main:
            meant = until in flow.chain  # else what mains are made from is made with them
            apart = [k for k in keys if k in registered[name] and (meant or k not in mains)]
            parts.append((flow, apart, until if until in flow.chain else ""))
    if not until or until in (*main.chain, *main.ends):
        parts.append((main, mains, until))
    return parts


class RateColumn(ProgressColumn):
    """A progress column with items per second."""

    def render(self, task: Task) -> Text:
        """Nothing until a rate is known."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextlib.contextmanager
def _alone(wait: bool) -> Iterator[None]:
    """Hold a lock so that only one run starts on this machine at a time; two could rent and spend twice."""
    with (dagster_home() / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise CommandError(
                "another posefactory run is in progress; --wait waits for it, the web UI shows it"
            ) from None
        yield


def wait_for_others(instance: Any, wait: bool) -> None:
    """Wait until other runs on this machine end. A run whose process is gone counts as failed."""
    from posefactory_dagster.pipeline.runs import runs_in_progress

    if not (found := runs_in_progress(instance)):
        return
    if not wait:
        raise CommandError(
            f"run {found[0].run_id} is in progress; --wait waits for it, the web UI shows it"
        )
    with err.status("waiting for the run in progress"):
        while runs_in_progress(instance):
            time.sleep(1)


def run_in_terminal(
    house: House,
    instance: Any,
    sets: CommittedSets,
    parts: Sequence[tuple[Flow, list[str], str]],
    quiet: bool,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Run keys with their progress on the terminal; what came of it, as the verb's JSON has it.

    Args:
        parts: flows with their keys and the last asset, in this order; the last asset is empty for all.
        quiet: progress as JSON lines on stderr.
        overrides: by asset, settings that differ from the project's.
    """
    from posefactory_dagster.pipeline.jobs import Report, run_keys

    started = time.monotonic()
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        RateColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    report = Report()
    with (
        own_console() as console,
        native_chatter_in_log(),
        Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bars,
    ):
        shown = _ShownProgress(console, bars, quiet, started)
        try:
            with listening(shown.hear):
                for flow, keys, until in parts:
                    if keys or flow is house.main_flow:
                        report += run_keys(house, instance, sets, flow, keys, until, overrides)
        except KeyboardInterrupt:
            shown.hide()
            print_error(
                f"interrupted{shown.lost}; what was committed is kept, run it again to go on"
            )
            raise typer.Exit(INTERRUPTED) from None
        shown.hide()
    return {
        "keys": [key for _, keys, _ in parts for key in keys],
        "done": report.done,
        "runs": report.runs,
        "failed": report.failed,
        "trouble": report.trouble,
        "seconds": round(time.monotonic() - started, 2),
    }


class _ShownProgress:
    """Progress as a bar, as lines where nobody sees a bar, or as JSON lines where a program reads them."""

    def __init__(self, console: Console, bars: Progress, quiet: bool, started: float) -> None:
        self._console, self._bars, self._quiet, self._started = console, bars, quiet, started
        self._bar = bars.add_task("starting", total=None)
        self._last, self._told = "", 0.0
        self._counts = (0, 0)

    def hear(self, what: str, done: int, total: int) -> None:
        """Show how far it is; see ``progress.tell``."""
        self._counts = (done, total)
        if what != self._last:
            self._bars.reset(self._bar, description=what, completed=done, total=total)
        self._bars.update(self._bar, completed=done, total=total)
        seconds = time.monotonic() - self._started
        if self._quiet:
            if what != self._last or done == total or seconds - self._told >= 1.0:
                self._told = seconds
                line = {
                    "progress": what,
                    "done": done,
                    "total": total,
                    "seconds": round(seconds, 1),
                }
                self._console.file.write(json.dumps(line) + "\n")
                self._console.file.flush()
        elif not self._console.is_terminal and what != self._last:
            self._console.print(f"{seconds:6.1f} s  {what}", soft_wrap=True)
        self._last = what

    def hide(self) -> None:
        """Take the bar away."""
        self._bars.update(self._bar, visible=False)

    @property
    def lost(self) -> str:
        """What an interrupt at this point loses, in words."""
        done, total = self._counts
        if not (0 < done < total and self._last.startswith("render")):
            return ""
        return (
            f" at {self._last} {done} of {total}: a character's images are kept when it is finished, "
            "so these are made again"
        )


def print_report(document: Mapping[str, Any], summaries: Mapping[str, Any]) -> None:
    """Print the result of a run for a person."""
    failed = document["failed"]
    if failed:
        table = Table("key", "why it failed")
        for key, reason in failed.items():
            table.add_row(key, reason)
        print_table(table, "none")
    for text in document["trouble"]:
        print_error(text)
    apart = document.get("apart", {})
    kinds = {kind: list(apart.values()).count(kind) for kind in apart.values()}
    others = "".join(f", {count} {kind}{'s' * (count > 1)} ready" for kind, count in kinds.items())
    count = len(document["keys"]) - len(apart)
    out.print(
        f"{len(document['done'])} of {count} characters done in {document['seconds']:.1f} s{others}, "
        f"{len(document['runs'])} Dagster run(s)"
    )
    for name, summary in summaries.items():
        if document.get(name) is not None:
            summary.show(document[name])
