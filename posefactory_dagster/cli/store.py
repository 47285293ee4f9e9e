"""The store: check it, clean it, move it, let others upload to it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from blender_scripts.contract import MOTION_ENDINGS
from posefactory_dagster.budget.ledger import read_ledger
from posefactory_dagster.compute.record import damaged_jobs
from posefactory_dagster.intake import uploads as intake
from posefactory_dagster.motions.documents import RecipeError, read_recipe, recipe_marks
from posefactory_dagster.review.approval import damaged_locks, read_decisions, unreadable_locks
from posefactory_dagster.review.documents import Reviewed
from posefactory_dagster.rooms import modules
from posefactory_dagster.settings import environment
from posefactory_dagster.slugs import safe_slug
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, Unreadable
from posefactory_dagster.storage.store import DamagedObject, LocalStore
from posefactory_dagster.terminal import (
    WORK_FAILED,
    CommandError,
    JsonOption,
    err,
    open_instance,
    open_sets,
    out,
    print_error,
    show,
)

verbs = typer.Typer(no_args_is_help=True, help="The store of committed sets.")


def _reviewed() -> dict[str, type[Reviewed]]:
    """The kinds of artifacts that are reviewed, with the classes of their records."""
    return {
        k: v for module in modules("documents") for k, v in getattr(module, "REVIEWED", {}).items()
    }


def _faults() -> dict[str, Callable[[CommittedSet], str | None]]:
    """What beyond its files is asked of a set, by asset: facts that can be read, and what the room itself looks at."""

    def unreadable(model: type[BaseModel]) -> Callable[[CommittedSet], str | None]:
        def fault(committed: CommittedSet) -> str | None:
            try:
                committed.facts_as(model)
            except DamagedObject as error:
                return str(error)
            return None

        return fault

    facts = {
        a: m for module in modules("documents") for a, m in getattr(module, "FACTS", {}).items()
    }
    more = {a: f for module in modules("validation") for a, f in module.FAULTS.items()}

    def of(asset: str) -> Callable[[CommittedSet], str | None]:
        asked = [unreadable(facts[asset])] if asset in facts else []
        asked += [more[asset]] if asset in more else []
        return lambda committed: next((f for ask in asked if (f := ask(committed))), None)

    return {asset: of(asset) for asset in {*facts, *more}}


@verbs.command("verify")
def verify(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Drop damaged sets, to be made again, and move what cannot be read to set-aside/.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every file of every committed set, every pointer, lock, ledger entry, job and decision."""

    sets = open_sets()
    damages, count = [], 0
    with err.status("verifying") as status:
        for ref, found in sets.verify(_faults()):
            count += 1
            status.update(f"verifying {count}: {ref.asset} {ref.partition}")
            damages += found
            if found and repair:
                sets.drop(ref)
    unreadable = list(_unreadable(sets))
    if repair:
        for item in unreadable:
            sets.set_aside(item.key)
    locks = list(damaged_locks(sets.store, _reviewed()))
    rows = [
        {"asset": d.ref.asset, "partition": d.ref.partition, "identity": d.ref.identity, "file": d.file, "fault": d.fault}
        for d in damages
    ]  # fmt: skip

    def print_it() -> None:
        for row in rows:
            out.print(
                f"{row['asset']} {row['partition']} {row['identity']}: {row['file']}: {row['fault']}",
                soft_wrap=True,
            )
        for item in unreadable:
            out.print(f"{item.key}: {item.fault}", soft_wrap=True)
        out.print(f"{count} sets checked, {len(rows) + len(unreadable)} faults found")
        for text in locks:
            print_error(
                f"{text}; restore it from a copy, or take it out with posefactory review reject"
            )
        if rows:
            todo = "posefactory run --stale makes them again"
            out.print(f"dropped; {todo}" if repair else f"posefactory store verify --repair drops these sets, and {todo}")  # fmt: skip
        if unreadable:
            where = sets.store.address(layout.SET_ASIDE)
            out.print(
                f"what cannot be read was moved to {where}"
                if repair
                else f"posefactory store verify --repair moves what cannot be read to {where}",
                soft_wrap=True,
            )

    document = {
        "sets": count,
        "damaged": rows,
        "unreadable": [dataclasses.asdict(item) for item in unreadable],
        "locks": locks,
        "repaired": repair,
    }
    show(as_json, document, print_it)
    if locks or ((rows or unreadable) and not repair):
        raise typer.Exit(WORK_FAILED)


def _unreadable(sets: CommittedSets) -> Iterator[Unreadable]:
    """Objects beside the sets that are not what their keys say."""
    yield from sets.unreadable()
    for key, fault in read_ledger(sets.store)[1].items():
        yield Unreadable(key, fault)
    for key, fault in damaged_jobs(sets.store):
        yield Unreadable(key, fault)
    for key in unreadable_locks(sets.store, _reviewed()):
        yield Unreadable(key, "not a lock; without it, its variant is judged again")
    for key, _ in recipe_marks(sets.store):
        try:
            read_recipe(sets.store, key)
        except RecipeError as error:
            yield Unreadable(layout.recipe(key), str(error))
    for key in read_decisions(sets.store).errors:
        yield Unreadable(key, "not a file of decisions")


@verbs.command("gc")
def gc(
    grace_hours: Annotated[float, typer.Option(help="Spare what was touched since.", min=0)] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove sets that nothing points to, and what killed runs left behind; what a run in progress may use stays."""
    from posefactory_dagster.pipeline.runs import seconds_of_oldest_run

    with open_instance() as instance:
        busy = seconds_of_oldest_run(instance)
    grace_s = grace_hours * 3600
    if busy is not None and busy > grace_s:
        err.print("a run is in progress: what was touched since it began stays", soft_wrap=True)
        grace_s = busy
    removed, freed = open_sets().collect_garbage(grace_s, dry_run)

    def print_it() -> None:
        for prefix in removed:
            out.print(prefix, soft_wrap=True)
        verb = "would go" if dry_run else "removed"
        out.print(f"{len(removed)} sets {verb}, {freed / 1e6:.1f} MB")

    show(as_json, {"removed": removed, "bytes": freed, "dry_run": dry_run}, print_it)


@verbs.command("copy")
def copy(
    source: Annotated[str, typer.Argument(help="A folder, or r2://bucket/prefix.")],
    target: Annotated[str, typer.Argument(help="A folder, or r2://bucket/prefix.")],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Let readers of TARGET get SOURCE's sets even of what went on there."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy uploads, committed sets and variants to another store; run it again to go on where it was cut off."""
    from posefactory_dagster.storage.copying import Copied, copy_store

    copied = Copied()
    with err.status("copying") as status:
        for what, copied in copy_store(open_store(source), open_store(target), replace):
            status.update(f"copying {copied.sets} sets, {copied.bytes / 1e6:.0f} MB: {what}")

    def print_it() -> None:
        out.print(
            f"{copied.sets} sets, {copied.uploads} uploads and {copied.variants} files of variants copied ({copied.bytes / 1e6:.1f} MB), "
            f"{copied.found} were there already"
        )
        for key in copied.clashes:
            print_error(f"{key}: {target} holds another file of that name; rename one of them")
        for key in copied.kept:
            err.print(
                f"{key}: {target} has gone on by itself, so its readers keep what they have (--replace changes it)",
                soft_wrap=True,
            )

        for text in copied.damaged:
            print_error(text)

    show(as_json, dataclasses.asdict(copied), print_it)
    if copied.clashes or copied.damaged:
        raise typer.Exit(WORK_FAILED)


def upload_url(
    name: Annotated[str, typer.Argument(help="The file's name; it gives the key.")],
    as_json: JsonOption = False,
) -> None:
    """An address by which somebody without keys can upload one model or motion, for an hour."""
    store = open_sets().store
    if isinstance(store, LocalStore):
        raise CommandError(
            f"{store.address()} is a folder; upload addresses need POSEFACTORY_STORE=r2://bucket/prefix"
        )
    from posefactory_dagster.storage.r2 import UPLOAD_URL_SECONDS, R2Store

    assert isinstance(store, R2Store)
    ending = Path(name).suffix.lower()
    known = ending in MOTION_ENDINGS
    key = safe_slug(Path(name).stem if known else name)
    taken = intake.uploads_by_key(store).get(key)
    if taken:
        raise CommandError(f"{name}: the key {key!r} belongs to {taken[0].file_name!r} already")
    address = store.presigned(
        layout.upload(f"{key}{ending if known else '.fbx'}"), "PUT", UPLOAD_URL_SECONDS
    )
    document = {"key": key, "url": address, "seconds": UPLOAD_URL_SECONDS}

    def print_it() -> None:
        out.print(f"curl -T {shlex.quote(name)} {shlex.quote(address)}", soft_wrap=True)
        err.print(
            f"works for {UPLOAD_URL_SECONDS // 60} minutes; the file becomes {key} and may have "
            f"{environment().max_upload_mb:g} MB, which is checked when it is taken in"
        )

    show(as_json, document, print_it)


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.add_typer(verbs, name="store")
    app.command("upload-url")(upload_url)
