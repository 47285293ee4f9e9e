"""People on the command line: describe, draw, list and remove them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.table import Table

from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.groups.documents import PARTITIONS as GROUPS
from posefactory_dagster.groups.documents import groups_with
from posefactory_dagster.people import describing, sampling
from posefactory_dagster.people.documents import (
    ASSET,
    PARTITIONS,
    Person,
    PersonError,
    PersonFacts,
    described,
    read_person,
    write_person,
)
from posefactory_dagster.people.pieces import (
    ABOUT_FILE,
    PieceFacts,
    WardrobeError,
    about,
    find_pieces,
    unpack,
)
from posefactory_dagster.slugs import SlugError, character_slug
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store
from posefactory_dagster.terminal import (
    CommandError,
    JsonOption,
    forget,
    open_instance,
    open_sets,
    out,
    print_error,
    print_table,
    register,
    registered_keys,
    show,
    unknown_text,
)

verbs = typer.Typer(no_args_is_help=True, help="People that the factory makes.")
wardrobe_verbs = typer.Typer(
    no_args_is_help=True, help="Clothes, shoes and hair of MakeHuman's kind, for people to wear."
)
#: So many are drawn at once at most.
MAX_SAMPLE = 10_000


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this room to the command line."""
    app.add_typer(verbs, name="people")
    app.add_typer(wardrobe_verbs, name="wardrobe")


@verbs.command("describe")
def describe(
    sentence: Annotated[str, typer.Argument(help='As "a tall older woman, athletic, red jacket, grey bun".')],
    to: Annotated[Path | None, typer.Option(help="Write the description to this YAML file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what the sentence leaves open.")] = 0,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Show what is understood of a sentence, and what is not; nobody is made."""
    try:
        found = describing.parse(sentence, seed)
    except describing.DescriptionError as error:
        raise CommandError(str(error)) from error
    values = found.person.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    text = yaml.safe_dump({**values, "seed": seed}, sort_keys=False)
    if to is not None:
        to.write_text(text, "utf-8")
    document = {"person": values, "understood": [list(u) for u in found.understood], "not_understood": list(found.not_understood)}  # fmt: skip

    def print_it() -> None:
        out.print(text, end="", highlight=False)
        _print_understood(found)

    show(as_json, document, print_it)


def _print_understood(found: describing.Understood) -> None:
    table = Table("understood", "as")
    for field, words in found.understood:
        table.add_row(words, field)
    print_table(table, "nothing")
    if found.not_understood:
        out.print(f"not understood: {', '.join(found.not_understood)}", style="yellow")


@verbs.command("add")
def add(
    people: Annotated[list[str], typer.Argument(help="YAML files with a description, or sentences.")],
    name: Annotated[str | None, typer.Option(help="Key to give (one person only).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what a sentence leaves open.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Over another person of that key.")] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Take people in by their descriptions; `posefactory run KEY` builds and renders them."""
    if name is not None and len(people) > 1:
        raise CommandError("--name goes with one person")
    sets = open_sets()
    rows: list[dict[str, Any]] = []
    with open_instance() as instance:
        for given in people:
            person, said, stem = _read(given, seed)
            try:
                key = character_slug(name or stem)
            except SlugError as error:
                raise CommandError(f"{given}: {error}") from error
            _keep(sets.store, key, person, registered_keys(instance, CHARACTERS), replace)
            register(instance, PARTITIONS, [key])
            register(instance, CHARACTERS, [key])
            rows.append({"key": key, "given": given, "not_understood": list(said.not_understood) if said else []})  # fmt: skip

    def print_it() -> None:
        for row in rows:
            out.print(f"{row['given']}  ->  {row['key']}", soft_wrap=True)
            if row["not_understood"]:
                out.print(f"  not understood: {', '.join(row['not_understood'])}", style="yellow")
        out.print(f"posefactory run {' '.join(r['key'] for r in rows[:4])} builds and renders them")

    show(as_json, rows, print_it)


def _read(given: str, seed: int) -> tuple[Person, describing.Understood | None, str]:
    path = Path(given)
    if path.suffix.lower() in (".yaml", ".yml"):
        try:
            values = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise CommandError(f"{path.name}: cannot be read as YAML ({type(error).__name__})") from error  # fmt: skip
        try:
            return described(values, path.name), None, path.stem
        except PersonError as error:
            raise CommandError(str(error)) from error
    try:
        found = describing.parse(given, seed)
    except describing.DescriptionError as error:
        raise CommandError(str(error)) from error
    return found.person, found, "_".join(w for _, w in found.understood)[:48]


def _keep(store: Store, key: str, person: Person, characters: list[str], replace: bool) -> None:
    try:
        there = read_person(store, key)
    except PersonError:
        there = None
    if there == person:
        return
    if there is None and key in characters:
        raise CommandError(f"{key}: a character has this key already; give another with --name")
    if there is not None and not replace:
        raise CommandError(f"{key}: another person has this key already; give another with --name, or take its place with --replace")  # fmt: skip
    write_person(store, key, person)


@verbs.command("sample")
def sample(
    count: Annotated[int, typer.Argument(min=1, max=MAX_SAMPLE, help="How many.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the population.")] = 0,
    name: Annotated[str, typer.Option(help="Begins their keys.")] = "person",
    as_json: JsonOption = False,
) -> None:
    """Draw a population from the distributions that `docs/people.md` states."""
    sets = open_sets()
    try:
        stem = character_slug(name)
    except SlugError as error:
        raise CommandError(str(error)) from error
    digits = max(3, len(str(count)))
    keys = [f"{stem}_s{seed}_{i:0{digits}d}" for i in range(1, count + 1)]
    drawn = sampling.population(count, seed)
    with open_instance() as instance:
        taken = registered_keys(instance, CHARACTERS)
        for key, person in zip(keys, drawn, strict=True):
            _keep(sets.store, key, person, taken, replace=False)
        register(instance, PARTITIONS, keys)
        register(instance, CHARACTERS, keys)
    rows = [{"key": k, **_short(sampling.complete(p))} for k, p in zip(keys, drawn, strict=True)]

    def print_it() -> None:
        _table(rows[:20])
        if len(rows) > 20:
            out.print(f"… and {len(rows) - 20} more")
        out.print(f"posefactory run {keys[0]} builds and renders the first, run --all everybody")

    show(as_json, rows, print_it)


def _short(person: Person) -> dict[str, Any]:
    worn = [g.kind or g.piece for g in person.clothes or ()]
    return {
        "gender": person.gender, "age": person.age, "build": person.body_type, "height_m": person.height_m, "skin_tone": person.skin.tone,
        "hair": person.hair.style or person.hair.piece, "wears": ", ".join(str(w) for w in worn),
    }  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> None:
    table = Table("person", "gender", "age", "build", "height", "skin", "hair", "wears", "")
    for row in rows:
        height = "" if row["height_m"] is None else f"{row['height_m']:.2f} m"
        table.add_row(row["key"], str(row["gender"]), f"{row['age']:g}", str(row["build"]), height, f"{row['skin_tone']:g}", str(row["hair"]), row["wears"], row.get("state", ""))  # fmt: skip
    print_table(table, "nobody; posefactory people sample 5 draws some")


@verbs.command("list")
def list_people(as_json: JsonOption = False) -> None:
    """The people that were described, with what was drawn for them."""
    sets = open_sets()
    rows: list[dict[str, Any]] = []
    with open_instance() as instance:
        for key in registered_keys(instance, PARTITIONS):
            try:
                person = read_person(sets.store, key)
            except PersonError as error:
                rows.append({"key": key, **_short(Person()), "age": 0, "skin_tone": 0, "state": str(error)})  # fmt: skip
                continue
            if person is not None:
                state = "built" if sets.readable(ASSET, key) is not None else "not built yet"
                rows.append({"key": key, **_short(sampling.complete(person)), "state": state})
    show(as_json, rows, lambda: _table(rows))


@verbs.command("show")
def show_person(
    key: Annotated[str, typer.Argument(help="Key of a person.")], as_json: JsonOption = False
) -> None:
    """A person's description with all that was drawn, and what was measured of the built body."""
    sets = open_sets()
    with open_instance() as instance:
        known = registered_keys(instance, PARTITIONS)
    try:
        person = read_person(sets.store, key) if key in known else None
    except PersonError as error:
        raise CommandError(str(error)) from error
    if person is None:
        raise CommandError(unknown_text([key], known).replace("characters list", "people list"))
    values: dict[str, Any] = {"person": sampling.complete(person).model_dump(mode="json", exclude_none=True)}  # fmt: skip
    if (committed := sets.readable(ASSET, key)) is not None:
        values["built"] = committed.facts_as(PersonFacts).model_dump()
    show(as_json, values, lambda: out.print(yaml.safe_dump(values, sort_keys=False), end="", highlight=False))  # fmt: skip


@verbs.command("remove")
def remove(
    keys: Annotated[list[str], typer.Argument(help="Keys to forget.")], as_json: JsonOption = False
) -> None:
    """Forget people, and the characters that they became."""
    from posefactory_dagster.intake import uploads as intake
    from posefactory_dagster.motions.documents import CAST, RecipeError, read_recipe

    sets = open_sets()
    with open_instance() as instance:
        known = registered_keys(instance, PARTITIONS)
        if unknown := [k for k in keys if k not in known]:
            raise CommandError(unknown_text(unknown, known).replace("characters list", "people list"))  # fmt: skip
        for cast in registered_keys(instance, CAST):
            try:
                recipe = read_recipe(sets.store, cast)
            except RecipeError:
                continue
            if recipe is not None and recipe.skin in keys:
                raise CommandError(f"{cast} is made from {recipe.skin}; posefactory characters remove {cast} first")  # fmt: skip
        for group, member in groups_with(sets.store, registered_keys(instance, GROUPS), keys):
            raise CommandError(f"{member} is in the group {group}; posefactory groups remove {group} first")  # fmt: skip
        uploads = intake.uploads_by_key(sets.store)
        own = {k: [layout.person_record(k), *(u.object_key for u in uploads.get(k, []))] for k in keys}  # fmt: skip
        forget(instance, sets, (PARTITIONS, CHARACTERS), own)
    show(as_json, {"removed": keys}, lambda: out.print(f"removed {', '.join(keys)}"))


@wardrobe_verbs.command("add")
def add_pieces(
    packs: Annotated[list[Path], typer.Argument(help="Folders or zips with .mhclo files.")],
    licence: Annotated[
        str | None, typer.Option(help="Of pieces that do not say it themselves, as CC-BY-4.0.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take pieces in; descriptions of people name them as `piece: NAME`."""
    store = open_sets().store
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    for pack in packs:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pack
            try:
                if pack.is_file():
                    folder = Path(scratch)
                    unpack(pack, folder)
                elif not pack.is_dir():
                    raise WardrobeError(f"{pack}: no such folder or zip")
            except WardrobeError as error:
                faults.append(str(error))
                continue
            found, wrong = find_pieces(folder, licence)
            faults += wrong
            for piece in found:
                name = piece.facts.name
                store.delete([i.key for i in store.list(layout.wardrobe_piece(name))])
                _store_copies(store, name, piece.files)
                # Last, as it makes the piece exist.
                store.put_bytes(layout.wardrobe_file(name, ABOUT_FILE), about(piece.facts))
                rows.append(piece.facts.model_dump())

    def print_it() -> None:
        _print_pieces(rows)
        for text in faults:
            print_error(text)

    show(as_json, {"added": rows, "errors": faults}, print_it)
    if faults:
        raise typer.Exit(2)


def _store_copies(store: Store, piece: str, files: Mapping[str, Path]) -> None:
    """Keep copies of a piece's files: a store takes what it is given away."""
    with tempfile.TemporaryDirectory() as folder:
        copies = {}
        for name, path in files.items():
            copies[layout.wardrobe_file(piece, name)] = Path(folder) / name
            shutil.copyfile(path, Path(folder) / name)
        store.put_files(copies)


def _pieces(store: Store) -> list[dict[str, Any]]:
    keys = [i.key for i in store.list(layout.WARDROBE) if i.key.endswith("/" + ABOUT_FILE)]
    found = []
    for key in sorted(keys):
        try:
            found.append(PieceFacts.model_validate_json(store.get_bytes(key) or b"").model_dump())
        except ValidationError:
            found.append({"name": key.split("/")[1], "role": "cannot be read; add it again", "licence": ""})  # fmt: skip
    return found


def _print_pieces(rows: list[dict[str, Any]]) -> None:
    table = Table("piece", "what", "licence", "author")
    for row in rows:
        table.add_row(row["name"], row["role"], row["licence"], row.get("author", ""))
    print_table(table, "no pieces; posefactory wardrobe add FOLDER takes some in")


@wardrobe_verbs.command("list")
def list_pieces(as_json: JsonOption = False) -> None:
    """The pieces of the wardrobe, with their licences."""
    rows = _pieces(open_sets().store)
    show(as_json, rows, lambda: _print_pieces(rows))


@wardrobe_verbs.command("remove")
def remove_pieces(
    names: Annotated[list[str], typer.Argument(help="Names of pieces.")],
    as_json: JsonOption = False,
) -> None:
    """Forget pieces; people that were built with them stay as they are."""
    store = open_sets().store
    known = [str(row["name"]) for row in _pieces(store)]
    if unknown := [n for n in names if n not in known]:
        raise CommandError(f"{', '.join(unknown)}: not in the wardrobe; posefactory wardrobe list shows what is")  # fmt: skip
    for name in names:
        store.delete([i.key for i in store.list(layout.wardrobe_piece(name))])
    show(as_json, {"removed": names}, lambda: out.print(f"removed {', '.join(names)}"))
