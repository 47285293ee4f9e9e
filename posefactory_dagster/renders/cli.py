"""Looks on the command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import yaml
from rich.table import Table

from blender_scripts.contract import SettingsError
from posefactory_dagster.renders import looks
from posefactory_dagster.terminal import CommandError, JsonOption, out, print_table, show

verbs = typer.Typer(no_args_is_help=True, help="Looks: places, light and cameras.")


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this room to the command line."""
    app.add_typer(verbs, name="looks")


@verbs.command("list")
def list_looks(as_json: JsonOption = False) -> None:
    """The looks that `[render] looks` may name: those that ship, and those in the folder `looks` beside posefactory.toml."""
    rows: list[dict[str, Any]] = []
    for name, path in sorted(looks.known().items()):
        try:
            look = looks.read(path)
        except SettingsError as error:
            rows.append({"name": name, "fault": str(error)})
            continue
        around = look.environment.set or look.environment.hdri or ("sky" if look.environment.sky else "nothing")  # fmt: skip
        rows.append({"name": name, "around": around, "cameras": look.cameras.kind, "about": look.about, "file": str(path)})  # fmt: skip

    def print_it() -> None:
        table = Table("look", "around", "cameras", "about")
        for row in rows:
            table.add_row(row["name"], row.get("around", ""), row.get("cameras", ""), row.get("about") or row.get("fault", ""))  # fmt: skip
        print_table(table, "no looks")

    show(as_json, rows, print_it)


@verbs.command("show")
def show_look(
    name: Annotated[str, typer.Argument(help="Name of a look.")], as_json: JsonOption = False
) -> None:
    """A look with all its values, as a start for one of your own."""
    files = looks.known()
    if name not in files:
        raise CommandError(f"no look {name!r}; posefactory looks list shows all")
    try:
        values = looks.read(files[name]).model_dump(mode="json", exclude_none=True)
    except SettingsError as error:
        raise CommandError(str(error)) from error
    show(as_json, values, lambda: out.print(yaml.safe_dump(values, sort_keys=False), end="", highlight=False))  # fmt: skip
