"""`posefactory …`: the few verbs that Dagster's own command line lacks."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from blender_scripts.contract import SettingsError
from posefactory_dagster.characters import intake
from posefactory_dagster.progress import listening
from posefactory_dagster.renders.render_sets import motion_text
from posefactory_dagster.settings import ASSETS_DATA, PROJECT_ROOT, environment
from posefactory_dagster.slugs import SlugError, cast_key, safe_slug, split_key
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSets
from posefactory_dagster.storage.store import LocalStore, StoreError, open_store

warnings.filterwarnings("ignore")  # Dagster's beta notices, on every start

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False
)
characters_app = typer.Typer(no_args_is_help=True, help="Uploaded characters and motions.")
store_app = typer.Typer(no_args_is_help=True, help="The store of committed sets.")
app.add_typer(characters_app, name="characters")
app.add_typer(store_app, name="store")

JsonOption = Annotated[bool, typer.Option("--json", help="Plain JSON on stdout, for scripts.")]
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
USAGE_ERROR, WORK_FAILED = 2, 1


class CommandError(RuntimeError):
    """The command cannot do what was asked; the text says why and what to do."""


def main() -> None:
    """The entry point: known errors are one line, anything else is a bug with its trace."""
    try:
        app()
    except (CommandError, intake.UploadError, SlugError, SettingsError, StoreError) as error:
        err.print(f"[red]error:[/red] {error}", markup=True, soft_wrap=True)
        sys.exit(USAGE_ERROR)


def _sets() -> CommittedSets:
    return CommittedSets(open_store())


def dagster_home() -> Path:
    """DAGSTER_HOME, made from the shipped `dagster.yaml` inside the project if it is not set."""
    home = Path(os.environ.get("DAGSTER_HOME") or PROJECT_ROOT / ".dagster_home").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(PROJECT_ROOT / "dagster.yaml", home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    return home


@contextmanager
def _native_chatter_in_log() -> Iterator[None]:
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


@contextmanager
def _instance() -> Iterator[Any]:
    dagster_home()
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        yield instance


def _registered(instance: Any) -> list[str]:
    from posefactory_dagster.partitions import CHARACTERS

    return list(instance.get_dynamic_partitions(CHARACTERS.name))


def _register(instance: Any, keys: list[str]) -> None:
    from posefactory_dagster.partitions import CHARACTERS

    new = [k for k in keys if k not in _registered(instance)]
    if new:
        instance.add_dynamic_partitions(CHARACTERS.name, new)


def _show(as_json: bool, document: Any, print_it: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(document, indent=1))
    else:
        print_it()


@characters_app.command("add")
def characters_add(
    files: Annotated[list[Path], typer.Argument(help="FBX files: characters or motions.")],
    name: Annotated[str | None, typer.Option(help="Key to give it (one file only).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy files into the upload folder and register their keys."""
    if name is not None and len(files) > 1:
        raise CommandError("--name goes with one file")
    sets = _sets()
    added, errors = _add_files(sets, files, name)
    with _instance() as instance:
        _register(instance, [a["key"] for a in added])

    def print_it() -> None:
        for entry in added:
            out.print(f"{entry['file']}  ->  [bold]{entry['key']}[/bold]")
        for text in errors:
            err.print(f"[red]error:[/red] {text}", soft_wrap=True)

    _show(as_json, {"added": added, "errors": errors}, print_it)
    if errors:
        raise typer.Exit(USAGE_ERROR)


def _add_files(
    sets: CommittedSets, files: list[Path], name: str | None
) -> tuple[list[dict[str, str]], list[str]]:
    """Take each file in that is sound; the others are errors and change nothing."""
    added, errors = [], []
    for file in files:
        try:
            added.append({"file": str(file), "key": _add_file(sets, file, name)})
        except (intake.UploadError, SlugError, StoreError) as error:
            errors.append(str(error))
        except OSError as error:
            errors.append(f"{file}: cannot be read ({error.strerror})")
    return added, errors


def _add_file(sets: CommittedSets, file: Path, name: str | None) -> str:
    if not file.is_file():
        raise intake.UploadError(f"{file}: no such file")
    intake.check_file(file, file.name, environment().max_upload_mb)
    key = safe_slug(name if name is not None else file.stem)
    existing = intake.uploads_by_key(sets.store).get(key, [])
    others = [u.file_name for u in existing if u.file_name != f"{key}.fbx"]
    if others:
        raise intake.UploadError(
            f"{file.name}: the key {key!r} belongs to {others[0]!r} already; give another with --name"
        )
    with sets.scratch() as scratch:
        shutil.copyfile(file, scratch / "upload")
        sets.store.put_files({layout.upload(f"{key}.fbx"): scratch / "upload"})
    return key


@characters_app.command("list")
def characters_list(as_json: JsonOption = False) -> None:
    """Registered keys: what they are, and how far they have come."""
    from posefactory_dagster.jobs import CHAIN

    sets = _sets()
    with _instance() as instance:
        keys = _registered(instance)
    rows: list[dict[str, Any]] = []
    for key in keys:
        source = sets.current(CHAIN[0], key)
        rows.append(
            {
                "key": key,
                "kind": source.facts["kind"] if source else "not inspected",
                "height_m": source.facts.get("height_m") if source else None,
                "frames": source.facts["frame_range"] if source else None,
                "done": [a for a in CHAIN if sets.current(a, key)],
            }
        )

    def print_it() -> None:
        table = Table("key", "kind", "height", "frames", "done")
        for row in rows:
            height = f"{row['height_m']:.2f} m" if row["height_m"] else ""
            frames = "{} to {}".format(*row["frames"]) if row["frames"] else ""
            table.add_row(row["key"], row["kind"], height, frames, ", ".join(row["done"]))
        out.print(table if rows else "no characters yet: posefactory characters add FILE.fbx")

    _show(as_json, rows, print_it)


@app.command()
def cast(
    skin: Annotated[str, typer.Argument(help="Key of a character with skin.")],
    motion: Annotated[str, typer.Option(help="Key of a motion.")],
    as_json: JsonOption = False,
) -> None:
    """Register the skin of one file with the motion of another."""
    sets = _sets()
    found = intake.uploads_by_key(sets.store)
    for slug in (skin, motion):
        if split_key(slug)[1] is not None:
            raise CommandError(
                f"{slug} is a cast itself; name uploads: posefactory characters list"
            )
        intake.find_upload(found, slug)
    for slug, wanted, advice in (
        (skin, "skin", "name a character with a mesh first"),
        (motion, "motion", "a cast takes one skin and one motion"),
    ):
        upload = intake.find_upload(found, slug)
        bare = intake.looks_like_motion(intake.fetch(sets.store, upload))
        if bare == (wanted == "skin"):
            raise CommandError(f"{upload.file_name} is a {'motion' if bare else 'skin'}; {advice}")
    key = cast_key(skin, motion)
    with _instance() as instance:
        _register(instance, [key])
    _show(as_json, {"key": key}, lambda: out.print(f"registered [bold]{key}[/bold]"))


@app.command()
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
    sets = _sets()
    dagster_home()
    from posefactory_dagster import jobs

    if until not in (*jobs.CHAIN, jobs.DATASET):
        raise CommandError(
            f"--until {until}: choose one of {', '.join((*jobs.CHAIN, jobs.DATASET))}"
        )
    with _instance() as instance:
        registered = _registered(instance)
        chosen = list(dict.fromkeys(keys)) if keys else registered
        unknown = [k for k in chosen if k not in registered]
        if unknown:
            raise CommandError(
                f"{', '.join(unknown)}: not registered; posefactory characters list shows what is"
            )
        if stale:
            chosen = jobs.stale_keys(sets, chosen)
        _wait_for_others(instance, wait)
        document = _run(instance, sets, chosen, until, quiet=as_json)
        if keys and until != jobs.CHAIN[0]:  # named one by one, so they were meant to be rendered
            for key in chosen:
                if jobs.is_motion(sets, key):
                    document["failed"].setdefault(key, motion_text(key))

    def print_it() -> None:
        _print_report(document)

    _show(as_json, document, print_it)
    if document["failed"] or document["trouble"]:
        raise typer.Exit(WORK_FAILED)


def _wait_for_others(instance: Any, wait: bool) -> None:
    """Two runs at once would share two cores; a run whose process is gone counts as failed."""
    import dagster as dg
    import psutil

    from posefactory_dagster.jobs import STARTER_PID

    def others() -> list[Any]:
        running = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        alive = []
        for other in running:
            pid = other.tags.get(STARTER_PID)
            if pid and not psutil.pid_exists(int(pid)):
                instance.report_run_failed(other, "the process that ran it is gone")
            else:
                alive.append(other)
        return alive

    if not (found := others()):
        return
    if not wait:
        raise CommandError(
            f"run {found[0].run_id} is in progress; --wait waits for it, the web UI shows it"
        )
    with err.status("waiting for the run in progress"):
        while others():
            time.sleep(1)


def _run(
    instance: Any, sets: CommittedSets, keys: list[str], until: str, quiet: bool
) -> dict[str, Any]:
    from posefactory_dagster import jobs
    from posefactory_dagster.definitions import defs

    started = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())  # fmt: skip
    with _native_chatter_in_log(), Progress(*columns, console=err, disable=quiet) as bars:
        bar = bars.add_task("starting", total=None)

        last = ""

        def listener(what: str, done: int, total: int) -> None:
            nonlocal last
            bars.update(bar, description=what, completed=done, total=total)
            if not quiet and not err.is_terminal and what != last:
                last = what
                err.print(f"{time.monotonic() - started:6.1f} s  {what}", highlight=False)

        with listening(listener):
            report = jobs.run_characters(
                defs.resolve_job_def(jobs.factory_job.name), instance, sets, keys, until
            )
        bars.update(bar, visible=False)
    return {
        "keys": keys,
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
        out.print(table)
    for text in document["trouble"]:
        err.print(f"[red]error:[/red] {text}", soft_wrap=True)
    good = len(document["keys"]) - len(failed)
    out.print(
        f"{good} of {len(document['keys'])} characters done in {document['seconds']:.1f} s, "
        f"{len(document['runs'])} Dagster run(s)"
    )


@app.command()
def demo(as_json: JsonOption = False) -> None:
    """Take every sample character through all assets to a dataset."""
    started = time.monotonic()
    sets = _sets()
    samples = sorted((ASSETS_DATA / "characters").glob("*.fbx"))
    if not samples:
        raise CommandError("no sample characters in assets_data/characters")
    there = intake.uploads_by_key(sets.store)
    new = [s for s in samples if s.stem not in there]
    _, errors = _add_files(sets, new, None)
    if errors:
        raise CommandError("; ".join(errors))
    keys = [s.stem for s in samples]
    with _instance() as instance:
        _register(instance, keys)
        _wait_for_others(instance, wait=True)
        from posefactory_dagster import jobs

        stale = jobs.stale_keys(sets, keys)
        if stale or sets.current(jobs.DATASET, layout.UNPARTITIONED) is None:
            document = _run(instance, sets, stale or keys, jobs.DATASET, quiet=as_json)
            if document["failed"] or document["trouble"]:
                _show(as_json, document, lambda: _print_report(document))
                raise typer.Exit(WORK_FAILED)
    dataset = sets.current(jobs.DATASET, layout.UNPARTITIONED)
    if dataset is None:
        raise CommandError("no dataset was made; posefactory doctor shows what is missing")
    made = [s for k in stale if (s := sets.current("multi_angle_renders", k))]
    summary = {
        **dataset.facts,
        "images_made": sum(s.facts["images"] for s in made),
        "seconds": round(time.monotonic() - started, 2),
        "contact_sheet": dataset.address("contact_sheet.jpg"),
        "dataset": dataset.address(),
    }
    _show(as_json, summary, lambda: _print_demo(summary))


def _print_demo(summary: dict[str, Any]) -> None:
    made, spent = summary["images_made"], summary["seconds"]
    if made:
        out.print(
            f"\n[bold]{made} images made in {spent:.1f} s[/bold], {spent / made:.2f} s an image"
        )
    else:
        out.print(f"\n[bold]everything found committed[/bold], {spent:.1f} s")
    out.print(
        f"dataset        {summary['characters']} characters, {summary['images']} images, {summary['labels']} landmark labels\n"
        f"MediaPipe      detects {summary['detection_rate']:.0%}, PCK@0.2 {summary['pck_0.2']:.3f}, OKS {summary['oks']:.3f}, "
        f"{summary['swaps']} left/right swaps\n"
        f"contact sheet  {summary['contact_sheet']}\n"
        f"dataset folder {summary['dataset']}\n"
        "web UI         make dev, then http://127.0.0.1:3000",
        soft_wrap=True,
    )


@app.command()
def home(as_json: JsonOption = False) -> None:
    """Make DAGSTER_HOME from the shipped `dagster.yaml`, and the upload folder; say where they are."""
    store = _sets().store
    if isinstance(store, LocalStore):
        Path(store.address(layout.UPLOADS)).mkdir(parents=True, exist_ok=True)
    places = {"DAGSTER_HOME": str(dagster_home()), "uploads": store.address(layout.UPLOADS)}

    def print_it() -> None:
        for name, place in places.items():
            out.print(f"{name:12} {place}", soft_wrap=True)

    _show(as_json, places, print_it)


@store_app.command("verify")
def store_verify(as_json: JsonOption = False) -> None:
    """Check every file of every committed set against its manifest."""
    sets = _sets()
    damages, count = [], 0
    with err.status("verifying") as status:
        for ref, found in sets.verify():
            count += 1
            status.update(f"verifying {count}: {ref.asset} {ref.partition}")
            damages += found
    rows = [
        {"asset": d.ref.asset, "partition": d.ref.partition, "identity": d.ref.identity, "file": d.file, "fault": d.fault}
        for d in damages
    ]  # fmt: skip

    def print_it() -> None:
        for row in rows:
            out.print(
                f"{row['asset']} {row['partition']} {row['identity']}: {row['file']}: {row['fault']}"
            )
        advice = "; delete the damaged sets' folders and run again" if rows else ""
        out.print(f"{count} sets checked, {len(rows)} files damaged{advice}")

    _show(as_json, {"sets": count, "damaged": rows}, print_it)
    if rows:
        raise typer.Exit(WORK_FAILED)


@store_app.command("gc")
def store_gc(
    grace_hours: Annotated[float, typer.Option(help="Spare what was touched since.", min=0)] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove sets that nothing points to, and what killed runs left behind."""
    removed, freed = _sets().collect_garbage(grace_hours * 3600, dry_run)

    def print_it() -> None:
        for prefix in removed:
            out.print(prefix)
        verb = "would go" if dry_run else "removed"
        out.print(f"{len(removed)} sets {verb}, {freed / 1e6:.1f} MB")

    _show(as_json, {"removed": removed, "bytes": freed, "dry_run": dry_run}, print_it)


@store_app.command("copy")
def store_copy(
    source: Annotated[str, typer.Argument(help="A folder, or r2://bucket/prefix.")],
    target: Annotated[str, typer.Argument(help="A folder, or r2://bucket/prefix.")],
    as_json: JsonOption = False,
) -> None:
    """Copy uploads and committed sets to another store; run it again to go on where it was cut off."""
    from posefactory_dagster.storage.copying import Copied, copy_store

    copied = Copied()
    with err.status("copying") as status:
        for what, copied in copy_store(open_store(source), open_store(target)):
            status.update(f"copying {copied.sets} sets, {copied.bytes / 1e6:.0f} MB: {what}")

    def print_it() -> None:
        out.print(
            f"{copied.sets} sets and {copied.uploads} uploads copied ({copied.bytes / 1e6:.1f} MB), "
            f"{copied.found} were there already"
        )
        for key in copied.clashes:
            err.print(
                f"[red]error:[/red] {key}: {target} holds another file of that name; rename one of them",
                soft_wrap=True,
            )

    _show(as_json, dataclasses.asdict(copied), print_it)
    if copied.clashes:
        raise typer.Exit(WORK_FAILED)


@app.command("upload-url")
def upload_url(
    name: Annotated[str, typer.Argument(help="The file's name; it gives the key.")],
    as_json: JsonOption = False,
) -> None:
    """An address by which somebody without keys can upload one FBX, for an hour."""
    store = _sets().store
    if isinstance(store, LocalStore):
        raise CommandError(
            f"{store.address()} is a folder; upload addresses need POSEFACTORY_STORE=r2://bucket/prefix"
        )
    from posefactory_dagster.storage.r2 import UPLOAD_URL_SECONDS, R2Store

    assert isinstance(store, R2Store)
    key = safe_slug(name.removesuffix(".fbx"))
    taken = intake.uploads_by_key(store).get(key)
    if taken:
        raise CommandError(f"{name}: the key {key!r} belongs to {taken[0].file_name!r} already")
    address = store.presigned(layout.upload(f"{key}.fbx"), "put_object", UPLOAD_URL_SECONDS)
    document = {"key": key, "url": address, "seconds": UPLOAD_URL_SECONDS}

    def print_it() -> None:
        out.print(f"curl -T {shlex.quote(name)} {shlex.quote(address)}", soft_wrap=True)
        err.print(
            f"works for {UPLOAD_URL_SECONDS // 60} minutes; the file becomes [bold]{key}[/bold] and may have "
            f"{environment().max_upload_mb:g} MB, which is checked when it is taken in"
        )

    _show(as_json, document, print_it)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """What works on this machine, and what to do about the rest."""
    from posefactory_dagster.doctor import examine

    findings = []
    with (
        _native_chatter_in_log(),
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
            mark = (
                "[green]ok[/green]"
                if f.ok
                else ("[red]missing[/red]" if f.needed else "[yellow]no[/yellow]")
            )
            table.add_row(f.what, mark, f.says)
        out.print(table)

    _show(as_json, rows, print_it)
    if any(f.needed and not f.ok for f in findings):
        raise typer.Exit(WORK_FAILED)


if __name__ == "__main__":
    main()
