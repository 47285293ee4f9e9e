"""Command-line verbs for characters: add, list, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from posefactory_dagster.characters.documents import ASSET, PARTITIONS, known_facts
from posefactory_dagster.groups.documents import PARTITIONS as GROUPS
from posefactory_dagster.groups.documents import groups_with
from posefactory_dagster.intake import uploads as intake
from posefactory_dagster.intake.adding import add_files
from posefactory_dagster.motions.documents import (
    CAST,
    MOTION,
    RecipeError,
    keep_for_motions,
    read_motion_record,
    read_recipe,
    register_clips,
)
from posefactory_dagster.pipeline.plans import failures_by_key
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSets
from posefactory_dagster.terminal import (
    CommandError,
    JsonOption,
    open_instance,
    open_sets,
    out,
    print_error,
    print_table,
    register,
    registered_keys,
    show,
)

verbs = typer.Typer(no_args_is_help=True, help="Uploaded characters and motions.")


@verbs.command("add")
def add(
    files: Annotated[
        list[Path], typer.Argument(help="Characters or motions: FBX, glTF, VRM or BVH.")
    ],
    name: Annotated[str | None, typer.Option(help="Key to give it (one file only).")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Over another file of that key.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy files into the upload folder and register their keys."""
    if name is not None and len(files) > 1:
        raise CommandError("--name goes with one file")
    sets = open_sets()
    added, errors = add_files(sets, files, name, replace=replace)
    with open_instance() as instance:
        motions = {
            a.key: register_clips(instance, sets.store, a.key, a.clips, skin=a.skin) for a in added
        }
        for skin, mine, other in ((True, PARTITIONS, MOTION), (False, MOTION, PARTITIONS)):
            keys = [a.key for a in added if a.skin == skin]
            register(instance, mine, [k for k in keys if skin or k in motions[k]])
            # A file of the other kind took its place.
            for key in set(keys) & set(registered_keys(instance, other)):
                if not skin or key not in motions[key]:
                    instance.delete_dynamic_partition(other, key)
                    sets.store.delete([layout.current(other, key)])
    rows = [
        {
            "file": a.file,
            "key": a.key,
            "kind": "skin" if a.skin else "motion",
            **({"motions": motions[a.key]} if motions[a.key] not in ([], [a.key]) else {}),
            **({"same_file_as": a.twin} if a.twin else {}),
        }
        for a in added
    ]

    def print_it() -> None:
        for a in added:
            clips = len(motions[a.key])
            what = "" if a.skin else ", a motion"
            what = f", {clips} motions: posefactory motions list" if clips > 1 else what
            out.print(f"{a.file}  ->  {a.key}{what}", soft_wrap=True)
            if a.twin:
                out.print(
                    f"  the same file as {a.twin}: if it was only renamed, posefactory characters remove {a.twin}",
                    soft_wrap=True,
                )
        for text in errors:
            print_error(text)

    show(as_json, {"added": rows, "errors": errors}, print_it)
    if errors:
        raise typer.Exit(2)


@verbs.command("list")
def list_all(as_json: JsonOption = False) -> None:
    """Characters and motions: what they are, and how far they have come."""
    from posefactory_dagster.pipeline.partitions import standing_failures

    sets = open_sets()
    with open_instance() as instance:
        characters = registered_keys(instance, PARTITIONS)
        motions = registered_keys(instance, MOTION)
        failed = failures_by_key(standing_failures(instance, [*characters, *motions]))
    uploads = intake.uploads_by_key(sets.store)
    pointed = _pointed(sets)
    rows: list[dict[str, Any]] = []
    for asset, keys in ((ASSET, characters), (MOTION, motions)):
        for key in keys:
            facts = known_facts(sets.readable(asset, key))
            names = pointed.get(key, ()) if asset == ASSET else (MOTION,)
            made = [
                s
                for a in names
                if a not in (MOTION, CAST) or asset == MOTION
                if (s := sets.readable(a, key))
            ]
            rows.append(
                {
                    "key": key,
                    "kind": facts.kind if facts else "not inspected",
                    "height_m": facts.height_m if facts else None,
                    "frames": list(facts.frame_range) if facts else None,
                    "done": [s.ref.asset for s in sorted(made, key=lambda s: s.created_at)],
                    "failed": failed.get(key),
                    "gone": [
                        part
                        for part in _parts(sets, key, motion=asset == MOTION)
                        if part not in uploads
                    ],
                }
            )

    def print_it() -> None:
        table = Table("key", "kind", "height", "frames", "last asset made", "state")
        for row in rows:
            height = f"{row['height_m']:.2f} m" if row["height_m"] else ""
            frames = "{} to {}".format(*row["frames"]) if row["frames"] else ""
            table.add_row(
                row["key"], row["kind"], height, frames, (row["done"] or [""])[-1], _state(row)
            )
        print_table(table, "no characters yet: posefactory characters add FILE")

    show(as_json, rows, print_it)


def _parts(sets: CommittedSets, key: str, *, motion: bool = False) -> list[str]:
    """The uploads that a key is made from.

    Args:
        motion: whether it is a motion's key; else a character's.
    """
    try:
        recipe = None if motion else read_recipe(sets.store, key)
        if not motion and layout.is_part(key) and sets.store.get_bytes(layout.group_record(key)):
            return []
        if motion or recipe is not None:
            upload = read_motion_record(sets.store, recipe.motion if recipe else key).upload
            return [upload] if recipe is None else [recipe.skin, upload]
    except RecipeError:  # told by its run, and by verify
        return []
    return [key]


def _motion_of(sets: CommittedSets, cast: str) -> list[str]:
    try:
        recipe = read_recipe(sets.store, cast)
    except RecipeError:
        return []
    return [] if recipe is None else [recipe.motion]


def _pointed(sets: CommittedSets) -> dict[str, list[str]]:
    """The assets of which readers get a set, by key."""
    found: dict[str, list[str]] = {}
    for item in sorted(sets.store.list(layout.CURRENT), key=lambda i: i.key):
        if place := layout.parse_current(item.key):
            found.setdefault(place[1], []).append(place[0])
    return found


def _state(row: dict[str, Any]) -> str:
    """What a person has to know of a key, in words."""
    words = [f"upload gone: {', '.join(row['gone'])}"] if row["gone"] else []
    words += [f"failed: {row['failed']}"] if row["failed"] else []
    return "; ".join(words) or "ok"


@verbs.command("remove")
def remove(
    keys: Annotated[list[str], typer.Argument(help="Keys to forget.")],
    as_json: JsonOption = False,
) -> None:
    """Forget characters, casts and motions: their keys, their uploads, and their place in the next dataset.

    Their sets stay until `store gc`; earlier datasets keep them.
    """
    from posefactory_dagster.pipeline.partitions import forget_failures

    sets = open_sets()
    with open_instance() as instance:
        registered = {name: registered_keys(instance, name) for name in (PARTITIONS, CAST, MOTION)}
        if unknown := [k for k in keys if not any(k in known for known in registered.values())]:
            raise CommandError(
                f"{', '.join(unknown)}: not registered; posefactory characters list shows what is"
            )
        for key in registered[CAST]:
            if key not in keys and {*_parts(sets, key), *_motion_of(sets, key)} & set(keys):
                raise CommandError(f"{key} is made from it; remove that too, or first")
        if groups := [k for k in keys if k in registered_keys(instance, GROUPS)]:
            raise CommandError(f"{groups[0]} is a group; posefactory groups remove {groups[0]} forgets it")  # fmt: skip
        for group, member in groups_with(sets.store, registered_keys(instance, GROUPS), keys):
            raise CommandError(f"{member} is in the group {group}; posefactory groups remove {group} first")  # fmt: skip
        uploads = intake.uploads_by_key(sets.store)
        pointed = _pointed(sets)
        forget_failures(instance, keys)
        # A file whose animations are motions stays for them, and is no character's any more.
        stays = keep_for_motions(sets.store, [k for k in registered[MOTION] if k not in keys], keys)
        for key in keys:
            pointers = [layout.current(asset, key) for asset in pointed.get(key, ())]
            files = [u.object_key for u in uploads.get(key, []) if key not in stays]
            recipe = [layout.recipe(key)] if layout.is_part(key) else []
            if key in registered[MOTION]:
                recipe.append(layout.motion_record(key))
            sets.store.delete([*files, *pointers, *recipe])
            for name in (n for n, known in registered.items() if key in known):
                instance.delete_dynamic_partition(name, key)
    show(as_json, {"removed": keys}, lambda: out.print(f"removed {', '.join(keys)}"))


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.add_typer(verbs, name="characters")
