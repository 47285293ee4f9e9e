"""Take characters through the assets, and see whether this machine can."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
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

from posefactory_dagster.characters import intake
from posefactory_dagster.cli.characters import add_files
from posefactory_dagster.cli.datasets import dataset_summary, print_dataset
from posefactory_dagster.cli.terminal import (
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
    register,
    registered_keys,
    show,
    unknown_text,
)
from posefactory_dagster.progress import listening
from posefactory_dagster.renders.render_sets import motion_text
from posefactory_dagster.settings import ASSETS_DATA, environment, project_settings
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSets
from posefactory_dagster.storage.store import LocalStore
from posefactory_dagster.styles import read_styles as check_styles

#: The demo shows a part of its pictures close up, so that its labels have landmarks outside the frame.
DEMO_LOOK = {"close_ups": 0.25}


def run(
    keys: Annotated[list[str] | None, typer.Argument(help="Character keys.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All registered keys.")] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Only what would be made anew.")] = False,
    until: Annotated[str, typer.Option(help="The last asset.")] = "pose_dataset",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for runs in progress to end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take characters through the assets, in as few Dagster runs as the keys allow."""
    if not keys and not every and not stale:
        raise CommandError("name keys, or give --all or --stale")
    sets = open_sets()
    dagster_home()
    check_styles(project_settings().variants.styles)  # and the settings: before anything begins
    from posefactory_dagster import jobs

    if until not in (*jobs.CHAIN, jobs.DATASET):
        raise CommandError(
            f"--until {until}: choose one of {', '.join((*jobs.CHAIN, jobs.DATASET))}"
        )
    with open_instance() as instance:
        registered = registered_keys(instance)
        chosen = list(dict.fromkeys(keys)) if keys else registered
        unknown = [k for k in chosen if k not in registered]
        if unknown:
            raise CommandError(unknown_text(unknown, registered))
        if stale:
            chosen = jobs.stale_keys(sets, chosen)
        with _alone(wait):
            _wait_for_others(instance, wait)
            _end_orphans(instance, sets)
            sets.store.sweep_dead()
            document = _run(instance, sets, chosen, until, quiet=as_json)
        if keys and until != jobs.CHAIN[0]:  # named one by one, so they were meant to be rendered
            for key in chosen:
                if jobs.is_motion(sets, key):
                    document["failed"].setdefault(key, motion_text(key))
        motions = [k for k in document["done"] if jobs.is_motion(sets, k)]
        document["motions"] = motions
        document["done"] = [k for k in document["done"] if k not in (*document["failed"], *motions)]
    document["dataset"] = dataset_summary(sets) if until == jobs.DATASET else None
    show(as_json, document, lambda: _print_report(document))
    if document["failed"] or document["trouble"]:
        raise typer.Exit(WORK_FAILED)


class RateColumn(ProgressColumn):
    """How many of what is counted are done a second."""

    def render(self, task: Task) -> Text:
        """Nothing until a rate is known."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextlib.contextmanager
def _alone(wait: bool) -> Iterator[None]:
    """Hold the place of the one run on this machine: two that start together would both rent, and both spend."""
    with (dagster_home() / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise CommandError(
                "another posefactory run is in progress; --wait waits for it, the web UI shows it"
            ) from None
        yield


def _wait_for_others(instance: Any, wait: bool) -> None:
    """Two runs at once would share two cores; a run whose process is gone counts as failed."""
    from posefactory_dagster.jobs import runs_in_progress

    if not (found := runs_in_progress(instance)):
        return
    if not wait:
        raise CommandError(
            f"run {found[0].run_id} is in progress; --wait waits for it, the web UI shows it"
        )
    with err.status("waiting for the run in progress"):
        while runs_in_progress(instance):
            time.sleep(1)


def _end_orphans(instance: Any, sets: CommittedSets) -> None:
    """What a killed run left on rented machines must not go on beside this one; a daemon may not be there."""
    here = environment().render_on == environment().enhance_on == "local"
    if here or environment().runpod_api_key is None:
        return
    from posefactory_dagster.blender.runpod.api import RunPodError
    from posefactory_dagster.jobs import end_orphans
    from posefactory_dagster.storage.store import StoreError

    try:
        for text in end_orphans(instance, sets.store):
            err.print(text, soft_wrap=True)
    # The pod_janitor sensor looks again; what is to be made now may not need it.
    except (RunPodError, StoreError) as error:
        print_error(f"what earlier runs left on RunPod is not known: {error}")


def _run(
    instance: Any,
    sets: CommittedSets,
    keys: list[str],
    until: str,
    quiet: bool,
    render: dict[str, Any] | None = None,
) -> dict[str, Any]:
    from posefactory_dagster import jobs
    from posefactory_dagster.definitions import defs

    started = time.monotonic()
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        RateColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with (
        own_console() as console,
        native_chatter_in_log(),
        Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bars,
    ):
        bar = bars.add_task("starting", total=None)
        last, told = "", 0.0
        counts = (0, 0)

        def listener(what: str, done: int, total: int) -> None:
            nonlocal last, told, counts
            counts = (done, total)
            if what != last:
                bars.reset(bar, description=what, completed=done, total=total)
            bars.update(bar, completed=done, total=total)
            seconds = time.monotonic() - started
            if quiet and (what != last or done == total or seconds - told >= 1.0):
                told = seconds
                line = {
                    "progress": what,
                    "done": done,
                    "total": total,
                    "seconds": round(seconds, 1),
                }
                console.file.write(json.dumps(line) + "\n")
                console.file.flush()
            elif not quiet and not console.is_terminal and what != last:
                console.print(f"{seconds:6.1f} s  {what}", soft_wrap=True)
            last = what

        job = defs.resolve_job_def(jobs.factory_job.name)
        try:
            with listening(listener):
                report = jobs.run_characters(job, instance, sets, keys, until, render=render)
        except KeyboardInterrupt:
            bars.update(bar, visible=False)
            unfinished = 0 < counts[0] < counts[1]
            lost = (
                f" at {last} {counts[0]} of {counts[1]}: a character's images are kept when it is finished, so these are made again"
                if unfinished and last.startswith("render")
                else ""
            )
            print_error(f"interrupted{lost}; what was committed is kept, run it again to go on")
            raise typer.Exit(INTERRUPTED) from None
        bars.update(bar, visible=False)
    return {
        "keys": keys,
        "done": report.done,
        "runs": report.runs,
        "failed": report.failed,
        "trouble": report.trouble,
        "seconds": round(time.monotonic() - started, 2),
    }


def _print_report(document: dict[str, Any]) -> None:
    failed = document["failed"]
    if failed:
        table = Table("character", "why it failed")
        for key, reason in failed.items():
            table.add_row(key, reason)
        print_table(table, "none")
    for text in document["trouble"]:
        print_error(text)
    motions = f", {len(document['motions'])} motions inspected" if document["motions"] else ""
    characters = len(document["keys"]) - len(document["motions"])
    out.print(
        f"{len(document['done'])} of {characters} characters done in {document['seconds']:.1f} s{motions}, "
        f"{len(document['runs'])} Dagster run(s)"
    )
    if document["dataset"] is not None:
        print_dataset(document["dataset"])


def demo(as_json: JsonOption = False) -> None:
    """Take every sample character through all assets to a dataset."""
    started = time.monotonic()
    sets = open_sets()
    check_styles(project_settings().variants.styles)
    samples = sorted((ASSETS_DATA / "characters").glob("*.fbx"))
    if not samples:
        raise CommandError("no sample characters in assets_data/characters")
    there = intake.uploads_by_key(sets.store)
    new = [s for s in samples if s.stem not in there]
    _, errors = add_files(sets, new)
    if errors:
        raise CommandError("; ".join(errors))
    keys = [s.stem for s in samples]
    with open_instance() as instance:
        register(instance, keys)
        _wait_for_others(instance, wait=True)
        from posefactory_dagster import jobs

        stale = jobs.stale_keys(sets, keys, DEMO_LOOK)
        if stale or sets.readable(jobs.DATASET, layout.UNPARTITIONED) is None:
            document = _run(
                instance, sets, stale or keys, jobs.DATASET, quiet=as_json, render=DEMO_LOOK
            )
            if document["failed"] or document["trouble"]:
                show(as_json, document, lambda: _print_report(document))
                raise typer.Exit(WORK_FAILED)
    dataset = sets.readable(jobs.DATASET, layout.UNPARTITIONED)
    if dataset is None:
        raise CommandError("no dataset was made; posefactory doctor shows what is missing")
    made = [s for k in stale if (s := sets.readable("multi_angle_renders", k))]
    summary = {
        **(dataset_summary(sets) or {}),
        "images_made": sum(s.facts["images"] for s in made),
        "seconds": round(time.monotonic() - started, 2),
    }
    show(as_json, summary, lambda: _print_demo(summary))


def _print_demo(summary: dict[str, Any]) -> None:
    made, spent = summary["images_made"], summary["seconds"]
    if made:
        rate = f", {spent / made:.2f} s an image"
        out.print(Text.assemble("\n", (f"{made} images made in {spent:.1f} s", "bold"), rate))
    else:
        out.print(Text.assemble("\n", ("everything found committed", "bold"), f", {spent:.1f} s"))
    print_dataset(summary)


def home(as_json: JsonOption = False) -> None:
    """Make DAGSTER_HOME from the shipped `dagster.yaml`, and the upload folder; say where they are."""
    store = open_sets().store
    if isinstance(store, LocalStore):
        Path(store.address(layout.UPLOADS)).mkdir(parents=True, exist_ok=True)
    places = {"DAGSTER_HOME": str(dagster_home()), "uploads": store.address(layout.UPLOADS)}

    def print_it() -> None:
        for name, place in places.items():
            out.print(f"{name:12} {place}", soft_wrap=True)

    show(as_json, places, print_it)


def doctor(
    spend: Annotated[
        bool, typer.Option("--spend", help="Render one image on one rented pod.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Spend without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What works on this machine, and what to do about the rest."""
    if spend:
        _spend(yes, as_json)
        return
    from posefactory_dagster.doctor import examine

    findings = []
    with (
        native_chatter_in_log(),
        err.status("looking") as status,
        tempfile.TemporaryDirectory() as scratch,
    ):
        for finding in examine(Path(scratch)):
            findings.append(finding)
            status.update(f"looking: {finding.what} {'ok' if finding.ok else 'not ok'}")
    rows = [{"what": f.what, "ok": f.ok, "needed": f.needed, "says": f.says} for f in findings]

    def print_it() -> None:
        table = Table("what", "", "")
        for f in findings:
            bad = ("missing", "red") if f.needed else ("no", "yellow")
            table.add_row(f.what, Text.assemble(("ok", "green") if f.ok else bad), f.says)
        print_table(table, "none")

    show(as_json, rows, print_it)
    if any(f.needed and not f.ok for f in findings):
        raise typer.Exit(WORK_FAILED)


def _spend(yes: bool, as_json: bool) -> None:
    """One real pod for one image of a sample, with its price said first."""
    from posefactory_dagster import jobs
    from posefactory_dagster.blender.runpod import placing
    from posefactory_dagster.blender.runpod.account import bucket_of, open_api
    from posefactory_dagster.blender.runpod.api import RunPodError
    from posefactory_dagster.costs.estimates import estimate_render
    from posefactory_dagster.definitions import defs

    sets = open_sets()
    settings = project_settings().pods
    try:
        bucket_of(sets.store)
        with open_api() as api:
            gpu = placing.candidates(api.gpu_types(settings.cloud), settings)[0]
    except RunPodError as error:
        raise CommandError(str(error)) from error
    price = placing.price_of(gpu, settings)
    estimate = estimate_render(1, price, settings)
    err.print(
        f"one image on a {gpu.id} at ${price:.2f} an hour: about {estimate.seconds:.0f} s, ${estimate.cost:.3f}"
    )
    if not yes and not typer.confirm("spend it?", err=True):
        raise CommandError("nothing was started")
    key = "posefactory_doctor"
    sample = next(iter(sorted((ASSETS_DATA / "characters").glob("*.fbx"))))
    _, errors = add_files(sets, [sample], key)
    if errors:
        raise CommandError("; ".join(errors))
    os.environ["POSEFACTORY_RENDER_ON"] = "pod"
    # Another seed each time, as an image that is committed already would cost and prove nothing.
    look = {
        "num_angles": 1,
        "frames_per_clip": 1,
        "width": 256,
        "height": 256,
        "seed": time.time_ns() % 2**31,
    }
    with open_instance() as instance:
        register(instance, [key])
        job = defs.resolve_job_def(jobs.factory_job.name)
        with native_chatter_in_log(), err.status("rendering on a pod"):
            report = jobs.run_characters(
                job, instance, sets, [key], "multi_angle_renders", render=look
            )
        tags = [instance.get_run_by_id(r).tags for r in report.runs]
    cost = [t["posefactory/cost_usd"] for t in tags if "posefactory/cost_usd" in t]
    document: dict[str, Any] = {
        "done": report.done == [key],
        "cost_usd": sum(float(c) for c in cost),
        "faults": [*report.failed.values(), *report.trouble],
    }

    def print_it() -> None:
        for text in document["faults"]:
            print_error(text)
        words = "a pod rendered one image" if document["done"] else "no image was rendered"
        out.print(
            f"{words}, for ${document['cost_usd']:.4f}; posefactory characters remove {key} forgets it"
        )

    show(as_json, document, print_it)
    if not document["done"]:
        raise typer.Exit(WORK_FAILED)
