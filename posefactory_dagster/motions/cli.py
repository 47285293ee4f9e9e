"""Motions: take them in, show and tag them, and cast them on skins."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from blender_scripts.contract import (
    EVENT_IMAGE,
    SKELETONS,
    Job,
    RenderSettings,
    Task,
    TaskInput,
    View,
)
from blender_scripts.supervise import BlenderError
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.compute.job import namings, new_job, rig_map
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.intake import uploads
from posefactory_dagster.intake.adding import add_files
from posefactory_dagster.motions.documents import (
    CAST,
    MOTION,
    MotionFacts,
    MotionRecord,
    Recipe,
    RecipeError,
    read_motion_record,
    read_recipe,
    register_clips,
    write_motion_record,
)
from posefactory_dagster.people.documents import read_person
from posefactory_dagster.settings import ASSETS_DATA, environment, sample_characters
from posefactory_dagster.slugs import safe_slug
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSets, file_sha256
from posefactory_dagster.storage.store import DamagedObject
from posefactory_dagster.terminal import (
    CommandError,
    JsonOption,
    err,
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
rig_verbs = typer.Typer(no_args_is_help=True, help="Rig maps: which bone of a file is which.")
TAG = "tag:"


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this room to the command line."""
    app.add_typer(verbs, name="motions")
    app.add_typer(rig_verbs, name="rigs")
    app.command()(cast)


@verbs.command("add")
def add(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Motions: FBX, glTF, VRM or BVH, with or without a skin."),
    ] = None,
    samples: Annotated[bool, typer.Option("--samples", help="The motions that ship.")] = False,
    tag: Annotated[
        list[str] | None, typer.Option(help="A word for all of them; may be repeated.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Key to give it (one file only).")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Over another file of that key.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy files into the upload folder and make a motion of each animation in them."""
    chosen = [*(files or ()), *(sample_motions() if samples else ())]
    if not chosen:
        raise CommandError("name files, or give --samples")
    if name is not None and len(chosen) > 1:
        raise CommandError("--name goes with one file")
    sets = open_sets()
    added, errors = add_files(sets, chosen, name, replace=replace)
    rows = []
    with open_instance() as instance:
        for one in added:
            several = len(one.clips) > 1
            keys = register_clips(
                instance, sets.store, one.key, one.clips, skin=several and one.skin, alone=one.skin
            )
            if one.skin and keys == [one.key]:
                record = _record(sets, one.key).model_copy(update={"alone": True})
                write_motion_record(sets.store, one.key, record)
            for key in keys:
                _tag(sets, key, [*(tag or ()), *(["sample"] if samples else ())])
            rows.append({"file": one.file, "keys": keys})

    def print_it() -> None:
        for row in rows:
            keys = row["keys"]
            out.print(
                f"{row['file']}  ->  {', '.join(keys[:6])}{' …' if len(keys) > 6 else ''}",
                soft_wrap=True,
            )
        for text in errors:
            print_error(text)

    show(as_json, {"added": rows, "errors": errors}, print_it)
    if errors:
        raise typer.Exit(2)


def sample_motions() -> list[Path]:
    """The motions that ship."""
    return sorted((ASSETS_DATA / "motions").glob("*.bvh"))


@verbs.command("tag")
def tag(
    key: Annotated[str, typer.Argument(help="Key of a motion.")],
    words: Annotated[list[str], typer.Argument(help="Words for it.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take these words away.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give a motion words by which casts can choose it."""
    sets = open_sets()
    with open_instance() as instance:
        if key not in registered_keys(instance, MOTION):
            raise CommandError(
                f"{key}: no such motion; posefactory motions list shows what there is"
            )
    tags = _tag(sets, key, words, remove=remove)
    show(
        as_json,
        {"key": key, "tags": tags},
        lambda: out.print(f"{key}: {', '.join(tags) or 'no tags'}"),
    )


def _tag(sets: CommittedSets, key: str, words: Iterable[str], *, remove: bool = False) -> list[str]:
    record = read_motion_record(sets.store, key)
    words = [w.strip() for w in words if w.strip()]
    kept = [t for t in record.tags if not (remove and t in words)]
    tags = kept if remove else list(dict.fromkeys([*kept, *words]))
    if tuple(tags) != record.tags:
        write_motion_record(sets.store, key, record.model_copy(update={"tags": tuple(tags)}))
    return tags


@verbs.command("remove")
def remove(
    keys: Annotated[list[str], typer.Argument(help="Keys of motions to forget.")],
    as_json: JsonOption = False,
) -> None:
    """Forget motions. Casts of them keep what was made of them, and cannot be made anew.

    The uploaded file goes with the last motion that is made of it, unless it is a character's too.
    """
    from posefactory_dagster.pipeline.partitions import forget_failures

    sets = open_sets()
    with open_instance() as instance:
        known = registered_keys(instance, MOTION)
        if unknown := [k for k in keys if k not in known]:
            raise CommandError(
                f"{', '.join(unknown)}: no such motion; posefactory motions list shows what there is"
            )
        records = {k: _record(sets, k) for k in known}
        used = {r.upload for k, r in records.items() if k not in keys}
        used |= set(registered_keys(instance, CHARACTERS))
        found = uploads.uploads_by_key(sets.store)
        gone = {records[k].upload for k in keys} - used
        forget_failures(instance, keys)
        for key in keys:
            sets.store.delete([layout.motion_record(key), layout.current(MOTION, key)])
            instance.delete_dynamic_partition(MOTION, key)
        sets.store.delete([u.object_key for upload in gone for u in found.get(upload, [])])
    show(as_json, {"removed": keys}, lambda: out.print(f"removed {', '.join(keys)}"))


def _record(sets: CommittedSets, key: str) -> MotionRecord:
    try:
        return read_motion_record(sets.store, key)
    except RecipeError as error:
        print_error(str(error))
        return MotionRecord(upload=key)


@verbs.command("list")
def list_motions(
    select: Annotated[
        str, typer.Option(help="Keys with commas, patterns (walk*), or tag:WORD.")
    ] = "*",
    as_json: JsonOption = False,
) -> None:
    """Motions: how long they are, what is done in them, and who does them."""
    sets = open_sets()
    with open_instance() as instance:
        keys = registered_keys(instance, MOTION)
        recipes = [_recipe(sets, key) for key in registered_keys(instance, CAST)]
    described = _described(sets, keys)
    rows: list[dict[str, Any]] = []
    for key in _select(select, described, "motions"):
        record, facts = described[key]
        rows.append(
            {
                "key": key,
                "frames": list(facts.frame_range) if facts else None,
                "fps": facts.fps if facts else None,
                "seconds": facts.seconds if facts else None,
                "loops": facts.loops if facts else None,
                "travel_m": facts.travel_m if facts else None,
                "tags": _words(record, facts),
                "clip": record.clip,
                "file": record.upload,
                "rig": facts.rig_map if facts else None,
                "cast_on": [r.skin for r in recipes if r is not None and r.motion == key],
            }
        )

    def print_it() -> None:
        table = Table("key", "frames", "seconds", "loops", "travels", "tags", "cast on")
        for row in rows:
            frames = "{} to {}".format(*row["frames"]) if row["frames"] else "not inspected"
            travel = f"{row['travel_m']:.1f} m" if row["travel_m"] is not None else ""
            table.add_row(
                row["key"], frames, f"{row['seconds']:.1f}" if row["seconds"] is not None else "",
                "yes" if row["loops"] else "", travel, ", ".join(row["tags"]), ", ".join(row["cast_on"]),
            )  # fmt: skip
        print_table(table, "no motions yet: posefactory motions add --samples, or FILE")

    show(as_json, rows, print_it)


Described = Mapping[str, tuple[MotionRecord, MotionFacts | None]]


def _described(sets: CommittedSets, keys: Sequence[str]) -> Described:
    """What is known of each motion; facts are None where it is not inspected, or its set is damaged."""
    found = {}
    for key in keys:
        committed = sets.readable(MOTION, key)
        try:
            facts = committed.facts_as(MotionFacts) if committed is not None else None
        except DamagedObject:
            facts = None
        found[key] = (_record(sets, key), facts)
    return found


def _words(record: MotionRecord, facts: MotionFacts | None) -> list[str]:
    """The user's tags and the derived ones."""
    return list(dict.fromkeys([*record.tags, *(facts.derived_tags if facts else ())]))


def _select(wanted: str, described: Described, what: str) -> list[str]:
    """The keys that a selection names: keys or patterns with commas, and ``tag:WORD``.

    Raises:
        CommandError: a part of it names nothing.
    """
    words = {key: _words(record, facts) for key, (record, facts) in described.items()}
    return select_keys(wanted, words, what)


def select_keys(wanted: str, words: Mapping[str, Sequence[str]], what: str) -> list[str]:
    """The keys that a selection names, in their order.

    Args:
        words: the tags of each key.
        what: they are, for the error's text.

    Raises:
        CommandError: a part of the selection names nothing.
    """
    chosen: set[str] = set()
    for part in (p.strip() for p in wanted.split(",") if p.strip()):
        if part.startswith(TAG):
            found = {k for k, tags in words.items() if part[len(TAG) :] in tags}
        else:
            found = set(fnmatch.filter(words, part))
        if not found and part != "*":
            known = ", ".join(sorted({t for tags in words.values() for t in tags})) or "none"
            raise CommandError(f"{part}: none of the {what} ({len(words)} keys; tags: {known})")
        chosen |= found
    return [k for k in words if k in chosen]


def _recipe(sets: CommittedSets, key: str) -> Recipe | None:
    try:
        return read_recipe(sets.store, key)
    except RecipeError as error:
        print_error(str(error))
        return None


def cast(
    skin: Annotated[str | None, typer.Argument(help="Key of a character with skin.")] = None,
    motion: Annotated[str | None, typer.Option(help="Key of a motion.")] = None,
    skins: Annotated[
        str | None, typer.Option(help="Many skins: keys with commas, patterns, or tag:sample.")
    ] = None,
    motions: Annotated[
        str | None, typer.Option(help="Many motions: keys with commas, patterns, or tag:WORD.")
    ] = None,
    touch: Annotated[
        bool,
        typer.Option(
            help="Hands that touch the body or each other in the motion do so in the cast."
        ),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Let skins do motions: each pair is a character of its own, SKIN__MOTION."""
    if (skin is None) == (skins is None) or (motion is None) == (motions is None):
        raise CommandError("name one skin or --skins, and --motion or --motions")
    sets = open_sets()
    found = uploads.uploads_by_key(sets.store)
    with open_instance() as instance:
        registered = {name: registered_keys(instance, name) for name in (CHARACTERS, MOTION, CAST)}
        chosen_skins = (
            [skin] if skin is not None else _select_skins(sets, str(skins), registered, found)
        )
        if motion is not None:
            chosen_motions = [motion]
        else:
            chosen_motions = _select(str(motions), _described(sets, registered[MOTION]), "motions")
        for key in chosen_skins:
            _check_skin(sets, key, registered, found)
        for key in chosen_motions:
            _check_motion(sets, key, registered, found)
        recipes = [
            Recipe(skin=s, motion=m, touch=touch) for s in chosen_skins for m in chosen_motions
        ]
        for recipe in recipes:
            sets.store.put_bytes(layout.recipe(recipe.key), recipe.model_dump_json().encode())
        register(instance, MOTION, list(chosen_motions))
        register(instance, CAST, [r.key for r in recipes])
        register(instance, CHARACTERS, [r.key for r in recipes])
    keys = [r.key for r in recipes]
    answer = {"key": keys[0]} if skin is not None and motion is not None else {"keys": keys}
    text = f"registered {keys[0]}" if len(keys) == 1 else f"registered {len(keys)} casts"
    show(as_json, answer, lambda: out.print(text))


Found = Mapping[str, list[uploads.Upload]]


def _select_skins(
    sets: CommittedSets, wanted: str, registered: Mapping[str, Sequence[str]], found: Found
) -> list[str]:
    """Uploaded characters by their keys and tags; the tag ``sample`` is of those that ship."""
    shipped = {file_sha256(p) for p in sample_characters()}
    words = {}
    for key in registered[CHARACTERS]:
        if key in registered[CAST] or len(found.get(key, ())) != 1:
            continue
        is_sample = file_sha256(uploads.fetch(sets.store, found[key][0])) in shipped
        words[key] = ["sample"] if is_sample else []
    return select_keys(wanted, words, "skins")


def _check_skin(
    sets: CommittedSets, key: str, registered: Mapping[str, Sequence[str]], found: Found
) -> None:
    """Refuse what is no upload with a skin."""
    if read_recipe(sets.store, key) is not None:
        raise CommandError(f"{key} is a cast itself; name uploads: posefactory characters list")
    only_motion = key in registered[MOTION] and key not in registered[CHARACTERS]
    if only_motion and key not in found:
        raise CommandError(f"{key} is a motion; name a character with a mesh first")
    if key not in found and read_person(sets.store, key) is not None:
        raise CommandError(f"{key}: this person is not built yet; posefactory run {key} --until character builds it, then cast it")  # fmt: skip
    upload = uploads.find_upload(found, key)
    path = uploads.fetch(sets.store, upload)
    if only_motion or uploads.holds_no_geometry(path, upload.file_name):
        raise CommandError(f"{upload.file_name} is a motion; name a character with a mesh first")


def _check_motion(
    sets: CommittedSets, key: str, registered: Mapping[str, Sequence[str]], found: Found
) -> None:
    """Refuse what is no motion, and motions whose file is gone."""
    if read_recipe(sets.store, key) is not None:
        raise CommandError(f"{key} is a cast itself; name a motion: posefactory motions list")
    upload = uploads.find_upload(found, read_motion_record(sets.store, key).upload)
    if key in registered[MOTION]:
        return
    if not uploads.holds_no_geometry(uploads.fetch(sets.store, upload), upload.file_name):
        raise CommandError(
            f"{upload.file_name} is a skin; a cast takes one skin and one motion. If it holds a motion too, make it one: "
            f"posefactory motions add {upload.file_name}"
        )


@verbs.command("compare")
def compare(
    skin: Annotated[str, typer.Argument(help="Key of a character with skin.")],
    motion: Annotated[str, typer.Argument(help="Key of a motion.")],
    to: Annotated[
        Path, typer.Option(help="Where to write it: a .png strip, or an .mp4 film.")
    ] = Path("compare.png"),
    frames: Annotated[int, typer.Option(help="Frames of a strip: 2 to 64.", min=2, max=64)] = 8,
    size: Annotated[
        int, typer.Option(help="Pixels of a panel: 64 to 1024.", min=64, max=1024)
    ] = 256,
    view: Annotated[
        float, typer.Option(help="Degrees clockwise from the front.", min=-360, max=360)
    ] = 35.0,
    as_json: JsonOption = False,
) -> None:
    """Draw a motion beside what a skin makes of it."""
    from posefactory_dagster.motions import comparing

    if to.suffix.lower() not in (".png", ".mp4"):
        raise CommandError(f"{to}: give a name that ends in .png or .mp4")
    _make_folder(to.parent)
    sets = open_sets()
    found = uploads.uploads_by_key(sets.store)
    with open_instance() as instance:
        registered = {name: registered_keys(instance, name) for name in (CHARACTERS, MOTION, CAST)}
    _check_skin(sets, skin, registered, found)
    _check_motion(sets, motion, registered, found)
    record = read_motion_record(sets.store, motion)
    committed = sets.readable(MOTION, motion)
    if committed is None:
        raise CommandError(
            f"{motion} is not inspected yet: posefactory run {motion} --until {MOTION}"
        )
    facts = committed.facts_as(MotionFacts)
    start, end = facts.frame_range
    count = end - start + 1
    chosen = range(count) if to.suffix.lower() == ".mp4" else _spread(count, frames)
    with sets.scratch() as scratch:
        task = Task(
            skin,
            {
                "skin": _input(sets, found, skin, None, scratch / "skin"),
                "motion": _input(sets, found, record.upload, record.clip, scratch / "motion"),
            },
            str(scratch / "compared"),
            tuple(int(f) for f in chosen),
        )
        settings = RenderSettings(
            num_angles=1, width=size, height=size, samples=4, engine="cycles", padding=1.0
        )
        job = dataclasses.replace(
            new_job("compare", [task], settings), views=(View("compare", view % 360.0),)
        )
        _run(job, scratch, skin, f"comparing {skin} and {motion}")
        if to.suffix.lower() == ".mp4":
            comparing.film(scratch / "compared", to, facts.fps)
        else:
            comparing.strip(scratch / "compared", to)
    show(
        as_json,
        {"file": str(to), "frames": len(chosen)},
        lambda: out.print(f"{to}: {len(chosen)} frames"),
    )


def _make_folder(folder: Path) -> None:
    """Make the folder that a picture goes to, before any work is done for it.

    Raises:
        CommandError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder}: cannot be made ({error.strerror})") from error


def _spread(count: int, wanted: int) -> list[int]:
    """Frames spread evenly from the first to the last."""
    most = min(wanted, count)
    return sorted({round(i * (count - 1) / max(most - 1, 1)) for i in range(most)})


def _input(sets: CommittedSets, found: Found, key: str, clip: str | None, place: Path) -> TaskInput:
    """A copy of an upload under a name whose ending says what it is, with the animation that is meant."""
    upload = uploads.find_upload(found, key)
    described = uploads.describe(sets.store, upload)
    path = place.with_suffix(Path(upload.file_name).suffix.lower())
    uploads.copy_unchanged(sets.store, upload, described["sha256"], path)
    return TaskInput(str(path), upload.file_name, clip or described.get("take"))


def _run(job: Job, scratch: Path, key: str, what: str) -> None:
    """Run a job of one task in Blender, with its progress."""
    with err.status(what) as status:

        def listener(event: Mapping[str, Any]) -> None:
            if event.get("event") == EVENT_IMAGE:
                status.update(f"{what}: frame {event['done']} of {event['total']}")

        try:
            outcome = run_job(job, scratch, on_event=listener)[key]
        except BlenderError as error:
            raise CommandError(str(error)) from error
    if outcome.error:
        raise CommandError(outcome.error)


@rig_verbs.command("list")
def list_rigs(as_json: JsonOption = False) -> None:
    """The rig maps that there are: those that ship, and those in the folder `rigs` beside posefactory.toml."""
    rows = [{"name": "mixamo", "about": rig_map()["about"]}]
    rows += [{"name": n["name"], "about": n["about"]} for n in namings()]

    def print_it() -> None:
        table = Table("name", "rigs")
        for row in rows:
            table.add_row(row["name"], row["about"])
        print_table(table, "")

    show(as_json, rows, print_it)


@rig_verbs.command("suggest")
def suggest_rig(
    file: Annotated[Path, typer.Argument(help="A model or motion whose bones no map knows.")],
    to: Annotated[Path, typer.Option(help="Folder for the map and its picture.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Draft a rig map by the skeleton's structure, with a picture to check it by. It is used once it lies in `rigs`."""
    from pydantic import TypeAdapter

    from posefactory_dagster.motions import rigs

    if not file.is_file():
        raise CommandError(f"{file}: no such file")
    uploads.check_file(file, file.name, environment().max_upload_mb)
    name = safe_slug(file.stem)
    _make_folder(to)
    sets = open_sets()
    with sets.scratch() as scratch:
        source = TaskInput(str(file.resolve()), file.name)
        job = new_job("rig", [Task(name, {"motion": source}, str(scratch / "rig"))])
        _run(job, scratch, name, f"reading {file.name}")
        data = (scratch / "rig" / SKELETONS).read_bytes()
    skeletons = TypeAdapter(list[list[rigs.Bone]]).validate_json(data)
    skeleton = max(skeletons, key=len)
    try:
        draft = rigs.suggest(skeleton)
    except rigs.RigError as error:
        raise CommandError(f"{file.name}: {error}") from error
    lacking = [b for b in rig_map()["required"] if b not in draft.bones]
    document, picture = to / f"{name}.json", to / f"{name}.png"
    document.write_text(json.dumps(draft.document(name), indent=1), "utf-8")
    rigs.draw(skeleton, draft, picture)

    def print_it() -> None:
        out.print(f"{document}: {len(draft.bones)} bones; check it by {picture}", soft_wrap=True)
        if lacking:
            print_error(f"it lacks {', '.join(lacking)}: add them by hand")
        out.print(
            f"to use it, move it to {environment().settings_file.parent / 'rigs'}", soft_wrap=True
        )

    show(
        as_json,
        {"map": str(document), "picture": str(picture), "bones": draft.bones, "lacks": lacking},
        print_it,
    )
