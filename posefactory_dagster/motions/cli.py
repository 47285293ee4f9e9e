"""Motions: show them, and cast them on skins."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.characters.documents import known_facts
from posefactory_dagster.intake import uploads
from posefactory_dagster.motions.documents import CAST, MOTION, Recipe, RecipeError, read_recipe
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

verbs = typer.Typer(no_args_is_help=True, help="Motions that can be cast on characters.")


def add_verbs(app: typer.Typer) -> None:
    """This room's part of the command line."""
    app.add_typer(verbs, name="motions")
    app.command()(cast)


@verbs.command("list")
def list_motions(as_json: JsonOption = False) -> None:
    """Motions: how long they are, and who does them."""
    sets = open_sets()
    with open_instance() as instance:
        keys = registered_keys(instance, MOTION)
        recipes = [_recipe(sets, key) for key in registered_keys(instance, CAST)]
    rows: list[dict[str, Any]] = []
    for key in keys:
        facts = known_facts(sets.readable(MOTION, key))
        frames = facts.frame_range if facts else None
        rows.append(
            {
                "key": key,
                "frames": list(frames) if frames else None,
                "seconds": round((frames[1] - frames[0]) / facts.fps, 2)
                if facts and frames
                else None,
                "takes": [t.name for t in facts.takes] if facts else [],
                "cast_on": [r.skin for r in recipes if r is not None and r.motion == key],
            }
        )

    def print_it() -> None:
        table = Table("key", "frames", "seconds", "cast on")
        for row in rows:
            frames = "{} to {}".format(*row["frames"]) if row["frames"] else "not inspected"
            table.add_row(row["key"], frames, str(row["seconds"] or ""), ", ".join(row["cast_on"]))
        print_table(table, "no motions yet: posefactory characters add FILE.fbx")

    show(as_json, rows, print_it)


def _recipe(sets: CommittedSets, key: str) -> Recipe | None:
    try:
        return read_recipe(sets.store, key)
    except RecipeError as error:
        print_error(str(error))
        return None


def cast(
    skin: Annotated[str, typer.Argument(help="Key of a character with skin.")],
    motion: Annotated[str, typer.Option(help="Key of a motion.")],
    as_json: JsonOption = False,
) -> None:
    """Register the skin of one file with the motion of another."""
    sets = open_sets()
    found = uploads.uploads_by_key(sets.store)
    for slug in (skin, motion):
        if read_recipe(sets.store, slug) is not None:
            raise CommandError(
                f"{slug} is a cast itself; name uploads: posefactory characters list"
            )
        uploads.find_upload(found, slug)
    recipe = Recipe(skin=skin, motion=motion)
    with open_instance() as instance:
        motions = registered_keys(instance, MOTION)
        for slug, wanted, advice in (
            (skin, "skin", "name a character with a mesh first"),
            (motion, "motion", "a cast takes one skin and one motion"),
        ):
            upload = uploads.find_upload(found, slug)
            bare = uploads.holds_no_geometry(uploads.fetch(sets.store, upload)) or slug in motions
            if bare == (wanted == "skin"):
                kind = "motion" if bare else "skin"
                raise CommandError(f"{upload.file_name} is a {kind}; {advice}")
        sets.store.put_bytes(layout.recipe(recipe.key), recipe.model_dump_json().encode())
        register(instance, MOTION, [recipe.motion])
        register(instance, CAST, [recipe.key])
        register(instance, CHARACTERS, [recipe.key])
    show(as_json, {"key": recipe.key}, lambda: out.print(f"registered {recipe.key}"))
