"""Groups on the command line: put together, draw, list and remove them."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from blender_scripts.contract import ARRANGEMENTS, GROUP_SIZES
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.groups.documents import (
    ASSET,
    PARTITIONS,
    Group,
    GroupError,
    grouped,
    read_group,
    write_group,
)
from posefactory_dagster.slugs import SlugError, character_slug
from posefactory_dagster.storage import layout
from posefactory_dagster.terminal import (
    CommandError,
    JsonOption,
    forget,
    open_instance,
    open_sets,
    out,
    print_table,
    register,
    registered_keys,
    show,
    unknown_text,
)

verbs = typer.Typer(no_args_is_help=True, help="Several characters in one image.")
#: So many are drawn at once at most.
MAX_SAMPLE = 1_000


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this room to the command line."""
    app.add_typer(verbs, name="groups")


@verbs.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Key to give.")],
    members: Annotated[list[str], typer.Argument(help=f"Keys of {GROUP_SIZES[0]} to {GROUP_SIZES[1]} characters.")],
    arrangement: Annotated[str, typer.Option(help=f"One of {', '.join(ARRANGEMENTS)}.")] = ARRANGEMENTS[0],
    spacing: Annotated[float | None, typer.Option(help="Metres between neighbours; by default as near as their motions let them.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of turns, and of how far each is in its motion.")] = 0,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Put characters together; `posefactory run KEY` arranges and renders them."""
    sets = open_sets()
    try:
        key = character_slug(name)
        values = {"members": members, "arrangement": arrangement, "spacing_m": spacing, "seed": seed}  # fmt: skip
        group = grouped(values, key)
    except (SlugError, GroupError) as error:
        raise CommandError(str(error)) from error
    with open_instance() as instance:
        known = registered_keys(instance, CHARACTERS)
        if unknown := [m for m in members if m not in known]:
            raise CommandError(unknown_text(unknown, known))
        groups = registered_keys(instance, PARTITIONS)
        if nested := [m for m in members if m in groups]:
            raise CommandError(f"{nested[0]} is a group itself; name its members instead")
        if key in known and key not in groups:
            raise CommandError(f"{key}: a character has this key already; give another")
        write_group(sets.store, key, group)
        register(instance, PARTITIONS, [key])
        register(instance, CHARACTERS, [key])
    rows = [{"key": key, **group.model_dump(mode="json")}]
    show(as_json, rows, lambda: out.print(f"{key}: {', '.join(members)}; posefactory run {key} arranges and renders it"))  # fmt: skip


@verbs.command("sample")
def sample(
    count: Annotated[int, typer.Argument(min=1, max=MAX_SAMPLE, help="How many.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of who is drawn, and of how they stand.")] = 0,
    most: Annotated[int, typer.Option(min=GROUP_SIZES[0], max=GROUP_SIZES[1], help="Of people in a group.")] = 4,
    name: Annotated[str, typer.Option(help="Begins their keys.")] = "group",
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Draw groups from the project's characters: each size, arrangement and character as likely as another."""
    sets = open_sets()
    try:
        stem = character_slug(name)
    except SlugError as error:
        raise CommandError(str(error)) from error
    chance = np.random.default_rng([seed, count])
    rows: list[dict[str, Any]] = []
    with open_instance() as instance:
        groups = registered_keys(instance, PARTITIONS)
        single = [k for k in registered_keys(instance, CHARACTERS) if k not in groups]
        if len(single) < GROUP_SIZES[0]:
            raise CommandError(f"a group takes {GROUP_SIZES[0]} characters, and there are {len(single)}; posefactory people sample 5 draws some")  # fmt: skip
        for number in range(1, count + 1):
            size = int(chance.integers(GROUP_SIZES[0], min(most, len(single)) + 1))
            members = [single[i] for i in chance.choice(len(single), size, replace=False)]
            how = str(chance.choice(ARRANGEMENTS))
            group = Group(members=tuple(members), arrangement=how, seed=int(chance.integers(2**31)))
            key = f"{stem}_s{seed}_{number:03d}"
            if key in single:
                raise CommandError(f"{key}: a character has this key already; give another --name")
            write_group(sets.store, key, group)
            rows.append({"key": key, **group.model_dump(mode="json")})
        keys = [r["key"] for r in rows]
        register(instance, PARTITIONS, keys)
        register(instance, CHARACTERS, keys)
    show(as_json, rows, lambda: _table(rows))


def _table(rows: list[dict[str, Any]]) -> None:
    table = Table("group", "people", "arrangement", "members", "")
    for row in rows:
        table.add_row(row["key"], str(len(row["members"])), row["arrangement"], ", ".join(row["members"]), row.get("state", ""))  # fmt: skip
    print_table(table, "no groups; posefactory groups sample 3 draws some")


@verbs.command("list")
def list_groups(as_json: JsonOption = False) -> None:
    """The groups: who is in them, and whether they are arranged."""
    sets = open_sets()
    rows: list[dict[str, Any]] = []
    with open_instance() as instance:
        for key in registered_keys(instance, PARTITIONS):
            try:
                group = read_group(sets.store, key)
            except GroupError as error:
                rows.append({"key": key, "members": [], "arrangement": "", "state": str(error)})
                continue
            if group is not None:
                state = "arranged" if sets.readable(ASSET, key) is not None else "not arranged yet"
                rows.append({"key": key, **group.model_dump(mode="json"), "state": state})
    show(as_json, rows, lambda: _table(rows))


@verbs.command("remove")
def remove(
    keys: Annotated[list[str], typer.Argument(help="Groups to forget.")],
    as_json: JsonOption = False,
) -> None:
    """Forget groups; their members stay."""
    sets = open_sets()
    with open_instance() as instance:
        known = registered_keys(instance, PARTITIONS)
        if unknown := [k for k in keys if k not in known]:
            raise CommandError(unknown_text(unknown, known).replace("characters list", "groups list"))  # fmt: skip
        own = {k: [layout.group_record(k)] for k in keys}
        forget(instance, sets, (PARTITIONS, CHARACTERS), own)
    show(as_json, {"removed": keys}, lambda: out.print(f"removed {', '.join(keys)}"))
